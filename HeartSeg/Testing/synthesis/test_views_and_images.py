"""Views and images: field of view, ignored voxels and scaling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from heartseg.inference.normalize import fit_clipped
from heartseg.synthesis import views
from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.fields import rotation_matrix
from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.scenes import Scene


def plain_view(scene: Scene, centre: np.ndarray, size: int = 32, spacing: float = 3.0) -> views.View:
    return views.View(centre, size, spacing, np.eye(3), np.ones(3), np.zeros(3), np.full(3, float(size)))


def checker_scene() -> Scene:
    """A body whose target block does not start in the corner, so that errors in offsets are detected."""
    regions = np.full((40, 50, 60), Region.MUSCLE, np.uint8)
    regions[10:30, 12:32, 14:34] = Region.LV_BLOOD
    target = np.ones((20, 20, 20), np.uint8)
    return Scene(regions, target, (10, 12, 14), 1.5, (28.5, 31.5, 34.5), "trunk", 0, 0)


def parts_of(regions: torch.Tensor) -> np.ndarray:
    """Return the map voxels of each image voxel, (z, 2, y, 2, x, 2)."""
    n = len(regions) // 2
    return regions.numpy().reshape(n, 2, n, 2, n, 2)


def test_a_plain_view_puts_labels_where_the_tissue_is() -> None:
    scene = checker_scene()
    regions, target, seen = views.extract(scene, plain_view(scene, np.array([28.5, 31.5, 34.5]), size=16))
    assert regions.shape == (32, 32, 32)
    assert seen.all()
    blood = (parts_of(regions) == Region.LV_BLOOD).mean((1, 3, 5))
    assert np.array_equal(target.numpy() == 1, blood > 0.5)
    assert target.sum() == 10**3


def test_beyond_the_scene_nothing_is_seen_and_nothing_is_asked() -> None:
    scene = checker_scene()
    _, target, seen = views.extract(scene, plain_view(scene, np.array([0.0, 37.0, 45.0]), size=16))
    assert (target[~seen] == IGNORE).all()
    assert not seen[:7].any()
    assert seen[9:].all()


def test_the_field_of_view_hides_voxels_and_they_take_the_lowest_seen_value() -> None:
    scene = checker_scene()
    view = replace(plain_view(scene, np.array(scene.heart_centre), size=16), fov_low=np.array([4.0, 0.0, 0.0]))
    _, target, seen = views.extract(scene, view)
    assert not seen[:4].any()
    assert (target[:4] == IGNORE).all()
    image = torch.from_numpy(np.random.default_rng(0).normal(100, 20, seen.shape).astype(np.float32))
    scaled = views.normalise(image, seen)
    assert float(scaled[seen].mean()) == pytest.approx(0, abs=1e-5)
    assert float(scaled[seen].std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert torch.unique(scaled[~seen]) == scaled[seen].min()


def test_grey_values_are_clipped_as_in_a_run() -> None:
    values = np.random.default_rng(1).normal(100, 20, (24, 24, 24)).astype(np.float32)
    values[:2] = 3000.0  # metal
    seen = np.ones(values.shape, bool)
    seen[20:] = False
    scaled = views.normalise(torch.from_numpy(values), torch.from_numpy(seen), 80.0).numpy()
    expected = fit_clipped("ZScoreNormalization", values[seen], {}, 80.0).apply(values[seen])
    np.testing.assert_allclose(scaled[seen], expected, atol=5e-3)


def test_an_oblique_field_of_view_is_the_straight_one_turned_about_the_patch_s_centre() -> None:
    size = 16
    straight = views.View(
        np.zeros(3), size, 3.0, np.eye(3), np.ones(3), np.array([0.0, 5.0, 0.0]), np.array([16.0, 9.0, 16.0])
    )
    turned = replace(straight, fov_rotation=np.eye(3))
    assert torch.equal(views.field_of_view(turned), views.field_of_view(straight))
    # A quarter turn about z maps the y axis (column 1) to x: the slab across y becomes one across x.
    quarter = rotation_matrix([np.pi / 2, 0, 0])
    along = quarter[:, 1]
    assert np.abs(along[1:]).round(6).tolist() in ([0, 1], [1, 0])
    expected = np.zeros((size,) * 3, bool)
    if along[2] > 0:
        expected[:, :, 5:9] = True
    else:
        expected[:, :, 16 - 9 : 16 - 5] = True
    assert np.array_equal(views.field_of_view(replace(straight, fov_rotation=quarter)).numpy(), expected)


def test_an_oblique_slab_keeps_its_thickness_and_hides_what_lies_outside_it() -> None:
    scene, size, thickness = checker_scene(), 16, 6.0
    turn = rotation_matrix(np.deg2rad([20, 35, -25]))
    low, high = np.array([8 - thickness / 2, -20, -20]), np.array([8 + thickness / 2, 40, 40])
    view = replace(
        plain_view(scene, np.array(scene.heart_centre), size=size), fov_low=low, fov_high=high, fov_rotation=turn
    )
    regions, target, seen = views.extract(scene, view)
    centres = np.stack(np.meshgrid(*[np.arange(size) + 0.5 - size / 2] * 3, indexing="ij"), -1)
    depth = np.abs(centres @ turn[:, 0])
    assert bool(seen.any())
    in_scene = (parts_of(regions) != Region.UNSEEN).all((1, 3, 5))
    assert np.array_equal(seen.numpy(), (depth < thickness / 2) & in_scene)
    assert (target[~seen] == IGNORE).all()
    assert (target[seen] == 1).any()


def test_arrays_and_tensors_on_a_named_device_give_the_same_view(thorax_scene: Scene) -> None:
    rng = np.random.default_rng(3)
    view = replace(views.draw_fine_view(rng, thorax_scene, 32, 3.0), elastic=views.draw_elastic(rng, 96.0))
    from_arrays = views.extract(thorax_scene, view)
    from_tensors = views.extract(thorax_scene.to("cpu"), view, "cpu")
    for a, b in zip(from_arrays, from_tensors, strict=True):
        assert torch.equal(a, b)
    assert isinstance(thorax_scene.regions, np.ndarray)


def test_majority_takes_the_most_frequent_label_and_keeps_ignored_voxels() -> None:
    parts = np.zeros((2, 2, 4), np.uint8)
    parts[:, :, :2] = [[[3, 3], [3, 1]], [[3, 3], [1, 1]]]
    parts[:, :, 2:] = [[[IGNORE, IGNORE], [IGNORE, IGNORE]], [[IGNORE, 2], [2, 2]]]
    assert views.majority(torch.from_numpy(parts), 2).tolist() == [[[3, IGNORE]]]


def test_majority_is_the_most_frequent_value_and_ties_go_to_the_lowest() -> None:
    labels = np.random.default_rng(0).integers(0, 8, (12, 12, 12)).astype(np.uint8)
    labels[::5] = IGNORE
    blocks = labels.reshape(6, 2, 6, 2, 6, 2).transpose(0, 2, 4, 1, 3, 5).reshape(6, 6, 6, 8)
    expected = np.apply_along_axis(lambda b: np.bincount(b).argmax(), 3, blocks)
    assert np.array_equal(views.majority(torch.from_numpy(labels), 2).numpy(), expected)


def test_fair_ties_keep_the_volume_of_a_thin_wall() -> None:
    """A wall of label 5, four map voxels thick, between 1 and 0, at random distances from the block borders."""
    share = {}
    for fair in (False, True):
        counts = []
        for offset in range(8):
            labels = np.zeros((64, 16, 16), np.uint8)
            labels[: 20 + offset] = 1
            labels[20 + offset : 23 + offset] = 5  # three voxels: one of its borders halves a block
            counts.append(int((views.majority(torch.from_numpy(labels), 2, fair) == 5).sum()) * 8)
        share[fair] = np.mean(counts) / (3 * 16 * 16)
    assert share[True] == pytest.approx(1)
    assert share[False] == pytest.approx(2 / 3)


def test_fair_ties_differ_from_the_others_in_ties_alone() -> None:
    labels = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 5, IGNORE], (24, 24, 24)).astype(np.uint8))
    blocks = labels.numpy().reshape(12, 2, 12, 2, 12, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8)
    counts = np.stack([(blocks == k).sum(1) for k in (0, 1, 5, IGNORE)], 1)
    tied = ((counts == counts.max(1, keepdims=True)).sum(1) > 1).reshape(12, 12, 12)
    fair, lowest = views.majority(labels, 2, True).numpy(), views.majority(labels, 2).numpy()
    assert np.array_equal(fair[~tied], lowest[~tied])
    chosen = np.stack([fair.ravel() == k for k in (0, 1, 5, IGNORE)], 1)
    assert (counts[chosen] == counts.max(1)).all()
    assert 0.4 < (fair[tied] != lowest[tied]).mean() < 0.6


def test_crops_away_from_the_heart_hold_none_and_are_a_good_share(trunk_scene: Scene) -> None:
    scene = trunk_scene
    rng = np.random.default_rng(0)
    half = 48 * 2.0
    free = 0
    for _ in range(60):
        view = views.draw_fine_view(rng, scene)
        if np.abs(view.centre - np.array(scene.heart_centre)).max() > half * 1.2:
            free += 1
    assert free >= 9  # a third of them, some of which are close
    far = plain_view(scene, np.array(scene.heart_centre) - np.array([180.0, 0, 0]), size=32)
    _, target, seen = views.extract(scene, far)
    assert seen.any()
    assert not ((target > 0) & (target < IGNORE)).any()


def test_the_same_seed_gives_the_same_image(thorax_scene: Scene) -> None:
    view = plain_view(thorax_scene, np.array(thorax_scene.heart_centre))
    regions, _, _ = views.extract(thorax_scene, view)
    images = []
    for _ in range(2):
        rng = np.random.default_rng(9)
        images.append(render(rng, regions, draw_appearance(rng), view.spacing).numpy())
    assert np.array_equal(images[0], images[1])
    assert np.isfinite(images[0]).all()


def test_ct_images_keep_the_order_of_air_fat_blood_and_bone(thorax_scene: Scene) -> None:
    view = plain_view(thorax_scene, np.array(thorax_scene.heart_centre), size=48)
    regions, target, _ = views.extract(thorax_scene, view)
    rng = np.random.default_rng(2)
    look = draw_appearance(rng, "ct")
    while look.window or look.gamma != 1 or look.mean[Region.LV_BLOOD] < 180 or look.bias or look.slice_mm:
        look = draw_appearance(rng, "ct")
    image = render(rng, regions, look, view.spacing).numpy()
    assert image.min() >= -1024
    lung, labels = (parts_of(regions) == Region.LUNG).all((1, 3, 5)), target.numpy()
    assert image[lung].mean() < -500 < image[labels == 5].mean() < image[labels == 1].mean()


def test_a_windowed_picture_has_no_more_levels_than_it_says(thorax_scene: Scene) -> None:
    view = plain_view(thorax_scene, np.array(thorax_scene.heart_centre))
    regions, _, _ = views.extract(thorax_scene, view)
    rng = np.random.default_rng(1)
    look = replace(draw_appearance(rng, "ct"), window=(-100.0, 700.0, 64), gamma=1.0)
    values = np.unique(render(rng, regions, look, view.spacing).numpy())
    assert len(values) <= 64
    assert values.min() >= 0
    assert values.max() <= 63
