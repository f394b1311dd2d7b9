"""Synthetic patients: a heart of the shape model with a disease, a size and a cardiac phase.

:func:`draw_patient` draws the parameters, :func:`end_diastole` makes the heart,
:func:`~heartseg.synthesis.motion.at_phase` deforms it to a phase and :func:`rasterise` samples it in a cube of 1 mm
voxels. :func:`make_patient_heart` does all of this and checks the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as nnf
from scipy.fft import next_fast_len

from .course import wall_of
from .disease import DISEASES, EJECTION, VENTRICULAR, Condition, apply_condition, combined, draw_condition
from .fields import rotation_matrix
from .flow import AO, FLOW_SPACING, LA, LV, MARGIN, MYO, PA, PATCH, RA, RV, Heart3D, frame_of, parts_of
from .hearts import SIZE, Heart, add_detail, draw_shape
from .motion import Beat, at_phase, draw_beat, state_at
from .regions import TARGET_OF_HEART, Region
from .shape import NodeGrid, ShapeModel, backward_map, sample_template
from .topology import sound_labels
from .walls import with_patch, with_walls

REDRAWS = 8
"""Maximum number of hearts drawn before giving up."""
CUBE_MARGIN = 6.0
"""Minimum distance of a heart from the faces of its cube, mm."""


@dataclass(frozen=True, eq=False)
class Patient:
    """Parameters of a heart.

    Attributes:
        momenta: (c, 3), healthy shape.
        size: scale relative to the shape model, 0.5-1.1.
        walls: thickness (mm, at size 1) of thin walls, by label of their blood.
        bend: random nodes and amplitude (mm) of elastic fields.
        condition: disease, in mL and mm at the final size.
        beat: function, in mm at the final size.
    """

    momenta: np.ndarray
    size: float
    walls: dict[int, float]
    bend: tuple[tuple[np.ndarray, float], ...]
    condition: Condition
    beat: Beat


@dataclass(frozen=True)
class Recipe:
    """Distribution of the patients in a set of scenes.

    Attributes:
        diseases: names from :data:`~heartseg.synthesis.disease.DISEASES` to draw from.
        healthy: fraction of hearts without disease.
        second: fraction of diseased hearts with a second disease.
        small: fraction of small and paediatric hearts (size 0.5-0.84).
        diastolic: fraction of hearts within 0.1 of the phase of end-diastole; the others are at any phase.
    """

    diseases: tuple[str, ...] = tuple(DISEASES)
    healthy: float = 0.25
    second: float = 0.35
    small: float = 0.15
    diastolic: float = 0.3


def draw_patient(
    rng: np.random.Generator, model: ShapeModel, subject: int | None = None, recipe: Recipe | None = None
) -> tuple[Patient, float]:
    """Draw a patient and a phase; for ``subject`` see :func:`~heartseg.synthesis.hearts.draw_shape`."""
    recipe, u = recipe or Recipe(), rng.uniform
    momenta = draw_shape(rng, model, subject)
    size = float(u(0.5, 0.84) if rng.random() < recipe.small else u(0.86, 1.08))
    condition = _draw_disease(rng, recipe)
    if size < 0.85:
        condition = condition.scaled(size)
    spans = next((EJECTION[n] for n in condition.names if n in EJECTION), ((0.35, 0.75), (0.3, 0.7)))
    beat = draw_beat(rng, *spans, size=size)
    walls = {RV: u(2.4, 4.2), LA: u(1.0, 2.6), RA: u(1.0, 2.4), AO: u(1.0, 2.5), PA: u(0.8, 2.5)}
    bend = tuple(
        (rng.standard_normal((1, 3, n, n, n)).astype(np.float32), float(u(0, a))) for n, a in ((7, 3.0), (12, 1.2))
    )
    phase = float(u(-0.1, 0.1) if rng.random() < recipe.diastolic else u(0.1, 0.9)) % 1.0
    return Patient(momenta, size, walls, bend, condition, beat), phase


def _draw_disease(rng: np.random.Generator, recipe: Recipe) -> Condition:
    if not recipe.diseases or rng.random() < recipe.healthy:
        return Condition()
    first = str(rng.choice(recipe.diseases))
    condition = draw_condition(rng, first)
    others = [n for n in recipe.diseases if n != first and not (n in VENTRICULAR and first in VENTRICULAR)]
    if others and rng.random() < recipe.second:
        condition = combined(condition, draw_condition(rng, str(rng.choice(others))))
    return condition


def healthy_heart(model: ShapeModel, patient: Patient) -> Heart3D:
    """Make the end-diastolic heart of a patient without its disease, with its patch marked."""
    extent = np.array(model.template.shape) * model.spacing
    coarse = NodeGrid.around(model.origin, model.origin + extent, 24.0)
    shape = [next_fast_len(int(n), real=True) for n in np.ceil((extent + 2 * MARGIN) / FLOW_SPACING)]
    nodes = NodeGrid(model.origin - MARGIN, (shape[0], shape[1], shape[2]), FLOW_SPACING)
    moved = coarse.points() - backward_map(model, patient.momenta, coarse)
    bent = nodes.points()
    for values, amplitude in patient.bend:
        bent = (
            bent
            + amplitude
            * nnf.interpolate(torch.from_numpy(values), size=nodes.shape, mode="trilinear", align_corners=True)[0]
        )
    heart = Heart3D(with_walls(model, patient.walls), nodes, bent - coarse.at(moved, bent))
    if patient.condition.patch is None:
        return heart
    template = replace(heart, origin=nodes.points())
    marked = with_patch(heart.model, patient.condition.patch, frame_of(template, parts_of(template)))
    return replace(heart, model=marked)


def end_diastole(healthy: Heart3D, patient: Patient) -> Heart3D:
    """Make the end-diastolic heart of a patient at the scale of the shape model; :func:`rasterise` applies the size.

    Args:
        healthy: :func:`healthy_heart` of the patient.
        patient: the patient whose condition is applied.
    """
    condition = patient.condition.scaled(1 / patient.size)
    emptying = (patient.beat.la_emptying, patient.beat.ra_emptying)
    return apply_condition(healthy, condition, emptying, _diameters(healthy))


def _diameters(heart: Heart3D) -> tuple[float, float]:
    """Inner diameters (mm) of the ascending aorta and the pulmonary stub, of circles with their mean cross-section."""
    labels, step = parts_of(heart).labels, heart.nodes.spacing / 2
    found = []
    for label in (AO, PA):
        points = np.argwhere(labels == label) * step
        if len(points) < 20:
            found.append(25.0)
            continue
        along = (
            np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0] if label == AO else np.array([1.0, 0, 0])
        )
        height = (points - points.mean(0)) @ along
        low, high = np.quantile(height, (0.35, 0.8)) if along[0] > 0 else np.quantile(height, (0.2, 0.65))
        area = ((height >= low) & (height <= high)).sum() * step**3 / (high - low)
        found.append(2 * float(np.sqrt(area / np.pi)))
    return found[0], found[1]


@dataclass(frozen=True, eq=False)
class Placement:
    """Placement of a heart in its cube: ``turn`` (3, 3), cube to model; ``shift`` (3,) of the centre of its box, mm."""

    turn: np.ndarray = field(default_factory=lambda: np.eye(3))
    shift: np.ndarray = field(default_factory=lambda: np.zeros(3))


def draw_placement(rng: np.random.Generator) -> Placement:
    """Draw rotations up to 20 degrees and shifts up to 14 mm."""
    return Placement(rotation_matrix(np.deg2rad(rng.uniform(-20, 20, 3))), rng.uniform(-14, 14, 3))


def rasterise(heart: Heart3D, size: float, place: Placement | None = None) -> np.ndarray | None:
    """Sample labels 0-13 (uint8, ``SIZE`` cube, 1 mm) of a heart at a size; None if it does not fit into the cube."""
    place = place or Placement()
    n = SIZE // 2 + 1
    line = torch.linspace(0, SIZE - 1, n)
    matrix = torch.from_numpy((place.turn / size).astype(np.float32))
    cube = torch.stack(torch.meshgrid(line, line, line, indexing="ij"))
    source = _box_middle(heart, place.turn)
    extent = source[1] * size
    if (extent > SIZE - 2 * CUBE_MARGIN).any():
        return None
    free = (SIZE - 2 * CUBE_MARGIN - extent) / 2
    middle = SIZE / 2 + np.clip(place.shift, -free, free)
    centred = cube - torch.from_numpy(middle.astype(np.float32)).view(3, 1, 1, 1)
    points = torch.tensordot(matrix, centred, 1) + torch.from_numpy(source[0].astype(np.float32)).view(3, 1, 1, 1)
    last = torch.tensor(heart.nodes.shape).view(3, 1, 1, 1) - 1
    low = torch.from_numpy(heart.nodes.low.astype(np.float32)).view(3, 1, 1, 1)
    inside = ((points - low) >= 0) & ((points - low) <= last * heart.nodes.spacing)
    origin = torch.where(inside.all(0), heart.nodes.at(heart.origin, points), -1e4)
    fine = nnf.interpolate(origin[None], size=(SIZE,) * 3, mode="trilinear", align_corners=True)[0]
    return sample_template(heart.model, fine).numpy()


def _box_middle(heart: Heart3D, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre (model point) and the extent (mm) of the bounding box of the rotated heart."""
    labels, step = parts_of(heart).labels, heart.nodes.spacing / 2
    points = np.argwhere(labels > 0) * step + heart.nodes.low - step / 2
    turned = points @ turn
    low, high = turned.min(0), turned.max(0)
    return turn @ ((low + high) / 2), high - low


def target_volumes(patient: Patient, phase: float, healthy: np.ndarray) -> dict[int, float]:
    """Return the target volumes (mL) of LV, RV, LA and RA (1-4) of a patient at a phase.

    Args:
        patient: the patient; volumes that its condition does not set are those of the healthy heart.
        phase: cardiac phase.
        healthy: volumes (mL) by label of the healthy end-diastolic heart, at the size of the patient.
    """
    c, beat, state = patient.condition, patient.beat, state_at(patient.beat, phase)
    left = {LV: 1 - beat.lv_ef * state.emptied, RV: 1 - beat.rv_ef * state.emptied}
    wanted = {LV: c.lv_ml, RV: c.rv_ml}
    diastole = {k: float(healthy[k]) if v is None else v for k, v in wanted.items()}
    diastole[LV] += c.bulge_ml
    targets = {k: diastole[k] * left[k] for k in (LV, RV)}
    for label, largest, emptying in ((LA, c.la_ml, beat.la_emptying), (RA, c.ra_ml, beat.ra_emptying)):
        smallest = float(healthy[label]) if largest is None else largest * (1 - emptying)
        targets[label] = smallest * (1 + (1 / (1 - emptying) - 1) * state.filled)
    return targets


def volumes_of(heart: Heart3D, size: float) -> np.ndarray:
    """Return the volumes (mL) of labels 0-13 of a heart at a size."""
    return parts_of(heart).volumes / 1000 * size**3


def crop(labels: np.ndarray) -> np.ndarray:
    """Crop a label map to its labels with a margin of at least two voxels."""
    found = np.argwhere(labels[::2, ::2, ::2] > 0) * 2
    return labels[tuple(slice(max(a - 4, 0), b + 5) for a, b in zip(found.min(0), found.max(0), strict=True))]


@dataclass(frozen=True)
class Measures:
    """Measurements of a label map: volumes (mL) of labels 1-7, and thickness (mm) of wall and patch (0: none)."""

    volumes: dict[int, float]
    wall_mm: float
    patch_mm: float


def measure_labels(labels: np.ndarray) -> Measures:
    """Measure labels 0-13 at 1 mm; label 5 includes the patch."""
    labels = crop(labels)
    counts = np.bincount(labels.ravel(), minlength=PATCH + 1) / 1000
    counts[MYO] += counts[PATCH]
    volumes = {k: round(float(counts[k]), 2) for k in range(1, 8)}
    return Measures(volumes, round(wall_of(labels, MYO, 1.0), 2), round(wall_of(labels, PATCH, 1.0), 2))


def make_patient_heart(
    rng: np.random.Generator,
    model: ShapeModel,
    subject: int | None = None,
    recipe: Recipe | None = None,
    detail: bool = True,
) -> Heart:
    """Make the heart of a random patient at a random phase, in its cube, with correct topology.

    If a heart does not fit into the cube, or if its topology cannot be repaired by changing a few voxels, another one
    is drawn. ``facts["topology"]`` counts discarded hearts and repaired voxels.

    Raises:
        RuntimeError: ``REDRAWS`` hearts in a row failed.
    """
    for redrawn in range(REDRAWS):
        patient, phase = draw_patient(rng, model, subject, recipe)
        place = draw_placement(rng)
        found = _posed(model, patient, place, (phase,), redrawn)
        if found:
            return _heart(rng, *found[0], patient, detail)
    raise _nothing_fits(recipe)


def make_beating_heart(
    rng: np.random.Generator,
    model: ShapeModel,
    phases: Callable[[Beat], Sequence[float]],
    subject: int | None = None,
    recipe: Recipe | None = None,
) -> list[Heart]:
    """Make the heart of a random patient at several phases, in one place of its cube; see :func:`make_patient_heart`.

    ``phases`` returns the phases for the function of the heart, in which ``systole`` is the phase of end-systole.
    """
    for redrawn in range(REDRAWS):
        patient, _ = draw_patient(rng, model, subject, recipe)
        place, detail = draw_placement(rng), int(rng.integers(2**62))
        found = _posed(model, patient, place, phases(patient.beat), redrawn)
        if found:
            return [_heart(np.random.default_rng(detail), *one, patient, True) for one in found]
    raise _nothing_fits(recipe)


def _posed(
    model: ShapeModel, patient: Patient, place: Placement, phases: Sequence[float], redrawn: int
) -> list[tuple[np.ndarray, dict[str, object]]]:
    """Return the labels of a patient at phases, each with its facts; none if one of them fails."""
    healthy = healthy_heart(model, patient)
    diastole, hearts = end_diastole(healthy, patient), []
    for phase in phases:
        found = checked_labels(at_phase(diastole, patient.beat, phase, patient.size), patient.size, place)
        if found is None:
            return []
        facts = facts_of(patient, phase, volumes_of(healthy, patient.size), found[0])
        facts["topology"] = {"redrawn": redrawn, "repaired_voxels": found[1]}
        hearts.append((found[0], facts))
    return hearts


def _nothing_fits(recipe: Recipe | None) -> RuntimeError:
    return RuntimeError(f"{REDRAWS} consecutive hearts had holes or did not fit: check the ranges of recipe {recipe}")


def checked_labels(heart: Heart3D, size: float, place: Placement) -> tuple[np.ndarray, int] | None:
    """Return repaired labels 0-13 and the number of repaired voxels; None if repair fails or the heart does not fit."""
    raw = rasterise(heart, size, place)
    if raw is None:
        return None
    merged = np.where(raw == PATCH, MYO, raw).astype(np.uint8)
    sound = sound_labels(merged)
    if sound is None:
        return None
    labels, repaired = sound
    return np.where((raw == PATCH) & (labels == MYO), PATCH, labels).astype(np.uint8), repaired


def facts_of(patient: Patient, phase: float, healthy: np.ndarray, labels: np.ndarray) -> dict[str, object]:
    """Describe a heart: diseases, size, beat and phase; healthy, target and actual volumes (mL)."""
    reached = measure_labels(labels)
    targets = target_volumes(patient, phase, healthy)
    return {
        "diseases": list(patient.condition.names),
        "size": round(patient.size, 3),
        "phase": round(phase, 3),
        "beat": {k: round(float(v), 3) for k, v in vars(patient.beat).items()},
        "condition": {k: round(v, 2) for k, v in vars(patient.condition).items() if isinstance(v, float)},
        "healthy_mL": {str(k): round(float(healthy[k]), 1) for k in range(1, 8)},
        "wanted_mL": {str(k): round(v, 1) for k, v in targets.items()},
        "reached_mL": {str(k): round(v, 1) for k, v in reached.volumes.items()},
        "wall_mm": reached.wall_mm,
        "patch_mm": reached.patch_mm,
    }


def _heart(
    rng: np.random.Generator, labels: np.ndarray, facts: dict[str, object], patient: Patient, detail: bool
) -> Heart:
    """Make the heart with labels, regions (with detail and scar) and target."""
    merged = np.where(labels == PATCH, MYO, labels).astype(np.uint8)
    heart = Heart(merged, merged.copy(), TARGET_OF_HEART[merged], facts)
    found = np.argwhere(merged[::2, ::2, ::2] > 0) * 2
    box = tuple(slice(max(a - 8, 0), min(b + 9, SIZE)) for a, b in zip(found.min(0), found.max(0), strict=True))
    if detail:
        heart.regions[box] = add_detail(rng, merged[box])
    if {"scar", "aneurysm"} & set(patient.condition.names) and rng.random() < 0.7:
        heart.regions[labels == PATCH] = Region.SCAR
    heart.aorta_mm, heart.pulmonary_mm = patient.condition.aorta_mm, patient.condition.pulmonary_mm
    return heart
