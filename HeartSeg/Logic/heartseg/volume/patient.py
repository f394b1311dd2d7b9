"""Properties of the patient that measures need: sex, body size, heart rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LIMITS = {"height_cm": (40.0, 250.0), "weight_kg": (2.0, 400.0), "heart_rate_bpm": (20.0, 300.0)}
"""Possible values; a value outside is an error of unit or of typing, and is not used."""
HEART_RATE_SPREAD = 0.1
"""Largest range of the heart rates of the images of a scan, relative to their median, that have one heart rate."""


@dataclass(frozen=True)
class Patient:
    """Properties of the patient; ``None`` if unknown. No property is estimated.

    Attributes:
        sex: ``"M"`` or ``"F"``.
        height_cm, weight_kg: body size.
        heart_rate_bpm: heart rate during the scan.
    """

    sex: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    heart_rate_bpm: float | None = None

    @property
    def bsa_m2(self) -> float | None:
        """Body surface area after Mosteller (N Engl J Med 1987;317:1098), m²."""
        if self.height_cm is None or self.weight_kg is None:
            return None
        return math.sqrt(self.height_cm * self.weight_kg / 3600.0)


def stated_patient(sex: object, height_cm: object, weight_kg: object, heart_rate_bpm: object) -> Patient:
    """Return the patient from values as a file states them; what is impossible or of a wrong type is unknown."""

    def possible(name: str, value: object) -> float | None:
        low, high = LIMITS[name]
        return float(value) if isinstance(value, int | float) and low <= value <= high else None

    return Patient(
        sex if isinstance(sex, str) and sex in ("M", "F") else None,
        possible("height_cm", height_cm),
        possible("weight_kg", weight_kg),
        possible("heart_rate_bpm", heart_rate_bpm),
    )


def common_patient(stated: Sequence[Patient]) -> Patient:
    """Return the properties on which all images of a scan agree; the heart rate is their median."""
    if not stated:
        return Patient()
    first = stated[0]
    rates = sorted(p.heart_rate_bpm for p in stated if p.heart_rate_bpm is not None)
    rate = rates[len(rates) // 2] if len(rates) == len(stated) else None
    steady = rate is not None and rates[-1] - rates[0] <= HEART_RATE_SPREAD * rate
    return Patient(
        first.sex if len({p.sex for p in stated}) == 1 else None,
        first.height_cm if len({p.height_cm for p in stated}) == 1 else None,
        first.weight_kg if len({p.weight_kg for p in stated}) == 1 else None,
        rate if steady else None,
    )
