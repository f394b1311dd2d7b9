"""CPU speed relative to a reference, for time limits that are independent of the CPU."""

from __future__ import annotations

import time

REFERENCE_S = 0.055
"""CPU time of :func:`_work` on the core for which the limits were set (Xeon, 2.7 GHz), s."""


def slowness() -> float:
    """Current slowdown of this core relative to the reference, at least 1."""
    return max(1.0, min(_work() for _ in range(3)) / REFERENCE_S)


def _work() -> float:
    start = time.process_time()
    sum(i * i for i in range(1_000_000))
    return time.process_time() - start
