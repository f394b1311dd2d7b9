"""Ventricular widths, septal angle, atrial diameters, sphericity and the levels of the aorta of known shapes."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.measure.aorta import AscendingAorta, ascending_aorta
from heartseg.measure.axes import LongAxis, heart_frame, long_axis, septum_surface
from heartseg.measure.boxes import crop_labels
from heartseg.measure.chambers import atrial_diameters, septal_angle_deg, sphericity, ventricular_widths
from heartseg.measure.grid import Unknown
from heartseg.measure.planes import standard_planes
from heartseg.measure.valves import valve_plane
from heartseg.measure.vessels import GreatVessels, VesselProfile
from heartseg.volume import Geometry
from measured_hearts import LeftVentricle, grid, heart_grid, turned

DIAMETER_MM = 0.5
VOLUME = 0.01


def box_heart(rotation: np.ndarray, spacing: tuple[float, float, float]) -> tuple[np.ndarray, Geometry]:
    """Return both ventricles as half cylinders of 40 (LV) and 30 mm (RV) on a flat septum of 8 mm, atria of 45 x 36 mm.

    Own axes: x from the septum to the left ventricle, y normal to the four-chamber plane, z to the apex.
    """
    geometry, world = grid(90.0, spacing)
    x, y, z = np.moveaxis(world @ rotation, -1, 0)
    labels = np.zeros(geometry.shape, np.uint8)
    deep, long = np.abs(y) < 25, (z > 0) & (z < 60)
    labels[(x > -8) & (x < 48) & (np.abs(y) < 33) & (z > 0) & (z < 66)] = 5
    labels[(x > 0) & (x < 40) & deep & long] = 1
    labels[(x > -38) & (x < -8) & deep & long] = 2
    labels[(x > 2) & (x < 38) & (np.abs(y) < 18) & (z <= 0) & (z > -45)] = 3
    labels[(x > -37) & (x < -10) & (np.abs(y) < 18) & (z <= 0) & (z > -40)] = 4
    return labels, geometry


@pytest.mark.parametrize(("seed", "spacing"), [(0, (1.0, 1.0, 1.0)), (1, (0.7, 0.7, 1.5)), (2, (1.2, 1.2, 1.2))])
def test_widths_of_ventricles_and_atria_in_the_four_chamber_plane(
    seed: int, spacing: tuple[float, float, float]
) -> None:
    labels, geometry = box_heart(turned(seed), spacing)
    g = heart_grid(labels, geometry)
    mitral, tricuspid = valve_plane(g, "mitral"), valve_plane(g, "tricuspid")
    axis, septum = LongAxis(tuple(turned(seed) @ [20, 0, 0]), tuple(turned(seed) @ [20, 0, 60])), septum_surface(g)
    plane = standard_planes(axis, Unknown("-"), tricuspid, Unknown("-")).four_chamber
    widths = ventricular_widths(g, plane, axis, septum)
    assert widths.rv_mm == pytest.approx(30.0, abs=DIAMETER_MM)
    assert widths.lv_mm == pytest.approx(40.0, abs=DIAMETER_MM)
    assert widths.ratio == pytest.approx(0.75, abs=0.02)
    left, right = atrial_diameters(g, "LA", plane, mitral), atrial_diameters(g, "RA", plane, tricuspid)
    assert (left.length_mm, left.width_mm) == pytest.approx((45.0, 36.0), abs=DIAMETER_MM)
    assert (right.length_mm, right.width_mm) == pytest.approx((40.0, 27.0), abs=DIAMETER_MM)


@pytest.mark.parametrize("half_septum", [50.0, 60.0, 70.0])
def test_the_septal_angle_is_the_angle_inscribed_in_the_circle_of_the_septum(half_septum: float) -> None:
    """On a circle, an arc of 2 h is seen from its middle at an angle of 180 - h degrees."""
    heart = LeftVentricle(radius=24.0, half_length=46.0, base=-28.0, wall=8.0, half_septum=half_septum)
    g = heart_grid(*heart.labels((1.0, 1.0, 1.0)))
    septum = septum_surface(g)
    frame = heart_frame(long_axis(g, valve_plane(g, "mitral")), septum)
    assert septal_angle_deg(g, frame, septum) == pytest.approx(180.0 - half_septum, abs=4.0)


def test_a_sphere_has_sphericity_one() -> None:
    volume = 4 / 3 * np.pi * 30**3 / 1000
    assert sphericity(volume, LongAxis((0, 0, -30), (0, 0, 30))) == pytest.approx(1.0)


def aorta(radii: np.ndarray, spacing: tuple[float, float, float], seed: int = 0) -> GreatVessels:
    """Return a straight vessel along a tilted axis with a radius per mm of length, on a ventricle."""
    tilt = np.array([0.2, -0.15, 0.97])
    tilt /= np.linalg.norm(tilt)
    geometry, world = grid(55.0, spacing)
    along = world @ tilt + 40
    radial = np.linalg.norm(world - (world @ tilt)[..., None] * tilt, axis=-1)
    inside = radial < np.interp(along, np.arange(len(radii)), radii, left=0, right=0)
    labels = np.where(inside, 6, 0).astype(np.uint8)
    labels[(along < 0) & (along > -12) & (radial < 14)] = 1
    return GreatVessels(crop_labels(labels, geometry))


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 0.8), (0.7, 0.7, 1.25)])
def test_root_junction_and_maximum_of_an_aorta(spacing: tuple[float, float, float]) -> None:
    radii = np.interp(np.arange(76), [0, 6, 14, 22, 28, 45, 60, 75], [12, 17, 17, 14, 14, 18, 18, 16])
    found = ascending_aorta(aorta(radii, spacing))
    assert isinstance(found, AscendingAorta)
    assert found.root_mm == pytest.approx(34.0, abs=DIAMETER_MM)
    assert found.junction_mm == pytest.approx(28.0, abs=DIAMETER_MM)
    assert found.maximum_mm == pytest.approx(36.0, abs=DIAMETER_MM)
    assert 4 < found.root_at_mm < 16 < found.junction_at_mm < 30 < found.maximum_at_mm < 65


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 0.8), (0.7, 0.7, 1.25)])
def test_a_cone_has_its_volume_and_the_diameter_of_each_of_its_sections(spacing: tuple[float, float, float]) -> None:
    length, (low, high) = 70, (12.0, 20.0)
    cone = aorta(np.linspace(low, high, length + 1), spacing)
    volume = cone.crop.labels[cone.crop.labels == 6].size * cone.crop.geometry.voxel_volume_ml
    assert volume == pytest.approx(np.pi * length / 3 * (low**2 + low * high + high**2) / 1000, rel=VOLUME)
    profile = cone.aortic_profile
    assert isinstance(profile, VesselProfile)
    inside = (profile.along_mm > 12) & (profile.along_mm < length - 8) & np.isfinite(profile.diameter_mm)
    along, found = profile.along_mm[inside], profile.diameter_mm[inside]
    assert len(along) > 15
    np.testing.assert_allclose(found, 2 * (low + (high - low) * along / length), atol=DIAMETER_MM)


def test_a_straight_aorta_has_no_junction_and_a_short_one_no_tubular_part() -> None:
    straight = ascending_aorta(aorta(np.full(70, 15.0), (1.0, 1.0, 1.0)))
    assert straight.maximum_mm == pytest.approx(30.0, abs=DIAMETER_MM)
    assert isinstance(straight.junction_mm, Unknown)
    short = ascending_aorta(aorta(np.full(26, 15.0), (1.0, 1.0, 1.0)))
    assert isinstance(short.maximum_mm, Unknown)


def test_missing_structures_are_named() -> None:
    labels, geometry = box_heart(np.eye(3), (2.0, 2.0, 2.0))
    labels[labels == 2] = 0
    g = heart_grid(labels, geometry)
    septum = septum_surface(g)
    assert septum == Unknown("right ventricle not found")
    assert ventricular_widths(g, Unknown("no plane"), Unknown("no axis"), septum) == Unknown("no plane")
    assert isinstance(ascending_aorta(GreatVessels(crop_labels(labels, geometry))), Unknown)
