"""Implausible shapes: features of each structure, compared with their range in correct label maps.

The ranges (``shapes.json``) are those of hearts of the shape model and of synthetic hearts, many of them beating and
diseased. A feature whose value lies outside by more than :data:`MARGIN` of the range is reported. Structures that the
border of the scan cuts are not compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from ..anatomy import STRUCTURES, structure
from ..findings import Finding, Severity
from ..measure.boxes import LabelCrop
from ..measure.grid import HeartGrid, grid_of_crop
from ..measure.uncertainty import FACES_PER_AREA
from ..measure.wall import COARSE_VOXEL_MM
from ..wording import _

MARGIN = 0.5
"""Distance from the range, relative to its width, from which a shape is reported."""
FACE_MM = 2.0
"""Thickness of the layer at the end of a structure in which a flat side is searched."""

_CUT_BY_DEFINITION = ("AO", "PA")
"""Arteries whose labels end at a plane, at a distance that depends on the protocol."""
_BALL = 36 * math.pi
_TEXTS = {
    "share": _("its volume is {value:.2f} of that of all chambers (hearts: {low:.2f} to {high:.2f})"),
    "elongation": _("it is {value:.1f} times as long as wide (hearts: {low:.1f} to {high:.1f})"),
    "flatness": _("it is {value:.1f} times as wide as thick (hearts: {low:.1f} to {high:.1f})"),
    "compactness": _(
        "its surface is ragged: {value:.1f} of the least for its volume (hearts: {low:.1f} to {high:.1f})"
    ),
    "flat_side": _(
        "it ends in a flat side of {value:.2f} of its largest cross-section (hearts: {low:.2f} to {high:.2f})"
    ),
    "below": _("it reaches {value:.0f} mm below the left ventricle (hearts: {low:.0f} to {high:.0f} mm)"),
}
"""Feature -> phrase with its value and range."""
_LOGARITHMIC = ("share", "elongation", "flatness", "compactness")


@dataclass(frozen=True)
class Range:
    """Range of a feature in correct label maps, and the number of them."""

    low: float
    high: float
    n: int

    def excess(self, value: float, logarithmic: bool) -> float:
        """Return how far a value is outside, relative to the width of the range; 0 if it is inside."""
        low, high, at = (math.log(max(v, 1e-6)) if logarithmic else v for v in (self.low, self.high, value))
        return max(0.0, (at - high) / (high - low), (low - at) / (high - low))


@lru_cache(maxsize=1)
def load_ranges() -> dict[tuple[str, str], Range]:
    """Return the ranges by structure and feature."""
    content = json.loads(resources.files(__package__).joinpath("shapes.json").read_text(encoding="utf-8"))
    return {(r["structure"], r["feature"]): Range(r["low"], r["high"], r["n"]) for r in content["ranges"]}


def check_shapes(crop: LabelCrop) -> list[Finding]:
    """Return a finding ``shape-implausible`` for each structure with a feature outside its range."""
    findings = []
    if max(crop.geometry.spacing) > COARSE_VOXEL_MM:  # the last slice may hold a large part of a structure
        return []
    for key, features in shape_features(grid_of_crop(crop)).items():
        if key in crop.border_contacts:
            continue
        ranges = {name: load_ranges().get((key, name)) for name in features}
        excess = {
            name: known.excess(features[name], name in _LOGARITHMIC)
            for name, known in ranges.items()
            if known is not None
        }
        worst = max(excess, key=lambda name: excess[name], default=None)
        known = ranges[worst] if worst is not None else None
        if worst is None or known is None or excess[worst] <= MARGIN:
            continue
        value = features[worst]
        said = _TEXTS[worst].format(value=value, low=known.low, high=known.high)
        values = {"feature": worst, "value": value, "low": known.low, "high": known.high, "excess": excess[worst]}
        text = _("The shape of the {structure} is implausible: {said}.").format(
            structure=structure(key).name, said=said
        )
        findings.append(Finding("shape-implausible", Severity.WARNING, text, key, values))
    return findings


def shape_features(grid: HeartGrid) -> dict[str, dict[str, float]]:
    """Return structure key -> feature -> value, for the structures of at least 1 mL.

    Features: ``share`` (volume relative to all chambers), ``elongation`` and ``flatness`` (ratios of the principal
    extents), ``compactness`` (surface relative to that of a ball, for the volume, to the power 3/2), ``flat_side``
    (largest cross-section at an end of the structure, relative to the largest of all), ``below`` (RV
    only: distance that it reaches below myocardium and left ventricle, mm).
    """
    spacing = np.asarray(grid.geometry.spacing)[::-1]
    present = {s.key: grid.labels[grid.boxes[s.label]] == s.label for s in STRUCTURES if grid.has(s.key)}
    volumes = {key: float(np.count_nonzero(mask) * spacing.prod()) for key, mask in present.items()}
    chambers = sum(volumes.get(key, 0.0) for key in ("LV", "RV", "LA", "RA"))
    found = {key: _features(mask, spacing) for key, mask in present.items()}
    for key, features in found.items():
        if key in _CUT_BY_DEFINITION:
            for name in ("flat_side", "elongation", "flatness"):
                del features[name]
        features["compactness"] *= 1 / (volumes[key] * math.sqrt(_BALL))
        if chambers > 0:
            features["share"] = volumes[key] / chambers
    left = [key for key in ("LV", "MYO") if key in present]
    if "RV" in present and left:
        low = {key: float(grid.points(key)[:, 2].min()) for key in ("RV", *left)}
        found["RV"]["below"] = min(low[key] for key in left) - low["RV"]
    return found


def _features(mask: np.ndarray, spacing: np.ndarray) -> dict[str, float]:
    """Return the features of one mask; ``compactness`` still lacks the volume."""
    planes = {(0, 1): mask.sum(axis=2), (0, 2): mask.sum(axis=1), (1, 2): mask.sum(axis=0)}
    profiles = planes[0, 1].sum(axis=1), planes[0, 1].sum(axis=0), planes[0, 2].sum(axis=0)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(_covariance(planes, profiles, spacing)), 1e-6))
    padded = np.pad(mask, 1).view(np.int8)
    area, ends = 0.0, []
    for axis, profile in enumerate(profiles):
        area += float(np.count_nonzero(np.diff(padded, axis=axis)) * spacing.prod() / spacing[axis])
        depth = max(1, round(FACE_MM / spacing[axis]))
        ends += [profile[:depth].mean() / profile.max(), profile[-depth:].mean() / profile.max()]
    return {
        "elongation": float(spread[2] / spread[1]),
        "flatness": float(spread[1] / spread[0]),
        "compactness": (area / FACES_PER_AREA) ** 1.5,
        "flat_side": float(max(ends)),
    }


def _covariance(
    planes: Mapping[tuple[int, int], np.ndarray], profiles: Sequence[np.ndarray], spacing: np.ndarray
) -> np.ndarray:
    """Return the covariance ``(3, 3)`` of the positions of voxels, mm², from their counts along one and two axes."""
    count = profiles[0].sum()
    at = [np.arange(len(p)) * s for p, s in zip(profiles, spacing, strict=True)]
    at = [a - (p @ a) / count for a, p in zip(at, profiles, strict=True)]
    moments = np.diag([float(p @ a**2) for a, p in zip(at, profiles, strict=True)])
    for (i, j), plane in planes.items():
        moments[i, j] = moments[j, i] = at[i] @ plane @ at[j]
    return np.asarray(moments / max(1, count - 1))


def ranges_of(maps: Mapping[str, tuple[HeartGrid, frozenset[str]]]) -> list[dict[str, object]]:
    """Return the content of ``shapes.json`` from correct label maps: name -> grid, structures that are cut off."""
    values: dict[tuple[str, str], list[float]] = {}
    for grid, cut in maps.values():
        for key, features in shape_features(grid).items():
            for name, value in features.items():
                if key not in cut:
                    values.setdefault((key, name), []).append(value)
    flat = [v for (_, name), found in values.items() for v in found if name == "flat_side"]
    for key, name in values:
        if name == "flat_side":  # one range for all: on the diaphragm, a ventricle is as flat as a cut one
            values[key, name] = flat
    return [
        {"structure": key, "feature": name, "low": round(min(v), 4), "high": round(max(v), 4), "n": len(v)}
        for (key, name), v in sorted(values.items())
    ]
