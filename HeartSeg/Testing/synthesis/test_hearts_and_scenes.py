"""Hearts and scenes: reproducible, correctly labelled, of plausible size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.synthesis import hearts, scenes
from heartseg.synthesis.hearts import Heart
from heartseg.synthesis.regions import IGNORE, TARGET_OF_HEART, Region, trunk_region
from heartseg.synthesis.scenes import Scene
from heartseg.synthesis.shape import ShapeModel
from heartseg.synthesis.source import Source
from heartseg.synthesis.switches import ANATOMY_PARTS, check_parts


def millilitres(target: np.ndarray, label: int, spacing: float) -> float:
    return float((target == label).sum()) * spacing**3 / 1000


@pytest.fixture(scope="module")
def still_labels(toy_model: ShapeModel) -> Callable[..., np.ndarray]:
    """Return the toy template in the centre of a smaller cube (160 mm, faster), with these chamber factors."""
    zero = np.zeros_like(toy_model.momenta[0])

    def make(factors: dict[int, float] | None, with_wall: bool = False) -> np.ndarray:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hearts, "SIZE", 160)
            return hearts.shape_labels(toy_model, zero, factors, with_wall, hearts.still_pose(160))

    return make


@pytest.fixture(scope="module")
def heart_at_rest(still_labels: Callable[..., np.ndarray]) -> np.ndarray:
    return still_labels(None)


def counts(labels: np.ndarray) -> np.ndarray:
    """Return the number of voxels of each label 0-12."""
    return np.bincount(labels.ravel(), minlength=13)


def test_the_same_seed_gives_the_same_heart_and_another_seed_another(toy_model: ShapeModel, drawn_heart: Heart) -> None:
    again = hearts.make_heart(np.random.default_rng(3), toy_model)
    for name in ("labels", "regions", "target", "facts"):
        assert np.array_equal(getattr(again, name), getattr(drawn_heart, name)), name
    momenta = [hearts.draw_shape(np.random.default_rng(s), toy_model, None) for s in range(5)]
    assert not any(np.allclose(momenta[0], other) for other in momenta[1:])


def test_chamber_factors_of_one_change_nothing(
    still_labels: Callable[..., np.ndarray], heart_at_rest: np.ndarray
) -> None:
    assert np.array_equal(still_labels({1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}), heart_at_rest)


@pytest.mark.parametrize(("label", "factor"), [(1, 0.5), (1, 0.7), (1, 1.5), (3, 1.5), (3, 1.8)])
def test_a_chamber_reaches_the_wanted_volume_within_an_eighth(
    still_labels: Callable[..., np.ndarray], heart_at_rest: np.ndarray, label: int, factor: float
) -> None:
    """Counting on nodes 4 mm apart and the remainder of the last correction require a tolerance of 12 %."""
    assert counts(still_labels({label: factor}))[label] / counts(heart_at_rest)[label] == pytest.approx(
        factor, rel=0.125
    )


def test_chambers_changed_together_each_reach_their_volume(
    still_labels: Callable[..., np.ndarray], heart_at_rest: np.ndarray
) -> None:
    wanted = {1: 0.6, 2: 0.7, 3: 1.4, 4: 1.3}
    reached = counts(still_labels(wanted)) / counts(heart_at_rest).clip(1)
    for label, factor in wanted.items():
        assert reached[label] == pytest.approx(factor, rel=0.125), label


def test_the_frozen_scenes_weaker_flow_is_still_there(toy_model: ShapeModel) -> None:
    heart = {exact: hearts.make_heart(np.random.default_rng(3), toy_model, exact=exact) for exact in (True, False)}
    assert heart[True].facts == heart[False].facts
    assert not np.array_equal(heart[True].labels, heart[False].labels)


def test_neighbours_give_way_to_a_chamber_and_fill_what_it_leaves(
    still_labels: Callable[..., np.ndarray], heart_at_rest: np.ndarray
) -> None:
    before = counts(heart_at_rest)
    for factor in (1.6, 0.5):
        made = still_labels({1: factor})
        after = counts(made)
        assert (after[1] > 1.1 * before[1]) if factor > 1 else (after[1] < 0.8 * before[1])
        assert (after[2:13] > 0.7 * before[2:13]).all()
        more, less = (made, heart_at_rest) if factor > 1 else (heart_at_rest, made)
        # The outer surface of the heart moves too: the cavity grows into the wall, never into the surroundings.
        assert set(np.unique(less[(more == 1) & (less != 1)])) <= {3, 5, 6, 8, 9, 11}
        if factor > 1:
            assert counts(still_labels({1: factor}, with_wall=True))[5] > after[5]


def test_drawn_chamber_factors_are_systolic_dilated_and_healthy_by_their_shares() -> None:
    drawn = np.array([list(hearts.draw_chamber_factors(np.random.default_rng(s)).values()) for s in range(1000)])
    # 0.35 and 2.0 (ventricles), 0.6 and 2.1 (atria), each times a log-normal factor of up to 22 %: three of them,
    # 0.52-1.93.
    assert 0.18 < drawn.min() < 0.4
    assert 2 < drawn.max() < 4.1
    # A third is systolic (0.35-0.8, then SD 12 %): about 31 % are below 0.78; standard deviation of the fraction 1.5 %.
    assert (drawn[:, 0] < 0.78).mean() == pytest.approx(0.33, abs=0.06)
    assert np.corrcoef(np.log(drawn[:, 0]), np.log(drawn[:, 1]))[0, 1] > 0.7
    assert np.corrcoef(np.log(drawn[:, 2]), np.log(drawn[:, 3]))[0, 1] > 0.6


def test_with_every_part_off_a_heart_is_the_model_s_own(toy_model: ShapeModel, plain_heart: Heart) -> None:
    share = np.random.default_rng(5).uniform(0.9, 1.1)
    labels = hearts.shape_labels(toy_model, toy_model.momenta[3] * np.float32(share), None, False, hearts.still_pose())
    septum = (plain_heart.labels == 5) & (labels == 8)
    assert np.array_equal(plain_heart.labels[~septum], labels[~septum])
    assert np.array_equal(plain_heart.regions, plain_heart.labels)
    assert np.array_equal(plain_heart.target, TARGET_OF_HEART[plain_heart.labels])
    assert plain_heart.facts == {"chamber_factors": {}}
    middle = np.argwhere(plain_heart.labels > 0).mean(0)
    assert middle == pytest.approx(np.full(3, 108.0), abs=3)


def test_a_drawn_heart_has_every_label_detail_in_the_blood_and_facts(drawn_heart: Heart) -> None:
    assert set(np.unique(drawn_heart.target)) == set(range(8))
    assert {int(Region.PAPILLARY), int(Region.TRABECULA)} & set(np.unique(drawn_heart.regions))
    factors: Any = drawn_heart.facts["chamber_factors"]
    assert sorted(factors) == ["1", "2", "3", "4"]


def test_thinning_turns_wall_into_blood_and_nothing_else() -> None:
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[5:25, 5:25, 5:25] = 10
    labels[9:21, 9:21, 9:21] = 4
    change = hearts.Remodelling({2: 0, 3: 0, 4: 2, 6: 0, 7: 0}, cavity_layers=0, epicardial_layers=0)
    thinned = hearts.remodel(labels, change)
    assert (thinned > 0).sum() == (labels > 0).sum()
    assert (thinned == 4).sum() > (labels == 4).sum()
    assert set(np.unique(thinned)) == {0, 4, 10}


@pytest.mark.parametrize(("cavity", "outside"), [(2, 0), (-2, 0), (0, 3)])
def test_the_ventricle_s_wall_gains_and_loses_whole_layers(cavity: int, outside: int) -> None:
    z, y, x = np.ogrid[:60, :60, :60]
    r = np.sqrt((z - 30.0) ** 2 + (y - 30.0) ** 2 + (x - 30.0) ** 2)
    labels = np.where(r < 12, 1, np.where(r < 22, 5, 0)).astype(np.uint8)
    made = hearts.remodel(labels, hearts.Remodelling(dict.fromkeys((2, 3, 4, 6, 7), 0), cavity, outside))
    for label, grown in ((1, cavity), (None, outside)):
        before, after = (int(((m == label) if label else (m > 0))[30, 30].sum()) for m in (labels, made))
        assert after - before == 2 * grown


def test_inner_detail_leaves_labels_outside_the_blood_alone(plain_heart: Heart) -> None:
    labels = plain_heart.labels[40:176, 40:176, 40:176]
    detailed = hearts.add_detail(np.random.default_rng(6), labels)
    changed = detailed != labels
    assert changed.any()
    assert set(np.unique(labels[changed])) <= {1, 2, 3, 4, 6, 7}


def test_a_thorax_has_all_labels_and_lungs_around_them(thorax_scene: Scene) -> None:
    assert set(np.unique(thorax_scene.target)) <= {*range(8), IGNORE}
    assert set(range(1, 8)) <= set(np.unique(thorax_scene.target))
    found = set(np.unique(thorax_scene.regions))
    wanted = {Region.LUNG, Region.CORTICAL_BONE, Region.LIVER, Region.SVC, Region.ARCH, Region.FAT}
    assert {int(r) for r in wanted} <= found


def test_scenes_survive_saving_and_opening(thorax_scene: Scene, tmp_path: Path) -> None:
    scenes.save_scene(thorax_scene, tmp_path, "one")
    opened = scenes.load_scene(tmp_path / "one.json")
    assert np.array_equal(opened.regions, thorax_scene.regions)
    assert np.array_equal(opened.target, thorax_scene.target)
    assert opened.heart_centre == thorax_scene.heart_centre
    assert opened.facts == thorax_scene.facts


def test_unknown_kinds_and_parts_of_a_scene_are_named_in_the_error(toy: Source) -> None:
    with pytest.raises(ValueError, match=r"'torso'.*trunk, thorax"):
        scenes.make_scene(toy, 1, 0, "torso")
    with pytest.raises(ValueError, match=r"'halo'.*blobs, chambers"):
        scenes.make_scene(toy, 1, 0, "trunk", frozenset({"halo", "pose"}))
    assert check_parts(ANATOMY_PARTS) == frozenset(ANATOMY_PARTS)


def test_making_scenes_goes_on_where_it_stopped_and_leaves_those_that_others_are_making(
    toy: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def small_scene(
        source: object, subject: int | None, seed: int, kind: str, without: object, recipe: object
    ) -> Scene:
        made.append((seed, subject, kind))
        regions, target = np.full((8, 8, 8), Region.MUSCLE, np.uint8), np.zeros((8, 8, 8), np.uint8)
        target[2:6, 2:6, 2:6] = 1
        return scenes.pack_scene(regions, target, 1.5, kind, subject, seed)

    monkeypatch.setattr(scenes, "make_scene", small_scene)
    scenes.make_scenes(toy, tmp_path, range(2), subjects=(1, 2))
    (tmp_path / "scene00003.lock").touch()  # another process is working
    (tmp_path / "scene00004.lock").touch()  # a process was killed
    os.utime(tmp_path / "scene00004.lock", (time.time() - 700,) * 2)
    scenes.make_scenes(toy, tmp_path, range(5), subjects=(1, 2))
    assert made == [(0, 1, "trunk"), (1, 2, "trunk"), (2, 1, "thorax"), (4, 1, "trunk")]
    assert [p.name for p in sorted(tmp_path.glob("*.lock"))] == ["scene00003.lock"]
    assert scenes.load_scene(tmp_path / "scene00004.json").seed == 4


def test_subjects_for_training_validation_and_the_reserved_test_do_not_overlap() -> None:
    groups = hearts.TRAINING_SUBJECTS, hearts.VALIDATION_SUBJECTS, hearts.RESERVED_SUBJECTS
    assert sorted(s for g in groups for s in g) == list(range(1, 20))


def test_atlas_structures_become_the_tissues_they_are() -> None:
    assert trunk_region("rib_left_3") == Region.CORTICAL_BONE
    assert trunk_region("lung_lower_lobe_left") == Region.LUNG
    assert trunk_region("something_new") == Region.SOFT_ORGAN


@pytest.mark.shared
def test_a_trunk_of_a_real_subject_has_a_heart_and_a_body_of_plausible_size(real_scene: Scene) -> None:
    # A subject (LV 100-200 mL) scaled by 0.5-1.45 in volume, its chambers by 0.35-2 or more, and the layers of the
    # wall.
    limits = {1: (15, 400), 2: (25, 500), 3: (15, 300), 4: (20, 350), 5: (50, 400), 6: (20, 150), 7: (10, 120)}
    for label, (low, high) in limits.items():
        assert low < millilitres(real_scene.target, label, real_scene.spacing) < high, label
    body = (real_scene.regions > 0) & (real_scene.regions != Region.UNSEEN)
    assert 10 < body.sum() * real_scene.spacing**3 / 1e6 < 60  # litres
