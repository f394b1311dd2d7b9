"""Mend a result with marks: the network's probabilities, the marks one by one, then measures and findings again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np

from ..anatomy import STRUCTURES
from ..errors import HeartSegError, InputError
from ..findings import Finding, Severity
from ..marks import Mark
from ..pipeline import Segmenter, model_facts, model_note, model_of
from ..progress import CancelToken, ProgressCallback, Reporter
from ..provenance import Mend, Provenance
from ..quality import measured_and_checked
from ..result import Result
from ..settings import Settings
from ..version import __version__
from ..volume.checks import check_volume
from ..volume.geometry import Geometry
from ..volume.types import Volume
from ..wording import _
from .mender import Mender
from .prior import Prior


def refine(
    volume: Volume,
    result: Result,
    marks: Sequence[Mark],
    segmenter: Segmenter | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    reporter: Reporter | None = None,
) -> Result:
    """Mend a result with a few marks.

    Every mark is obeyed, the labels change near the marks only, and measures and findings are made again. What was done
    is added to ``provenance.mends``. Earlier mends stay obeyed.

    Args:
        volume: the scan that was segmented.
        result: of :func:`heartseg.segment`, or an earlier mend.
        marks: from :func:`heartseg.read_marks`, in the order in which they are obeyed; a later one overrules.
        segmenter: the model; ``None`` loads the one that made the result. Without a model that runs in windows, the
            labels alone guide the change, and a finding says so.
        progress, cancel, reporter: as for :meth:`heartseg.Segmenter.segment`.

    Returns:
        the mended result; ``result`` is not changed.

    Raises:
        InputError: the scan is not the result's, there is no mark, or one lies outside of the scan.
        Cancelled: the token was set.

    Example:
        >>> import numpy as np
        >>> from heartseg import Geometry, Mark, Result, Volume, refine
        >>> grid = Geometry((20, 20, 20), (2.0, 2.0, 2.0))
        >>> labels = np.zeros(grid.shape, np.uint8)
        >>> labels[5:15, 5:15, 5:12] = 4
        >>> result = Result(labels, grid)
        >>> scan = Volume(100 * labels.astype(np.int16), grid, modality="MR")
        >>> mended = refine(scan, result, [Mark("RA", ((28.0, 20.0, 20.0),))])
        >>> int(mended.labels[10, 10, 14])
        4
    """
    reporter = reporter or Reporter(progress, cancel)
    volume = check_volume(volume)
    if not marks:
        raise InputError(_("there are no marks: give at least one"))
    if not volume.geometry.same_grid(result.geometry, 0.01):
        raise InputError(
            _(
                "the grid of scan {name!r} {size} is not that of the result {result_size}: give the scan "
                "that was segmented"
            ).format(name=volume.name, size=volume.geometry.size, result_size=result.geometry.size)
        )
    session = Session(result.labels, result.geometry, prior_of(volume, result, segmenter, reporter))
    session.mender.hold([mark for mend in result.provenance.mends for mark in mend.marks])
    with reporter.stage("mend", len(marks)):
        for done, mark in enumerate(marks):
            reporter.advance(done)
            session.add(mark)
    with reporter.stage("measure"):
        return mended_result(volume, result, session.mender.labels, session.mend)


@dataclass(eq=False)
class Session:
    """Marks on one result, obeyed as they come; for a window in which a user marks, sees and undoes.

    Attributes:
        original: labels uint8 ``(z, y, x)`` before the first mark, with what was edited since.
        geometry: their grid.
        prior: of :func:`prior_of`.
        seconds: spent on marks.
        edited: whether labels were changed by other means between the marks.
    """

    original: np.ndarray
    geometry: Geometry
    prior: Prior
    seconds: float = 0.0
    edited: bool = False

    def __post_init__(self) -> None:
        self.mender = Mender(self.original, self.geometry, self.prior)

    def add(self, mark: Mark) -> None:
        """Obey a mark.

        Raises:
            InputError: it lies outside of the scan; nothing was changed.
        """
        started = time.perf_counter()
        self.mender.add(mark)
        self.seconds += time.perf_counter() - started

    def obey(self, marks: Sequence[Mark]) -> dict[int, InputError]:
        """Obey these marks instead of those so far; see :meth:`Mender.obey`."""
        started = time.perf_counter()
        refused = self.mender.obey(marks)
        self.seconds += time.perf_counter() - started
        return refused

    def edit(self, labels: np.ndarray) -> bool:
        """Continue from labels that were changed by other means; see :meth:`Mender.edit`."""
        self.original = np.where(labels != self.mender.labels, labels, self.original)
        is_changed = self.mender.edit(labels)
        self.edited |= is_changed
        return is_changed

    @property
    def mend(self) -> Mend:
        """What was done, for the report."""
        labels = self.mender.labels
        return Mend(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            heartseg=__version__,
            model=self.prior.source,
            model_note=self.prior.note,
            marks=self.mender.marks,
            voxels=int((labels != self.original).sum()),
            volumes_ml_before=volumes_ml(self.original, self.geometry),
            volumes_ml_after=volumes_ml(labels, self.geometry),
            seconds=round(self.seconds, 3),
        )


def mended_result(volume: Volume, before: Result, labels: np.ndarray, mend: Mend) -> Result:
    """The result with mended labels, measured and checked again.

    Args:
        volume: the scan.
        before: the result that was mended.
        labels: uint8 ``(z, y, x)``.
        mend: what was done; without marks, all of which were taken back, nothing was mended.
    """
    present = set(np.unique(labels).tolist())
    structures = tuple(s for s in STRUCTURES if s in before.structures or s.label in present)
    provenance = before.provenance
    if mend.marks:
        provenance = replace(provenance, mends=(*provenance.mends, mend))
    told = []
    if mend.marks and not mend.model:
        text = _("labels were mended without the network's probabilities: check the borders near the marks")
        told.append(Finding("mended-without-network", Severity.INFO, text))
    if mend.marks and mend.model_note:
        text = _("labels were mended with the probabilities of another model: {note}").format(note=mend.model_note)
        told.append(Finding("mended-with-other-model", Severity.INFO, text))
    found = measured_and_checked(
        labels,
        before.geometry,
        structures,
        volume,
        spread=before.provenance.window_spread,
        findings=[*before.findings, *(f for f in told if f not in before.findings)],
    )
    return replace(
        before,
        labels=labels,
        structures=structures,
        measures=found.measures,
        findings=found.findings,
        provenance=provenance,
    )


def volumes_ml(labels: np.ndarray, geometry: Geometry) -> dict[str, float]:
    """Structure key -> volume, mL, of the structures that are there."""
    counts = np.bincount(labels.ravel(), minlength=len(STRUCTURES) + 1)
    return {s.key: round(int(counts[s.label]) * geometry.voxel_volume_ml, 3) for s in STRUCTURES if counts[s.label]}


def prior_of(volume: Volume, result: Result, segmenter: Segmenter | None, reporter: Reporter) -> Prior:
    """The network's probabilities in the window of the result's run; none from a model without windows.

    Args:
        volume: the scan, checked.
        result: its result.
        segmenter: the model; ``None`` loads the one that made the result, if it is there.
        reporter: for progress and cancelling.
    """
    segmenter = segmenter or _segmenter_of(result.provenance)
    box = window_box(result)
    if segmenter is None or box is None or not segmenter.engine.has_windows:
        return Prior.unknown()
    window = segmenter.engine.window(volume, *box, reporter)
    model = segmenter.model
    note = model_note(result.provenance.model, model)
    return Prior.of_window(window, model.structure_lut(), model_facts(model).label, note)


def window_box(result: Result) -> tuple[np.ndarray, np.ndarray] | None:
    """Corners ``(x, y, z)``, LPS mm, of the window of a result's run, else of its labels; ``None`` without labels."""
    run = result.provenance.run
    if run is not None and run.window_mm and run.window_center_lps:
        center, half = np.asarray(run.window_center_lps), np.asarray(run.window_mm) / 2
        return center - half, center + half
    index = np.argwhere(result.labels)
    if not len(index):
        return None
    corners = np.stack([index.min(0), index.max(0)])
    ends = np.array([[corners[i, 0], corners[j, 1], corners[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    world = result.geometry.index_to_world(ends)
    return world.min(0), world.max(0)


def _segmenter_of(provenance: Provenance) -> Segmenter | None:
    """The model of a run, ready to run; ``None`` if there is none or it cannot be used."""
    try:
        folder = model_of(provenance)
        return None if folder is None else Segmenter(folder, Settings())
    except HeartSegError:
        return None
