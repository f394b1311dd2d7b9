"""Findings about how a run went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..anatomy import structure
from ..findings import Finding, Severity
from ..volume.geometry import Geometry
from ..wording import _
from .acceptance import LOW_AGREEMENT, LOW_CONFIDENCE
from .locate import HeartBox

if TYPE_CHECKING:
    from ..models.folder import ModelFolder

SECOND_HEART = 0.3
"""Share of the first candidate's volume from which a second one is reported."""


def whole_image_finding(folder: ModelFolder, reorient: bool, mode: str) -> Finding:
    """The finding that a model was run over the whole image, with the mode and the reason."""
    reason = _("the model has no card that states an orientation") if reorient else _("reorientation is off")
    if folder.is_2d:
        text = (
            _("the model is 2D: the whole scan was processed {mode}, as nnU-Net does")
            if folder.turns_scans(reorient)
            else _("the model is 2D: the whole scan was processed {mode}, as nnU-Net does ({reason})")
        ).format(mode=mode, reason=reason)
        return Finding("slice-by-slice", Severity.INFO, text)
    text = _("{reason}: the whole image was processed in the scan's stored axes, as nnU-Net does").format(reason=reason)
    return Finding("stored-axes", Severity.INFO, text)


def candidate_findings(box: HeartBox) -> list[Finding]:
    """A warning if a second candidate is large."""
    if not box.others_ml or box.others_ml[0] < SECOND_HEART * box.volume_ml:
        return []
    text = _(
        "a second region looks like a heart ({second:.0f} mL, the first {first:.0f} mL): the "
        "larger one was taken, check that it is the heart"
    ).format(second=box.others_ml[0], first=box.volume_ml)
    return [Finding("second-candidate", Severity.WARNING, text, values={"others_ml": list(box.others_ml[:3])})]


def tiled_findings(grid: Geometry, patch: tuple[int, ...]) -> list[Finding]:
    """A note if the heart with its margin is larger than a tile ``(z, y, x)``."""
    if all(n <= p for n, p in zip(grid.shape, patch, strict=True)):
        return []
    size = " x ".join(f"{n * s:.0f}" for n, s in zip(grid.size, grid.spacing, strict=True))
    tile = " x ".join(f"{n * s:.0f}" for n, s in zip(patch[::-1], grid.spacing, strict=True))
    text = _(
        "the heart with its margin ({size} mm) exceeds the network's tile ({tile} mm): several tiles were used"
    ).format(size=size, tile=tile)
    return [Finding("heart-tiled", Severity.INFO, text)]


def doubtful_findings(expected: Mapping[str, float], limits: Mapping[str, float]) -> list[Finding]:
    """Warnings on structures whose expected Dice is below the limit of the model's card.

    Args:
        expected: structure key -> expected Dice, of :func:`~.prediction.structure_confidence`.
        limits: structure key -> limit; structures without one are not reported.
    """
    findings = []
    for key, limit in limits.items():
        if key not in expected or expected[key] >= limit:
            continue
        text = _(
            "the network is unsure of the {structure}: by its own probabilities, the labels have a Dice of "
            "{expected:.3f} (usual: over {limit:.3f}), and the true one is lower; check them slice by slice, and "
            "mend them with marks or leave this structure out"
        ).format(structure=structure(key).name, expected=expected[key], limit=limit)
        values = {"expected_dice": expected[key], "limit": limit}
        findings.append(Finding("structure-doubtful", Severity.WARNING, text, key, values))
    return findings


def confidence_findings(agreement: float | None, confidence: dict[str, float]) -> list[Finding]:
    """Warnings if the probabilities or the agreement of the networks are low."""
    findings = []
    if confidence:
        mean = float(np.mean(list(confidence.values())))
        if mean < LOW_CONFIDENCE:
            text = _("the network is not confident: mean probability {mean:.2f} (usual: over {limit})").format(
                mean=mean, limit=LOW_CONFIDENCE
            )
            findings.append(Finding("low-confidence", Severity.WARNING, text, values={"mean_probability": mean}))
    if agreement is not None and agreement < LOW_AGREEMENT:
        text = _(
            "the coarse and the fine network disagree on where the heart is (Dice {agreement:.2f}): check it"
        ).format(agreement=agreement)
        findings.append(Finding("networks-disagree", Severity.WARNING, text, values={"dice": agreement}))
    return findings
