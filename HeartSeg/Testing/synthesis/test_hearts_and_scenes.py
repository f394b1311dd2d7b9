"""Hearts and scenes: repeatable, labelled as promised, of plausible size."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.synthesis import hearts, scenes
from heartseg.synthesis.regions import IGNORE, Region, trunk_region
from toy_hearts import toy_subject


def millilitres(target: np.ndarray, label: int, spacing: float) -> float:
    return float((target == label).sum()) * spacing**3 / 1000


def test_the_same_seed_gives_the_same_heart_and_another_seed_another():
    first, again, other = (
        hearts.deform(toy_subject(), hearts.draw_deformation(np.random.default_rng(s))) for s in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_thinning_turns_wall_into_blood_and_nothing_else():
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[5:25, 5:25, 5:25] = 10
    labels[9:21, 9:21, 9:21] = 4
    change = hearts.Remodelling({2: 0, 3: 0, 4: 2, 6: 0, 7: 0}, cavity_layers=0, epicardial_layers=0)
    thinned = hearts.remodel(labels, change)
    assert (thinned > 0).sum() == (labels > 0).sum()
    assert (thinned == 4).sum() > (labels == 4).sum()
    assert set(np.unique(thinned)) == {0, 4, 10}


def test_inner_detail_leaves_labels_outside_the_blood_alone(thorax_scene):
    labels = hearts.deform(toy_subject(), hearts.draw_deformation(np.random.default_rng(5)))[40:176, 40:176, 40:176]
    detailed = hearts.add_detail(np.random.default_rng(6), labels)
    changed = detailed != labels
    assert changed.any()
    assert set(np.unique(labels[changed])) <= {1, 2, 3, 4, 6, 7}


def test_a_thorax_has_all_labels_and_lungs_around_them(thorax_scene):
    assert set(np.unique(thorax_scene.target)) <= {*range(8), IGNORE}
    assert set(range(1, 8)) <= set(np.unique(thorax_scene.target))
    found = set(np.unique(thorax_scene.regions))
    wanted = {Region.LUNG, Region.CORTICAL_BONE, Region.LIVER, Region.SVC, Region.ARCH, Region.FAT}
    assert {int(r) for r in wanted} <= found


def test_scenes_survive_saving_and_opening(thorax_scene, tmp_path):
    scenes.save_scene(thorax_scene, tmp_path, "one")
    opened = scenes.load_scene(tmp_path / "one.json")
    assert np.array_equal(opened.regions, thorax_scene.regions)
    assert np.array_equal(opened.target, thorax_scene.target)
    assert opened.heart_centre == thorax_scene.heart_centre


def test_an_unknown_kind_of_scene_is_named_in_the_error(tmp_path):
    with pytest.raises(ValueError, match="'torso': must be one of trunk, thorax"):
        scenes.make_scene(tmp_path, 1, 0, "torso")


def test_subjects_for_training_validation_and_the_reserved_test_do_not_overlap():
    groups = scenes.TRAINING_SUBJECTS, scenes.VALIDATION_SUBJECTS, scenes.RESERVED_SUBJECTS
    assert sorted(s for g in groups for s in g) == list(range(1, 20))


def test_atlas_structures_become_the_tissues_they_are():
    assert trunk_region("rib_left_3") == Region.CORTICAL_BONE
    assert trunk_region("lung_lower_lobe_left") == Region.LUNG
    assert trunk_region("something_new") == Region.SOFT_ORGAN


def test_a_trunk_of_a_real_subject_has_a_heart_and_a_body_of_plausible_size(trunk_scene):
    first = trunk_scene
    # Subjects scale by 0.83-1.2 an axis: volumes of 15 (LV 100-200 mL) by 0.5-2 and the cavity's layers.
    limits = {1: (30, 400), 2: (50, 450), 3: (25, 250), 4: (30, 300), 5: (50, 400), 6: (20, 150), 7: (10, 120)}
    for label, (low, high) in limits.items():
        assert low < millilitres(first.target, label, first.spacing) < high, label
    body = (first.regions > 0) & (first.regions != Region.UNSEEN)
    assert 10 < body.sum() * first.spacing**3 / 1e6 < 60  # litres
