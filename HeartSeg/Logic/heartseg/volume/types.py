"""A scan in memory: an array with its geometry, name and source."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..findings import Finding
from .geometry import Geometry
from .patient import Patient
from .values import ValueScale, value_scale

ANONYMOUS = "scan"
"""Name of a scan whose results must not identify the patient."""


@dataclass(frozen=True)
class ReadingReport:
    """How a DICOM series was read: what was used, split, joined, omitted and resampled, and why.

    Attributes:
        taken: series, number of images and grid.
        phase: phase of the heart or time point; empty if unknown.
        phase_known_from: DICOM attribute that determined the phase.
        split: attribute that separated it from other scans with the same series UID; empty if there are no others.
        joined: keys of the joined series.
        left_out: omitted series, files and objects, each with the reason.
        resampled: how slices that do not form an even grid were resampled; empty if they were not.
    """

    taken: str
    phase: str = ""
    phase_known_from: str = ""
    split: str = ""
    joined: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    resampled: str = ""


@dataclass(frozen=True)
class Source:
    """Source of a volume, for the report.

    Attributes:
        path: file or folder as given by the user; empty for a volume created in memory.
        sha256: hash of the bytes of the file, or of the files of a series in slice order; empty for a volume made in
            memory.
        series_uid: DICOM series instance UID of a series.
        frame: index of the frame of a time series.
        frames: number of frames of the scan; ``None`` if unknown.
        cardiac_cycle: whether DICOM says that the frames cover one cardiac cycle.
        patient: sex, body size and heart rate, if DICOM states them.
        phase: phase of the heart of that frame, if the file states it.
        reading: how a DICOM series was read.
        spacing_given: whether the user gave the voxel size, because the files state none.
        anonymize: whether results must not identify the patient: no path, no name, no reading report, no DICOM patient
            attributes.
    """

    path: str = ""
    sha256: str = ""
    series_uid: str = ""
    frame: int | None = None
    phase: str = ""
    reading: ReadingReport | None = None
    anonymize: bool = False
    frames: int | None = None
    cardiac_cycle: bool = False
    patient: Patient = field(default_factory=Patient)
    spacing_given: bool = False


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar 3D scan.

    Attributes:
        array: ``(z, y, x)``, any real dtype, finite, stored axes as in the file.
        geometry: its grid, world LPS.
        name: short name for messages and output folders.
        modality: ``"CT"``, ``"MR"`` or ``""`` if the file does not state it.
        source: source of the volume.
        findings: findings from reading (replaced NaN, thick slices, ...).
    """

    array: np.ndarray = field(repr=False)
    geometry: Geometry
    name: str = "volume"
    modality: str = ""
    source: Source = field(default_factory=Source)
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != tuple(self.geometry.shape):
            raise ValueError(f"array shape {self.array.shape} differs from the geometry's {self.geometry.shape}")

    @cached_property
    def value_scale(self) -> ValueScale:
        """The scale of the grey values; see :func:`~heartseg.volume.values.value_scale`."""
        return value_scale(self.array, self.modality)

    def anonymized(self) -> Volume:
        """Return a copy (sharing the array) whose results identify neither the patient nor the files of the scan.

        The path stays, because a DICOM SEG is made from its files; results omit it. Findings name neither files nor
        series descriptions (see :class:`~heartseg.findings.Finding`) and stay as they are.
        """
        return replace(self, name=ANONYMOUS, source=replace(self.source, reading=None, anonymize=True))

    def with_findings(self, *more: Finding) -> Volume:
        """Return a copy (sharing the array) with further findings, without duplicates."""
        return replace(self, findings=self.findings + tuple(f for f in more if f not in self.findings))


def blank_volume(geometry: Geometry, name: str = "volume") -> Volume:
    """Return a volume of zeros, which takes no memory, in place of a scan that is not available."""
    # Modality MR, so that the zeros are not interpreted as Hounsfield units.
    return Volume(np.broadcast_to(np.int16(0), geometry.shape), geometry, name, "MR")
