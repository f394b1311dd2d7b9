"""Acceptance of a candidate from its evidence."""

from __future__ import annotations

import pytest

from heartseg.inference.acceptance import (
    AIR,
    CONFIDENT,
    CONFIDENT_CONSISTENCY,
    LOW_AGREEMENT,
    LOW_CONFIDENCE,
    REJECTED_AGREEMENT,
    REJECTED_CONSISTENCY,
    REJECTED_CONSISTENCY_OTHER_SCALE,
    Evidence,
    judge,
    needs_second_window,
    worth_following,
)

SURE = Evidence(agreement=0.8, confidence=0.95)
E = 0.001


@pytest.mark.parametrize(
    ("evidence", "accepted"),
    [
        (SURE, True),
        # low agreement: the mean probability decides, then the second window
        (Evidence(LOW_AGREEMENT - E, LOW_CONFIDENCE - E, 0.99), False),
        (Evidence(LOW_AGREEMENT - E, LOW_CONFIDENCE, REJECTED_CONSISTENCY), True),
        (Evidence(LOW_AGREEMENT - E, LOW_CONFIDENCE, REJECTED_CONSISTENCY - E), False),
        (Evidence(LOW_AGREEMENT, LOW_CONFIDENCE - E), True),
        # agreement so low that the fine network must have a high probability in two windows
        (Evidence(REJECTED_AGREEMENT, LOW_CONFIDENCE, REJECTED_CONSISTENCY), True),
        (Evidence(REJECTED_AGREEMENT - E, CONFIDENT, CONFIDENT_CONSISTENCY), True),
        (Evidence(REJECTED_AGREEMENT - E, CONFIDENT - E, 0.99), False),
        (Evidence(REJECTED_AGREEMENT - E, 0.99, CONFIDENT_CONSISTENCY - E), False),
        (Evidence(0.0, 0.99, None), False),
        # another grey scale: requires a higher consistency, however well the networks agree
        (Evidence(0.9, 0.95, REJECTED_CONSISTENCY_OTHER_SCALE, grey_scale=0.6), True),
        (Evidence(0.9, 0.95, REJECTED_CONSISTENCY_OTHER_SCALE - E, grey_scale=0.6), False),
        # the intensity of air overrides everything else
        (Evidence(0.9, 0.99, 0.99, is_air=True), False),
    ],
)
def test_the_thresholds_decide(evidence: Evidence, accepted: bool) -> None:
    verdict = judge(evidence)
    assert verdict.accepted is accepted
    assert bool(verdict.reason) is not accepted


def test_the_reason_gives_the_numbers() -> None:
    assert "0.10" in judge(Evidence(0.1, 0.5)).reason
    reason = judge(Evidence(0.59, 0.74)).reason
    assert "0.59" in reason and "0.74" in reason
    assert "0.20" in judge(Evidence(0.5, 0.9, 0.2)).reason
    assert judge(Evidence(0.9, 0.99, is_air=True)).reason == AIR


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(REJECTED_AGREEMENT, 0.1), True),
        (Evidence(REJECTED_AGREEMENT - E, CONFIDENT), True),
        (Evidence(REJECTED_AGREEMENT - E, CONFIDENT - E), False),
    ],
)
def test_only_a_plausible_window_is_followed(evidence: Evidence, expected: bool) -> None:
    assert worth_following(evidence) is expected


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (SURE, False),
        (Evidence(LOW_AGREEMENT, 0.95), False),
        (Evidence(LOW_AGREEMENT - E, 0.95), True),
        (Evidence(0.9, 0.95, grey_scale=1.7), True),
    ],
)
def test_a_second_window_is_compared_in_doubt(evidence: Evidence, expected: bool) -> None:
    assert needs_second_window(evidence) is expected
