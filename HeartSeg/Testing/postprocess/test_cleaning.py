"""Clean-up of label maps, and the list of removals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from heartseg.errors import Cancelled
from heartseg.postprocess import HOLE_FILLED, NOT_CONNECTED, SEPARATE_PIECE, clean_labels
from heartseg.progress import Reporter
from heartseg.volume.geometry import Geometry
from phantoms import Phantom, heart_phantom
from triples import triple


@pytest.fixture(scope="module")
def heart() -> Phantom:
    return heart_phantom((2.0, 2.0, 2.0), shape=(110, 110, 110))


def ball(labels: np.ndarray, center: Sequence[float], radius: float) -> np.ndarray:
    z, y, x = np.ogrid[: labels.shape[0], : labels.shape[1], : labels.shape[2]]
    return (z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 <= radius**2


def inside(labels: np.ndarray, label: int, depth: float) -> tuple[int, int, int]:
    """Return the index of a voxel of ``label`` that is more than ``depth`` voxels from its surface."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(labels == label)
    assert distance.max() > depth
    z, y, x = (int(n) for n in np.argwhere(distance == distance.max())[0])
    return z, y, x


def test_a_correct_heart_is_unchanged(heart: Phantom) -> None:
    labels, geometry, _ = heart
    cleaned, removals = clean_labels(labels, geometry)
    assert removals == ()
    assert np.array_equal(cleaned, labels)
    assert cleaned is not labels


def test_an_empty_map_is_unchanged(heart: Phantom) -> None:
    labels, geometry, _ = heart
    cleaned, removals = clean_labels(np.zeros_like(labels), geometry)
    assert not cleaned.any()
    assert removals == ()


def test_a_component_far_from_the_heart_is_removed_and_listed(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    piece = ball(labels, (8, 8, 8), 5)
    broken[piece] = 1
    before = broken.copy()
    cleaned, removals = clean_labels(broken, geometry)
    assert np.array_equal(cleaned, labels)
    assert np.array_equal(broken, before), "the input was modified"
    (removal,) = removals
    assert (removal.structure, removal.voxels) == ("LV", int(piece.sum()))
    assert removal.reason == NOT_CONNECTED
    assert removal.volume_ml == pytest.approx(piece.sum() * 0.008)
    assert removal.center_lps == pytest.approx(tuple(geometry.index_to_world((8, 8, 8))), abs=1e-3)


def test_a_large_component_off_the_heart_is_removed_in_favour_of_a_smaller_one_in_it(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    broken[broken == 1] = 0
    center = inside(labels, 1, 5)
    small = ball(labels, center, 4)
    broken[small] = 1
    broken[ball(labels, (14, 14, 14), 11)] = 1
    cleaned, _ = clean_labels(broken, geometry)
    # The small LV is inside the wall of the heart, the larger component is separate from it.
    assert not (cleaned[:28, :28, :28] == 1).any()


def test_a_vessel_separated_from_its_ventricle_by_a_valve_gap_is_kept(heart: Phantom) -> None:
    labels, geometry, _ = heart
    from scipy import ndimage

    gap = labels.copy()
    near = ndimage.binary_dilation(np.isin(labels, (2, 5)), iterations=1)
    gap[(labels == 7) & near] = 0  # a gap of one voxel (2 mm) between PA and RV
    cleaned, removals = clean_labels(gap, geometry)
    assert (cleaned == 7).sum() == (gap == 7).sum()
    assert removals == ()


def test_a_second_component_within_the_heart_is_removed(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    place = ball(labels, inside(labels, 2, 5), 3)
    broken[place] = 4
    cleaned, removals = clean_labels(broken, geometry)
    assert [r.structure for r in removals] == ["RA", "RV"]
    assert removals[0].reason.startswith(SEPARATE_PIECE)
    assert removals[1].reason == HOLE_FILLED, "the resulting hole in the ventricle is filled"
    assert np.array_equal(cleaned, labels)


@pytest.mark.parametrize(("radius", "kept"), [(5, True), (2, False)])
def test_the_pulmonary_artery_keeps_its_large_components(heart: Phantom, radius: int, kept: bool) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    # The component lies in the LA, so it is connected to the heart but not to the pulmonary trunk.
    center = inside(labels, 3, 8)
    piece = ball(labels, center, radius)
    broken[piece] = 7
    assert (piece.sum() / (labels == 7).sum() >= 0.05) == kept
    cleaned, _ = clean_labels(broken, geometry)
    assert bool((cleaned[piece] == 7).all()) == kept


def test_holes_are_filled_up_to_one_millilitre_and_in_blood_only(heart: Phantom) -> None:
    labels, geometry, _ = heart
    small, large = labels.copy(), labels.copy()
    small[ball(labels, inside(labels, 1, 8), 2)] = 0  # 33 voxels of 8 mm³
    large[ball(labels, inside(labels, 1, 8), 4)] = 0  # 257 voxels, 2.1 mL
    wall = labels.copy()
    wall[inside(labels, 5, 1)] = 0
    filled, removals = clean_labels(small, geometry)
    assert np.array_equal(filled, labels)
    assert [(r.structure, r.voxels, r.reason) for r in removals] == [("LV", 33, HOLE_FILLED)]
    for untouched in (large, wall):
        cleaned, removals = clean_labels(untouched, geometry)
        assert np.array_equal(cleaned, untouched)
        assert removals == ()


def test_specks_are_listed_in_one_entry(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    broken[2:20:4, 2:20:4, 2] = 6
    cleaned, removals = clean_labels(broken, geometry)
    assert np.array_equal(cleaned, labels)
    (removal,) = removals
    assert removal.voxels == 25
    assert "25 specks" in removal.reason


def test_a_single_speck_has_the_plain_reason(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    broken[2, 2, 2] = 6
    (removal,) = clean_labels(broken, geometry)[1]
    assert (removal.voxels, removal.reason) == (1, NOT_CONNECTED)


def test_changes_are_listed_with_the_largest_first(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    pieces = {
        key: ball(labels, center, radius)
        for key, center, radius in (
            (1, (8, 8, 8), 3),
            (2, (8, 8, 100), 5),
            (3, (100, 100, 8), 4),
        )
    }
    for key, piece in pieces.items():
        broken[piece] = key
    _, removals = clean_labels(broken, geometry)
    sizes = [int(pieces[key].sum()) for key in (2, 3, 1)]
    assert [(r.structure, r.voxels) for r in removals] == list(zip(("RV", "LA", "LV"), sizes, strict=True))


ORDERS = ((0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_the_result_is_independent_of_the_storage_order(order: tuple[int, int, int], flips: tuple[int, ...]) -> None:
    labels, geometry, _ = heart_phantom((3.0, 2.5, 4.0))
    broken = labels.copy()
    broken[:2, :2, :2] = 1
    broken[-2:, -2:, -2:] = 1
    broken[labels == 6] = 0
    z, y, x = (int(v) for v in np.round(geometry.world_to_index(np.array([-16.0, -30.0, 0.0]))))
    broken[z, y, x - 4 : x - 2] = 6  # two equally large components of the aorta within the RV: one of them is kept
    broken[z, y, x + 2 : x + 4] = 6
    expected, expected_removals = clean_labels(broken, geometry)
    assert (expected == 6).sum() == 2

    stored, turned = _turned(broken, geometry, order, flips)
    cleaned, removals = clean_labels(stored, turned)
    back = np.flip(cleaned, flips).transpose(np.argsort(order))
    assert np.array_equal(back, expected)
    assert removals == expected_removals


def _turned(
    array: np.ndarray, geometry: Geometry, order: tuple[int, ...], flips: tuple[int, ...]
) -> tuple[np.ndarray, Geometry]:
    """Return the same volume in another storage order: ``np.flip(array.transpose(order), flips)`` and its geometry."""
    turned = np.flip(array.transpose(order), flips)
    columns = [geometry.direction_matrix[:, 2 - order[2 - k]] for k in range(3)]
    spacing = [geometry.spacing[2 - order[2 - k]] for k in range(3)]
    corner = np.zeros(3)
    for axis in flips:
        columns[2 - axis] = -columns[2 - axis]
        corner[order[axis]] = array.shape[order[axis]] - 1
    origin = geometry.index_to_world(corner)
    direction = tuple(float(v) for v in np.stack(columns, axis=1).ravel())
    return turned, Geometry(turned.shape, triple(spacing), triple(origin), direction)


def test_an_unknown_label_is_refused(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    broken[0, 0, 0] = 9
    with pytest.raises(ValueError, match="label 9"):
        clean_labels(broken, geometry)


def test_a_cancelled_run_stops(heart: Phantom) -> None:
    labels, geometry, _ = heart
    reporter = Reporter()
    reporter.cancel.cancel()
    with pytest.raises(Cancelled):
        clean_labels(labels, geometry, reporter)


def test_real_hearts_are_almost_unchanged(shared_data: Path) -> None:
    from hearts import model_heart

    for number in (1, 4, 11, 16):
        labels, geometry = model_heart(shared_data, number)
        cleaned, removals = clean_labels(labels, geometry)
        assert (cleaned != labels).sum() == sum(r.voxels for r in removals)
        assert sum(r.volume_ml for r in removals) < 0.1
