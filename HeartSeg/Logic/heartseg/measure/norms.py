"""Reference ranges and limits of plausibility, from ``norms.json``.

A range applies to a modality, a sex and a phase of the heart. A value is compared only if all of them are known;
unknown properties are not estimated. The range of healthy people is not a diagnosis; value, range and source are shown
together.

The limits of plausibility are wide: a value outside is more likely an error of the segmentation than a finding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from ..anatomy import STRUCTURES
from ..result import Measure
from ..wording import _
from .grid import Unknown

ANY = "any"


@dataclass(frozen=True)
class Norm:
    """Range of a measure in healthy adults.

    Attributes:
        structure, quantity, unit: as in :class:`~heartseg.result.Measure`.
        sex: ``"M"``, ``"F"`` or ``"any"``.
        phase: ``"diastole"`` (one diastolic image), ``"cycle"`` (a whole cycle) or ``"any"``.
        modality: ``"CT"`` or ``"MR"``.
        low, high: limits; ``None`` if the source states only the other.
        basis: definition of the limits, such as ``"97.5th percentile"``.
        n: number of people; ``None`` if the source pools studies.
        source, doi: publication of the range.
        note: differences between the method of the source and that of HeartSeg.
    """

    structure: str
    quantity: str
    unit: str
    sex: str
    phase: str
    modality: str
    low: float | None
    high: float | None
    basis: str
    n: int | None
    source: str
    doi: str
    note: str = ""

    @property
    def text(self) -> str:
        """Format the range as text, e.g. ``"up to 97 mL/m²"``."""
        if self.low is None:
            return f"up to {self.high:g} {self.unit}".strip()
        if self.high is None:
            return f"from {self.low:g} {self.unit}".strip()
        return f"{self.low:g} to {self.high:g} {self.unit}".strip()


@dataclass(frozen=True)
class Limits:
    """Limits of plausibility of a measure."""

    structure: str
    quantity: str
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Circumstances:
    """Properties of a scan that are required for a comparison.

    Attributes:
        modality: ``"CT"``, ``"MR"`` or ``""``.
        phase: ``"diastole"``, ``"cycle"`` (a time series), the phase as the file states it, or ``""`` if unknown.
        sex: ``"M"``, ``"F"``, or ``None``.
    """

    modality: str = ""
    phase: str = ""
    sex: str | None = None


@dataclass(frozen=True)
class Comparison:
    """A value and its reference range."""

    measure: Measure
    norm: Norm

    @property
    def position(self) -> str:
        """``"below"``, ``"within"`` or ``"above"``."""
        value = self.measure.value
        assert value is not None
        if self.norm.low is not None and value < self.norm.low:
            return "below"
        return "above" if self.norm.high is not None and value > self.norm.high else "within"


@lru_cache(maxsize=1)
def load_norms() -> tuple[tuple[Norm, ...], tuple[Limits, ...]]:
    """All ranges and limits of the package."""
    content = json.loads(resources.files(__package__).joinpath("norms.json").read_text(encoding="utf-8"))
    return tuple(Norm(**n) for n in content["norms"]), tuple(Limits(**entry) for entry in content["limits"])


def compare(measure: Measure, circumstances: Circumstances) -> Comparison | Unknown:
    """Compare a measure with the range for its circumstances, or return why there is no comparison."""
    if measure.value is None:
        return Unknown(measure.note or "not measured")
    found = [n for n in load_norms()[0] if (n.structure, n.quantity) == (measure.structure, measure.quantity)]
    if not found:
        return Unknown(_("no reference range"))
    if not circumstances.modality:
        return Unknown(_("modality unknown"))
    found = [n for n in found if n.modality == circumstances.modality]
    if not found:
        return Unknown(_("no reference range for {modality}").format(modality=circumstances.modality))
    of_phase = [n for n in found if n.phase in (ANY, circumstances.phase)]
    if not of_phase:
        return Unknown(
            _("reference range is for {phase}, the phase is {actual}").format(
                phase=found[0].phase, actual=circumstances.phase or _("unknown")
            )
        )
    for norm in of_phase:
        if norm.sex in (ANY, circumstances.sex):
            return Comparison(measure, norm)
    return Unknown(_("sex unknown"))


def implausible(measure: Measure) -> Limits | None:
    """Return the limits that a measure violates; ``None`` if it is plausible, has no limits or has no value.

    Limits of volumes, masses and diameters are :attr:`~heartseg.anatomy.Structure.plausible`, also at end-diastole and
    for the largest volume of an atrium; all others are in ``norms.json``.
    """
    limits = _limits().get((measure.structure, measure.quantity))
    if limits is None or measure.value is None or limits.low <= measure.value <= limits.high:
        return None
    return limits


_SIZES = {"mL": ("volume", "edv", "max_volume"), "g": ("mass", "mass_ed"), "mm diameter": ("diameter",)}
"""Unit of :attr:`~heartseg.anatomy.Structure.plausible` -> quantities to which it applies."""


@lru_cache(maxsize=1)
def _limits() -> dict[tuple[str, str], Limits]:
    sizes = (
        Limits(s.key, q, *s.plausible, s.plausible_unit.split()[0])
        for s in STRUCTURES
        for q in _SIZES[s.plausible_unit]
    )
    return {(entry.structure, entry.quantity): entry for entry in (*sizes, *load_norms()[1])}
