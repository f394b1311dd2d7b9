"""What is unusual in a cohort: values far from those of the other cases, implausible values, values out of norm.

Decides from the cases alone. Outliers follow Iglewicz and Hoaglin, How to detect and handle outliers, ASQC 1993: the
modified z-score, 0.6745 times the distance from the median over the median absolute deviation, above 3.5.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..anatomy import KEYS
from ..findings import Severity
from ..measure import Comparison, implausible
from ..measure.norms import Circumstances, Norm, compare, load_norms
from ..result import Measure
from .cases import DONE, FAILED, NO_HEART, CohortCase, is_cut_off

LEAST_CASES = 10
"""With fewer values there are no outliers: the spread is not known."""
OUTLIER = 3.5
"""Modified z-score beyond which a value is an outlier."""
KINDS = ("error", "implausible", "outlier", "warning", "norm")
"""Kinds of findings and remarks that order the cases, the worst first."""
_CONSISTENT = 0.6745


@dataclass(frozen=True, order=True)
class Name:
    """What a distribution is of: values of scans of other modalities are not comparable."""

    structure: str
    quantity: str
    unit: str
    modality: str


@dataclass(frozen=True)
class Distribution:
    """The values of one measure in a cohort.

    Attributes:
        name: of the measure and the modality.
        values: sorted; structures that the scan cuts off do not count.
        median, spread: median, and median absolute deviation.
        norms: reference ranges of the measure, for all sexes and phases.
    """

    name: Name
    values: tuple[float, ...]
    median: float
    spread: float
    norms: tuple[Norm, ...]

    def score(self, value: float) -> float:
        """Return the modified z-score; 0 if it is not known."""
        if len(self.values) < LEAST_CASES or self.spread == 0:
            return 0.0
        return _CONSISTENT * (value - self.median) / self.spread

    def is_outlier(self, value: float) -> bool:
        """Whether a value is far from those of the other cases."""
        return abs(self.score(value)) > OUTLIER

    def at_score(self, score: float) -> float:
        """Return the value with a modified z-score."""
        return self.median + score * self.spread / _CONSISTENT

    def quantile(self, share: float) -> float:
        """Return a quantile, with linear interpolation."""
        at = share * (len(self.values) - 1)
        low = int(at)
        high = min(low + 1, len(self.values) - 1)
        return self.values[low] + (at - low) * (self.values[high] - self.values[low])


@dataclass(frozen=True)
class Remark:
    """Something unusual about one value.

    Attributes:
        measure: the value.
        kind: ``"implausible"``, ``"outlier"`` or ``"norm"``.
        text: for people.
    """

    measure: Measure
    kind: str
    text: str


@dataclass(frozen=True)
class JudgedCase:
    """A case with what is unusual about it."""

    case: CohortCase
    remarks: tuple[Remark, ...] = ()

    def count(self, kind: str) -> int:
        """Number of remarks of a kind, or of findings of a severity."""
        return sum(r.kind == kind for r in self.remarks) + sum(f.severity.value == kind for f in self.case.findings)

    @property
    def badness(self) -> tuple[int, ...]:
        """The larger, the sooner to look at: no result, no heart, errors, implausible values, outliers, warnings."""
        status = {FAILED: 2, NO_HEART: 1, DONE: 0}[self.case.status]
        return status, *(self.count(kind) for kind in KINDS)


@dataclass(frozen=True)
class Cohort:
    """Cases, worst first, and the distributions of their measures."""

    cases: tuple[JudgedCase, ...]
    distributions: dict[Name, Distribution]

    def statuses(self) -> Counter[str]:
        """Status -> number of cases."""
        return Counter(judged.case.status for judged in self.cases)

    def codes(self) -> list[tuple[Severity, str, int]]:
        """Severity, code and number of cases of each finding; most serious first, then most frequent."""
        found: Counter[tuple[Severity, str]] = Counter()
        for judged in self.cases:
            found.update({(f.severity, f.code) for f in judged.case.findings})
        ranked = sorted(found.items(), key=lambda item: (-item[0][0].rank, -item[1], item[0][1]))
        return [(severity, code, count) for (severity, code), count in ranked]


def judge(cases: Sequence[CohortCase], phase: str = "") -> Cohort:
    """Judge the cases of a cohort.

    Args:
        cases: all cases.
        phase: ``"diastole"`` if all scans show it, so that ranges for it apply.
    """
    found = distributions(cases)
    judged = [JudgedCase(case, tuple(_remarks(case, found, phase))) for case in cases]
    judged.sort(key=lambda j: (tuple(-n for n in j.badness), j.case.name))
    return Cohort(tuple(judged), found)


def name_in(case: CohortCase, measure: Measure) -> Name:
    """Return the distribution that a value belongs to."""
    return Name(measure.structure, measure.quantity, measure.unit, case.scan.modality)


def distributions(cases: Sequence[CohortCase]) -> dict[Name, Distribution]:
    """Return the distributions of all measures, in the order of structures."""
    values: dict[Name, list[float]] = defaultdict(list)
    for case in cases:
        for m in case.measures:
            if m.value is not None and not is_cut_off(m):
                values[name_in(case, m)].append(m.value)
    found = {}
    for name in sorted(values, key=lambda n: (KEYS.index(n.structure), n.modality)):
        numbers = tuple(sorted(values[name]))
        median = statistics.median(numbers)
        spread = statistics.median(abs(v - median) for v in numbers)
        norms = tuple(
            norm
            for norm in load_norms()[0]
            if (norm.structure, norm.quantity, norm.modality) == (name.structure, name.quantity, name.modality)
        )
        found[name] = Distribution(name, numbers, median, spread, norms)
    return found


def _remarks(case: CohortCase, found: dict[Name, Distribution], phase: str) -> list[Remark]:
    circumstances = Circumstances(case.scan.modality, phase, case.scan.patient.sex)
    remarks = []
    for m in case.measures:
        if m.value is None or is_cut_off(m):
            continue
        distribution = found[name_in(case, m)]
        compared = compare(m, circumstances)
        if limits := implausible(m):
            text = f"implausible: limits {limits.low:g} to {limits.high:g} {limits.unit}".strip()
            remarks.append(Remark(m, "implausible", text))
        if distribution.is_outlier(m.value):
            remarks.append(Remark(m, "outlier", f"outlier: modified z-score {distribution.score(m.value):+.1f}"))
        if isinstance(compared, Comparison) and compared.position != "within":
            remarks.append(Remark(m, "norm", f"{compared.position} the range {compared.norm.text}"))
    return remarks
