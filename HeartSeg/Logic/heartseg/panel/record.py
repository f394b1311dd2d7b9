"""Record of a run stored with its segmentation node, so that a scene loaded later can show and compare it.

Texts are stored as literals and values, so that a scene shows them in the language of the application that opens it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from ..findings import Finding
from ..provenance import Provenance
from ..result import Measure, Result
from ..wording import read_wordings, with_wordings

ATTRIBUTE = "HeartSeg.Run"
"""Attribute of the segmentation node that contains the record as JSON."""


@dataclass(frozen=True)
class RunRecord:
    """Measures, findings and provenance of a run, without its labels.

    Attributes:
        scan: name of the scan.
        measures, findings, provenance: see :class:`~heartseg.result.Result`.
        edited: whether the segments were measured again after edits.
    """

    scan: str
    measures: tuple[Measure, ...] = ()
    findings: tuple[Finding, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    edited: bool = False

    @classmethod
    def of(cls, result: Result, scan: str) -> RunRecord:
        """Make the record of a result."""
        return cls(scan, result.measures, result.findings, result.provenance)

    def measured_again(self, measures: tuple[Measure, ...], findings: tuple[Finding, ...]) -> RunRecord:
        """Return the record with new measures and findings, marked as edited."""
        return replace(self, measures=measures, findings=findings, edited=True)

    def value(self, structure: str, quantity: str) -> float | None:
        """Return the value of a measure, or ``None``."""
        found = (m.value for m in self.measures if m.structure == structure and m.quantity == quantity)
        return next(found, None)

    def to_json(self) -> str:
        content = {
            "scan": self.scan,
            "measures": [m.to_dict() for m in self.measures],
            "findings": [f.to_dict() for f in self.findings],
            "provenance": self.provenance.to_dict(),
            "edited": self.edited,
        }
        return json.dumps(with_wordings(content), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> RunRecord | None:
        """Parse the record from the text of an attribute; ``None`` if it is invalid (another version, or damaged)."""
        try:
            content = read_wordings(json.loads(text))
            findings = [Finding.from_dict(f) for f in content["findings"]]
            measures = [Measure.from_dict(m) for m in content["measures"]]
            provenance = Provenance.from_dict(content["provenance"])
            return cls(str(content["scan"]), tuple(measures), tuple(findings), provenance, content["edited"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def write_record(segmentation_node: Any, record: RunRecord) -> None:
    """Store the record with the node."""
    segmentation_node.SetAttribute(ATTRIBUTE, record.to_json())


def read_record(segmentation_node: Any) -> RunRecord | None:
    """Return the record stored with a segmentation node, or ``None``."""
    text = segmentation_node.GetAttribute(ATTRIBUTE) if segmentation_node is not None else None
    return RunRecord.from_json(text) if text else None
