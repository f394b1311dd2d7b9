"""Scores of boxes against values derived by hand, with anisotropic voxels, masks, other grids, missing structures."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heartseg
from heartseg.errors import DependencyError, InputError, SettingsError
from heartseg.evaluation import evaluate
from heartseg.evaluation.surfaces import SurfaceDistances, surface_distances
from heartseg.volume import write_volume
from label_boxes import SHAPE, box, grid, volume

# Surface area of a box of 6 x 5 x 4 voxels of 1 x 2 x 3 mm (x, y, z), derived by hand. Surface elements lie at voxel
# corners: within a face, an element has the area of a voxel face; along an edge, it is a bevel between the centres of
# the two adjacent voxel faces; at a corner, it is the triangle between the midpoints of three edges.
X_FACE, Y_FACE, Z_FACE = 2 * 3, 1 * 3, 1 * 2
X_EDGE, Y_EDGE, Z_EDGE = 1 * sqrt(1 + 1.5**2), 2 * sqrt(0.5**2 + 1.5**2), 3 * sqrt(0.5**2 + 1)
CORNER = 0.5 * sqrt((0.5 * 1) ** 2 + (1 * 1.5) ** 2 + (1.5 * 0.5) ** 2)
FACE_INSIDE = 4 * 3 * X_FACE  # of a face normal to x, without its rim
FACE_RIM = 2 * 4 * Y_EDGE + 2 * 3 * Z_EDGE + 4 * CORNER
RING = 2 * 3 * Y_FACE + 2 * 4 * Z_FACE + 4 * X_EDGE  # around x, at one of the 5 positions between the two faces
SURFACE = 2 * (FACE_INSIDE + FACE_RIM) + 5 * RING
# Two boxes, one shifted by 2 voxels (2 mm) along x. For each box, one face with its rim and the interior of the
# opposite face are 2 mm from the other surface (at least 2 mm along y and z as well), one ring is 1 mm away, and the
# rest lies on it.
AT_2_MM, AT_1_MM = 2 * FACE_INSIDE + FACE_RIM, RING


def test_two_shifted_boxes_with_anisotropic_voxels() -> None:
    score = evaluate(volume(box(shift=2)), volume(box())).score("LV")
    assert score.status == "scored"
    assert score.dice == pytest.approx(2 * 80 / 240)
    assert score.iou == pytest.approx(80 / 160)
    assert (score.precision, score.sensitivity) == (pytest.approx(80 / 120), pytest.approx(80 / 120))
    assert score.hd95_mm == pytest.approx(2.0)
    assert score.assd_mm == pytest.approx((2 * AT_2_MM + AT_1_MM) / SURFACE, rel=1e-5)  # areas are 32-bit floats
    assert score.surface_dice == (pytest.approx(1 - AT_2_MM / SURFACE, rel=1e-5), pytest.approx(1.0))
    assert score.volume_ml == score.truth_volume_ml == pytest.approx(120 * 6 / 1000)
    assert (score.volume_error_ml, score.volume_error_percent) == (0.0, 0.0)
    assert score.surface_share is None


def test_distances_use_the_spacing_along_the_shift() -> None:
    moved = np.roll(box(), 1, axis=0)
    score = evaluate(volume(moved), volume(box())).score("LV")
    assert score.dice == pytest.approx(0.75)
    assert score.hd95_mm == pytest.approx(3.0)


def test_a_larger_box_has_a_larger_volume() -> None:
    pred = box()
    pred[4:8, 4:9, 5:14] = 1
    score = evaluate(volume(pred), volume(box())).score("LV")
    assert (score.precision, score.sensitivity) == (pytest.approx(2 / 3), 1.0)
    assert score.volume_error_ml == pytest.approx(60 * 6 / 1000)
    assert score.volume_error_percent == pytest.approx(50.0)


def test_rates_are_of_all_voxels_or_of_those_inside_the_mask() -> None:
    found = evaluate(volume(box(shift=2)), volume(box()))
    score, voxels = found.score("LV"), int(np.prod(SHAPE))  # 120 voxels each, 80 in common
    assert score.accuracy == pytest.approx((voxels - 80) / voxels)
    assert score.false_positive_rate == pytest.approx(40 / (voxels - 120))
    assert score.false_negative_rate == pytest.approx(40 / 120)
    mask = np.zeros(SHAPE, np.uint8)
    mask[box() > 0] = 1
    inside = evaluate(volume(box(shift=2)), volume(box()), volume(mask)).score("LV")
    assert (inside.accuracy, inside.false_negative_rate) == (pytest.approx(80 / 120), pytest.approx(40 / 120))
    assert inside.false_positive_rate is None  # nothing inside is background


def test_confusion_counts_every_pair_of_structures() -> None:
    truth, pred = box(), box()
    pred[truth > 0] = np.where(np.arange(120) < 30, 2, 1)
    pred[0, 0, :5] = 7
    found = evaluate(volume(pred), volume(truth))
    assert found.confusion["LV"] == {"LV": 90, "RV": 30}
    assert found.confusion["background"]["PA"] == 5
    assert sum(n for row in found.confusion.values() for n in row.values()) == np.prod(SHAPE)
    mask = (truth > 0).astype(np.uint8)
    assert set(evaluate(volume(pred), volume(truth), volume(mask)).confusion) == {"LV"}


def test_equal_maps_have_perfect_scores_at_the_edge_of_the_grid() -> None:
    labels = np.ones(SHAPE, np.uint8)
    score = evaluate(volume(labels), volume(labels)).score("LV")
    assert (score.dice, score.iou, score.hd95_mm, score.assd_mm, score.surface_dice) == (1, 1, 0, 0, (1, 1))


def test_hd95_is_weighted_by_area_and_is_the_maximum_of_both_directions() -> None:
    far, near = np.array([0.0, 5.0]), np.array([0.0, 1.0])
    six_percent, four_percent = np.array([94.0, 6.0]), np.array([96.0, 4.0])
    assert SurfaceDistances(far, near, six_percent, six_percent, 1.0).hd95() == 5.0
    assert SurfaceDistances(far, near, four_percent, six_percent, 1.0).hd95() == 1.0
    assert SurfaceDistances(far, near, four_percent, four_percent, 1.0).hd95() == 0.0


def test_surface_dice_equals_that_of_monai() -> None:
    import torch
    from monai.metrics import compute_surface_dice
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(4)
    pred, truth = (gaussian_filter(rng.normal(size=SHAPE), 1.5) > 0.02 for _ in range(2))
    found = surface_distances(pred, truth, (3.0, 2.0, 1.0))
    a, b = (torch.from_numpy(np.pad(m, 1))[None, None].float() for m in (pred, truth))
    theirs = compute_surface_dice(
        a, b, [2.5], include_background=True, spacing=(3.0, 2.0, 1.0), use_subvoxels=True
    ).item()
    assert found.surface_dice(2.5) == pytest.approx(theirs, rel=1e-5)


def test_a_distance_equal_to_the_tolerance_is_within_it() -> None:
    thin = {"spacing": (1.1, 1.1, 1.1)}  # 1.1 in float32 is larger than 1.1
    score = evaluate(volume(box(shift=1), **thin), volume(box(), **thin), tolerances=(1.0, 1.1)).score("LV")
    assert score.surface_dice[0] < 1
    assert score.surface_dice[1] == 1


# --- masks ------------------------------------------------------------------------------------------------------------


def test_voxels_outside_the_mask_are_ignored() -> None:
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :, 11:] = 0  # beyond the reference's box
    found = evaluate(volume(box(shift=2)), volume(box()), volume(mask))
    score = found.score("LV")
    assert score.dice == pytest.approx(2 * 80 / (80 + 120))
    assert (score.precision, score.sensitivity) == (1.0, pytest.approx(80 / 120))
    assert score.volume_ml == pytest.approx(80 * 6 / 1000)
    # Elements inside the mask are at x = 0..5 of the box, without the face at 6. Those of the prediction begin at 2.
    truth_counted, pred_counted = FACE_INSIDE + FACE_RIM + 5 * RING, FACE_INSIDE + FACE_RIM + 3 * RING
    total = 2 * (FACE_INSIDE + FACE_RIM) + RING + 2 * FACE_INSIDE
    assert score.assd_mm == pytest.approx(total / (truth_counted + pred_counted), rel=1e-5)
    assert score.surface_share == pytest.approx(truth_counted / SURFACE, rel=1e-5)


def test_the_masks_file_is_noted(tmp_path: Path) -> None:
    mask = write_volume(volume(np.ones(SHAPE, np.uint8)), tmp_path / "mask.nii.gz")
    assert evaluate(volume(box()), volume(box()), mask).mask == str(mask)
    assert evaluate(volume(box()), volume(box()), volume(np.ones(SHAPE, np.uint8))).mask == ""
    assert evaluate(volume(box()), volume(box())).mask == ""


def test_the_border_of_the_mask_is_not_a_surface() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, :8] = 1
    score = evaluate(volume(box()), volume(box()), volume(mask)).score("LV")
    assert (score.dice, score.hd95_mm, score.assd_mm) == (1, 0, 0)


def test_distances_to_a_surface_outside_the_mask_are_measured() -> None:
    inside = np.ones(SHAPE, bool)
    inside[:, :, 10] = False  # the last voxels of the reference: hides its face but not that of the prediction
    found = surface_distances(box(shift=1) > 0, box() > 0, (3.0, 2.0, 1.0), inside)
    assert found.to_truth.max() == pytest.approx(1.0)


def test_a_mask_that_hides_the_surface_is_reported() -> None:
    mask = (box() == 0).astype(np.uint8)
    mask[5:7, 5:8, 7:9] = 1
    found = evaluate(volume(box()), volume(box()), volume(mask))
    assert found.score("LV").hd95_mm is None
    assert found.score("LV").surface_dice == (None, None)
    assert any("LV 0%" in notice for notice in found.notices)


def test_a_mask_without_any_structure_is_refused() -> None:
    with pytest.raises(InputError, match=r"LV.* mask"):
        evaluate(volume(box()), volume(box()), volume((box() == 0).astype(np.uint8)))


# --- structures -------------------------------------------------------------------------------------------------------


def test_a_missing_structure_has_a_dice_of_0_and_no_distances() -> None:
    truth = box(label=2, array=box())
    truth[0:2] = 1
    pred = np.where(truth == 1, 1, 0).astype(np.uint8)
    found = evaluate(volume(pred), volume(truth))
    score = found.score("RV")
    assert (score.status, score.dice, score.iou, score.sensitivity) == ("missing", 0, 0, 0)
    assert (score.precision, score.hd95_mm, score.assd_mm, score.surface_dice) == (None, None, None, (None, None))
    assert score.volume_error_percent == -100
    assert found.mean("dice") == pytest.approx(0.5)
    assert found.mean("hd95_mm") == 0
    assert any("RV" in n for n in found.notices)


def test_a_structure_missing_in_the_reference_is_a_false_positive_excluded_from_means() -> None:
    pred = box()
    pred[0:2] = 7
    found = evaluate(volume(pred), volume(box()))
    score = found.score("PA")
    assert (score.status, score.dice, score.hd95_mm, score.volume_error_percent) == ("extra", None, None, None)
    assert score.volume_ml == score.volume_error_ml == pytest.approx(2 * 14 * 20 * 6 / 1000)
    assert found.mean("dice") == 1
    assert not found.has("RA")
    with pytest.raises(KeyError, match="RA"):
        found.score("RA")


def test_an_empty_prediction_scores_0() -> None:
    found = evaluate(volume(np.zeros(SHAPE, np.uint8)), volume(box()))
    assert found.mean("dice") == 0
    assert found.mean("hd95_mm") is None


def test_an_empty_reference_is_refused() -> None:
    with pytest.raises(InputError, match="LV, RV"):
        evaluate(volume(box()), volume(np.zeros(SHAPE, np.uint8)))


def test_only_requested_structures_are_scored() -> None:
    both = box(label=2, shift=8, array=box())
    found = evaluate(volume(both), volume(both), structures=["rv"])
    assert [s.key for s in found.scores] == ["RV"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tolerances": (0.0,)}, "0"),
        ({"tolerances": (1.0, 1.0)}, "1"),
        ({"structures": ["XX"]}, "XX"),
        ({"labels": {1: "XX"}}, "1=XX"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        evaluate(volume(box()), volume(box()), **options)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_the_reference_can_have_its_own_label_values() -> None:
    truth = box().astype(np.int16) * 500
    found = evaluate(volume(box()), volume(truth), truth_labels={500: "LV"})
    assert found.score("LV").dice == 1


def test_unknown_labels_become_background_with_a_notice() -> None:
    pred = box()
    pred[0] = 9
    found = evaluate(volume(pred), volume(box()))
    assert found.score("LV").dice == 1
    assert any("9" in n and "'boxes'" in n for n in found.notices)


def test_unknown_labels_only_are_refused_with_the_option_to_map_them() -> None:
    with pytest.raises(InputError, match=r"'boxes'.*500.*--truth-labels"):
        evaluate(volume(box()), volume(box().astype(np.int16) * 500))


def test_integers_stored_as_floats_are_labels() -> None:
    assert evaluate(volume(box().astype(np.float32)), volume(box())).score("LV").dice == 1


def test_a_slicer_segmentation_is_read_by_its_segment_names(save: Callable[..., Path]) -> None:
    names = {
        "Segment0_ID": "Segment_1",
        "Segment0_LabelValue": "1",
        "Segment0_Name": "Right ventricle",
        "Segment0_Layer": "0",
        "Segment1_ID": "Segment_2",
        "Segment1_LabelValue": "2",
        "Segment1_Name": "blood",
        "Segment1_Tags": "TerminologyEntry:x~SCT^123037004^y~SCT^87878005^Left ventricle~^^~|",
        "Segment1_Layer": "0",
    }
    pred = save("mine.seg.nrrd", box(label=2, shift=8, array=box(label=1)), names)
    truth = save("truth.nii.gz", box(label=1, shift=8, array=box(label=2)))
    found = evaluate(pred, truth)
    assert (found.score("LV").dice, found.score("RV").dice) == (1, 1)


# --- grids ------------------------------------------------------------------------------------------------------------


def test_a_different_orientation_is_handled_without_loss() -> None:
    turned = box(shift=2)[:, ::-1, ::-1].transpose(2, 0, 1)  # stored axes (x, y, z) are the former (y, z, x)
    x, y, _ = SHAPE[::-1]
    origin = np.array([-10.0, 5.0, 30.0]) + np.array([(x - 1) * 1.0, (y - 1) * 2.0, 0])
    direction = (0.0, 0.0, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    pred = volume(np.ascontiguousarray(turned), spacing=(2.0, 3.0, 1.0), origin=tuple(origin), direction=direction)
    found = evaluate(pred, volume(box()))
    assert found.notices == ()
    assert found.score("LV").dice == pytest.approx(2 / 3)


def test_a_different_grid_is_resampled_to_the_reference_grid() -> None:
    fine = np.repeat(box(), 2, axis=2)
    pred = volume(fine, spacing=(0.5, 2.0, 3.0), origin=(-10.25, 5.0, 30.0))
    found = evaluate(pred, volume(box()))
    assert found.score("LV").dice == 1
    assert found.geometry.same_grid(grid())
    assert [n for n in found.notices if "resampled" in n]


def test_labels_outside_the_reference_grid_are_reported() -> None:
    cropped = box()[:, :, :9]  # 4 of the 6 columns of the box
    found = evaluate(volume(box()), volume(cropped))
    assert found.score("LV").dice == 1
    assert any("0.2 mL" in n and "'boxes'" in n for n in found.notices)  # 40 voxels of 6 mm³
    narrow = evaluate(volume(cropped), volume(box()))
    assert any("45%" in n for n in narrow.notices)


def test_grids_that_do_not_overlap_are_refused() -> None:
    with pytest.raises(InputError, match="overlap"):
        evaluate(volume(box(), origin=(500.0, 0.0, 0.0)), volume(box()))


# --- package ----------------------------------------------------------------------------------------------------------


def test_a_missing_package_is_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "monai.metrics.utils", None)
    with pytest.raises(DependencyError, match=r"pip install 'heartseg\[evaluate\]'"):
        evaluate(volume(box()), volume(box()))


def test_evaluate_is_part_of_the_public_api(save: Callable[..., Path]) -> None:
    path = save("a.mha", box())
    assert heartseg.evaluate(str(path), Path(path)).mean("dice") == 1
