"""Findings: observations about a scan, a model, a machine or a result, each with a code, a severity and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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


FEWEST_TO_MERGE = 3
"""Structures with the same finding from which :func:`merged_findings` says it once."""


def merged_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings for a reader, most serious first: what holds for three or more structures is said once."""
    ranked = sorted_findings(findings)
    merged: list[Finding] = []
    for finding in ranked:
        alike = [f for f in ranked if (f.code, f.severity) == (finding.code, finding.severity) and f.structure]
        if finding.code not in _OF_SEVERAL or len(alike) < FEWEST_TO_MERGE or finding not in alike:
            merged.append(finding)
        elif finding is alike[0]:
            values = {str(f.structure): f.values for f in alike}
            merged.append(replace(finding, message=_OF_SEVERAL[finding.code](values), structure=None, values=values))
    return tuple(merged)


def _cut_several(values: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [
        _("{structure} ({sides})").format(structure=key, sides=listed([SIDE_NAMES[side] for side in v["sides"]]))
        for key, v in values.items()
    ]
    return _(
        "{count} structures reach borders of the scan, so that parts of them may be outside and measures too small: "
        "{listed}"
    ).format(count=len(values), listed=parts)


def _doubtful_several(values: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [
        _("{structure} {expected:.2f} (usual: over {limit:.2f})").format(
            structure=key, expected=v["expected_dice"], limit=v["limit"]
        )
        for key, v in values.items()
    ]
    return _(
        "the network is unsure of {count} structures: by its own probabilities, the labels have a Dice of {listed}, "
        "and the true one is lower; check them slice by slice, and mend them with marks or leave them out"
    ).format(count=len(values), listed=parts)


_OF_SEVERAL = {"cut-by-border": _cut_several, "structure-doubtful": _doubtful_several}


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
