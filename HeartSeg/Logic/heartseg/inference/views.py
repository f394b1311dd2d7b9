"""The part of a scan that a network sees, and the way back to the scan, for labels, confidence and heat maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..measure.boxes import Box, bounding_box
from ..models.folder import ModelFolder
from ..progress import Reporter
from ..volume.geometry import AxisFlip, Geometry
from .axes import NetworkAxes
from .resample import Reduction, likeliest, reduced_on_grid, running_percent
from .stored_axes import Prepared, labels_for_network, reduced_in_stored_axes

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

NEAR_MM = 10.0
"""Background farther from the heart than this, along any axis, gets no confidence."""


@dataclass(frozen=True, eq=False)
class WorldView:
    """A grid in the patient's axes.

    Attributes:
        grid: of the network, LPS-aligned.
        geometry: the scan's grid in its nearest-LPS axes.
        flip: from the scan's stored axes to those.
        axes: from LPS to the network's.
    """

    grid: Geometry
    geometry: Geometry
    flip: AxisFlip
    axes: NetworkAxes

    @property
    def spacing(self) -> tuple[float, ...]:
        """Spacing of the view ``(z, y, x)``, mm."""
        return self.grid.spacing[::-1]

    def from_network(self, image: np.ndarray) -> np.ndarray:
        """``(…, z, y, x)`` in the network's axes → the view's."""
        return self.axes.from_network(image)

    def to_scan(
        self,
        channels: np.ndarray,
        reduction: Reduction,
        reporter: Reporter,
        dtype: DTypeLike = np.uint8,
        within: Box | None = None,
    ) -> np.ndarray:
        """Channels ``(c, z, y, x)`` in the view's axes, reduced at the scan's voxels; 0 outside the view.

        ``within`` is a part of the view outside of which the result is known to be 0.
        """
        part, where = reduced_on_grid(channels, self.grid, self.geometry, reduction, reporter, dtype, within)
        stored = np.zeros(tuple(self.geometry.shape[k] for k in np.argsort(self.flip.order)), dtype)
        self.flip.apply(stored)[where] = part  # through a view: needs no copy of a large map
        return stored

    def labels_for_network(self, labels: np.ndarray) -> np.ndarray:
        """The scan's labels ``(z, y, x)`` at the network's voxels, in its axes; 0 outside the scan."""
        turned = self.flip.apply(labels)
        found = np.zeros(self.grid.shape, np.uint8)
        plane = np.stack(np.meshgrid(*(np.arange(n) for n in self.grid.shape[1:]), indexing="ij"), -1)
        for z in range(self.grid.shape[0]):
            at = np.concatenate([np.full((*plane.shape[:2], 1), z), plane], -1)
            index = np.rint(self.geometry.world_to_index(self.grid.index_to_world(at))).astype(int)
            inside = ((index >= 0) & (index < turned.shape)).all(-1)
            found[z][inside] = turned[tuple(index[inside].T)]
        return self.axes.to_network(found)


@dataclass(frozen=True, eq=False)
class StoredView:
    """The whole scan in its stored axes, as nnU-Net sees it; the axes of the view are those of the network.

    Attributes:
        prepared: the preprocessed scan.
        folder: the model, for its way of resampling; a 2D one as 3D.
        flip: from the scan's stored axes to those it was prepared in; ``None`` where they are the same.
    """

    prepared: Prepared
    folder: ModelFolder
    flip: AxisFlip | None = None

    @property
    def spacing(self) -> tuple[float, ...]:
        """Spacing of the view ``(z, y, x)``, mm."""
        return self.folder.spacing

    def from_network(self, image: np.ndarray) -> np.ndarray:
        """Unchanged, because the axes of the view are those of the network."""
        return image

    def to_scan(
        self,
        channels: np.ndarray,
        reduction: Reduction,
        reporter: Reporter,
        dtype: DTypeLike = np.uint8,
        within: Box | None = None,
    ) -> np.ndarray:
        """As :meth:`WorldView.to_scan`; splines reach over the whole image, so that ``within`` saves nothing."""
        full = reduced_in_stored_axes(channels, self.prepared, self.folder, reduction, reporter, dtype)
        return np.ascontiguousarray(self.flip.undo(full) if self.flip else full)

    def labels_for_network(self, labels: np.ndarray) -> np.ndarray:
        """As :meth:`WorldView.labels_for_network`."""
        return labels_for_network(self.flip.apply(labels) if self.flip else labels, self.prepared, self.folder)


View = WorldView | StoredView


def confidence_on_scan(logits: np.ndarray, view: View, reporter: Reporter) -> np.ndarray:
    """Probability of the most likely class at each voxel of the scan, uint8 percent ``(z, y, x)``, stored axes.

    It is the softmax of the logits interpolated there, which are what the labels are decided on. Outside of the view
    it is 0, and so it is in background farther than :data:`NEAR_MM` from the heart. Two maps of the scan's size are
    in memory at most.

    Args:
        logits: float32 ``(c, z, y, x)``, channel 0 the background, in the view's axes.
    """
    from scipy.ndimage import maximum_filter1d

    near = (likeliest(logits) > 0).astype(np.uint8)
    for axis, spacing in enumerate(view.spacing):
        near = maximum_filter1d(near, 2 * int(NEAR_MM / spacing) + 1, axis, mode="constant")
    box = box_of(near)
    percent = view.to_scan(logits, running_percent, reporter, within=box)
    percent *= view.to_scan(near.astype(np.float32)[None], _more_than_half, reporter, within=box)
    return percent


def box_of(part: np.ndarray) -> Box | None:
    """The box of the non-zero voxels of uint8 ``(z, y, x)`` and one voxel around them; ``None`` if all are 0.

    What is interpolated between voxels that are all 0 is 0 again, also where the largest of several channels is taken.
    """
    box = bounding_box(part)
    if box is None:
        return None
    z, y, x = (slice(max(0, s.start - 1), s.stop + 1) for s in box)
    return z, y, x


def _more_than_half(channel: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    return channel(0) > 0.5
