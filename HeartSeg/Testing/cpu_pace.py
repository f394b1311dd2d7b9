"""Time limits that hold on any CPU: in units of a fixed amount of work on the same core."""

from __future__ import annotations

import time

REFERENCE_S = 0.055
"""Processor seconds of :func:`_work` on the core on which the limits in milliseconds were set (Xeon, 2.7 GHz)."""


def slowness() -> float:
    """How many times slower than the reference this core is at present, at least 1."""
    return max(1.0, min(_work() for _ in range(3)) / REFERENCE_S)


def _work() -> float:
    start = time.process_time()
    sum(i * i for i in range(1_000_000))
    return time.process_time() - start
