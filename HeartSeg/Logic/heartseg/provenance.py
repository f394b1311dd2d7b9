"""How a result came about: input, model, settings, run, versions; typed in memory, a dictionary in the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InputError
from .marks import Mark
from .volume.patient import Patient, stated_patient
from .volume.types import ReadingReport

if TYPE_CHECKING:
    from .volume.types import Volume

NOTICE = "Research software, not a medical device."

T = TypeVar("T")


@dataclass(frozen=True)
class InputFacts:
    """The scan.

    Attributes:
        name: for people.
        path: as the user gave it.
        sha256: of the file's bytes, or of a series' files in slice order.
        series_uid: DICOM series instance UID.
        frame: of a time series, from 0.
        frames: number of frames of the scan; ``None`` if unknown.
        cardiac_cycle: whether DICOM says that the frames cover one cardiac cycle.
        patient: sex, body size and heart rate, if DICOM states them.
        phase: which phase of the heart that is, where DICOM says so.
        reading: how a DICOM series was read; ``None`` for other files and anonymised results.
        modality: ``"CT"``, ``"MR"`` or ``""``.
        value_scale: see :class:`~heartseg.volume.values.ValueScale`.
        size_xyz: voxels.
        spacing_mm_xyz: mm.
        spacing_given: whether the user gave that voxel size, because the files state none.
        orientation: letters of the index axes, such as ``"LPS"``.
        anonymized: whether name, path and reading report are omitted, so that the result does not identify the patient.
    """

    name: str = ""
    path: str = ""
    sha256: str = ""
    series_uid: str = ""
    frame: int | None = None
    frames: int | None = None
    cardiac_cycle: bool = False
    patient: Patient = field(default_factory=Patient)
    phase: str = ""
    reading: ReadingReport | None = None
    modality: str = ""
    value_scale: str = ""
    size_xyz: tuple[int, ...] = ()
    spacing_mm_xyz: tuple[float, ...] = ()
    spacing_given: bool = False
    orientation: str = ""
    anonymized: bool = False

    def read_scan(self) -> Volume:
        """Read the scan again: the same series and frame, with the modality and voxel size that the user gave.

        Raises:
            InputError: the scan is not at :attr:`path` or cannot be read.
        """
        from .volume.reading import read_volume

        return read_volume(
            self.path,
            frame=self.frame,
            series=self.series_uid or None,
            modality=self.modality or None,
            spacing=self.spacing_mm_xyz if self.spacing_given else None,  # type: ignore[arg-type]
        )

    def describes(self, volume: Volume) -> bool:
        """Whether a scan has the recorded content; true if none was recorded."""
        return not self.sha256 or volume.source.sha256 == self.sha256


@dataclass(frozen=True)
class ModelFacts:
    """The model.

    Attributes:
        name, version, licence: as its card says; the folder's name without a card.
        path: of the folder.
        configuration: nnU-Net's name of it.
        checkpoints: path relative to the folder -> SHA-256.
        unmapped_labels: labels that mean no known structure.
    """

    name: str = ""
    version: str | None = None
    path: str = ""
    configuration: str = ""
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    unmapped_labels: tuple[str, ...] = ()
    licence: str | None = None

    @property
    def label(self) -> str:
        """Name and version in one string."""
        return " ".join(v for v in (self.name, self.version) if v)


@dataclass(frozen=True)
class RunFacts:
    """How the network was run.

    Attributes:
        mode: how the place was found, or which way the whole image was processed.
        device, precision, backend: where and how the arithmetic was done.
        accurate: whether averaging was asked for.
        windows, mirrored_copies: what was averaged.
        network_grid: voxels of the image in the network's axes, for a whole image.
        window_mm, window_center_lps: size and centre ``(x, y, z)`` of the window, mm.
        agreement: Dice of the coarse and the fine heart.
        consistency: Dice of two windows, where a second one was compared.
        mean_probability: of the structures in the first window.
        finder_grey_scale: exponent of the grey scale in which the finder saw the heart.
        no_heart: why no heart was found; empty if one was.
        window_spread: structure key -> standard deviation of its volume over the averaged windows, divided by its mean.
        structure_agreement: structure key -> Dice of the coarse and the fine network, at the coarse voxels.
        expected_dice: structure key -> Dice that its labels would have if the network's probabilities were right.
    """

    mode: str = ""
    device: str = ""
    precision: str = ""
    backend: str = ""
    accurate: bool = False
    windows: int = 1
    mirrored_copies: int = 1
    network_grid: tuple[int, ...] | None = None
    window_mm: tuple[float, ...] | None = None
    window_center_lps: tuple[float, ...] | None = None
    agreement: float | None = None
    consistency: float | None = None
    mean_probability: float | None = None
    finder_grey_scale: float | None = None
    no_heart: str = ""
    window_spread: dict[str, float] = field(default_factory=dict)
    structure_agreement: dict[str, float] = field(default_factory=dict)
    expected_dice: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mend:
    """Labels that were mended with marks.

    Attributes:
        created: ISO 8601, UTC.
        heartseg: version of the package.
        model: name and version of the model whose probabilities were used; empty if the labels alone were.
        model_note: how that model differs from the one that made the result; empty if it does not.
        marks: in the order in which they were obeyed.
        voxels: voxels that changed.
        volumes_ml_before, volumes_ml_after: structure key -> volume, mL.
        seconds: for all marks, without the network.
    """

    created: str = ""
    heartseg: str = ""
    model: str = ""
    model_note: str = ""
    marks: tuple[Mark, ...] = ()
    voxels: int = 0
    volumes_ml_before: Mapping[str, float] = field(default_factory=dict)
    volumes_ml_after: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def from_dict(cls, content: Any) -> Mend | None:
        """The inverse of ``dataclasses.asdict``; ``None`` for anything else."""
        mend = _known(cls, content)
        try:
            return (
                None if mend is None else dataclasses.replace(mend, marks=tuple(map(Mark.from_dict, content["marks"])))
            )
        except (InputError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Provenance:
    """How a result came about.

    Attributes:
        heartseg: version of the package.
        created: ISO 8601, UTC.
        input, model, run: see their classes; ``None`` for a segmentation of another program.
        settings: :meth:`heartseg.settings.Settings.to_dict`.
        confidence: structure key -> mean probability of its voxels.
        announcements: what the user was told during the run.
        seconds: stage -> wall time.
        packages: package -> version.
        platform: Python, system and machine.
        edited: whether the segments may differ from the run's, being edited or reloaded since.
        segmentation: path of a segmentation file that was opened instead of a run.
        mends: later corrections of the labels with marks, oldest first.
        notice: intended use.
    """

    heartseg: str = ""
    created: str = ""
    input: InputFacts | None = None
    model: ModelFacts | None = None
    run: RunFacts | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    announcements: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] = field(default_factory=dict)
    edited: bool = False
    segmentation: str = ""
    mends: tuple[Mend, ...] = ()
    notice: str = NOTICE

    @property
    def model_label(self) -> str:
        """Name and version of the model in one string; empty if it is not known."""
        return self.model.label if self.model else ""

    @property
    def window_spread(self) -> Mapping[str, float]:
        """:attr:`RunFacts.window_spread`; empty without a run."""
        return self.run.window_spread if self.run else {}

    @property
    def mended(self) -> bool:
        """Whether marks of a user have corrected the labels."""
        return any(mend.marks for mend in self.mends)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Provenance:
        """The inverse of :meth:`to_dict`; fields of other versions and of wrong types are left out."""
        renamed = dict(content)
        if isinstance(renamed.get("segmentation"), Mapping):  # schema 1
            renamed["segmentation"] = renamed["segmentation"].get("path", "")
        scan = renamed.get("input")
        if isinstance(scan, Mapping):
            scan = {**scan, "reading": _known(ReadingReport, scan.get("reading"))}
        parts = {
            "input": _known(InputFacts, _with_patient(scan)),
            "model": _known(ModelFacts, renamed.get("model")),
            "run": _known(RunFacts, _current_run(renamed.get("run"))),
            "mends": tuple(m for entry in _list(renamed.get("mends")) if (m := Mend.from_dict(entry)) is not None),
        }
        return _known(cls, {**renamed, **parts}) or cls()


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _with_patient(content: Any) -> Any:
    """The fields of a scan, with its patient as a :class:`~heartseg.volume.patient.Patient`."""
    if not isinstance(content, Mapping):
        return content
    stated = content.get("patient")
    stated = stated if isinstance(stated, Mapping) else {}
    body = stated_patient(*(stated.get(name) for name in ("sex", "height_cm", "weight_kg")))
    source = str(stated.get("heart_rate_source") or "")
    rate = body.with_heart_rate(stated.get("heart_rate_bpm"), stated.get("heart_rate_spread_bpm"), source)
    return {**content, "patient": rate}


def _current_run(run: Any) -> Any:
    """The fields of a run under today's names (schema 1 had others)."""
    names = {"same_story": "consistency", "heart": "no_heart"}
    return {names.get(k, k): v for k, v in run.items()} if isinstance(run, Mapping) else run


def _known(kind: type[T], content: Any) -> T | None:
    """An instance of ``kind`` from the fields that it knows and whose values fit; ``None`` for no dictionary."""
    if not isinstance(content, Mapping):
        return None
    values = {}
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = content.get(f.name)
        value = tuple(value) if isinstance(value, list) else value
        if f.name in content and (f.default is None or _fits(value, f)):
            values[f.name] = value
    required = [f.name for f in dataclasses.fields(kind) if _is_required(f)]  # type: ignore[arg-type]
    return kind(**values) if all(name in values for name in required) else None


def _is_required(known: dataclasses.Field[Any]) -> bool:
    return known.default is dataclasses.MISSING and known.default_factory is dataclasses.MISSING


def _fits(value: Any, known: dataclasses.Field[Any]) -> bool:
    """Whether a value has the type of the field's default; a field without one takes any value but ``None``."""
    make_default = known.default_factory
    if _is_required(known):
        return value is not None
    default = known.default if make_default is dataclasses.MISSING else make_default()
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, Mapping if isinstance(default, Mapping) else type(default))
