"""Patients with cardiac phases and diseases reach their targets, keep their muscle volume and move smoothly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from heartseg.synthesis import flow, patients, reach
from heartseg.synthesis.control import septal_bow
from heartseg.synthesis.course import Course, run_course, wall_of
from heartseg.synthesis.disease import DISEASES, Condition, combined, draw_condition
from heartseg.synthesis.motion import Beat, at_phase, draw_beat, state_at
from heartseg.synthesis.patients import Patient, Recipe, draw_patient, end_diastole, healthy_heart
from heartseg.synthesis.shape import NodeGrid, ShapeModel
from heartseg.synthesis.source import Source
from heartseg.synthesis.topology import check_topology
from heartseg.synthesis.walls import Patch, with_walls

PHASES = np.linspace(0, 1, 101)


def mean_patient(model: ShapeModel, condition: Condition | None = None, beat: Beat | None = None) -> Patient:
    """Return the template of the model without random variation, with its own walls."""
    return Patient(np.zeros_like(model.momenta[0]), 1.0, {}, (), condition or Condition(), beat or Beat())


@pytest.fixture(scope="module")
def toy_heart(toy_model: ShapeModel) -> flow.Heart3D:
    """Return the toy template at end-diastole."""
    return healthy_heart(toy_model, mean_patient(toy_model))


@pytest.fixture(scope="module")
def real_heart(real_source: Source) -> flow.Heart3D:
    """Return the mean heart at end-diastole."""
    return healthy_heart(real_source.model, mean_patient(real_source.model))


def volumes(heart: flow.Heart3D) -> np.ndarray:
    return patients.volumes_of(heart, 1.0)


def test_a_flow_has_the_divergence_it_was_asked_for_and_leaves_divergence_free_designs_alone() -> None:
    nodes, n = NodeGrid(np.zeros(3), (32, 32, 32)), 32
    wave = 2 * np.pi / (n * nodes.spacing)
    z, _, x = nodes.points()
    source = torch.cos(wave * z)
    v = flow.divergence_flow(nodes, source, None)
    # div v = cos(k z) has the irrotational solution v_z = sin(k z) / k.
    assert v[0].numpy() == pytest.approx((torch.sin(wave * z) / wave).numpy(), abs=1e-4)
    assert v[1:].abs().max() < 1e-4
    shear = torch.stack([torch.sin(wave * x), torch.zeros_like(x), torch.zeros_like(x)])
    assert flow.divergence_flow(nodes, None, shear).numpy() == pytest.approx(shear.numpy(), abs=1e-4)
    squeeze = torch.stack([torch.sin(wave * z), torch.zeros_like(z), torch.zeros_like(z)])
    assert flow.divergence_flow(nodes, None, squeeze).abs().max() < 1e-4


def test_the_beat_s_curves_start_and_end_at_diastole_peak_at_systole_and_are_smooth() -> None:
    beat = Beat(systole=0.35)
    states = [state_at(beat, p) for p in PHASES]
    for name in ("emptied", "filled", "twisted"):
        curve = np.array([getattr(s, name) for s in states])
        assert curve[0] == pytest.approx(0, abs=1e-6)
        assert curve[-1] == pytest.approx(0, abs=1e-6)
        assert abs(PHASES[curve.argmax()] - beat.systole) < 0.025
        assert curve.max() == pytest.approx(1, abs=0.02)
        # A hundredth of a beat changes the volume by at most a fifteenth of the stroke volume: ejection takes about a
        # quarter beat.
        assert np.abs(np.diff(curve)).max() < 1 / 15
    assert state_at(beat, 1.25) == state_at(beat, 0.25)


def test_drawn_beats_stay_within_the_spans_of_the_living() -> None:
    beats = [draw_beat(np.random.default_rng(s)) for s in range(300)]
    for name, low, high in (
        ("lv_ef", 0.1, 0.75),
        ("rv_ef", 0.15, 0.7),
        ("mitral_mm", 5, 20),
        ("tricuspid_mm", 5, 20),
        ("twist_degrees", 0, 10),
    ):
        drawn = np.array([getattr(b, name) for b in beats])
        assert low <= drawn.min() < low + 0.15 * (high - low), name
        assert high - 0.15 * (high - low) < drawn.max() <= high, name
    with pytest.raises(ValueError, match=r"lv_ef is 0\.95: choose 0\.0 to 0\.85"):
        Beat(lv_ef=0.95)


@pytest.mark.parametrize("ejection", [0.1, 0.6])
def test_a_posed_heart_empties_as_asked_and_keeps_its_muscle(toy_heart: flow.Heart3D, ejection: float) -> None:
    beat = Beat(lv_ef=ejection, rv_ef=0.4, la_emptying=0.4, ra_emptying=0.3)
    before, after = volumes(toy_heart), volumes(at_phase(toy_heart, beat, beat.systole))
    assert 1 - after[1] / before[1] == pytest.approx(ejection, abs=0.03)
    assert 1 - after[2] / before[2] == pytest.approx(0.4, abs=0.03)
    # The volume of the atria varies between (1 - emptying) times their maximum and the maximum.
    assert after[3] / before[3] == pytest.approx(1 / 0.6, rel=0.05)
    assert after[4] / before[4] == pytest.approx(1 / 0.7, rel=0.05)
    assert after[5] / before[5] == pytest.approx(1, abs=0.05)


def test_at_end_diastole_a_heart_is_left_alone(toy_heart: flow.Heart3D) -> None:
    assert at_phase(toy_heart, Beat(), 0.0) is toy_heart
    assert at_phase(toy_heart, Beat(), 1.0) is toy_heart


def test_neighbouring_phases_differ_little(toy_heart: flow.Heart3D) -> None:
    beat = Beat()
    inside = flow.parts_of(toy_heart).fractions[1:].sum(0) > 0.5
    one, other, far = (at_phase(toy_heart, beat, p).origin[:, inside] for p in (0.2, 0.205, 0.3))
    near_by, far_off = (float((a - one).abs().mean()) for a in (other, far))
    # A twentieth of the phase: a twentieth of the difference, with three times the tolerance for counting on a 2 mm
    # grid.
    assert near_by < 0.15 * far_off


@pytest.mark.shared
def test_the_base_descends_the_apex_stays_and_the_wall_thickens(real_heart: flow.Heart3D) -> None:
    beat = Beat(lv_ef=0.65, mitral_mm=15, tricuspid_mm=18, twist_degrees=0)
    systole = at_phase(real_heart, beat, beat.systole)
    first, last = (flow.frame_of(h, flow.parts_of(h)) for h in (real_heart, systole))
    axis = first.axes[0]
    assert (first.mitral - last.mitral) @ axis == pytest.approx(15, abs=1.5)
    assert (first.tricuspid - last.tricuspid) @ axis == pytest.approx(18, abs=1.5)
    assert np.linalg.norm(first.apex - last.apex) < 3
    wall = [patients.measure_labels(patients.rasterise(h, 1.0)) for h in (real_heart, systole)]
    assert wall[1].volumes[5] == pytest.approx(wall[0].volumes[5], rel=0.05)
    # A cavity that loses 65 % with the same muscle volume: 30 to 60 % thicker walls, as in healthy people.
    assert 1.3 < wall[1].wall_mm / wall[0].wall_mm < 1.7


@pytest.mark.shared
def test_twist_turns_the_base_against_the_apex(real_heart: flow.Heart3D) -> None:
    with_twist, without = (
        at_phase(real_heart, Beat(twist_degrees=t), 0.36).origin - real_heart.nodes.points() for t in (10.0, 0.0)
    )
    frame = flow.frame_of(real_heart, flow.parts_of(real_heart))
    local = frame.coordinates(real_heart.nodes.points())
    radius = torch.hypot(local[1], local[2])
    around = torch.stack([torch.zeros_like(radius), local[2], -local[1]]) / radius.clamp(min=1)
    turned = torch.tensordot(torch.from_numpy(frame.axes.astype(np.float32)), with_twist - without, 1)
    angle = (turned * around).sum(0) / radius.clamp(min=1)
    wall = (radius > 15) & (radius < 35)
    slabs = [wall & ((local[0] / frame.length - h).abs() < 0.08) for h in (0.1, 0.85)]
    apex, base = (float(angle[s].mean()) for s in slabs)
    # Three quarters of the 10 degrees over the whole length lie between these heights.
    assert abs(np.rad2deg(base - apex)) == pytest.approx(7.5, abs=2)


@pytest.mark.parametrize(("label", "factor"), [(1, 2.5), (2, 0.5), (3, 2.5), (4, 1.6)])
def test_a_course_reaches_a_volume_and_moves_no_other(toy_heart: flow.Heart3D, label: int, factor: float) -> None:
    before = volumes(toy_heart)
    after = volumes(run_course(toy_heart, Course({label: factor}, steps=6)))
    assert after[label] / before[label] == pytest.approx(factor, rel=0.03)
    for other in {1, 2, 3, 4, 5} - {label}:
        assert after[other] / before[other] == pytest.approx(1, abs=0.04), other


@pytest.mark.shared
def test_a_dilated_ventricle_is_thin_walled_and_rounder(real_source: Source, real_heart: flow.Heart3D) -> None:
    patient = mean_patient(real_source.model, Condition(lv_ml=400, wall_mm=6))
    large = end_diastole(real_heart, patient)
    made = patients.measure_labels(patients.rasterise(large, 1.0))
    assert made.volumes[1] == pytest.approx(400, rel=0.05)
    assert made.wall_mm == pytest.approx(6, abs=0.5)
    spherical = []
    for heart, millilitres in ((real_heart, volumes(real_heart)[1]), (large, made.volumes[1])):
        length = flow.frame_of(heart, flow.parts_of(heart)).length
        spherical.append(6 * millilitres * 1000 / (np.pi * length**3))
    assert spherical[1] > 1.5 * spherical[0]


@pytest.mark.shared
def test_a_pressed_septum_lies_flat_or_bends_the_other_way(real_source: Source, real_heart: flow.Heart3D) -> None:
    bows = []
    for wanted in (0.0, -5.0):
        patient = mean_patient(real_source.model, Condition(rv_ml=230, septal_bow_mm=wanted))
        heart = end_diastole(real_heart, patient)
        parts = flow.parts_of(heart)
        bows.append(septal_bow(flow.frame_of(heart, parts), parts, heart.nodes))
        assert volumes(heart)[2] == pytest.approx(230, rel=0.05)
    assert bows == pytest.approx([0.0, -5.0], abs=1.5)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("patch", "millimetres"),
    [(Patch(0.6, 0.0, 0.4, 0.9), 24.0), (Patch(0.45, 2.5, 0.3, 0.7), 4.0)],
)
def test_a_patch_of_the_wall_grows_or_thins_alone(real_source: Source, patch: Patch, millimetres: float) -> None:
    patient = mean_patient(real_source.model, Condition(wall_mm=9.5, patch=patch, patch_mm=millimetres, lv_ml=110))
    heart = end_diastole(healthy_heart(real_source.model, patient), patient)
    made = patients.measure_labels(patients.rasterise(heart, 1.0))
    # Tolerance of an eighth: the patch's fraction of nodes 4 mm apart and its soft edge; one node in five for a thin
    # patch.
    assert made.patch_mm == pytest.approx(millimetres, rel=0.125 if millimetres > 9 else 0.2)
    assert made.wall_mm == pytest.approx(9.5, rel=0.1)
    assert made.volumes[1] == pytest.approx(110, rel=0.05)


@pytest.mark.shared
def test_walls_get_the_thickness_that_was_asked_for(real_source: Source) -> None:
    labels = with_walls(real_source.model, {2: 2.0}).template
    spacing = real_source.model.spacing
    wall = labels == 8
    right = np.isin(labels, (2, 8))
    box = ndimage.find_objects(right.astype(np.uint8))[0]
    depth = ndimage.distance_transform_edt(np.pad(right[box], 1))[1:-1, 1:-1, 1:-1] * spacing
    assert depth[wall[box]].max() <= 2.0 + spacing
    assert wall.sum() < 0.75 * (real_source.model.template == 8).sum()


def test_conditions_scale_with_size_and_combine_with_the_first_counting() -> None:
    one = Condition(("a",), lv_ml=200.0, wall_mm=8.0)
    half = one.scaled(0.5)
    assert (half.lv_ml, half.wall_mm, half.rv_ml) == (25.0, 4.0, None)
    both = combined(one, Condition(("b",), lv_ml=100.0, la_ml=150.0))
    assert (both.lv_ml, both.la_ml, both.names) == (200.0, 150.0, ("a", "b"))


def test_drawn_diseases_span_what_they_promise() -> None:
    drawn = {n: [draw_condition(np.random.default_rng(s), n) for s in range(200)] for n in DISEASES}

    def span(name: str, measure: str) -> tuple[float, float]:
        values = [getattr(c, measure) for c in drawn[name]]
        return min(values), max(values)

    for name, measure, low, high in (
        ("dilated_lv", "lv_ml", 180, 400),
        ("dilated_lv", "wall_mm", 5, 7),
        ("septal_hypertrophy", "patch_mm", 16, 30),
        ("apical_hypertrophy", "patch_mm", 16, 30),
        ("large_atria", "la_ml", 110, 250),
        ("aorta", "aorta_mm", 25, 55),
        ("pulmonary_artery", "pulmonary_mm", 20, 45),
    ):
        least, most = span(name, measure)
        reach_of_span = 0.05 * (high - low)
        assert low <= least < low + reach_of_span, name
        assert high - reach_of_span < most <= high, name
    ratios = [c.rv_ml / c.lv_ml for c in drawn["dilated_rv"]]
    assert 1.9 < max(ratios) <= 2.0
    with pytest.raises(ValueError, match="disease 'gout' does not exist"):
        draw_condition(np.random.default_rng(0), "gout")


def test_a_recipe_draws_its_shares(toy_model: ShapeModel) -> None:
    drawn = [
        draw_patient(np.random.default_rng(s), toy_model, None, Recipe(small=0.5, healthy=0.4))[0] for s in range(200)
    ]
    # Binomial fractions of 200: standard deviation 3.5 %.
    assert np.mean([p.size < 0.85 for p in drawn]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([not p.condition.names for p in drawn]) == pytest.approx(0.4, abs=0.1)
    assert min(p.size for p in drawn) < 0.55
    only = draw_patient(np.random.default_rng(1), toy_model, None, Recipe(("scar",), healthy=0.0, second=0.0))[0]
    assert only.condition.names == ("scar",)


def test_a_heart_too_large_for_its_cube_is_refused(toy_heart: flow.Heart3D) -> None:
    assert patients.rasterise(toy_heart, 1.0) is not None
    assert patients.rasterise(toy_heart, 1.9) is None


@pytest.mark.shared
def test_the_same_seed_draws_the_same_patient_and_the_facts_of_its_heart_say_what_it_is(real_source: Source) -> None:
    model, recipe = real_source.model, Recipe(("dilated_lv",), healthy=0.0, second=0.0, small=0.0)
    drawn, again = (draw_patient(np.random.default_rng(4), model, None, recipe) for _ in range(2))
    assert np.array_equal(drawn[0].momenta, again[0].momenta) and drawn[1] == again[1]
    heart = patients.make_patient_heart(np.random.default_rng(4), model, None, recipe)
    facts: dict[str, Any] = heart.facts
    assert facts["diseases"][0] == "dilated_lv"
    counted = np.bincount(heart.target.ravel(), minlength=8)[1:] / 1000
    for k, value in enumerate(counted, 1):
        assert facts["reached_mL"][str(k)] == pytest.approx(value, abs=0.06)
    wanted = facts["wanted_mL"]["1"]
    assert facts["reached_mL"]["1"] == pytest.approx(wanted, rel=0.08)
    assert check_topology(heart.labels).sound


@pytest.mark.shared
def test_a_beating_heart_is_one_patient_that_empties_between_its_phases(real_source: Source) -> None:
    recipe = patients.Recipe((), healthy=1.0, small=0.0)
    diastole, systole = patients.make_beating_heart(
        np.random.default_rng(4), real_source.model, lambda beat: (0.0, beat.systole), None, recipe
    )
    same = ("diseases", "size", "beat", "healthy_mL")
    beat: Any = diastole.facts["beat"]
    assert {k: diastole.facts[k] for k in same} == {k: systole.facts[k] for k in same}
    full, empty = (np.bincount(h.target.ravel(), minlength=8) for h in (diastole, systole))
    assert 1 - empty[1] / full[1] == pytest.approx(beat["lv_ef"], abs=0.05)
    assert empty[5] == pytest.approx(full[5], rel=0.06)


def check_reach(found: list) -> None:
    made = [f for f in found if f is not None]
    assert len(made) >= 0.9 * len(found)
    changes = np.array([v for f in made for v in f.changes.values()])
    assert np.median(changes) >= 0.9
    assert changes.min() >= 0.75
    assert all(abs(f.muscle - 1) <= 0.05 for f in made)


@pytest.mark.shared
@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(range(500, 502), id="2"),
        pytest.param(range(500, 508), id="8", marks=pytest.mark.slow),
        pytest.param(range(200), id="200", marks=pytest.mark.slow),
    ],
)
def test_drawn_patients_reach_what_was_asked_for(real_source: Source, numbers: range) -> None:
    check_reach(reach.measure_reach(real_source.model, numbers))


def test_a_wall_s_thickness_is_that_of_a_shell() -> None:
    z, y, x = np.ogrid[:70, :70, :70]
    r = np.sqrt((z - 35.0) ** 2 + (y - 35.0) ** 2 + (x - 35.0) ** 2)
    labels = np.where(r < 18, 1, np.where(r < 27, 5, 0)).astype(np.uint8)
    assert wall_of(labels, 5, 1.0) == pytest.approx(9, abs=0.2)
    assert wall_of(np.zeros((5, 5, 5), np.uint8), 5, 1.0) == 0
