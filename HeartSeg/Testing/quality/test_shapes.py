"""Shapes that no heart has are reported; those of correct and diseased hearts are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hearts import model_heart
from heartseg.anatomy import STRUCTURES, structure
from heartseg.measure import measure_labels
from heartseg.measure.boxes import crop_labels
from heartseg.quality import check_result
from heartseg.quality.shapes import MARGIN, Range, check_shapes, load_ranges, shape_features
from heartseg.volume.types import Volume
from measured_hearts import heart_grid
from triples import triple


def shapes_of(labels: Any, geometry: Any) -> Any:
    return {f.structure: f.values["feature"] for f in check_shapes(crop_labels(labels, geometry))}


def box_of(labels: Any, key: Any) -> Any:
    at = np.argwhere(labels == structure(key).label)
    return at.min(axis=0), at.max(axis=0)


@pytest.fixture(scope="module")
def heart(shared_data: Any) -> Any:
    labels, geometry = model_heart(shared_data, 4)
    wide = np.pad(labels, 40)
    origin = geometry.index_to_world(np.array([-40, -40, -40]))
    return wide, type(geometry)(wide.shape, geometry.spacing, triple(origin), geometry.direction)


def test_the_excess_is_relative_to_the_width_of_the_range() -> None:
    assert Range(1.0, 3.0, 60).excess(2.0, False) == 0.0
    assert Range(1.0, 3.0, 60).excess(4.0, False) == pytest.approx(0.5)
    assert Range(1.0, 4.0, 60).excess(8.0, True) == pytest.approx(0.5)
    assert Range(1.0, 4.0, 60).excess(0.5, True) == pytest.approx(0.5)
    assert all(r.n >= 40 and r.low < r.high for r in load_ranges().values())


def test_a_correct_heart_has_no_unusual_shape(heart: Any) -> None:
    assert shapes_of(*heart) == {}


@pytest.mark.parametrize("number", [1, 8, 12, 19])
def test_nor_have_other_hearts_of_the_model(shared_data: Any, number: Any) -> None:
    assert shapes_of(*model_heart(shared_data, number)) == {}


def test_a_right_ventricle_that_reaches_into_the_liver_is_found(heart: Any) -> None:
    labels, geometry = heart[0].copy(), heart[1]
    low, high = box_of(labels, "RV")
    middle = (low + high) // 2
    steps = round(55 / geometry.spacing[2])
    reach = slice(int(low[0]) - steps, int(low[0]) + 8)
    tube = np.zeros(labels.shape, bool)
    tube[reach, middle[1] - 8 : middle[1] + 9, middle[2] - 8 : middle[2] + 9] = True
    labels[tube & (labels == 0)] = structure("RV").label
    found = shapes_of(labels, geometry)
    assert found["RV"] == "below"
    assert shape_features(heart_grid(labels, geometry))["RV"]["below"] > 40


def test_a_flat_side_along_a_window_is_found(heart: Any) -> None:
    labels, geometry = heart[0].copy(), heart[1]
    low, high = box_of(labels, "LA")
    cut = (int(low[1]) + int(high[1])) // 2
    half = np.zeros(labels.shape, bool)
    half[:, cut:] = True
    labels[half & (labels == structure("LA").label)] = 0
    assert shapes_of(labels, geometry).get("LA") == "flat_side"


def test_what_the_border_of_the_scan_cuts_is_not_compared(heart: Any) -> None:
    labels, geometry = heart
    low, high = box_of(labels, "LA")
    part = (slice(None), slice(0, (int(low[1]) + int(high[1])) // 2), slice(None))
    assert "LA" not in shapes_of(np.ascontiguousarray(labels[part]), geometry.cropped(part))


def test_a_wall_of_three_centimetres_is_found(heart: Any) -> None:
    from scipy import ndimage

    labels, geometry = heart[0].copy(), heart[1]
    outside = ndimage.distance_transform_edt(~np.isin(labels, (1, 5)), geometry.spacing[::-1])
    labels[(outside < 22) & ~np.isin(labels, (1, 3, 5, 6))] = structure("MYO").label
    volume = Volume(labels, geometry, modality="MR")
    findings = check_result(volume, labels, measure_labels(volume, labels, STRUCTURES).measures, (), STRUCTURES)
    assert "MYO" in {f.structure for f in findings if f.code in ("shape-implausible", "volume-implausible")}
    assert "wall_thickness_largest_segment" in {f.values.get("quantity") for f in findings}
    assert MARGIN == 0.5
