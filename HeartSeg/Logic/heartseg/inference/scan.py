"""A scan turned to the patient's axes, ready to be sampled on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..progress import Reporter
from ..volume.geometry import AxisFlip, Geometry, to_nearest_lps
from ..volume.types import Volume
from ..volume.values import ValueScale
from .resample import Sampled, sample_image

CT_AIR_HU = -1024.0
"""Values below mark voxels outside the scanner's field of view, not tissue."""


@dataclass(frozen=True, eq=False)
class OrientedScan:
    """A scan in its nearest LPS axes: turned, not interpolated.

    Attributes:
        array: ``(z, y, x)``, a view of the volume's array, axes nearest to S, P, L.
        geometry: its grid, which may be oblique.
        flip: from the stored axes to these.
        scale: what the values mean.
    """

    array: np.ndarray
    geometry: Geometry
    flip: AxisFlip
    scale: ValueScale

    @classmethod
    def of(cls, volume: Volume) -> OrientedScan:
        """The scan of a volume; nothing is copied."""
        flip, geometry = to_nearest_lps(volume.geometry)
        return cls(flip.apply(volume.array), geometry, flip, volume.value_scale)

    def sample(self, grid: Geometry, reporter: Reporter) -> Sampled:
        """The scan on an LPS-aligned grid, anti-aliased; CT below :data:`CT_AIR_HU` is raised to it."""
        sampled = sample_image(self.array, self.geometry, grid, reporter)
        if self.scale is ValueScale.HOUNSFIELD and bool(sampled.image.min() < CT_AIR_HU):
            return Sampled(np.maximum(sampled.image, np.float32(CT_AIR_HU)), sampled.inside, grid)
        return sampled
