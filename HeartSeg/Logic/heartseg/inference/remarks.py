"""What the user is told about a run: findings made of what happened on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..findings import Finding, Severity
from ..volume.geometry import Geometry
from .believe import LOW_AGREEMENT, LOW_CONFIDENCE
from .locate import HeartBox

if TYPE_CHECKING:
    from ..models.folder import ModelFolder

SECOND_HEART = 0.3
"""Share of the first candidate's volume from which a second one is mentioned."""


def whole_image_finding(folder: ModelFolder, reorient: bool, mode: str) -> Finding:
    """That a model was run over the whole image, how (``mode``) and why."""
    why = "the model has no card that states an orientation" if reorient else "reorientation is off"
    if folder.is_2d:
        text = f"the model is 2D: it went through the whole scan {mode}, as nnU-Net itself would"
        text += "" if folder.turns_scans(reorient) else f" ({why})"
        return Finding("slice-by-slice", Severity.INFO, text)
    text = f"{why}: it was run in the scan's stored axes over the whole image, as nnU-Net itself would"
    return Finding("stored-axes", Severity.INFO, text)


def candidate_findings(box: HeartBox) -> list[Finding]:
    """Whether another place looks like a heart too."""
    if not box.others_ml or box.others_ml[0] < SECOND_HEART * box.volume_ml:
        return []
    text = (
        f"a second place looks like a heart ({box.others_ml[0]:.0f} mL beside {box.volume_ml:.0f} mL): the larger was "
        "taken, check that it is the heart"
    )
    return [Finding("second-candidate", Severity.WARNING, text, values={"others_ml": list(box.others_ml[:3])})]


def tiled_findings(grid: Geometry, patch: tuple[int, ...]) -> list[Finding]:
    """Whether the heart with its margin is larger than a tile ``(z, y, x)``."""
    if all(n <= p for n, p in zip(grid.shape, patch, strict=True)):
        return []
    size = " x ".join(f"{n * s:.0f}" for n, s in zip(grid.size, grid.spacing, strict=True))
    tile = " x ".join(f"{n * s:.0f}" for n, s in zip(patch[::-1], grid.spacing, strict=True))
    text = f"the heart with its margin ({size} mm) exceeds the network's tile ({tile} mm): it was done in several tiles"
    return [Finding("heart-tiled", Severity.INFO, text)]


def doubts(agreed: float | None, confidence: dict[str, float]) -> list[Finding]:
    """What the networks themselves say about how sure they are."""
    findings = []
    if confidence:
        mean = float(np.mean(list(confidence.values())))
        if mean < LOW_CONFIDENCE:
            text = f"the network is unsure: mean probability {mean:.2f} in the heart (usual: {LOW_CONFIDENCE} or more)"
            findings.append(Finding("low-confidence", Severity.WARNING, text, values={"mean_probability": mean}))
    if agreed is not None and agreed < LOW_AGREEMENT:
        text = f"the coarse and the fine network disagree about where the heart is (Dice {agreed:.2f}): look closely"
        findings.append(Finding("networks-disagree", Severity.WARNING, text, values={"dice": agreed}))
    return findings
