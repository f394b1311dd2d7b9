"""Three numbers with the type of three numbers."""

from __future__ import annotations

from collections.abc import Iterable


def triple(values: Iterable[float]) -> tuple[float, float, float]:
    """Return three numbers as floats: a spacing, a point or an origin."""
    a, b, c = (float(value) for value in values)
    return a, b, c
