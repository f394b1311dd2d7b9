"""The heart is located on a coarse grid; the fine network then sees a window around it, which follows the heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from ..progress import Reporter
from ..provenance import RunFacts
from ..settings import Settings
from ..volume.geometry import Geometry
from .acceptance import Evidence, judge, needs_second_window, worth_following
from .evidence import agreement, consistency, has_air_intensity, mean_confidence, structure_agreement, volume_spread
from .finder import Finder
from .locate import HeartBox, center_candidate, choose_heart
from .network import OrientedNetwork, Window
from .plan import RunPlan
from .prediction import Prediction, no_heart, of_window
from .run_findings import candidate_findings, tiled_findings
from .scan import OrientedScan
from .test_time import AUGMENTATIONS, MeanProbabilities, shifted

MOVES = 3
"""Times that a window is re-centred on what the fine network sees, at most."""
MARGIN_MM = 8.0
"""Least distance between what the fine network sees and the sides of its window."""


@dataclass(frozen=True, eq=False)
class HeartWindow:
    """A window around a candidate, and what is known about it."""

    box: HeartBox
    window: Window
    evidence: Evidence


class AroundHeart:
    """Segments one scan in a window around the heart.

    Args:
        plan: of the run.
        scan: the scan.
        fine: the segmenting network.
        finder: the coarse network.
        settings: of the run.
    """

    def __init__(
        self, plan: RunPlan, scan: OrientedScan, fine: OrientedNetwork, finder: Finder, settings: Settings
    ) -> None:
        self.plan, self.scan, self.fine, self.finder, self.settings = plan, scan, fine, finder, settings

    def predict(self, reporter: Reporter) -> Prediction:
        """Labels in the first candidate's window that is accepted as a heart; none with the reason otherwise."""
        found, reason = self._search(reporter)
        if found is None:
            return no_heart(self.scan, "located", reason)
        grid, logits = found.window.grid, found.window.logits
        spread: dict[str, float] = {}
        if self.plan.windows > 1:
            logits, spread = self._averaged(found.window, reporter)
        findings = [*candidate_findings(found.box), *tiled_findings(grid, self.fine.lattice.patch)]
        evidence = found.evidence
        run = RunFacts(
            mode="located" if found.box.seen else "middle of the scan",
            windows=self.plan.windows,
            agreement=evidence.agreement,
            consistency=evidence.consistency,
            mean_probability=evidence.confidence,
            finder_grey_scale=found.box.grey_scale if found.box.seen else None,
            window_spread=spread,
            structure_agreement=structure_agreement(
                self.fine.folder.structure_lut()[found.window.labels], grid, found.box
            ),
        )
        window = replace(found.window, logits=logits)
        return of_window(window, self.scan, self.fine, run, findings, self.settings, reporter)

    def _search(self, reporter: Reporter) -> tuple[HeartWindow | None, str]:
        """The first candidate that is accepted, or ``None`` and why there is none.

        The scan's centre is the last candidate. The finder does not see it, so that its rejection is no reason.
        """
        reason = "no candidate was found"
        for box in self._candidates(reporter):
            found = self._around(box, self.fine.lattice.around(box.low, box.high), reporter)
            if worth_following(found.evidence):
                found = self._followed(found, reporter)
                if needs_second_window(found.evidence):
                    found = self._compared(found, reporter)
            is_air = has_air_intensity(found.window.labels, found.window.sampled, self.scan.scale)
            verdict = judge(replace(found.evidence, is_air=is_air))
            if verdict.accepted:
                return found, ""
            reason = verdict.reason if box.seen else reason
        return None, reason

    def _candidates(self, reporter: Reporter) -> Iterator[HeartBox]:
        grid = self.plan.sampling_grid
        return chain(self.finder.candidates(self.scan, grid, reporter), [center_candidate(grid)])

    def _around(self, box: HeartBox, grid: Geometry, reporter: Reporter) -> HeartWindow:
        window = self._window(grid, reporter)
        evidence = Evidence(
            agreement=agreement(window.labels, grid, box),
            confidence=mean_confidence(window.logits),
            grey_scale=box.grey_scale,
        )
        return HeartWindow(box, window, evidence)

    def _window(self, grid: Geometry, reporter: Reporter) -> Window:
        with reporter.stage("predict", self.fine.tiles_of(grid)):
            return self.fine.window(self.scan, grid, reporter)

    def _followed(self, found: HeartWindow, reporter: Reporter) -> HeartWindow:
        """The window, re-centred on what the fine network sees until it stays."""
        for _ in range(MOVES):
            grid = self._recentred(found)
            if grid is None:
                break
            found = self._around(found.box, grid, reporter)
        return found

    def _recentred(self, found: HeartWindow) -> Geometry | None:
        """A window around what the fine network sees, if that comes within :data:`MARGIN_MM` of a side; else ``None``.

        A heart that lies off the middle but inside is not seen better from another window, which costs as much as the
        first (``benchmarks/windows.py``).
        """
        grid = found.window.grid
        seen = choose_heart(self.fine.folder.structure_lut()[found.window.labels], grid)
        if seen is None:
            return None
        corners = grid.corners()
        room = min((seen.low - corners.min(0)).min(), (corners.max(0) - seen.high).min())
        better = self.fine.lattice.around(seen.low, seen.high)
        return better if room < MARGIN_MM and better != grid else None

    def _compared(self, found: HeartWindow, reporter: Reporter) -> HeartWindow:
        """The window with its consistency with a shifted one."""
        first = found.window
        other = self._window(shifted(first.grid, AUGMENTATIONS[0].direction), reporter)
        same = consistency(first.labels, first.grid, other.labels, other.grid)
        return replace(found, evidence=replace(found.evidence, consistency=same))

    def _averaged(self, window: Window, reporter: Reporter) -> tuple[np.ndarray, dict[str, float]]:
        """Logits of the mean probabilities of the window and its augmentations, and the spread of their volumes."""
        mean, labels = MeanProbabilities(window.grid, window.logits), [window.labels]
        with reporter.stage("average", len(AUGMENTATIONS) * self.fine.tiles_of(window.grid)):
            for augmentation in AUGMENTATIONS:
                grid = shifted(window.grid, augmentation.direction)
                other = self.fine.window(self.scan, grid, reporter, augmentation.gamma)
                mean.add(grid, other.logits)
                labels.append(other.labels)
        return mean.logits(), volume_spread(labels, self.fine.folder.structure_lut())
