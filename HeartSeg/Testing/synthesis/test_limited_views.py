"""Stacks of slices and limited fields of view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from heartseg.synthesis.fields import rotation_matrix
from heartseg.synthesis.limited_views import (
    as_stack_view,
    cut_view,
    draw_limited_view,
    long_axis,
    to_patch,
    with_long_axis,
)
from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.scenes import Scene
from heartseg.synthesis.stacks import SliceStack, scan_stack, slice_matrix
from heartseg.synthesis.views import View, draw_fine_view, extract


def plain_view(scene: Scene, size: int = 48, spacing: float = 3.0) -> View:
    return View(
        np.array(scene.heart_centre), size, spacing, np.eye(3), np.ones(3), np.zeros(3), np.full(3, float(size))
    )


def straight(shifts: npt.ArrayLike, **changes: Any) -> SliceStack:
    """Return slices across z: 6 mm thick, 4 mm apart, the first at -20 mm."""
    return replace(SliceStack(np.eye(3), -20.0, 6.0, 4.0, 1.0, np.asarray(shifts, float)), **changes)


def test_slices_average_what_they_hold_and_are_joined_by_lines() -> None:
    matrix = slice_matrix(12, -4.0, 4.0, 2.0, 3)  # 12 voxels of 1 mm; slices over 1-3, 5-7, 9-11
    line = np.arange(12.0)
    assert matrix.sum(1) == pytest.approx(np.ones(12))
    seen = matrix @ line
    assert seen[[1, 2]] == pytest.approx([1.5, 2.0])  # voxel centres 1.5 (below the first slice centre, 2) and 2.5
    assert seen[0] == pytest.approx(1.5) and seen[11] == pytest.approx(9.5)
    gap = np.zeros(12)
    gap[3:5] = 1  # between two slices, in neither
    assert (matrix @ gap) == pytest.approx(np.zeros(12))


def test_a_stack_blurs_across_its_slices_and_not_along_them() -> None:
    image = torch.zeros(40, 40, 40)
    image[19:21, 19:21, 19:21] = 1
    turn = rotation_matrix([0.6, 0.0, 0.0])
    seen = scan_stack(image, SliceStack(turn, -25.0, 8.0, 0.0, 1.0, np.zeros((7, 2))), 1.0).numpy()
    place = np.moveaxis(np.indices(image.shape), 0, -1) - 19.5
    spread = [float(np.sqrt((seen * (place @ turn[:, k]) ** 2).sum() / seen.sum())) for k in range(3)]
    assert spread[0] > 2 * max(spread[1:])


def test_labels_and_image_move_with_their_slice(thorax_scene: Scene) -> None:
    view = plain_view(thorax_scene)
    shifts = np.zeros((5, 2))
    shifts[2] = (0.0, 9.0)  # the slice about the centre is shifted by three voxels along x
    moved = replace(view, stack=straight(shifts))
    (r0, t0, _), (r1, t1, _) = extract(thorax_scene, view), extract(thorax_scene, moved)
    middle, other = 24, 24 + 5  # 10 mm between slices: +15 mm belongs to another one
    assert torch.equal(t1[middle, :, 3:-3], torch.roll(t0[middle], -3, 1)[:, 3:-3])
    assert torch.equal(r1[2 * middle, :, 6:-6], torch.roll(r0[2 * middle], -6, 1)[:, 6:-6])
    assert torch.equal(t1[other], t0[other])


def test_the_long_axis_runs_from_the_atrium_through_the_ventricle(trunk_scene: Scene) -> None:
    axis = long_axis(trunk_scene)
    labels = np.argwhere(trunk_scene.target == 1) + np.array(trunk_scene.target_origin)
    ventricle = labels.mean(0) * trunk_scene.spacing
    atrium = (np.argwhere(trunk_scene.target == 3) + np.array(trunk_scene.target_origin)).mean(0) * trunk_scene.spacing
    for point in (axis.base, axis.apex):
        assert np.linalg.norm(point - ventricle) < 70
    assert np.linalg.norm(axis.base - atrium) < np.linalg.norm(axis.apex - atrium)
    known = long_axis(with_long_axis(trunk_scene))
    assert known.base == pytest.approx(axis.base) and known.apex == pytest.approx(axis.apex)


def test_stacks_are_as_thick_far_and_shifted_as_cine_stacks_are(trunk_scene: Scene) -> None:
    view, along = plain_view(trunk_scene), []
    axis = long_axis(trunk_scene)
    direction = (axis.base - axis.apex) / np.linalg.norm(axis.base - axis.apex)
    for seed in range(60):
        limited = as_stack_view(np.random.default_rng(seed), view, trunk_scene)
        stack = limited.stack
        assert 6 <= stack.thickness <= 10 and 0 <= stack.gap <= 12 and 1.2 <= stack.in_plane <= 2
        assert np.linalg.norm(stack.shifts, axis=1).max() <= 5 and len(stack.shifts) >= 4
        assert stack.turn.T @ stack.turn == pytest.approx(np.eye(3), abs=1e-9)
        assert limited.fov_high[0] - limited.fov_low[0] == pytest.approx(len(stack.shifts) * stack.pitch / view.spacing)
        along.append(float(stack.turn[:, 0] @ direction))
    # Two thirds are short-axis stacks, within 20 degrees per axis; 60 draws: standard deviation 0.06.
    assert np.mean(np.abs(along) > 0.85) == pytest.approx(0.67 + 0.33 * 0.15, abs=0.2)


def test_a_view_in_patch_coordinates_is_where_extract_puts_it(trunk_scene: Scene) -> None:
    view = replace(plain_view(trunk_scene), rotation=rotation_matrix([0.2, -0.1, 0.3]), zoom=np.array([1.1, 0.9, 1.0]))
    regions = np.zeros_like(trunk_scene.regions)
    centre = np.array(trunk_scene.heart_centre) + np.array([12.0, -20.0, 15.0])
    z, y, x = np.round(centre / trunk_scene.spacing).astype(int)
    regions[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] = Region.METAL
    found = np.argwhere(extract(replace(trunk_scene, regions=regions), view)[0].numpy() == Region.METAL).mean(0)
    expected = to_patch(view, centre) / (view.spacing / 2) + (2 * view.size - 1) / 2
    assert found == pytest.approx(expected, abs=1.0)


def test_cuts_end_the_scan_within_the_heart_and_leave_some_of_it(trunk_scene: Scene) -> None:
    view, ends = plain_view(trunk_scene, 64), []
    for seed in range(40):
        cut = cut_view(np.random.default_rng(seed), view, trunk_scene)
        low, high = cut.fov_low[0], cut.fov_high[0]
        assert high - low >= 12 and cut.fov_rotation is None
        assert (cut.fov_low[1:] == 0).all() and (cut.fov_high[1:] == 64).all()
        ends.append((low > 0, high < 64))
        if seed > 3:
            continue
        target = extract(trunk_scene, cut)[1]
        outside = torch.ones(64, dtype=torch.bool)
        outside[int(low) : int(high)] = False
        assert bool((target[outside] == IGNORE).all())
    both, below, above = (np.mean([e == k for e in ends]) for k in ((True, True), (True, False), (False, True)))
    assert below > 0.2 and above > 0.2 and both > 0


def test_recipe_0_5_has_no_stacks_and_their_switches_keep_the_other_views(trunk_scene: Scene) -> None:
    def drawn(seed: int, generator: str, *off: str) -> View:
        rng = np.random.default_rng(seed)
        return draw_limited_view(draw_fine_view, rng, trunk_scene, 32, 4.0, generator, frozenset(off))

    stacks = 0
    for seed in range(60):
        old, new = drawn(seed, "0.5"), drawn(seed, "0.6")
        rng = np.random.default_rng(seed)
        assert np.array_equal(old.centre, draw_fine_view(rng, trunk_scene, 32, 4.0).centre)
        assert old.stack is None and np.array_equal(old.centre, new.centre)
        stacks += new.stack is not None
        bare = drawn(seed, "0.6", "stacks", "cuts")
        assert bare.stack is None and np.array_equal(bare.fov_low, old.fov_low)
        assert np.array_equal(bare.fov_high, old.fov_high)
    assert stacks / 60 == pytest.approx(0.2, abs=0.15)  # standard deviation 0.05
