"""Geometry: index to world and back, and conversion to the nearest LPS axes, for all orientations."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartseg.volume import Geometry, to_nearest_lps
from triples import triple

Axes = tuple[int, int, int]
Point = tuple[float, float, float]
SIGNS: list[Axes] = [(x, y, z) for x, y, z in product((1, -1), repeat=3)]
ORIENTATIONS = [((x, y, z), signs) for x, y, z in permutations(range(3)) for signs in SIGNS]

angles = st.tuples(*[st.floats(-0.35, 0.35)] * 3)  # ±20°: below 35.26°, above which "nearest" is ambiguous
spacings = st.tuples(*[st.floats(0.3, 20.0)] * 3)
origins = st.tuples(*[st.floats(-2000.0, 2000.0)] * 3)
shapes = st.tuples(*[st.integers(1, 7)] * 3)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    """Return the rotation about x, then y, then z, radians."""
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


def grid(order: Axes, signs: Axes, turn: Point, shape: Axes, spacing: Point, origin: Point) -> Geometry:
    """Return a grid whose index axes are along the world axes ``order`` with ``signs``, with a small rotation."""
    stored = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        stored[world, axis] = sign
    return Geometry(shape, spacing, origin, tuple((rotation(*turn) @ stored).ravel()))


any_grid = st.builds(
    lambda o, t, n, s, p: grid(o[0], o[1], t, n, s, p), st.sampled_from(ORIENTATIONS), angles, shapes, spacings, origins
)


def test_a_grid_lies_at_the_origin_along_the_axes_by_default() -> None:
    assert np.array_equal(Geometry((2, 3, 4), (1.0, 2.0, 3.0)).affine, np.diag([1.0, 2.0, 3.0, 1.0]))


def test_there_are_48_orientations() -> None:
    names = {grid(o, s, (0, 0, 0), (2, 2, 2), (1, 1, 1), (0, 0, 0)).orientation for o, s in ORIENTATIONS}
    assert len(names) == len(ORIENTATIONS) == 48


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
@given(turn=st.tuples(*[st.floats(-0.15, 0.15)] * 3), shape=shapes, spacing=spacings, origin=origins)
@settings(max_examples=8, deadline=None)
def test_every_orientation_turns_to_lps_and_back_exactly(
    order: Axes, signs: Axes, turn: Point, shape: Axes, spacing: Point, origin: Point
) -> None:
    stored = grid(order, signs, turn, shape, spacing, origin)
    flip, turned = to_nearest_lps(stored)
    array = np.arange(np.prod(shape)).reshape(shape)
    assert turned.orientation == "LPS"
    assert flip.apply(array).shape == turned.shape
    np.testing.assert_array_equal(flip.undo(flip.apply(array)), array)


@given(stored=any_grid)
@settings(max_examples=150, deadline=None)
def test_a_voxel_keeps_its_place_in_the_patient_when_axes_are_turned(stored: Geometry) -> None:
    flip, turned = to_nearest_lps(stored)
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in stored.shape], indexing="ij"), axis=-1)
    world = stored.index_to_world(indices)
    carried = np.stack([flip.apply(world[..., k]) for k in range(3)], axis=-1)
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in turned.shape], indexing="ij"), axis=-1)
    # spacing and origin are rounded to 1e-6 mm, direction to 1e-9: 7 voxels of 20 mm move by less than 1e-5 mm
    np.testing.assert_allclose(turned.index_to_world(indices), carried, atol=1e-5)


@given(stored=any_grid, index=st.tuples(*[st.floats(-10.0, 600.0)] * 3))
@settings(max_examples=150, deadline=None)
def test_world_to_index_undoes_index_to_world(stored: Geometry, index: Point) -> None:
    np.testing.assert_allclose(stored.world_to_index(stored.index_to_world(np.array(index))), index, atol=1e-6)


@given(spacing=spacings, origin=origins, turn=angles)
@settings(max_examples=50, deadline=None)
def test_flipped_and_permuted_copies_end_in_the_very_same_grid(spacing: Point, origin: Point, turn: Point) -> None:
    base = grid((0, 1, 2), (1, 1, 1), turn, (4, 5, 6), spacing, origin)
    _, reference = to_nearest_lps(base)
    for order, signs in ORIENTATIONS:
        shape_xyz = [base.size[k] for k in order]
        corner = np.array([0 if signs[k] > 0 else shape_xyz[k] - 1 for k in range(3)])
        direction = base.direction_matrix[:, order] * signs
        start = np.zeros(3)
        start[list(order)] = corner
        copy = Geometry(
            (shape_xyz[2], shape_xyz[1], shape_xyz[0]),
            triple(base.spacing[k] for k in order),
            triple(base.index_to_world(start[::-1])),
            tuple(direction.ravel()),
        )
        assert to_nearest_lps(copy)[1].same_grid(reference, tolerance_mm=1e-5)


def test_the_ras_affine_is_the_lps_affine_with_two_signs_turned() -> None:
    affine = grid((0, 1, 2), (1, 1, 1), (0.1, 0.2, 0.3), (4, 5, 6), (1, 2, 3), (4, 5, 6))
    np.testing.assert_allclose(affine.affine_ras, np.diag([-1, -1, 1, 1]) @ affine.affine)


def test_a_crop_keeps_every_voxel_where_it_is() -> None:
    stored = grid((1, 2, 0), (1, -1, 1), (0.1, 0.2, -0.1), (10, 12, 14), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0))
    part = stored.cropped((slice(2, 9), slice(3, 12), slice(4, 8)))
    assert part.shape == (7, 9, 4)
    np.testing.assert_allclose(part.index_to_world([1, 1, 1]), stored.index_to_world([3, 4, 5]), atol=1e-9)
