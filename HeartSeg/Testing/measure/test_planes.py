"""Valve planes, long axis and standard planes of phantoms with known planes, and of the shape model's hearts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heartseg.anatomy import structure
from heartseg.measure.axes import HeartFrame, LongAxis, heart_frame, long_axis, septum_surface
from heartseg.measure.grid import Unknown
from heartseg.measure.planes import standard_planes
from heartseg.measure.valves import VALVES, ValvePlane, valve_plane
from heartseg.volume.geometry import Geometry
from measured_hearts import LeftVentricle, cut_ellipsoid, heart_grid, section_of_ellipsoid, turned
from triples import triple

PLANE_DEG = 2.0


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    return np.degrees(np.arccos(np.clip(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


def frame_of(labels: np.ndarray, geometry: Geometry) -> HeartFrame | Unknown:
    grid = heart_grid(labels, geometry)
    return heart_frame(long_axis(grid, valve_plane(grid, "mitral")), septum_surface(grid))


@pytest.mark.parametrize("valve", VALVES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.6), (0.8, 0.8, 2.5)])
def test_a_valve_plane_has_the_normal_centre_and_area_of_the_section(
    valve: str, spacing: tuple[float, float, float]
) -> None:
    before, behind = (structure(key).label for key in VALVES[valve])
    semi = np.array([30.0, 25.0, 36.0])
    for seed in range(3):
        normal = turned(seed)[:, 0]
        labels, geometry = cut_ellipsoid(normal, 12.0, semi, spacing, (before, behind))
        plane = valve_plane(heart_grid(labels, geometry), valve)
        center, area = section_of_ellipsoid(normal, 12.0, semi)
        assert isinstance(plane, ValvePlane)
        assert degrees_between(plane.normal, normal) < PLANE_DEG
        assert np.linalg.norm(plane.center - center) < 0.5 * max(spacing)
        assert plane.area_mm2 == pytest.approx(area, rel=0.03)


def test_a_valve_between_structures_that_do_not_touch_is_unknown() -> None:
    labels, geometry = cut_ellipsoid(np.array([0.0, 0.0, 1.0]), 5.0, np.full(3, 25.0), (1.0, 1.0, 1.0), (3, 1))
    grid = heart_grid(labels, geometry)
    assert valve_plane(grid, "aortic") == Unknown("ascending aorta not found")
    layer = np.flatnonzero((labels == 1).any(axis=(1, 2)))[0]
    labels[layer : layer + 2][labels[layer : layer + 2] == 1] = 0
    assert valve_plane(heart_grid(labels, geometry), "mitral") == Unknown("left atrium and left ventricle do not touch")


def test_a_chamber_that_surrounds_another_has_no_valve_plane() -> None:
    labels, geometry = cut_ellipsoid(np.array([0.0, 0.0, 1.0]), 99.0, np.full(3, 30.0), (1.0, 1.0, 1.0), (3, 1))
    world = geometry.index_to_world(np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij"), axis=-1))
    labels[np.linalg.norm(world - [3, -2, 5], axis=-1) < 15] = 1
    assert isinstance(valve_plane(heart_grid(labels, geometry), "mitral"), Unknown)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 2.0)])
def test_long_axis_septum_and_planes_of_a_turned_ventricle(seed: int, spacing: tuple[float, float, float]) -> None:
    heart = LeftVentricle(rotation_seed=seed)
    frame = frame_of(*heart.labels(spacing))
    septal, anterior, axis = heart.rotation.T
    assert isinstance(frame, HeartFrame)
    assert degrees_between(frame.axis.direction, axis) < PLANE_DEG
    assert frame.axis.length_mm == pytest.approx(heart.half_length - heart.base, abs=0.5)
    assert degrees_between(frame.septal, septal) < PLANE_DEG
    assert degrees_between(frame.anterior, anterior) < 2 * PLANE_DEG  # error of axis and septum together
    assert frame.half_septum_deg == pytest.approx(60.0, abs=2.0)
    grid = heart_grid(*heart.labels(spacing))
    planes = standard_planes(frame.axis, frame, valve_plane(grid, "tricuspid"), Unknown("none"))
    assert degrees_between(planes.four_chamber.normal, -anterior) < PLANE_DEG
    assert degrees_between(planes.two_chamber.normal, -septal) < PLANE_DEG
    assert degrees_between(planes.short_axis.normal, axis) < PLANE_DEG
    assert planes.three_chamber == Unknown("no aortic valve: none")


def test_pictures_of_the_planes_are_oriented_as_usual() -> None:
    """Patient axes: apex left (x), septum right of it, here anterior (negative y), anterior wall up (z)."""
    frame = HeartFrame(LongAxis((0, 0, 0), (80, 0, 0)), (0.0, -1.0, 0.0), 60.0)
    tricuspid = ValvePlane("tricuspid", (-5.0, -40.0, 0.0), (1, 0, 0), 900.0)
    aortic = ValvePlane("aortic", (-5.0, -20.0, 20.0), (-1, 0, 0), 500.0)
    planes = standard_planes(frame.axis, frame, tricuspid, aortic)
    for plane in (planes.two_chamber, planes.three_chamber, planes.four_chamber):
        np.testing.assert_allclose(plane.up_lps, (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(planes.four_chamber.right_lps, (0, 1, 0), atol=1e-12)  # left ventricle at the right
    np.testing.assert_allclose(planes.three_chamber.right_lps, np.array([0, -1, 1]) / np.sqrt(2), atol=1e-12)
    np.testing.assert_allclose(planes.two_chamber.right_lps, frame.anterior, atol=1e-12)
    np.testing.assert_allclose(planes.short_axis.right_lps, (0, 1, 0), atol=1e-12)  # septum at the left
    np.testing.assert_allclose(planes.short_axis.normal, frame.axis.direction, atol=1e-12)  # viewed from the apex


def test_the_anterior_wall_of_a_real_heart_is_anterior_and_superior(shared_data: Path) -> None:
    from hearts import model_heart

    frame = frame_of(*model_heart(shared_data, 3))
    assert frame.axis.direction @ [1, -1, -1] > 1.0  # the apex is to the left, in front and below
    assert frame.anterior @ [0, -1, 1] > 0.7
    assert 55 < frame.half_septum_deg < 85
    assert 70 < frame.axis.length_mm < 100


def test_without_an_atrium_the_base_is_where_no_myocardium_covers_the_ventricle() -> None:
    heart = LeftVentricle()
    labels, geometry = heart.labels()
    labels[labels == 3] = 0
    grid = heart_grid(labels, geometry)
    axis = long_axis(grid, valve_plane(grid, "mitral"))
    assert axis.note
    assert degrees_between(axis.direction, heart.rotation[:, 2]) < PLANE_DEG
    labels[labels == 5] = 0
    grid = heart_grid(labels, geometry)
    assert isinstance(long_axis(grid, valve_plane(grid, "mitral")), Unknown)


def test_a_ventricle_cut_off_by_the_scan_has_no_long_axis() -> None:
    heart = LeftVentricle(rotation_seed=2)
    labels, geometry = heart.labels((2.0, 2.0, 2.0))
    at = np.flatnonzero((labels == 1).any(axis=(1, 2)))
    part = slice(int(at[0]) + 5, None)
    origin = triple(geometry.index_to_world((part.start, 0, 0)))
    cut = Geometry(labels[part].shape, geometry.spacing, origin)
    grid = heart_grid(labels[part], cut)
    assert long_axis(grid, valve_plane(grid, "mitral")) == Unknown("left ventricle cut off by the border of the scan")


def test_the_planes_do_not_depend_on_the_storage_order() -> None:
    labels, geometry = LeftVentricle(rotation_seed=1).labels((0.5, 1.0, 1.5))
    corner = geometry.index_to_world((0, 0, geometry.shape[2] - 1))
    flipped = Geometry(geometry.shape, geometry.spacing, triple(corner), (-1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    assert frame_of(labels, geometry) == frame_of(labels[:, :, ::-1], flipped)


def test_thick_slices_give_no_planes() -> None:
    grid = heart_grid(*LeftVentricle(rotation_seed=1).labels((1.5, 1.5, 8.0)))
    why = Unknown("slices of 8.0 mm are too thick for planes and lengths")
    assert valve_plane(grid, "mitral") == why
    assert long_axis(grid, why) == why
