"""Views and images: what is seen, what is ignored, and how it is scaled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heartseg.synthesis import views
from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.scenes import Scene


def plain_view(scene: Scene, centre: np.ndarray, size: int = 32, spacing: float = 3.0) -> views.View:
    return views.View(centre, size, spacing, np.eye(3), np.ones(3), np.zeros(3), np.full(3, float(size)))


def checker_scene() -> Scene:
    """A body whose target block starts away from the corner, so that offsets matter."""
    regions = np.full((40, 50, 60), Region.MUSCLE, np.uint8)
    regions[10:30, 12:32, 14:34] = Region.LV_BLOOD
    target = np.ones((20, 20, 20), np.uint8)
    return Scene(regions, target, (10, 12, 14), 1.5, (28.5, 31.5, 34.5), "trunk", 0, 0)


def test_a_plain_view_puts_labels_where_the_tissue_is():
    scene = checker_scene()
    regions, target, seen = views.extract(scene, plain_view(scene, np.array([28.5, 31.5, 34.5]), size=16))
    assert regions.shape == (32, 32, 32)
    assert seen.all()
    blood = (regions.reshape(16, 2, 16, 2, 16, 2) == Region.LV_BLOOD).mean((1, 3, 5))
    assert np.array_equal(target == 1, blood > 0.5)
    assert target.sum() == 10**3


def test_beyond_the_scene_nothing_is_seen_and_nothing_is_asked():
    scene = checker_scene()
    _, target, seen = views.extract(scene, plain_view(scene, np.array([0.0, 37.0, 45.0]), size=16))
    assert (target[~seen] == IGNORE).all()
    assert not seen[:7].any()
    assert seen[9:].all()


def test_the_field_of_view_hides_voxels_and_they_take_the_lowest_seen_value():
    scene = checker_scene()
    view = replace(plain_view(scene, np.array(scene.heart_centre), size=16), fov_low=np.array([4.0, 0.0, 0.0]))
    _, target, seen = views.extract(scene, view)
    assert not seen[:4].any()
    assert (target[:4] == IGNORE).all()
    image = np.random.default_rng(0).normal(100, 20, seen.shape).astype(np.float32)
    scaled = views.normalise(image, seen)
    assert scaled[seen].mean() == pytest.approx(0, abs=1e-5)
    assert scaled[seen].std() == pytest.approx(1, abs=1e-5)
    assert np.unique(scaled[~seen]) == scaled[seen].min()


def test_majority_takes_the_most_frequent_label_and_keeps_ignored_voxels():
    parts = np.zeros((2, 2, 4), np.uint8)
    parts[:, :, :2] = [[[3, 3], [3, 1]], [[3, 3], [1, 1]]]
    parts[:, :, 2:] = [[[IGNORE, IGNORE], [IGNORE, IGNORE]], [[IGNORE, 2], [2, 2]]]
    assert views.majority(parts, 2).tolist() == [[[3, IGNORE]]]


def test_crops_away_from_the_heart_hold_none_and_are_a_good_share(trunk_scene):
    scene = trunk_scene
    rng = np.random.default_rng(0)
    half = 32 * 3.0
    free = 0
    for _ in range(60):
        view = views.draw_fine_view(rng, scene)
        if np.abs(view.centre - np.array(scene.heart_centre)).max() > half * 1.2:
            free += 1
    assert free >= 15
    far = plain_view(scene, np.array(scene.heart_centre) - np.array([200.0, 0, 0]), size=32)
    _, target, seen = views.extract(scene, far)
    assert seen.any()
    assert not ((target > 0) & (target < IGNORE)).any()


def test_the_same_seed_gives_the_same_image(thorax_scene):
    view = plain_view(thorax_scene, np.array(thorax_scene.heart_centre))
    regions, _, _ = views.extract(thorax_scene, view)
    images = []
    for _ in range(2):
        rng = np.random.default_rng(9)
        images.append(render(rng, regions, draw_appearance(rng), view.spacing).numpy())
    assert np.array_equal(*images)
    assert np.isfinite(images[0]).all()


def test_ct_images_keep_the_order_of_air_fat_blood_and_bone(thorax_scene):
    view = plain_view(thorax_scene, np.array(thorax_scene.heart_centre), size=48)
    regions, target, _ = views.extract(thorax_scene, view)
    rng = np.random.default_rng(2)
    look = draw_appearance(rng, "ct")
    while look.window or look.gamma != 1 or look.mean[Region.LV_BLOOD] < 180 or look.bias or look.slice_mm:
        look = draw_appearance(rng, "ct")
    image = render(rng, regions, look, view.spacing).numpy()
    assert image.min() >= -1024
    lung = (regions.reshape(48, 2, 48, 2, 48, 2) == Region.LUNG).all((1, 3, 5))
    assert image[lung].mean() < -500 < image[target == 5].mean() < image[target == 1].mean()


def test_a_windowed_picture_has_no_more_levels_than_it_says(thorax_scene):
    view = plain_view(thorax_scene, np.array(thorax_scene.heart_centre))
    regions, _, _ = views.extract(thorax_scene, view)
    rng = np.random.default_rng(1)
    look = replace(draw_appearance(rng, "ct"), window=(-100.0, 700.0, 64), gamma=1.0)
    values = np.unique(render(rng, regions, look, view.spacing).numpy())
    assert len(values) <= 64
    assert values.min() >= 0
    assert values.max() <= 63
