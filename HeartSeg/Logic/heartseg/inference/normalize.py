"""Intensity normalisation schemes of nnU-Net v2, under their names in plans.

Each of them is: clip, subtract, divide. So a scheme is fitted on the voxels that count and applied to any others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_EPS = 1e-8


@dataclass(frozen=True)
class Scaling:
    """``(clip(x, low, high) - shift) / scale``."""

    low: float = -np.inf
    high: float = np.inf
    shift: float = 0.0
    scale: float = 1.0

    def apply(self, image: np.ndarray) -> np.ndarray:
        """float32 array of the same shape."""
        out = image.astype(np.float32)
        if np.isfinite(self.low) or np.isfinite(self.high):
            np.clip(out, self.low, self.high, out=out)
        out -= np.float32(self.shift)
        out /= np.float32(max(self.scale, _EPS))
        return out


def fit_clipped(scheme: str, values: np.ndarray, properties: dict[str, Any], upper_percentile: float) -> Scaling:
    """The scaling of a scheme for a scan whose grey values are first clipped at a percentile.

    Dense contrast medium, metal and bone otherwise set the scale of the soft tissue around them.

    Args:
        scheme, values, properties: see :func:`fit`.
        upper_percentile: of ``values``; 100 clips nothing.
    """
    if upper_percentile >= 100:
        return fit(scheme, values, properties)
    top = float(np.percentile(values, upper_percentile))
    scaling = fit(scheme, np.minimum(values, np.float32(top)), properties)
    return replace(scaling, high=min(scaling.high, top))


def fit(scheme: str, values: np.ndarray, properties: dict[str, Any]) -> Scaling:
    """The scaling of a scheme for a scan.

    Args:
        scheme: name of the scheme in the plans.
        values: the voxels over which statistics are taken, any shape.
        properties: the plans' intensity properties of this channel (only CT normalisation uses them).
    """
    if scheme == "ZScoreNormalization":
        exact = values.astype(np.float32, copy=False)
        return Scaling(shift=float(exact.mean()), scale=float(exact.std()))
    if scheme == "CTNormalization":
        p = properties
        return Scaling(p["percentile_00_5"], p["percentile_99_5"], p["mean"], p["std"])
    if scheme == "NoNormalization":
        return Scaling()
    if scheme == "RescaleTo01Normalization":
        return Scaling(shift=float(values.min()), scale=float(values.max()) - float(values.min()))
    if scheme == "RGBTo01Normalization":
        return Scaling(scale=255.0)
    raise KeyError(scheme)
