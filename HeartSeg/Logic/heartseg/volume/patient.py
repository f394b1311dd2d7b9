"""Properties of the patient that measures need: sex, body size, heart rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

LIMITS = {"height_cm": (40.0, 250.0), "weight_kg": (2.0, 400.0), "heart_rate_bpm": (20.0, 300.0)}
"""Possible values; a value outside is an error of unit or of typing, and is not used."""
HEART_RATE_SPREAD = 0.15
"""Largest range of the heart rates of the images of a scan, relative to their median, that have one heart rate. In a
real cine study, the R-R intervals of the slices range from 776 to 863 ms: 0.11."""


@dataclass(frozen=True)
class Patient:
    """Properties of the patient; ``None`` if unknown. No property is estimated.

    Attributes:
        sex: ``"M"`` or ``"F"``.
        height_cm, weight_kg: body size.
        heart_rate_bpm: heart rate during the scan; the median of its images.
        heart_rate_spread_bpm: half the range of the heart rates of the images.
        heart_rate_source: what states the heart rate, such as ``"DICOM R-R interval"``; empty if a user does.
    """

    sex: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    heart_rate_bpm: float | None = None
    heart_rate_spread_bpm: float = 0.0
    heart_rate_source: str = ""

    @property
    def bsa_m2(self) -> float | None:
        """Body surface area after Mosteller (N Engl J Med 1987;317:1098), m²."""
        if self.height_cm is None or self.weight_kg is None:
            return None
        return math.sqrt(self.height_cm * self.weight_kg / 3600.0)

    @property
    def heart_rate_text(self) -> str:
        """Heart rate, its range and its source for a reader; empty if it is unknown."""
        if self.heart_rate_bpm is None:
            return ""
        spread = f" ± {self.heart_rate_spread_bpm:.0f}" if self.heart_rate_spread_bpm >= 0.5 else ""
        source = f" ({self.heart_rate_source})" if self.heart_rate_source else ""
        return f"{self.heart_rate_bpm:.0f}{spread}/min{source}"

    def with_heart_rate(self, bpm: object, spread_bpm: object = 0.0, source: str = "") -> Patient:
        """Return the patient with a heart rate; an impossible one is unknown."""
        low, high = LIMITS["heart_rate_bpm"]
        if not isinstance(bpm, int | float) or not low <= bpm <= high:
            return replace(self, heart_rate_bpm=None, heart_rate_spread_bpm=0.0, heart_rate_source="")
        known = isinstance(spread_bpm, int | float) and 0 <= spread_bpm <= bpm
        spread = float(spread_bpm) if known else 0.0  # type: ignore[arg-type]
        return replace(self, heart_rate_bpm=float(bpm), heart_rate_spread_bpm=spread, heart_rate_source=source)


def stated_patient(sex: object, height_cm: object, weight_kg: object) -> Patient:
    """Return the patient from values as a file states them; what is impossible or of a wrong type is unknown."""

    def possible(name: str, value: object) -> float | None:
        low, high = LIMITS[name]
        return float(value) if isinstance(value, int | float) and low <= value <= high else None

    return Patient(
        sex if isinstance(sex, str) and sex in ("M", "F") else None,
        possible("height_cm", height_cm),
        possible("weight_kg", weight_kg),
    )


def common_patient(stated: Sequence[Patient]) -> Patient:
    """Return the properties on which all images of a scan agree; the heart rate is their median."""
    if not stated:
        return Patient()
    first = stated[0]
    rates = sorted(p.heart_rate_bpm for p in stated if p.heart_rate_bpm is not None)
    rate = median(rates) if len(rates) == len(stated) else None
    steady = rate is not None and rates[-1] - rates[0] <= HEART_RATE_SPREAD * rate
    spread = max((rates[-1] - rates[0]) / 2, *(p.heart_rate_spread_bpm for p in stated)) if steady else 0.0
    sources = {p.heart_rate_source for p in stated}
    body = Patient(
        first.sex if len({p.sex for p in stated}) == 1 else None,
        first.height_cm if len({p.height_cm for p in stated}) == 1 else None,
        first.weight_kg if len({p.weight_kg for p in stated}) == 1 else None,
    )
    return body.with_heart_rate(rate if steady else None, spread, ", ".join(sorted(sources - {""})))
