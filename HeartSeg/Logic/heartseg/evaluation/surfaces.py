"""Distances between two surfaces, by MONAI.

A surface consists of elements between voxels, with an area that depends on the spacing, as in DeepMind's
surface-distance (Nikolov et al., Clinically applicable segmentation of head and neck anatomy for radiotherapy, J Med
Internet Res 2021;23(7):e26151); every average and percentile is weighted with that area, so that thick slices do not
count less than thin ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DependencyError

PERCENTILE = 95.0
ROUNDING_MM = 1e-4
"""MONAI gives distances as 32-bit floats: by this much they may exceed a tolerance that they equal."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances from each surface to the other.

    Attributes:
        to_truth, to_pred: mm, from the prediction's elements to the reference's surface and back.
        pred_areas, truth_areas: mm², of the same elements.
        truth_share: area of the reference's surface that counts, as a share of all of it, 0-1.
    """

    to_truth: np.ndarray
    to_pred: np.ndarray
    pred_areas: np.ndarray
    truth_areas: np.ndarray
    truth_share: float

    @property
    def empty(self) -> bool:
        """Whether no element of either surface counts."""
        return not (self.pred_areas.sum() + self.truth_areas.sum())

    def hd95(self) -> float | None:
        """95th percentile of the Hausdorff distance, mm: the larger of the two directions' area-weighted percentile."""
        pairs = ((self.to_truth, self.pred_areas), (self.to_pred, self.truth_areas))
        return max((_percentile(d, a) for d, a in pairs if a.sum()), default=None)

    def assd(self) -> float | None:
        """Average symmetric surface distance, mm: area-weighted mean over both surfaces."""
        if self.empty:
            return None
        total = (self.to_truth * self.pred_areas).sum() + (self.to_pred * self.truth_areas).sum()
        return float(total / (self.pred_areas.sum() + self.truth_areas.sum()))

    def surface_dice(self, tolerance: float) -> float | None:
        """Share of both surfaces' area that lies within ``tolerance`` (mm) of the other surface, 0-1."""
        if self.empty:
            return None
        limit = tolerance + ROUNDING_MM
        near = self.pred_areas[self.to_truth <= limit].sum() + self.truth_areas[self.to_pred <= limit].sum()
        return float(near / (self.pred_areas.sum() + self.truth_areas.sum()))


def check_monai() -> None:
    """Check that MONAI is installed, before anything is read.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import monai.metrics.utils  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "evaluate needs monai, which is not installed: pip install 'heartseg[evaluate]'"
        ) from error


def surface_distances(
    pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], inside: np.ndarray | None = None
) -> SurfaceDistances:
    """Return distances between the surfaces of two masks.

    Args:
        pred, truth: bool ``(z, y, x)``, neither empty.
        spacing: voxel size ``(z, y, x)`` in mm.
        inside: bool ``(z, y, x)``: an element counts if all (up to eight) voxels around it are inside. Elements that do
            not count are not measured *from*, but may be measured *to*: without them the part of the other surface
            opposite a gap in the mask would seem to be far off.
    """
    import torch
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    box = _box(pred | truth)
    masks = [torch.from_numpy(np.pad(m[box], 1)) for m in (pred, truth)]  # a surface also where the grid ends
    edges = get_mask_edges(*masks, crop=False, spacing=spacing)
    pred_edges, truth_edges, pred_areas, truth_areas = (e.numpy() for e in edges)
    counts = np.ones(pred_edges.shape, bool)
    if inside is not None:
        around = np.lib.stride_tricks.sliding_window_view(np.pad(inside[box], 1, mode="edge"), (2, 2, 2))
        counts = np.asarray(around.all(axis=(3, 4, 5)))
    to_truth = np.asarray(get_surface_distance(pred_edges, truth_edges, spacing=spacing), float)
    to_pred = np.asarray(get_surface_distance(truth_edges, pred_edges, spacing=spacing), float)
    of_pred, of_truth = counts[pred_edges], counts[truth_edges]
    areas = pred_areas[pred_edges].astype(float), truth_areas[truth_edges].astype(float)
    return SurfaceDistances(
        to_truth[of_pred],
        to_pred[of_truth],
        areas[0][of_pred],
        areas[1][of_truth],
        float(areas[1][of_truth].sum() / areas[1].sum()),
    )


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    spans = [np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    return tuple(slice(int(s[0]), int(s[-1]) + 1) for s in spans)


def _percentile(distances: np.ndarray, areas: np.ndarray) -> float:
    """Return the smallest distance within which :data:`PERCENTILE` % of the area lies."""
    order = np.argsort(distances, kind="stable")
    share = np.cumsum(areas[order]) / areas.sum()
    place = np.searchsorted(share, PERCENTILE / 100 - 1e-12)
    return float(distances[order][int(place)])
