"""The report of a heart as one value: everything that a page, a PDF and a DICOM SR show, ready to be written.

A report holds no name, birth date or ID of a patient and no name or path of a scan, unless its title says so.
Built by :func:`heartseg.report.build.build_report`; writers compute nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..findings import Finding
from ..measure.norms import Norm
from ..volume.geometry import Geometry
from ..volume.patient import Patient

USE = "Research use only, not a medical device. Check the segmentation before you use these numbers."


@dataclass(frozen=True)
class Interval:
    """The 90 % interval of a measure, in its unit."""

    low: float
    high: float


@dataclass(frozen=True)
class Number:
    """One measure with everything that belongs beside it.

    Attributes:
        structure, quantity: as in :class:`~heartseg.result.Measure`.
        name: for people, e.g. ``"LV end-diastolic volume"``.
        value: ``None`` if it could not be measured; ``note`` has the reason.
        unit: as in :class:`~heartseg.result.Measure`.
        decimals: decimal places to show.
        interval: see :mod:`heartseg.measure.uncertainty`; ``None`` if it is not known.
        norm, position: reference range, and ``"below"``, ``"within"`` or ``"above"``; ``None`` and ``""`` without one.
        not_compared: why there is no comparison.
        limits: violated limits of plausibility; ``None`` if the value is plausible.
        note: how it was measured.
        findings: findings on its structure.
    """

    structure: str
    quantity: str
    name: str
    value: float | None
    unit: str
    decimals: int
    interval: Interval | None = None
    norm: Norm | None = None
    position: str = ""
    not_compared: str = ""
    limits: tuple[float, float] | None = None
    note: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def value_text(self) -> str:
        """The value without its unit; a dash if it is not known."""
        return "–" if self.value is None else f"{self.value:.{self.decimals}f}"

    @property
    def reason(self) -> str:
        """Why there is no value or no comparison, in one clause; ``note`` has the rest. Empty if there is none."""
        if self.value is None:
            return f"not measured: {(self.note or 'not found').partition(';')[0]}"
        if self.norm is not None or self.not_compared in ("", "no reference range"):
            return ""
        return f"not compared: {self.not_compared.partition(';')[0]}"

    @property
    def interval_text(self) -> str:
        """``"143 to 151"``, or empty."""
        if self.interval is None:
            return ""
        return f"{self.interval.low:.{self.decimals}f} to {self.interval.high:.{self.decimals}f}"


@dataclass(frozen=True)
class NumberGroup:
    """Numbers under one heading."""

    title: str
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Curve:
    """Volume of a structure over the frames of a time series, mL; ``None`` where it is not known.

    Attributes:
        structure: key.
        volumes_ml: one per frame.
        left_out: frames that do not fit their neighbours.
    """

    structure: str
    volumes_ml: tuple[float | None, ...]
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class Course:
    """Curves of a time series with the frames of end-diastole and end-systole, from 0."""

    curves: tuple[Curve, ...]
    end_diastole: int
    end_systole: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmentMap:
    """Values of the 17 AHA segments; quantity as in :mod:`heartseg.measure.bullseye`."""

    quantity: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Picture:
    """A plane through the scan with contours.

    Attributes:
        key: ``"axial"``, ``"four_chamber"``, ...
        title: for people.
        grey: uint8 ``(rows, columns)``, windowed.
        pixel_mm: size of a pixel.
        contours: structure key -> closed lines ``(n, 2)``, column and row, in pixels.
        names: structure key -> column and row of its name.
        letters: directions at the left, right, top and bottom; empty where a plane is oblique.
    """

    key: str
    title: str
    grey: np.ndarray
    pixel_mm: float
    contours: dict[str, tuple[np.ndarray, ...]]
    names: dict[str, tuple[float, float]]
    letters: tuple[str, str, str, str] = ("", "", "", "")


@dataclass(frozen=True, eq=False)
class Surface:
    """Surface of a structure for the interactive view: points float32 ``(n, 3)``, LPS, mm; triangles ``(m, 3)``."""

    structure: str
    points: np.ndarray
    triangles: np.ndarray


@dataclass(frozen=True, eq=False)
class Scene:
    """What the interactive viewer shows.

    Attributes:
        grey: uint8 ``(z, y, x)``, windowed, cropped around the heart; ``None`` without the scan.
        labels: uint8 on the same grid.
        geometry: their grid.
        surfaces: one per structure.
    """

    grey: np.ndarray | None
    labels: np.ndarray
    geometry: Geometry
    surfaces: tuple[Surface, ...]


@dataclass(frozen=True)
class StudyFacts:
    """The scan, without identity.

    Attributes:
        modality: ``"CT"``, ``"MR"`` or empty.
        phase: phase of the heart as text, ``"phase unknown"`` if it is not known.
        frames: frames of a time series; ``None`` for a single scan.
        grid: size, spacing and orientation as text.
        window: grey values shown black and white; ``None`` without the scan.
        sha256: of the scan.
    """

    modality: str
    phase: str
    frames: int | None
    grid: str
    window: tuple[float, float] | None
    sha256: str


@dataclass(frozen=True)
class Method:
    """How the numbers came about: rows of name and text, and remarks, one sentence each."""

    facts: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """A report.

    Attributes:
        title: heading; by default without the name of scan or patient.
        created: date of the segmentation, ISO 8601.
        patient: sex, body size, heart rate.
        study: the scan.
        key_numbers: the numbers to read first.
        groups: all numbers.
        course: curves of a time series.
        segment_maps: values for the bull's-eye plots.
        pictures: planes with contours.
        front: PNG of the surfaces from the front; empty if there is none.
        scene: for the interactive viewer.
        findings: all findings, most serious first.
        method: how the numbers came about.
        limits: what the numbers cannot tell, one sentence each.
        use: notice about the intended use.
    """

    title: str
    created: str
    patient: Patient
    study: StudyFacts
    key_numbers: tuple[Number, ...]
    groups: tuple[NumberGroup, ...]
    course: Course | None = None
    segment_maps: tuple[SegmentMap, ...] = ()
    pictures: tuple[Picture, ...] = ()
    front: bytes = b""
    scene: Scene | None = None
    findings: tuple[Finding, ...] = ()
    method: Method = field(default_factory=lambda: Method((), ()))
    limits: tuple[str, ...] = ()
    use: str = USE

    @property
    def numbers(self) -> tuple[Number, ...]:
        """All numbers, each once."""
        return tuple(n for group in self.groups for n in group.numbers)
