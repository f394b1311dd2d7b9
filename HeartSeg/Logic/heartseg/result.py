"""What a run gives back: labels on the input's grid, measures, findings, and how they came about."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .anatomy import STRUCTURES, Structure
from .findings import Finding, Severity
from .volume.geometry import Geometry


@dataclass(frozen=True)
class Measure:
    """One number about one structure.

    Attributes:
        structure: key, e.g. ``"LV"``.
        quantity: what was measured: ``volume``, ``mass``, ``diameter``, ``mean_intensity``, ``sd_intensity``,
            ``extent_x`` (patient left-right), ``extent_y`` (anterior-posterior), ``extent_z`` (inferior-superior).
        value: the number, or ``None`` where it cannot be measured (the structure is missing).
        unit: ``mL``, ``g``, ``mm``, ``HU`` or ``""`` (MR intensity has none).
        note: how to read it, when that is not obvious.
    """

    structure: str
    quantity: str
    value: float | None
    unit: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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
        provenance: JSON-ready: input hash, model and version, device, seconds per stage, package versions, settings.
        confidence_map: uint8 percent ``(z, y, x)``: probability of the label that the network chose, before clean-up;
            0 in background far from the heart. ``None`` unless the setting ``confidence_map`` asks for it.
    """

    labels: np.ndarray
    geometry: Geometry
    structures: tuple[Structure, ...] = STRUCTURES
    findings: tuple[Finding, ...] = ()
    measures: tuple[Measure, ...] = ()
    removals: tuple[Removal, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    confidence_map: np.ndarray | None = None

    @property
    def heart_found(self) -> bool:
        """False if the run ended with the finding ``no-heart``."""
        return all(f.code != "no-heart" for f in self.findings)

    @property
    def worst(self) -> Severity | None:
        """The most serious severity among the findings."""
        order = list(Severity)
        return max((f.severity for f in self.findings), key=order.index, default=None)

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
