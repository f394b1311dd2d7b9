"""Evaluate an independent test set: cases used by no fold for training or model selection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import HeartSegError, InputError, SettingsError
from ...models.card import read_json
from ...models.plans import TRUSTED_PACKAGES, network_roots
from ...progress import Reporter
from ...settings import Settings
from ...volume.writing import write_labels
from .checking import CheckedData, check_cases, load_case, refuse_problems
from .datasets import find_cases
from .names import is_dotted

if TYPE_CHECKING:
    from .job import Training

FOLDER = "test"


def check_test_set(training: Training, reporter: Reporter) -> CheckedData | None:
    """Check the test set, also before the training, so that a mistake is not found after days.

    Returns:
        The cases, or ``None`` without a test set and for one that was scored before.

    Raises:
        InputError: the test cases cannot be used, or one of them is used for training.
        SettingsError: the class of the network is the user's, and its package is not trusted.
    """
    if training.test is None or (training.out / FOLDER / "evaluation.json").is_file():
        return None
    network = training.preset.network
    if is_dotted(network) and not network.startswith(network_roots()):
        raise SettingsError(
            f"network {network!r} is of a package that is not trusted, so its model cannot segment the test set: set "
            f"{TRUSTED_PACKAGES}={network.partition('.')[0]}, or omit --test"
        )
    data = training.data
    checked = check_cases(find_cases(training.test), data.labels, data.structures, reporter, data.modality)
    refuse_problems(checked, data.skip_bad)
    refuse_seen(read_json(training.out / "cases.json"), [c.case.image for c in checked.cases])
    return checked


def score_test_set(training: Training, model: Path, reporter: Reporter) -> Path | None:
    """Segment the test cases with the finished model, all folds together, and compare them with their references.

    Args:
        training: the training; its ``test`` is a data set like ``data``.
        model: the model folder.
        reporter: receives progress and cancels.

    Returns:
        The folder with the predictions and ``evaluation.csv``, ``.json`` and ``.png``; ``None`` without a test set. A
        scored test set is not scored again, because a set that influences settings is no longer a test set.

    Raises:
        HeartSegError: as :func:`check_test_set`.
    """
    out = training.out / FOLDER
    if training.test is None:
        return None
    if (out / "evaluation.json").is_file():
        reporter.announce(f"the test set was scored before: {str(out)!r} is kept")
        return out
    from ...evaluation import evaluate_folders, write_files
    from ...evaluation.files import STANDARD_NAMES
    from ...pipeline import Segmenter

    checked = check_test_set(training, reporter)
    assert checked is not None
    structures = read_json(training.out / "cases.json")["structures"]
    segmenter = Segmenter(model, Settings(device=training.machine.device))
    for folder in ("predictions", "references"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    with reporter.stage("test", len(checked.cases)):
        for done, case in enumerate(checked.cases):
            reporter.advance(done)
            volume, reference = load_case(case.case, training.data.labels, structures)
            try:
                labels = segmenter.segment(volume).labels
            except HeartSegError as error:  # scored like an empty segmentation
                reporter.announce(f"test case {case.case.name} was not segmented ({error}): every structure is missing")
                labels = np.zeros(volume.array.shape, np.uint8)
            write_labels(labels, volume.geometry, out / "predictions" / f"{case.case.name}.nii.gz")
            write_labels(reference.labels, volume.geometry, out / "references" / f"{case.case.name}.nii.gz")
    study = evaluate_folders(out / "predictions", out / "references", structures=structures)
    write_files(study, {kind: out / name for kind, name in STANDARD_NAMES.items()}, overwrite=True)
    return out


def refuse_seen(facts: dict, images: list[Path]) -> None:
    """Check that no test scan was used for training.

    Raises:
        InputError: a test scan was used for training; the message names the first one.
    """
    seen = {str(Path(case["image"]).resolve()) for case in facts["cases"].values()}
    for image in images:
        if str(image.resolve()) in seen:
            raise InputError(f"test scan {str(image)!r} is among the training's cases: give scans that it has not seen")
