"""Whether a candidate is a heart: evidence in, verdict out.

A network always segments something. Where there is no heart, its labels change with the window, the coarse network
does not confirm them, and the probabilities are low. The thresholds were chosen on the scans of
``benchmarks/acceptance.py`` (56 difficult scans of 8 hearts, 28 scans of 14 bodies without a heart) with model 0.4.0,
which found 54 of the hearts and three false ones. The ranges below are those of model 0.5.0 under the same rules: 56
hearts, no false one.
"""

from __future__ import annotations

from dataclasses import dataclass

REJECTED_AGREEMENT = 0.35
"""Agreement below which only a confident fine network can accept the candidate. Hearts had 0.477 and more (median
0.799), except one with 0.184; candidates in bodies without a heart had at most 0.16."""
LOW_AGREEMENT = 0.6
"""Agreement below which a second window is compared and the user is told."""
REJECTED_CONSISTENCY = 0.7
"""Consistency below which the candidate is rejected. The eight hearts that needed a second window had 0.877 and more;
with model 0.4.0, false hearts had 0.753 to 0.913."""
LOW_CONFIDENCE = 0.75
"""Mean probability below which a candidate of low agreement is rejected, and the user is told of any other. Hearts had
0.797 and more (median 0.952); with model 0.4.0, false hearts had 0.689 to 0.778."""
CONFIDENT, CONFIDENT_CONSISTENCY = 0.85, 0.9
"""Mean probability and consistency at which the fine network alone accepts a candidate. One heart needed it. In the
middle of the 28 bodies nothing of model 0.4.0 reached both (one 0.868 with 0.631, another 0.825 with 0.908)."""
REJECTED_CONSISTENCY_OTHER_SCALE = 0.9
"""As :data:`REJECTED_CONSISTENCY`, for candidates that the finder saw in another grey scale only. On 110 validation
scans, hearts of model 0.4.0 that needed a second window had 0.944 and more."""

AIR = "the candidate has the intensity of air"


@dataclass(frozen=True)
class Evidence:
    """What is known about a candidate.

    Attributes:
        agreement: Dice of the coarse and the fine heart, all structures together.
        confidence: mean probability of the fine network's labels, averaged over the structures.
        consistency: Dice of the labels in two windows; ``None`` while only one window was seen.
        grey_scale: exponent of the grey scale in which the finder saw the candidate; 1 for the scan's own.
        is_air: whether the labelled voxels have the intensity of air.
    """

    agreement: float
    confidence: float
    consistency: float | None = None
    grey_scale: float = 1.0
    is_air: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate is a heart, and the reason if it is not."""

    accepted: bool
    reason: str = ""


def worth_following(evidence: Evidence) -> bool:
    """Whether a first window justifies re-centring and a second one."""
    return evidence.agreement >= REJECTED_AGREEMENT or evidence.confidence >= CONFIDENT


def needs_second_window(evidence: Evidence) -> bool:
    """Whether the labels must be compared with those of another window."""
    return evidence.agreement < LOW_AGREEMENT or evidence.grey_scale != 1


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a candidate."""
    reason = _objection(evidence)
    return Verdict(not reason, reason)


def _objection(evidence: Evidence) -> str:
    agreement, confidence, consistency = evidence.agreement, evidence.confidence, evidence.consistency
    confident = confidence >= CONFIDENT and (consistency or 0.0) >= CONFIDENT_CONSISTENCY
    if agreement < REJECTED_AGREEMENT and not confident:
        return f"a candidate was found, but the fine network rejects it (agreement {agreement:.2f})"
    if agreement < LOW_AGREEMENT and confidence < LOW_CONFIDENCE:
        return (
            f"a candidate was found, but both networks are unsure of it (agreement {agreement:.2f}, mean probability "
            f"{confidence:.2f})"
        )
    needed = REJECTED_CONSISTENCY if evidence.grey_scale == 1 else REJECTED_CONSISTENCY_OTHER_SCALE
    if consistency is not None and consistency < needed:
        return f"a candidate was found, but two windows around it differ (Dice {consistency:.2f})"
    return AIR if evidence.is_air else ""
