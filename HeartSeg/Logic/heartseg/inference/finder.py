"""The finder: a coarse network over the whole scan that yields candidates for the heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..measure.boxes import bounding_box
from ..progress import Reporter
from ..volume.geometry import Geometry
from ..volume.values import HU_AIR, ValueScale
from .locate import MOST_CANDIDATES, HeartBox, heart_candidates
from .network import OrientedNetwork, normalized
from .resample import Sampled, likeliest
from .scan import OrientedScan
from .test_time import apply_gamma

OTHER_GREY_SCALES = (0.6, 1.7)
"""Exponents of the grey scale in which the finder searches again when no candidate is a heart."""


class Finder(OrientedNetwork):
    """A coarse network that locates the heart."""

    def candidates(self, scan: OrientedScan, grid: Geometry, reporter: Reporter) -> Iterator[HeartBox]:
        """Candidates in the whole scan, largest first; then those in other grey scales.

        The network runs once for each grey scale, when the first of its candidates is asked for. If the scan's own
        grey scale has no candidate, yields every candidate of the next one; otherwise only its largest.

        Args:
            scan: the scan.
            grid: the finder's grid over it (:attr:`~.plan.RunPlan.grid`); the network sees a part of it if wide margins
                of air around the body would take more tiles.
            reporter: for progress and cancelling.
        """
        with reporter.stage("sample scan"):
            sampled = self._without_air(scan.sample(grid, reporter), scan.scale)
        grid = sampled.geometry
        plain = normalized(sampled, sampled, self.folder)
        most = MOST_CANDIDATES
        for gamma in (1.0, *OTHER_GREY_SCALES):
            with reporter.stage("locate", self.tiles_of(grid)):
                logits = self.run(apply_gamma(plain, sampled.inside, gamma), reporter)
            self.free()
            labels = self.folder.structure_lut()[likeliest(logits)]
            found = heart_candidates(np.where(sampled.inside, labels, 0), grid, most)
            yield from (replace(box, grey_scale=gamma) for box in found)
            most = 1 if found else most

    def _without_air(self, sampled: Sampled, scale: ValueScale) -> Sampled:
        """The box of the body, if it takes fewer tiles than the scan, as in a wide field of view; else the scan."""
        air = HU_AIR if scale is ValueScale.HOUNSFIELD else sampled.image.min()
        body = bounding_box(sampled.inside & (sampled.image > air))
        if body is None or self.tiles_of(sampled.geometry.cropped(body)) == self.tiles_of(sampled.geometry):
            return sampled
        return Sampled(sampled.image[body], sampled.inside[body], sampled.geometry.cropped(body))
