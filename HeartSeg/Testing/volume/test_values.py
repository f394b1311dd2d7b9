"""The value scale of a scan, and non-finite voxels."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.errors import InputError
from heartseg.measure import measure_structures
from heartseg.postprocess.darkness import TISSUE_HU, darkest_tissue
from heartseg.preflight import check_scan
from heartseg.volume import Geometry, Volume
from heartseg.volume.values import ValueScale, evident_modality, replace_nonfinite, value_scale

SHAPE = (24, 26, 28)


def chest(lowest: float = -1000, offset: float = 0, contrast: float = 350) -> np.ndarray:
    """Return a third each of air (down to ``lowest``), fat and soft tissue, with some contrast-filled blood; int16."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 12, SHAPE)
    mean = np.select([kind < 4, kind < 7, kind < 11], [lowest, -100.0, 45.0], contrast)
    values = mean + rng.normal(0, 12, SHAPE) * (kind >= 4)
    return np.rint(values + offset).astype(np.int16)


@pytest.mark.parametrize(
    ("array", "modality", "expected"),
    [
        (chest(), "CT", ValueScale.HOUNSFIELD),
        (chest(), "", ValueScale.HOUNSFIELD),
        (chest(-600), "", ValueScale.HOUNSFIELD),
        (chest(-3024), "CT", ValueScale.HOUNSFIELD),
        (chest(-32768), "CT", ValueScale.HOUNSFIELD),
        (chest().astype(np.int32) - 65536, "CT", ValueScale.ARBITRARY),  # unsigned values read as signed ones
        (chest(), "MR", ValueScale.ARBITRARY),
        (chest(-100), "CT", ValueScale.HOUNSFIELD),  # cropped to the mediastinum: fat, no air
        (chest(-100), "", ValueScale.ARBITRARY),
        (chest(offset=1024), "CT", ValueScale.OFFSET),
        (chest(-100, offset=1024), "CT", ValueScale.OFFSET),
        (chest(offset=1024), "", ValueScale.ARBITRARY),
        (np.clip((chest() + 160) / 400 * 255, 0, 255).astype(np.uint8), "CT", ValueScale.ARBITRARY),
        (np.clip((chest() + 160) / 400, 0, 1).astype(np.float32), "CT", ValueScale.ARBITRARY),
        (np.random.default_rng(0).integers(0, 900, SHAPE, np.int16), "CT", ValueScale.ARBITRARY),
        (np.random.default_rng(0).integers(-32768, 32767, SHAPE).astype(np.int16), "", ValueScale.ARBITRARY),
    ],
)
def test_the_scale_is_judged_by_values_and_modality(array: np.ndarray, modality: str, expected: ValueScale) -> None:
    assert value_scale(array, modality) is expected


def test_every_part_gives_the_same_answer_for_a_scan_whose_lowest_value_is_minus_600() -> None:
    volume = Volume(chest(-600), Geometry(SHAPE, (3.0, 3.0, 3.0)))
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:16, 8:16, 8:16] = 1
    assert darkest_tissue(volume) == TISSUE_HU
    assert {m.unit for m in measure_structures(volume, labels, STRUCTURES[:1]) if "intensity" in m.quantity} == {"HU"}
    (said,) = [f for f in check_scan(volume) if f.code == "modality-not-said"]
    assert said.fix == "treat-as-ct"


def test_intensities_of_a_ct_with_an_offset_have_no_unit() -> None:
    volume = Volume(chest(offset=1024), Geometry(SHAPE, (3.0, 3.0, 3.0)), modality="CT")
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:16, 8:16, 8:16] = 1
    assert {m.unit for m in measure_structures(volume, labels, STRUCTURES[:1]) if "intensity" in m.quantity} == {""}
    assert darkest_tissue(volume) != TISSUE_HU


def test_finite_arrays_are_returned_as_they_are() -> None:
    array = chest().astype(np.float32)
    assert replace_nonfinite(array, "scan") == (array, ())
    whole = chest()
    assert replace_nonfinite(whole, "scan")[0] is whole


def test_a_few_nonfinite_voxels_take_the_lowest_value_and_many_are_refused() -> None:
    array = chest().astype(np.float32)
    lowest = array.min()
    array[0, 0, :2] = np.nan, np.inf
    before = array.copy()
    replaced, (finding,) = replace_nonfinite(array, "scan")
    assert replaced[0, 0, :2].tolist() == [lowest, lowest]
    assert np.array_equal(array, before, equal_nan=True)
    assert (finding.code, finding.values["voxels"]) == ("nan-replaced", 2)
    array[:12] = np.nan
    with pytest.raises(InputError, match="scan"):
        replace_nonfinite(array, "scan")


@pytest.mark.parametrize(
    ("stated", "values", "modality"),
    [
        ("", (-1000, -900, 40, 300), "CT"),
        ("", (0, 100, 400, 900), "MR"),
        ("", (-50, 0, 100, 400), ""),
        ("MR", (-1000, -900, 40, 300), "MR"),
        ("CT", (0, 100, 400, 900), "CT"),
        ("PT", (0, 1, 2, 3), "MR"),
    ],
)
def test_the_stated_modality_decides_and_then_the_values(
    stated: str, values: tuple[int, int, int, int], modality: str
) -> None:
    assert evident_modality(np.resize(np.array(values, np.float32), SHAPE), stated) == modality
