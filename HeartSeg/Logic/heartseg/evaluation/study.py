"""Many predictions against their references: every case, and mean and spread over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..anatomy import KEYS
from ..errors import InputError
from ..progress import Reporter
from .pairs import pair_folders
from .scores import EXTRA, TOLERANCES_MM, Evaluation, check_choices, evaluate, metric_names, value_of
from .surfaces import check_monai
from .thresholds import check_threshold

MEAN = "mean"
"""In the place of a structure: the mean over a case's structures."""


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (``None`` for one case) and number of cases that have a value."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Study:
    """Cases that were compared.

    Attributes:
        cases: one evaluation per case, by name.
        failed: case -> why it could not be compared.
        pred_only, truth_only: names of files without a partner.
    """

    cases: tuple[Evaluation, ...]
    failed: Mapping[str, str]
    pred_only: tuple[str, ...] = ()
    truth_only: tuple[str, ...] = ()

    @property
    def tolerances(self) -> tuple[float, ...]:
        return self.cases[0].tolerances

    def values(self, key: str, metric: str) -> list[float]:
        """A metric of a structure (or of :data:`MEAN`) in every case that has a value, in the order of the cases."""
        found = []
        for case in self.cases:
            value = case.mean(metric) if key == MEAN else _value(case, key, metric)
            if value is not None:
                found.append(value)
        return found

    def spread(self, key: str, metric: str) -> Spread | None:
        """Return the mean and spread over the cases; ``None`` if no case has a value."""
        values = self.values(key, metric)
        if not values:
            return None
        return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None, len(values))

    def summary(self) -> dict[str, dict[str, Spread | None]]:
        """Return structure (and :data:`MEAN`) -> metric -> spread; structures that a reference holds."""
        held = [k for k in KEYS if any(c.has(k) and c.score(k).status != EXTRA for c in self.cases)]
        return {k: {m: self.spread(k, m) for m in metric_names(self.tolerances)} for k in (*held, MEAN)}


def _value(case: Evaluation, key: str, metric: str) -> float | None:
    if not case.has(key) or case.score(key).status == EXTRA:
        return None
    return value_of(case.score(key), metric, case.tolerances)


def evaluate_folders(
    pred: str | Path,
    truth: str | Path,
    mask: str | Path | None = None,
    *,
    labels: Mapping[int, str] | None = None,
    truth_labels: Mapping[int, str] | None = None,
    structures: Sequence[str] | None = None,
    tolerances: Sequence[float] = TOLERANCES_MM,
    threshold: float | None = None,
    reporter: Reporter | None = None,
) -> Study:
    """Compare the label maps in a folder with the references in another, paired by name.

    Args:
        pred: folder of label maps, or of folders that ``heartseg segment`` wrote.
        truth: folder of references.
        mask: a folder of masks, or one file for all.
        labels, truth_labels, structures, tolerances, threshold: as for :func:`evaluate`.
        reporter: progress and cancel.

    Returns:
        All cases; one that cannot be compared is in ``failed`` and does not stop the rest.

    Raises:
        InputError: no files fit together, or none of the cases can be compared.
        SettingsError, DependencyError: as for :func:`evaluate`.
    """
    reporter = reporter or Reporter()
    check_choices(tolerances, structures)
    check_threshold(threshold, None)
    check_monai()
    pairing = pair_folders(Path(pred), Path(truth), Path(mask) if mask is not None else None)
    compare = partial(
        evaluate,
        labels=labels,
        truth_labels=truth_labels,
        structures=structures,
        tolerances=tolerances,
        threshold=threshold,
    )
    cases, failed = [], {}
    with reporter.stage("evaluate", len(pairing.pairs)):
        for done, pair in enumerate(pairing.pairs):
            reporter.advance(done)
            try:
                cases.append(compare(pair.pred, pair.truth, pair.mask, name=pair.name))
            except InputError as error:
                failed[pair.name] = str(error)
    if not cases:
        name, why = next(iter(failed.items()))
        raise InputError(f"none of {len(failed)} case(s) can be compared; {name}: {why}")
    return Study(tuple(cases), failed, pairing.pred_only, pairing.truth_only)
