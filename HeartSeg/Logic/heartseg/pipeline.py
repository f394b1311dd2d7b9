"""The steps of a run in order: scan → labels → clean-up → measures → findings → result.

``Segmenter`` keeps the model warm between scans; ``segment`` is the same for a single scan.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .anatomy import STRUCTURES, Structure, structure
from .hashes import sha256_of
from .postprocess import clean_labels, remove_dark
from .progress import CancelToken, ProgressCallback, Reporter
from .provenance import InputFacts, ModelFacts, Provenance
from .quality import measured_and_checked
from .result import Removal, Result
from .settings import Settings
from .version import __version__
from .volume.checks import check_for_run
from .volume.types import Volume
from .wording import _

if TYPE_CHECKING:
    from .inference.engine import Engine, Prediction
    from .models.folder import ModelFolder

_PACKAGES = (
    "torch",
    "onnxruntime",
    "numpy",
    "scipy",
    "SimpleITK",
    "dynamic-network-architectures",
    "vtk",
    "pydicom",
    "nnunetv2",
    "openvino",
)


class Segmenter:
    """Segments scans with one model, which stays in memory between calls.

    Args:
        model: a model's name, its folder, or an opened :class:`~heartseg.models.folder.ModelFolder`; ``None`` takes the
            default model.
        settings: how to run; checked here.

    Raises:
        ModelError: the model is unknown or cannot be used.
        SettingsError: a setting cannot work.
        DeviceError: the device is not there.
    """

    def __init__(self, model: str | Path | ModelFolder | None = None, settings: Settings | None = None) -> None:
        from .inference.engine import Engine
        from .models.folder import ModelFolder
        from .models.store import find_model

        self.settings = (settings or Settings()).check()
        label_map = dict(self.settings.label_map) if self.settings.label_map else None
        self.model = model if isinstance(model, ModelFolder) else find_model(model, label_map=label_map)
        self.engine: Engine = Engine(self.model, self.settings)

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The structures that come out: those the model knows, narrowed by the settings."""
        known = set(np.unique(self.model.structure_lut()).tolist())
        wanted = {structure(k).label for k in self.settings.structures} if self.settings.structures else known
        return tuple(s for s in STRUCTURES if s.label in known & wanted)

    def segment(
        self,
        volume: Volume,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
        reporter: Reporter | None = None,
    ) -> Result:
        """Segment one scan.

        Args:
            volume: the scan; it is checked and never changed.
            progress: called with a :class:`~heartseg.progress.ProgressEvent` on this thread.
            cancel: set it from anywhere to stop at the next tile.
            reporter: instead of the two above, when a run has more stages than these.

        Returns:
            labels on the scan's own grid, with measures, findings and provenance.

        Raises:
            InputError: the scan cannot be used.
            Cancelled: the token was set.
        """
        reporter = reporter or Reporter(progress, cancel)
        volume = check_for_run(volume)
        for finding in volume.findings:
            if finding.code == "memory-tight":
                reporter.announce(finding.message)  # before the run, which may end for lack of memory
        prediction = self.engine.predict(volume, reporter)
        labels, removals = self._clean(prediction.labels, volume, reporter)
        with reporter.stage("measure"):
            chosen = self.structures
            labels = self._only(labels, chosen)
            found = measured_and_checked(
                labels,
                volume.geometry,
                chosen,
                volume,
                removals=removals,
                spread=prediction.run.window_spread,
                findings=prediction.findings,
            )
        result = Result(labels, volume.geometry, chosen, found.findings, found.measures, removals)
        provenance = self._provenance(volume, prediction, reporter)
        return replace(result, provenance=provenance, confidence_map=prediction.confidence_map)

    def confidence_map(self, volume: Volume, reporter: Reporter) -> np.ndarray:
        """How sure the network is of the label that it chooses at each voxel: uint8 percent ``(z, y, x)``.

        For a result that was made without :attr:`~heartseg.result.Result.confidence_map`; the scan is segmented again.

        Raises:
            InputError, Cancelled: as :meth:`segment`.
            SettingsError: only nnU-Net itself can run the model.
        """
        confidence = self.engine.with_confidence_map().predict(check_for_run(volume), reporter).confidence_map
        assert confidence is not None
        return confidence

    def _clean(self, labels: np.ndarray, volume: Volume, reporter: Reporter) -> tuple[np.ndarray, tuple[Removal, ...]]:
        """The labels, which are changed, and what was removed."""
        if not self.settings.clean_up:
            return labels, ()
        with reporter.stage("clean up"):
            lit, dark = remove_dark(labels, volume, in_place=True)
            cleaned, removals = clean_labels(lit, volume.geometry, reporter, in_place=True)
        return cleaned, (*dark, *removals)

    def _only(self, labels: np.ndarray, chosen: tuple[Structure, ...]) -> np.ndarray:
        if self.settings.structures is None:
            return labels
        lut = np.zeros(256, np.uint8)
        for s in chosen:
            lut[s.label] = s.label
        return lut[labels]

    def _provenance(self, volume: Volume, prediction: Prediction, reporter: Reporter) -> Provenance:
        return Provenance(
            heartseg=__version__,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            input=input_facts(volume),
            model=model_facts(self.model),
            run=prediction.run,
            settings=self.settings.to_dict(),
            confidence=prediction.confidence,
            announcements=tuple(reporter.announcements),
            seconds={stage: round(seconds, 3) for stage, seconds in reporter.seconds.items()},
            packages=installed_versions(),
            platform={
                "python": platform.python_version(),
                "system": platform.platform(),
                "machine": platform.machine(),
            },
        )


def segment(
    volume: Volume,
    model: str | Path | ModelFolder | None = None,
    settings: Settings | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Result:
    """Segment one scan with a model that is loaded for it; see :class:`Segmenter` for many scans."""
    return Segmenter(model, settings).segment(volume, progress, cancel)


def input_facts(volume: Volume) -> InputFacts:
    """The facts about a scan that a report states."""
    geometry, source = volume.geometry, volume.source
    return InputFacts(
        name="" if source.anonymize else volume.name,
        path="" if source.anonymize else source.path,
        sha256=source.sha256,
        series_uid=source.series_uid,
        frame=source.frame,
        frames=source.frames,
        cardiac_cycle=source.cardiac_cycle,
        patient=source.patient,
        phase=source.phase,
        reading=source.reading,
        modality=volume.modality,
        value_scale=volume.value_scale.value,
        size_xyz=geometry.size,
        spacing_mm_xyz=tuple(round(s, 6) for s in geometry.spacing),
        spacing_given=source.spacing_given,
        orientation=geometry.orientation,
        anonymized=source.anonymize,
    )


def model_facts(model: ModelFolder) -> ModelFacts:
    """Name, version and checkpoint hashes of a model."""
    card = model.card
    return ModelFacts(
        name=model.name,
        version=card.version if card else None,
        path=str(model.path),
        configuration=model.configuration,
        checkpoints={p.relative_to(model.path).as_posix(): model.sha256(p) or sha256_of(p) for p in model.checkpoints},
        unmapped_labels=tuple(model.unmapped),
        licence=card.licence if card else None,
    )


def model_of(provenance: Provenance, label_map: Mapping[int, str] | None = None) -> ModelFolder | None:
    """The model that made a result; ``None`` for a segmentation of another program.

    Args:
        provenance: of the result.
        label_map: label value -> structure key, for a model without a card; ``None`` takes that of the run.

    Raises:
        ModelError: it is not there any more, or cannot be used.
    """
    from .models.store import find_model

    facts = provenance.model
    if facts is None or not facts.name:
        return None
    stored = provenance.settings.get("label_map") or ()
    label_map = label_map or {int(k): str(v) for k, v in stored} or None
    return find_model(facts.path if Path(facts.path).is_dir() else facts.name, label_map=label_map)


def made_with(made_by: ModelFacts | None, model: ModelFolder) -> bool:
    """Whether a result was made with the weights of this model."""
    return made_by is not None and dict(made_by.checkpoints) == dict(model_facts(model).checkpoints)


def model_note(made_by: ModelFacts | None, model: ModelFolder) -> str:
    """Say how a model differs from the one that made a result; empty if it is the same, or none made it."""
    if made_by is None or not made_by.name or made_with(made_by, model):
        return ""
    now = model_facts(model).label
    weights = _(" with other weights") if now == made_by.label else ""
    return _("the result was made with model {label}, and this is model {now}{weights}").format(
        label=made_by.label, now=now, weights=weights
    )


def installed_versions() -> dict[str, str]:
    """Versions of the packages that shape a result, those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
