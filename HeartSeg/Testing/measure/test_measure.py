"""Measures of phantoms against values derived from their geometry, and of real hearts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from heartseg.anatomy import STRUCTURES, structure
from heartseg.measure import Unknown, measure_structures, vessels
from heartseg.measure.boxes import crop_labels
from heartseg.result import Measure
from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume
from phantoms import heart_phantom, tube_phantom
from triples import triple


def values(measures: Iterable[Measure]) -> dict[tuple[str, str], float | None]:
    return {(m.structure, m.quantity): m.value for m in measures}


def test_volume_mass_intensity_and_extent_of_a_box() -> None:
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[5:15, 10:20, 10:30] = 5
    geometry = Geometry(labels.shape, (0.5, 1.0, 2.0), (7.0, -3.0, 100.0))
    image = np.full(labels.shape, -50.0, np.float32)
    image[labels == 5] = 100.0
    image[5:10][labels[5:10] == 5] = 140.0
    found = values(measure_structures(Volume(image, geometry, modality="CT"), labels, (structure("MYO"),)))
    assert found["MYO", "volume"] == pytest.approx(10 * 10 * 20 * 1.0 / 1000)
    assert found["MYO", "mass"] == pytest.approx(2.0 * 1.05)
    assert found["MYO", "mean_intensity"] == pytest.approx(120.0)
    assert found["MYO", "sd_intensity"] == pytest.approx(20.0)
    assert [found["MYO", f"extent_{axis}"] for axis in "xyz"] == pytest.approx([10.0, 10.0, 20.0])


def test_the_extent_on_an_oblique_grid_is_along_world_axes() -> None:
    c, s = np.cos(0.5), np.sin(0.5)
    labels = np.zeros((10, 30, 30), np.uint8)
    labels[2:8, 5:25, 10:20] = 1
    geometry = Geometry(labels.shape, (1.0, 1.0, 1.0), direction=(c, -s, 0, s, c, 0, 0, 0, 1))
    found = values(measure_structures(Volume(labels, geometry), labels, (structure("LV"),)))
    expected = [10 * c + 20 * s, 10 * s + 20 * c, 6.0]
    assert [found["LV", f"extent_{axis}"] for axis in "xyz"] == pytest.approx(expected, abs=1e-6)


def test_a_missing_structure_has_no_values() -> None:
    labels, geometry, image = heart_phantom((3.0, 3.0, 3.0))
    labels[labels == 6] = 0
    for measure in measure_structures(Volume(image, geometry), labels):
        assert (measure.value is None) == (measure.structure == "AO")
    assert all(m.value is None for m in measure_structures(Volume(image, geometry), np.zeros_like(labels)))


@pytest.mark.parametrize(
    ("modality", "dtype", "shift", "unit"),
    [
        ("CT", np.float32, 0, "HU"),
        ("CT", np.int16, 0, "HU"),
        ("CT", np.uint8, 0, ""),
        ("MR", np.float32, 0, ""),
        ("", np.float32, 0, "HU"),
        ("CT", np.float32, 3000, ""),
    ],
)
def test_the_intensity_unit_follows_the_value_scale(
    modality: str, dtype: type[np.generic], shift: int, unit: str
) -> None:
    labels, geometry, image = heart_phantom((3.0, 3.0, 3.0))
    array = np.clip(image + shift, 0 if dtype == np.uint8 else -2000, 255 if dtype == np.uint8 else 9000).astype(dtype)
    units = {
        m.unit
        for m in measure_structures(Volume(array, geometry, modality=modality), labels)
        if m.quantity.endswith("intensity")
    }
    assert units == {unit}


@pytest.mark.parametrize("key", ["AO", "PA"])
@pytest.mark.parametrize(
    ("radius", "direction", "spacing"),
    [
        (14.0, (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)),
        (14.0, (0.3, 0.5, 0.8), (0.7, 0.7, 2.5)),
        (17.0, (0.5, -0.5, 0.6), (1.4, 1.4, 2.5)),
        (10.0, (0.6, 0.3, 0.7), (0.8, 0.8, 3.0)),
        (20.0, (-0.4, 0.1, 0.9), (0.8, 0.8, 0.8)),
    ],
)
def test_the_diameter_of_a_tilted_tube_is_within_five_percent(
    key: str, radius: float, direction: tuple[float, float, float], spacing: tuple[float, float, float]
) -> None:
    labels, geometry = tube_phantom(radius, 70.0, direction, spacing, structure(key).label)
    found = measure_structures(Volume(labels, geometry), labels, (structure(key),))
    (diameter,) = [m for m in found if m.quantity == "diameter"]
    assert diameter.value == pytest.approx(2 * radius, rel=0.05)
    assert diameter.note


def test_the_arch_is_excluded_from_the_diameter_of_the_ascending_aorta() -> None:
    """A cane shape: 60 mm up, a half circle of 35 mm radius and 60 mm down; diameter 30 mm, 36 mm in the arch."""
    spacing = 2.0
    shape = (80, 38, 66)
    geometry = Geometry(shape, (spacing,) * 3)
    path = [(30.0, 37.0, z, 15.0) for z in np.arange(20, 80, 1.0)]
    path += [(65 - 35 * np.cos(t), 37.0, 80 + 35 * np.sin(t), 18.0) for t in np.linspace(0, np.pi, 120)]
    path += [(100.0, 37.0, z, 15.0) for z in np.arange(20, 80, 1.0)]
    points = geometry.index_to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    centers, radii = np.array(path)[:, :3], np.array(path)[:, 3]
    distance, nearest = cKDTree(centers).query(points, distance_upper_bound=20.0)
    labels = np.where(distance < np.append(radii, 0.0)[nearest], 6, 0).astype(np.uint8)
    labels[:8, :, :30] = np.where(labels[:8, :, :30] == 6, 1, 0)  # the ventricle marks the root
    found = values(measure_structures(Volume(labels, geometry), labels))
    assert found["AO", "diameter"] == pytest.approx(30.0, rel=0.05)


def test_the_branches_are_excluded_from_the_diameter_of_the_pulmonary_trunk() -> None:
    """A Y shape: a trunk of 26 mm diameter, and branches of 14 mm that separate 40 mm above the valve."""
    spacing = 1.5
    shape = (64, 30, 80)
    geometry = Geometry(shape, (spacing,) * 3)
    path = [(60.0, 22.0, z, 13.0) for z in np.arange(10, 42, 0.5)]
    path += [(60.0 + side * 0.8 * t, 22.0, 42 + 0.6 * t, 7.0) for side in (-1, 1) for t in np.arange(8, 60, 0.5)]
    points = geometry.index_to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    centers, radii = np.array(path)[:, :3], np.array(path)[:, 3]
    distance, nearest = cKDTree(centers).query(points, distance_upper_bound=20.0)
    labels = np.where(distance < np.append(radii, 0.0)[nearest], 7, 0).astype(np.uint8)
    labels[:5] = np.where(labels[:5] == 7, 2, 0)  # the right ventricle marks the root
    crop = crop_labels(labels, geometry)
    assert crop is not None
    course = vessels._course(crop, "PA", vessels.TRUNK_LENGTH_MM)
    assert not isinstance(course, Unknown)
    assert 36 <= course.line.along[-1] <= 46  # bands are 4 mm apart
    assert vessels.GreatVessels(crop).trunk.diameter_mm == pytest.approx(26.0, rel=0.05)


def test_vessel_diameters_of_the_phantom() -> None:
    labels, geometry, image = heart_phantom((1.0, 1.0, 2.0))
    found = values(measure_structures(Volume(image, geometry, modality="CT"), labels))
    assert found["AO", "diameter"] == pytest.approx(28.0, rel=0.05)
    assert found["PA", "diameter"] == pytest.approx(24.0, rel=0.05)


def test_measures_are_independent_of_the_storage_order() -> None:
    labels, geometry, image = heart_phantom((2.0, 2.0, 3.0))
    flipped = Geometry(
        geometry.shape,
        geometry.spacing,
        triple(geometry.index_to_world((0, 0, geometry.shape[2] - 1))),
        (-1.0, 0, 0, 0, 1, 0, 0, 0, 1),
    )
    there = measure_structures(Volume(image, geometry), labels)
    back = measure_structures(Volume(image[:, :, ::-1], flipped), labels[:, :, ::-1])
    assert there == back


def test_the_diameters_of_nineteen_real_aortas_are_plausible(shared_data: Path) -> None:
    """Healthy adults: 34.1±3.9 mm (men), 31.9±3.5 mm (women) including the wall, 2-4 mm more than the lumen."""
    from hearts import model_heart

    diameters = []
    for number in range(1, 20):
        labels, geometry = model_heart(shared_data, number)
        diameters.append(values(measure_structures(Volume(labels, geometry), labels))["AO", "diameter"])
    assert min(diameters) > 20
    assert max(diameters) < 40
    assert 25 < np.mean(diameters) < 33


def test_measures_of_the_labelled_ct(shared_data: Path) -> None:
    from hearts import labelled_ct

    volume, labels = labelled_ct(shared_data)
    found = values(measure_structures(volume, labels, STRUCTURES))
    expected = {"LV": 55, "RV": 63, "LA": 77, "RA": 43}
    assert {k: found[k, "volume"] for k in expected} == pytest.approx(expected, abs=0.6)
    assert found["MYO", "mass"] == pytest.approx(71, abs=0.6)
    assert 25 < found["AO", "diameter"] < 40
    assert 20 < found["PA", "diameter"] < 35
