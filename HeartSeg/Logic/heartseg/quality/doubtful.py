"""Numbers of structures that a finding doubts have no interval; their note names the finding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..findings import Finding, Severity
from ..measure.uncertainty import RATIOS
from ..result import Measure


def without_doubtful_intervals(measures: Iterable[Measure], findings: Iterable[Finding]) -> tuple[Measure, ...]:
    """Return the measures without the intervals of structures that have a warning or an error.

    An interval describes the accuracy of borders that were found. It says nothing about a structure that was confused
    with another one.
    """
    doubted: dict[str, str] = {}
    for f in findings:
        if f.severity is not Severity.INFO:
            for key in {f.structure, f.values.get("other")} - {None}:
                doubted.setdefault(str(key), f.code)
    done = []
    for m in measures:
        parts = RATIOS.get((m.structure, m.quantity), ())
        codes = [doubted[key] for key in (m.structure, *(key for key, _ in parts)) if key in doubted]
        if codes and m.low is not None:
            note = "; ".join(n for n in (m.note, f"no interval: {codes[0]}") if n)
            m = replace(m, low=None, high=None, note=note)
        done.append(m)
    return tuple(done)
