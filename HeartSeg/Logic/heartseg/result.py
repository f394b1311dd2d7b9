"""What a run gives back: labels on the input's grid, measures, findings, and how they came about.

:meth:`Result.to_dict` and :meth:`Result.from_dict` are the only way between a result and the report's JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .anatomy import STRUCTURES, Structure
from .findings import Finding, Severity, worst_severity
from .provenance import NOTICE, Provenance
from .quantities import quantity
from .volume.geometry import Geometry
from .wording import joined

SCHEMA_NAME, SCHEMA_VERSION = "heartseg-report", 2
"""The version rises when a field changes its meaning or is removed; new fields do not raise it."""
REMOVALS_LISTED = 100
"""Pieces that a report lists at most, largest first: a model that scatters specks must not fill megabytes."""


@dataclass(frozen=True)
class Measure:
    """One number about one structure.

    Attributes:
        structure: key, e.g. ``"LV"``.
        quantity: key of what was measured, see :mod:`heartseg.quantities`.
        value: the number, or ``None`` where it cannot be measured (the structure is missing).
        unit: ``mL``, ``g``, ``mm``, ``HU`` or ``""`` (MR intensity has none).
        note: how to read it, when that is not obvious.
        low, high: 90 % interval from the uncertainty of the borders (:mod:`heartseg.measure.uncertainty`), in the unit
            of the value; ``None`` if it is not known.
    """

    structure: str
    quantity: str
    value: float | None
    unit: str
    note: str = ""
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary, with the codes of :mod:`heartseg.quantities`."""
        known = quantity(self.structure, self.quantity)
        code, site = (None, None) if known is None else (known.code, known.site)
        coded = {"code": code and asdict(code), "site": site and asdict(site)}
        return {**asdict(self), **coded}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Measure:
        """The inverse of :meth:`to_dict`; codes are not read, because they follow from the keys.

        Raises:
            TypeError, AttributeError: the dictionary is no measure.
        """
        return cls(**{k: v for k, v in content.items() if k not in ("code", "site")})


@dataclass(frozen=True)
class Removal:
    """A piece that clean-up took away.

    Attributes:
        structure: key of the structure it was labelled as.
        voxels, volume_ml: its size.
        center_lps: world position of its centroid, mm.
        reason: why, as a phrase, e.g. ``"separate piece, 3 % of the largest"``.
    """

    structure: str
    voxels: int
    volume_ml: float
    center_lps: tuple[float, float, float]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of one run.

    Attributes:
        labels: uint8 ``(z, y, x)`` on the input's grid; 0 background, else :data:`heartseg.anatomy.STRUCTURES` labels.
        geometry: the input's grid.
        structures: the structures that were asked for and that the model knows (present in ``labels`` or not).
        findings: from reading, prediction, clean-up and checks, most serious first.
        measures: per structure.
        removals: what clean-up took away.
        provenance: input, model, settings, run and versions.
        confidence_map: uint8 percent ``(z, y, x)``: probability of the label that the network chose, before clean-up;
            0 in background far from the heart. ``None`` unless the setting ``confidence_map`` asks for it.
    """

    labels: np.ndarray = field(repr=False)
    geometry: Geometry
    structures: tuple[Structure, ...] = STRUCTURES
    findings: tuple[Finding, ...] = ()
    measures: tuple[Measure, ...] = ()
    removals: tuple[Removal, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    confidence_map: np.ndarray | None = field(default=None, repr=False)

    @property
    def heart_found(self) -> bool:
        """False if the run ended with the finding ``no-heart``."""
        return all(f.code != "no-heart" for f in self.findings)

    @property
    def worst(self) -> Severity | None:
        """The most serious severity among the findings."""
        return worst_severity(self.findings)

    def mask(self, key: str) -> np.ndarray:
        """Boolean ``(z, y, x)`` mask of the structure with this key."""
        label = next(s.label for s in STRUCTURES if s.key == key.upper())
        return self.labels == label

    def measure(self, structure: str, quantity: str) -> float | None:
        """The value of one measure, or ``None`` if it was not taken."""
        for m in self.measures:
            if m.structure == structure.upper() and m.quantity == quantity:
                return m.value
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of everything but labels and confidence map.

        Lengths in mm, volumes in mL, world coordinates LPS, ``geometry`` in x, y, z order. Numbers that JSON does not
        know (infinite, NaN) become ``None``.
        """
        geometry = self.geometry
        return json_ready(
            {
                "schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION},
                "use": NOTICE,
                "heart_found": self.heart_found,
                "worst": self.worst.value if self.worst else None,
                "geometry": {
                    "size": geometry.size,
                    "spacing_mm": geometry.spacing,
                    "origin_lps_mm": geometry.origin,
                    "direction": geometry.direction,
                    "orientation": geometry.orientation,
                },
                "structures": [
                    {"label": s.label, "key": s.key, "name": s.name, "snomed_code": s.snomed_code, "color": s.color}
                    for s in self.structures
                ],
                "findings": [f.to_dict() for f in self.findings],
                "measures": [m.to_dict() for m in self.measures],
                "removals": [r.to_dict() for r in self.removals[:REMOVALS_LISTED]],
                "removals_not_listed": max(0, len(self.removals) - REMOVALS_LISTED),
                "provenance": self.provenance.to_dict(),
            }
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], labels: np.ndarray, geometry: Geometry) -> Result:
        """The inverse of :meth:`to_dict`; reports of schema 1 can be read too.

        Args:
            content: a report.
            labels: uint8 ``(z, y, x)`` of its label map.
            geometry: the label map's grid.

        Raises:
            KeyError, TypeError, ValueError: the dictionary is no report, or a newer schema.
        """
        version = content.get("schema", {}).get("version", 1)
        if version > SCHEMA_VERSION:
            raise ValueError(f"schema {version}, this version reads up to {SCHEMA_VERSION}")
        keys = {entry["key"] for entry in content["structures"]}
        return cls(
            labels,
            geometry,
            tuple(s for s in STRUCTURES if s.key in keys),
            tuple(Finding.from_dict(f) for f in content["findings"]),
            tuple(Measure.from_dict(m) for m in content["measures"]),
            tuple(Removal(**{**r, "center_lps": tuple(r["center_lps"])}) for r in content["removals"]),
            Provenance.from_dict(content["provenance"]),
        )


def joined_notes(*notes: str) -> str:
    """The notes that are not empty, in one line."""
    return joined("; ", [note for note in notes if note])


def json_ready(value: Any) -> Any:
    """The value with plain Python types only; numbers that JSON does not know become ``None``."""
    if isinstance(value, Mapping):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_ready(v) for v in value]
    if isinstance(value, np.ndarray):
        return json_ready(value.tolist())
    if isinstance(value, np.generic):
        return json_ready(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int | bool):
        return value
    text = value.value if isinstance(value, Severity) else str(value)
    encodable = text.encode("utf-8", "backslashreplace").decode()  # file names may hold bytes that are no text
    return text if text == encodable else encodable  # a wording remains one
