"""CPU speed relative to a reference, for time limits that are independent of the CPU and of other programs."""

from __future__ import annotations

import time

REFERENCE_S = 5.5e-8
"""CPU time of a step of :func:`_work` on the core for which the limits were set (Xeon, 2.7 GHz), s."""


def slowness(steps: int = 1_000_000, repeats: int = 3) -> float:
    """Current slowdown of this core relative to the reference, at least 1."""
    return max(1.0, min(_work(steps) for _ in range(repeats)) / REFERENCE_S)


def _work(steps: int) -> float:
    """CPU time of this thread per step, s."""
    start = time.thread_time()
    sum(i * i for i in range(steps))
    return (time.thread_time() - start) / steps
