"""The heart rate during a scan, from what its images state; nothing is estimated.

Sources, the first that all images have: Heart Rate (0018,1088); the R-R interval of the frame or image
(RR Interval Time Nominal (0020,9251), Nominal Interval (0018,1062), Cardiac RR Interval Specified (0018,9070)); the
R-R interval that follows from Nominal Percentage of Cardiac Phase (0020,9241) and trigger delay, if all phases agree on
it. Trigger delays alone do not tell the length of the beat. Sources that contradict each other give no heart rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..patient import Patient, common_patient
from .frames import Plane
from .phases import MS_PER_MINUTE, beat_ms

FEWEST_PERCENTAGES = 3
"""Minimum number of different percentages of the beat from which its length is derived."""
RATIO_SPREAD = 0.03
"""Largest deviation of the lengths of the beat derived from the phases, relative to their median."""


def patient_of(planes: Sequence[Plane]) -> Patient:
    """Return sex, body size and heart rate on which all planes of a scan agree."""
    common = common_patient([_with_rate(plane) for plane in planes])
    if common.heart_rate_bpm is not None or any(_states_rate(plane) for plane in planes):
        return common
    beat = beat_of_phases(planes)
    if beat is None:
        return common
    source = "percentages and trigger delays of the phases"
    return common.with_heart_rate(MS_PER_MINUTE / beat, 0.0, source)


def beat_of_phases(planes: Sequence[Plane]) -> float | None:
    """Return the R-R interval, ms, from the percentages and trigger delays of all planes; ``None`` if they disagree."""
    pairs = [(p.times.get("cardiac phase"), p.times.get("trigger delay")) for p in planes]
    known = [(percent, delay) for percent, delay in pairs if percent is not None and delay is not None]
    if len(known) < len(pairs) or len({percent for percent, _ in known}) < FEWEST_PERCENTAGES:
        return None
    beats = np.array([100.0 * delay / percent for percent, delay in known if percent > 0])
    middle = float(np.median(beats))
    if middle <= 0 or np.abs(beats / middle - 1).max() > RATIO_SPREAD:
        return None
    at_zero = [delay for percent, delay in known if percent == 0]
    return middle if all(abs(delay) <= RATIO_SPREAD * middle for delay in at_zero) else None


def _states_rate(plane: Plane) -> bool:
    return any(plane.times.get(name, 0.0) > 0 for name in ("heart rate", "beat"))


def _with_rate(plane: Plane) -> Patient:
    beat = beat_ms(plane)
    if beat is None:
        return plane.file.body
    rate = plane.times.get("heart rate", 0.0)
    source = "DICOM heart rate" if rate > 0 else "DICOM R-R interval"
    return plane.file.body.with_heart_rate(rate if rate > 0 else MS_PER_MINUTE / beat, 0.0, source)
