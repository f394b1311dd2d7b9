"""Labels of low probability that count as background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from heartseg.errors import InputError, SettingsError
from heartseg.evaluation import evaluate
from label_boxes import SHAPE, box, volume

if TYPE_CHECKING:
    from evaluation.conftest import Outcome


def percent() -> np.ndarray:
    """79 % in the first two of the box's four slices, 80 % elsewhere."""
    map_ = np.full(SHAPE, 80, np.uint8)
    map_[4:6] = 79
    return map_


def test_labels_below_the_threshold_are_background() -> None:
    """Half of the box is dropped: Dice is 2 * 60 / (60 + 120), of 120 voxels of 6 mm3."""
    found = evaluate(volume(box()), volume(box()), threshold=0.8, confidence=volume(percent()))
    assert found.scores[0].dice == pytest.approx(2 / 3)
    assert found.scores[0].volume_ml == pytest.approx(0.36)
    whole = evaluate(volume(box()), volume(box()), threshold=0.79, confidence=volume(percent()))
    assert whole.scores[0].dice == 1


def test_the_map_of_the_run_lies_beside_its_labels(
    command: Callable[..., Outcome], save: Callable[..., Path], tmp_path: Path
) -> None:
    truth = save("references/a.nii.gz", box())
    save("out/a/labels.nii.gz", box())
    save("out/a/confidence.nii.gz", percent())
    for pred, target in ((tmp_path / "out" / "a", truth), (tmp_path / "out", truth.parent)):
        done = command(pred, target, "--threshold", 0.8)
        assert done.code == 0, done.err
        assert done.out.splitlines()[1].split()[1] == "0.667"
        assert "0.4 mL" in done.err
    named = save("other.nii.gz", np.full(SHAPE, 90, np.uint8))
    done = command(tmp_path / "out" / "a", truth, "--threshold", 0.8, "--confidence", named)
    assert done.out.splitlines()[1].split()[1] == "1.000"


@pytest.mark.parametrize("threshold", [0.0, 1.0, 80.0, -0.5, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(threshold: float) -> None:
    with pytest.raises(SettingsError):
        evaluate(volume(box()), volume(box()), threshold=threshold, confidence=volume(percent()))


def test_a_map_that_does_not_fit_is_refused(save: Callable[..., Path], tmp_path: Path) -> None:
    labels = save("labels.nii.gz", box())
    with pytest.raises(InputError, match=r"confidence\.nii\.gz"):
        evaluate(labels, volume(box()), threshold=0.5)
    with pytest.raises(InputError, match=r"^'.*gone\.nii\.gz' does not exist"):
        evaluate(labels, volume(box()), threshold=0.5, confidence=tmp_path / "gone.nii.gz")
    with pytest.raises(InputError, match="grid"):
        evaluate(labels, volume(box()), threshold=0.5, confidence=volume(percent(), origin=(0.0, 0.0, 0.0)))
    with pytest.raises(InputError, match="0-100"):
        evaluate(labels, volume(box()), threshold=0.5, confidence=volume(percent() + np.uint8(100)))
    with pytest.raises(SettingsError):
        evaluate(labels, volume(box()), confidence=volume(percent()))
