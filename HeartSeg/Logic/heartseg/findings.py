"""Findings: observations about a scan, a model, a machine or a result, each with a code, a severity and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from .wording import _, as_sentence, listed


class Severity(str, Enum):
    """How much a finding matters: ``info`` (for the record), ``warning`` (look here), ``error`` (do not use as is)."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for ``info``, 1 for ``warning``, 2 for ``error``."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Finding:
    """One observation.

    Attributes:
        code: stable identifier in kebab case, e.g. ``"structure-missing"``; programs test for it.
        severity: see :class:`Severity`.
        message: one sentence for a person, with the numbers and units that led to it; a
            :class:`~heartseg.wording.Wording` can be translated. A missing capital or full stop is added. It names no
            file, no series description and no person, so that it stays in anonymised results;
            :class:`~heartseg.volume.types.ReadingReport` holds such names.
        structure: key of the structure concerned (``"LV"``), or ``None`` for the whole scan.
        values: the numbers behind the sentence, JSON-ready, with units in the key names (``volume_ml``).
        fix: key of a remedy that one step applies (:data:`heartseg.preflight.FIXES`), or ``""``.
    """

    code: str
    severity: Severity
    message: str
    structure: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    fix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", as_sentence(self.message))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return {**asdict(self), "severity": self.severity.value}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Finding:
        """The inverse of :meth:`to_dict`; ``KeyError``, ``TypeError`` or ``ValueError`` for any other dictionary."""
        return cls(**{**content, "severity": Severity(content["severity"])})


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, most serious first; findings of equal severity keep their order."""
    return tuple(sorted(findings, key=lambda f: -f.severity.rank))


def worst_severity(findings: Iterable[Finding]) -> Severity | None:
    """The most serious severity among the findings; ``None`` without findings."""
    return max((f.severity for f in findings), key=lambda s: s.rank, default=None)


SIDE_NAMES = {
    "left": _("left"),
    "right": _("right"),
    "anterior": _("anterior"),
    "posterior": _("posterior"),
    "inferior": _("inferior"),
    "superior": _("superior"),
}
"""Side of the patient -> its name."""


def borders_text(sides: Sequence[str]) -> str:
    """Name the borders of a scan, such as ``"right, left and superior borders"``; at least one."""
    named = listed([SIDE_NAMES[side] for side in sides])
    return (_("{sides} borders") if len(sides) > 1 else _("{sides} border")).format(sides=named)
