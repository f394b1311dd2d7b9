"""Findings: what HeartSeg noticed about a scan or a result, each with a code, a severity and a sentence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


class Severity(str, Enum):
    """How much a finding matters: ``info`` (for the record), ``warning`` (look here), ``error`` (do not use as is)."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One observation.

    Attributes:
        code: stable identifier in kebab case, e.g. ``"structure-missing"``; programs test for it.
        severity: see :class:`Severity`.
        message: one sentence for a person, with the numbers and units that led to it; a capital and a full stop are
            added where they lack.
        structure: key of the structure it is about (``"LV"``), or ``None`` for the whole scan.
        values: the numbers behind the sentence, JSON-ready, units in the key names (``volume_ml``).
    """

    code: str
    severity: Severity
    message: str
    structure: str | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", as_sentence(self.message))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return {**asdict(self), "severity": self.severity.value}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Finding:
        """The finding that :meth:`to_dict` wrote; ``KeyError``, ``TypeError`` or ``ValueError`` if it did not."""
        return cls(**{**content, "severity": Severity(content["severity"])})


def as_sentence(text: str) -> str:
    """The text with a capital and a full stop where they lack."""
    sentence = text[:1].upper() + text[1:]
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
