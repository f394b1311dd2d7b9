"""One prediction against one reference: scores per structure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..anatomy import KEYS, Structure, structure
from ..errors import InputError, SettingsError
from ..volume.geometry import Geometry
from ..volume.label_maps import as_label_map
from ..volume.types import Volume
from .grids import CommonGrid, bring_together
from .surfaces import check_monai, surface_distances
from .thresholds import check_threshold, sure_labels

TOLERANCES_MM: tuple[float, ...] = (1.0, 2.0)
SCORED, MISSING, EXTRA = "scored", "missing", "extra"

LITTLE_SURFACE = 0.5
"""Share of the reference's surface inside the mask below which surface distances are said to tell little."""


@dataclass(frozen=True)
class StructureScore:
    """How well one structure was found; ``None`` where a number does not exist.

    Attributes:
        key: structure, e.g. ``"LV"``.
        status: ``"scored"``; ``"missing"`` (in the reference alone: Dice 0, no distances); ``"extra"`` (in the
            prediction alone: volumes only, in no mean).
        dice, iou, precision, sensitivity: overlap of voxels, 0-1.
        hd95_mm, assd_mm: distances between the surfaces.
        surface_dice: share of the surfaces within each tolerance, 0-1; same order as the evaluation's tolerances.
        volume_ml, truth_volume_ml: of prediction and reference, inside the mask.
        volume_error_ml, volume_error_percent: prediction minus reference; percent of the reference.
        surface_share: share of the reference's surface that lies inside the mask, 0-1.
        accuracy, false_positive_rate, false_negative_rate: of all voxels inside the mask, 0-1. Nearly all of them are
            background, so accuracy is near 1 and the false positive rate near 0 whatever was found.
    """

    key: str
    status: str
    dice: float | None
    iou: float | None
    precision: float | None
    sensitivity: float | None
    hd95_mm: float | None
    assd_mm: float | None
    surface_dice: tuple[float | None, ...]
    volume_ml: float
    truth_volume_ml: float
    volume_error_ml: float
    volume_error_percent: float | None
    surface_share: float | None = None
    accuracy: float | None = None
    false_positive_rate: float | None = None
    false_negative_rate: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """One prediction against one reference.

    Attributes:
        name: of the case.
        scores: one per structure that either holds inside the mask, in label order.
        tolerances: mm, of the surface Dice.
        geometry: the reference's grid, axes nearest to LPS, on which everything was computed.
        pred, truth, mask: paths; empty for arrays and where there is no mask.
        notices: what was assumed, resampled or left out, one sentence each.
        confusion: structure of the reference -> structure of the prediction -> voxels inside the mask; both may be
            ``"background"``, and pairs without a voxel are left out.
    """

    name: str
    scores: tuple[StructureScore, ...]
    tolerances: tuple[float, ...]
    geometry: Geometry
    pred: str = ""
    truth: str = ""
    mask: str = ""
    notices: tuple[str, ...] = field(default=())
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def score(self, key: str) -> StructureScore:
        """Return the scores of a structure; ``KeyError`` if neither holds it."""
        for score in self.scores:
            if score.key == key.upper():
                return score
        raise KeyError(f"neither prediction nor reference holds {key!r}")

    def has(self, key: str) -> bool:
        """Return whether prediction or reference holds the structure."""
        return any(s.key == key.upper() for s in self.scores)

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric (see :func:`metric_names`) over the reference's structures that have a value.

        ``None`` for volumes and their errors: over structures of different size, a mean of them says nothing.
        """
        if "volume" in metric:
            return None
        counted = (value_of(s, metric, self.tolerances) for s in self.scores if s.status != EXTRA)
        values = [v for v in counted if v is not None]
        return float(np.mean(values)) if values else None


def metric_names(tolerances: Sequence[float]) -> tuple[str, ...]:
    """Names of all metrics, in the order of tables, with their units: ``"surface_dice_1mm"``, ``"hd95_mm"``, ..."""
    return (
        "dice",
        "iou",
        "precision",
        "sensitivity",
        "accuracy",
        "false_positive_rate",
        "false_negative_rate",
        "hd95_mm",
        "assd_mm",
        *(f"surface_dice_{t:g}mm" for t in tolerances),
        "volume_ml",
        "truth_volume_ml",
        "volume_error_ml",
        "volume_error_percent",
    )


def value_of(score: StructureScore, metric: str, tolerances: Sequence[float]) -> float | None:
    """Return a metric by its name."""
    for tolerance, value in zip(tolerances, score.surface_dice, strict=True):
        if metric == f"surface_dice_{tolerance:g}mm":
            return value
    return getattr(score, metric)


def check_choices(tolerances: Sequence[float], structures: Sequence[str] | None) -> tuple[Structure, ...]:
    """Return the structures to score.

    Raises:
        SettingsError: a tolerance is not a positive number of mm, or a structure is unknown.
    """
    if not tolerances or not all(math.isfinite(t) and t > 0 for t in tolerances):
        raise SettingsError(f"tolerance {', '.join(f'{t:g}' for t in tolerances)} must be more than 0 mm, e.g. 1,2")
    if len({f"{t:g}" for t in tolerances}) < len(tolerances):
        raise SettingsError(f"tolerance {', '.join(f'{t:g}' for t in tolerances)} names a value twice")
    unknown = [k for k in structures or () if k.upper() not in KEYS]
    if unknown or (structures is not None and not structures):
        raise SettingsError(f"structure {', '.join(unknown) or 'list'} is unknown: choose from {', '.join(KEYS)}")
    wanted = KEYS if structures is None else [k.upper() for k in structures]
    return tuple(structure(k) for k in KEYS if k in wanted)


def evaluate(
    pred: str | Path | Volume,
    truth: str | Path | Volume,
    mask: str | Path | Volume | None = None,
    *,
    labels: Mapping[int, str] | None = None,
    truth_labels: Mapping[int, str] | None = None,
    structures: Sequence[str] | None = None,
    tolerances: Sequence[float] = TOLERANCES_MM,
    threshold: float | None = None,
    confidence: str | Path | Volume | None = None,
    name: str = "",
) -> Evaluation:
    """Compare a label map with a reference.

    Args:
        pred, truth: files (NIfTI, NRRD with Slicer's ``.seg.nrrd``, MetaImage), or volumes of whole numbers with array
            ``(z, y, x)``. On different grids, ``pred`` is resampled (nearest voxel) onto that of ``truth``.
        mask: voxels where it is 0 do not count, for volumes neither; surface elements that do not lie wholly inside
            are not measured from (see :func:`heartseg.evaluation.surfaces.surface_distances`).
        labels: label value -> structure key, of both; ``None`` for HeartSeg's 1-7, or the names in a ``.seg.nrrd``.
        truth_labels: the same of ``truth``, where it differs.
        structures: keys to score; all by default.
        tolerances: of the surface Dice, mm.
        threshold, confidence: labels of a lower probability count as background, see
            :func:`~heartseg.evaluation.thresholds.sure_labels`; ``None`` compares all labels.
        name: of the case; the prediction's by default.

    Raises:
        InputError: a file cannot be used, grids do not overlap, the reference holds none of the structures.
        SettingsError: an unknown structure, a tolerance that is not positive.
        DependencyError: MONAI is not installed.
    """
    chosen = check_choices(tolerances, structures)
    check_threshold(threshold, confidence)
    check_monai()
    found = as_label_map(pred, labels, "--labels")
    if threshold is not None:
        found = sure_labels(found, threshold, confidence)
    reference = as_label_map(truth, truth_labels if truth_labels is not None else labels, "--truth-labels")
    grid = bring_together(found, reference, mask)
    scores = tuple(s for c in chosen if (s := _score(c, grid, tolerances)) is not None)
    if all(s.status == EXTRA for s in scores):
        within = " inside the mask" if mask is not None else ""
        raise InputError(
            f"{reference.name!r} holds none of {', '.join(c.key for c in chosen)}{within}: nothing to score against"
        )
    return Evaluation(
        name or found.name,
        scores,
        tuple(tolerances),
        grid.geometry,
        found.path,
        reference.path,
        "" if mask is None or isinstance(mask, Volume) else str(mask),
        found.notices + reference.notices + grid.notices + _about(scores),
        confusion(grid),
    )


def confusion(grid: CommonGrid) -> dict[str, dict[str, int]]:
    """Return structure of the reference -> structure of the prediction -> voxels inside the mask."""
    inside = slice(None) if grid.inside is None else grid.inside
    pairs = 256 * grid.truth[inside].ravel().astype(np.int64) + grid.pred[inside].ravel()
    names = {0: "background", **{structure(k).label: k for k in KEYS}}
    found: dict[str, dict[str, int]] = {}
    for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
        truth, pred = divmod(int(pair), 256)
        if truth in names and pred in names:
            found.setdefault(names[truth], {})[names[pred]] = int(count)
    return found


def _rates(n_pred: int, n_truth: int, both: int, voxels: int) -> tuple[float, float | None, float | None]:
    """Return accuracy, false positive and false negative rate, from counts of voxels."""
    wrong, missed, rest = n_pred - both, n_truth - both, voxels - n_truth
    return (
        (voxels - wrong - missed) / voxels,
        wrong / rest if rest else None,
        missed / n_truth if n_truth else None,
    )


def _score(s: Structure, grid: CommonGrid, tolerances: Sequence[float]) -> StructureScore | None:
    """Return scores of one structure; ``None`` if neither holds it inside the mask."""
    pred, truth = grid.pred == s.label, grid.truth == s.label
    a, b = (pred, truth) if grid.inside is None else (pred & grid.inside, truth & grid.inside)
    n_pred, n_truth, both = (int(np.count_nonzero(m)) for m in (a, b, a & b))
    if not n_pred and not n_truth:
        return None
    ml = grid.geometry.voxel_volume_ml
    volumes = n_pred * ml, n_truth * ml, (n_pred - n_truth) * ml
    voxels = grid.truth.size if grid.inside is None else int(np.count_nonzero(grid.inside))
    rates = _rates(n_pred, n_truth, both, voxels)
    nothing = (None,) * len(tolerances)
    if not n_truth:
        return StructureScore(s.key, EXTRA, None, None, None, None, None, None, nothing, *volumes, None)
    percent = 100 * (n_pred - n_truth) / n_truth
    if not n_pred:
        return StructureScore(s.key, MISSING, 0.0, 0.0, None, 0.0, None, None, nothing, *volumes, percent, None, *rates)
    x, y, z = grid.geometry.spacing
    distances = surface_distances(pred, truth, (z, y, x), grid.inside)
    return StructureScore(
        s.key,
        SCORED,
        2 * both / (n_pred + n_truth),
        both / (n_pred + n_truth - both),
        both / n_pred,
        both / n_truth,
        distances.hd95(),
        distances.assd(),
        tuple(distances.surface_dice(t) for t in tolerances),
        *volumes,
        percent,
        None if grid.inside is None else distances.truth_share,
        *rates,
    )


def _about(scores: Sequence[StructureScore]) -> tuple[str, ...]:
    """Notes on lines of the table that would mislead without them."""
    notices = []
    for status, text in (
        (MISSING, "in the reference alone: Dice 0, and no distance, so that it is not in the distances' mean"),
        (EXTRA, "in the prediction alone: false positive volume, in no mean"),
    ):
        if keys := [s.key for s in scores if s.status == status]:
            notices.append(f"{', '.join(keys)}: {text}")
    little = [s for s in scores if s.surface_share is not None and s.surface_share < LITTLE_SURFACE]
    if little:
        shares = ", ".join(f"{s.key} {s.surface_share:.0%}" for s in little)
        notices.append(
            f"little of the reference's surface lies inside the mask ({shares}): distances and surface Dice describe "
            "that part and false positives alone; evaluate without --mask for the whole surface"
        )
    return tuple(notices)
