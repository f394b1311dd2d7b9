"""Structures that the border of the scan cuts: where they are cut, and which measures are refused."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES, structure
from heartseg.measure import measure_heart, measure_labels
from heartseg.measure.axes import septum_surface
from heartseg.measure.boxes import border_contacts
from heartseg.measure.grid import Unknown
from heartseg.measure.valves import VALVES, ValvePlane, valve_plane
from heartseg.result import Measure
from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume
from measured_hearts import LeftVentricle, cut_ellipsoid, heart_grid
from phantoms import heart_phantom, tube_phantom
from triples import triple

SPACING = (1.0, 1.0, 2.0)
Scan = tuple[np.ndarray, Geometry]


def cut_at(labels: np.ndarray, geometry: Geometry, side: str, index: int) -> Scan:
    """Cut a scan in LPS axes so that it ends at a side; ``index`` is the first or last remaining voxel there."""
    world = {"right": 0, "left": 0, "anterior": 1, "posterior": 1, "inferior": 2, "superior": 2}[side]
    z, y, x = labels.shape
    part = [slice(0, z), slice(0, y), slice(0, x)]
    low = side in ("right", "anterior", "inferior")
    part[2 - world] = slice(index, labels.shape[2 - world]) if low else slice(0, index + 1)
    box = (part[0], part[1], part[2])
    return np.ascontiguousarray(labels[box]), geometry.cropped(box)


def rows_of(labels: np.ndarray, geometry: Geometry) -> dict[tuple[str, str], Measure]:
    return {(m.structure, m.quantity): m for m in measure_labels(Volume(labels, geometry), labels, STRUCTURES).measures}


@pytest.fixture(scope="module")
def heart() -> Scan:
    labels, geometry, _ = heart_phantom(SPACING)
    return labels, geometry


def box_of(labels: np.ndarray, key: str) -> tuple[np.ndarray, np.ndarray]:
    found = np.argwhere(labels == structure(key).label)
    return found.min(axis=0), found.max(axis=0)


@pytest.mark.parametrize("side", ["right", "left", "anterior", "posterior", "inferior", "superior"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_each_side_is_named_in_any_storage_order(side: str, order: tuple[int, int, int]) -> None:
    labels = np.zeros((10, 12, 14), np.uint8)
    labels[3:6, 3:6, 3:6] = 1
    low, high = box_of(labels, "LV")
    low_side = side in ("right", "anterior", "inferior")
    world = {"r": 0, "l": 0, "a": 1, "p": 1, "i": 2, "s": 2}[side[0]]
    geometry = Geometry(labels.shape, (0.5, 1.0, 7.0), (5.0, -8.0, 20.0))
    labels, geometry = cut_at(labels, geometry, side, int(low[2 - world] if low_side else high[2 - world]))
    matrix = geometry.direction_matrix[:, [2 - k for k in order[::-1]]]
    stored = labels.transpose(order)
    spacing = triple(geometry.spacing[2 - k] for k in order[::-1])
    turned = Geometry(stored.shape, spacing, geometry.origin, tuple(matrix.ravel()))
    assert border_contacts(stored, turned)["LV"] == (side,)
    flipped = Geometry(
        stored.shape,
        spacing,
        triple(turned.index_to_world((0, 0, stored.shape[2] - 1))),
        tuple((matrix * [-1, 1, 1]).ravel()),
    )
    assert border_contacts(stored[:, :, ::-1], flipped)["LV"] == (side,)
    assert turned.step_across(side) == (0.5, 1.0, 7.0)[world]


def test_a_whole_heart_reaches_no_border(heart: Scan) -> None:
    assert border_contacts(*heart) == {}
    assert border_contacts(np.zeros_like(heart[0]), heart[1]) == {}


@pytest.mark.parametrize("valve", VALVES)
def test_a_valve_that_the_border_cuts_has_no_area(valve: str) -> None:
    before, behind = (structure(key).label for key in VALVES[valve])
    labels, geometry = cut_ellipsoid(
        np.array([0.0, 0.0, 1.0]), 8.0, np.array([30.0, 25.0, 36.0]), (1.0, 1.0, 1.0), (before, behind)
    )
    whole = valve_plane(heart_grid(labels, geometry), valve)
    assert isinstance(whole, ValvePlane)
    for side, index in (("right", 25), ("posterior", 40), ("left", 50)):
        assert isinstance(valve_plane(heart_grid(*cut_at(labels, geometry, side, index)), valve), Unknown)
    above = valve_plane(heart_grid(*cut_at(labels, geometry, "superior", labels.shape[0] - 15)), valve)
    assert above == whole


def test_a_septum_that_the_border_cuts_is_unknown() -> None:
    labels, geometry = LeftVentricle(rotation_seed=1).labels((1.5, 1.5, 1.5))
    assert not isinstance(septum_surface(heart_grid(labels, geometry)), Unknown)
    found = np.argwhere(labels == 2)
    middle = int(np.median(found[:, 2]))
    cut = septum_surface(heart_grid(*cut_at(labels, geometry, "left", middle)))
    assert isinstance(cut, Unknown)


@pytest.mark.parametrize(("side", "axis"), [("right", 2), ("left", 2), ("anterior", 1), ("posterior", 1)])
def test_half_an_aorta_has_no_diameter(heart: Scan, side: str, axis: int) -> None:
    labels, geometry = heart
    low, high = box_of(labels, "AO")
    rows = rows_of(*cut_at(labels, geometry, side, int(low[axis] + high[axis]) // 2))
    for quantity in ("diameter", "root_diameter", "maximum_diameter"):
        assert rows["AO", quantity].value is None
        assert rows["AO", quantity].note
    assert rows["PA", "pa_ao_ratio"].value is None


def test_an_aorta_whose_border_is_cut_in_some_cross_sections_has_no_diameter() -> None:
    labels, geometry = tube_phantom(14.0, 70.0, (0.3, 0.0, 0.95), (1.0, 1.0, 1.0), structure("AO").label)
    low, high = box_of(labels, "AO")
    assert rows_of(labels, geometry)["AO", "diameter"].value == pytest.approx(28.0, abs=1.0)
    cut = rows_of(*cut_at(labels, geometry, "right", int(low[2] + (high[2] - low[2]) * 0.2)))
    assert cut["AO", "diameter"].value is None
    assert "right" in cut["AO", "diameter"].note
    far = rows_of(*cut_at(labels, geometry, "right", int(low[2]) + 1))  # its lower end only
    assert far["AO", "diameter"].value == pytest.approx(28.0, abs=1.0)


def test_an_aorta_that_leaves_the_scan_above_has_a_diameter_with_a_note(heart: Scan) -> None:
    labels, geometry = heart
    _, high = box_of(labels, "AO")
    whole, cut = rows_of(labels, geometry), rows_of(*cut_at(labels, geometry, "superior", int(high[0]) - 12))
    for quantity in ("diameter", "maximum_diameter"):
        assert cut["AO", quantity].value == pytest.approx(28.0, abs=0.7)
        assert "upper border" in cut["AO", quantity].note
        assert "upper border" not in whole["AO", quantity].note
    assert "ascending aorta: cut off at the upper border" in cut["PA", "pa_ao_ratio"].note
    assert "upper border" not in cut["AO", "root_diameter"].note
    assert cut["AO", "aortic_valve_area"].value == whole["AO", "aortic_valve_area"].value


def test_a_stump_below_the_upper_border_has_no_diameter(heart: Scan) -> None:
    labels, geometry = heart
    low, _ = box_of(labels, "AO")
    rows = rows_of(*cut_at(labels, geometry, "superior", int(low[0]) + 14))
    assert rows["AO", "diameter"].value is None


def test_the_ratio_of_the_arteries_tells_that_one_is_short(heart: Scan) -> None:
    labels, geometry = heart
    low, _ = box_of(labels, "PA")
    short = labels.copy()
    above = slice(int(low[0]) + 12, None)
    short[above][short[above] == 7] = 0
    found = measure_heart(short, geometry)
    ratio = rows_of(short, geometry)["PA", "pa_ao_ratio"]
    assert ratio.value is not None
    assert found.trunk_diameter.caveat and found.trunk_diameter.caveat in ratio.note


def test_a_vessel_in_thick_slices_has_no_diameter() -> None:
    labels, geometry = tube_phantom(14.0, 70.0, (0.2, 0.1, 0.97), (1.0, 1.0, 6.0), structure("AO").label)
    rows = rows_of(labels, geometry)
    assert rows["AO", "diameter"].value is None
    assert "6.0 mm" in rows["AO", "diameter"].note


def test_size_of_a_structure_that_is_cut_off_has_a_note(heart: Scan) -> None:
    labels, geometry = heart
    _, high = box_of(labels, "LV")
    whole, cut = rows_of(labels, geometry), rows_of(*cut_at(labels, geometry, "left", int(high[2]) - 20))
    for key, quantity in (("LV", "volume"), ("LV", "extent_x"), ("MYO", "mass")):
        assert "border" in cut[key, quantity].note
        assert "border" not in whole[key, quantity].note
    assert "border" not in cut["RA", "volume"].note
    assert "border" not in cut["LV", "mean_intensity"].note
