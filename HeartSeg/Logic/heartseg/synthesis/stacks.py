"""A stack of parallel slices, as cine MR is scanned: how it lies, and what it does to positions and to an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf

from .fields import apply_lines


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Parallel slices about a patch's centre.

    Attributes:
        turn: 3x3, whose columns are the stack's axes in the patch's axes (z, y, x); the first runs across the slices.
        first: position of the first slice's centre along that axis, mm from the patch's centre.
        thickness: of a slice, mm.
        gap: between two slices, mm.
        in_plane: pixel size, mm.
        shifts: displacement of each slice along the second and third axis, mm, (slices, 2): breath-holds differ.
    """

    turn: np.ndarray
    first: float
    thickness: float
    gap: float
    in_plane: float
    shifts: np.ndarray

    @property
    def pitch(self) -> float:
        """Distance of the slices' centres, mm."""
        return self.thickness + self.gap

    @property
    def extent(self) -> tuple[float, float]:
        """Where the voxels of the first and the last slice end, mm along the first axis."""
        last = self.first + (len(self.shifts) - 1) * self.pitch
        return self.first - self.pitch / 2, last + self.pitch / 2

    def displacement(self, line: torch.Tensor) -> torch.Tensor:
        """Displacement (3, n, n, n) in mm, patch axes, of a cube's points.

        Every point moves with the slice nearest to it, so that labels follow the slices as a reader's contours do.

        Args:
            line: positions of the points along each axis, mm from the patch's centre, (n,).
        """
        t = self.turn[:, 0]
        along = (float(t[0]) * line)[:, None, None] + (float(t[1]) * line)[:, None] + float(t[2]) * line
        nearest = ((along - self.first) / self.pitch).round().clamp(0, len(self.shifts) - 1).long()
        moves = torch.from_numpy((self.shifts @ self.turn[:, 1:].T).astype(np.float32)).to(line.device)
        return moves.T[:, nearest]


def scan_stack(image: torch.Tensor, stack: SliceStack, spacing: float) -> torch.Tensor:
    """An image as a stack shows it after resampling: averaged over slices and pixels, linear between their centres.

    The image is turned to the stack's axes and back. Its corners, which the turned grid does not reach, stay.
    """
    turn = torch.from_numpy(np.ascontiguousarray(stack.turn)).float().to(image.device)
    there, back = turned_places(image, turn), turned_places(image, turn.T)
    first = stack.first / spacing
    matrices = [
        slice_matrix(image.shape[0], first, stack.pitch / spacing, stack.thickness / spacing, len(stack.shifts))
    ]
    pixel = stack.in_plane / spacing
    for n in image.shape[1:]:
        count = max(2, int(n / pixel))
        matrices.append(slice_matrix(n, -(count - 1) / 2 * pixel, pixel, pixel, count))
    seen = at_places(apply_lines(at_places(image, there), matrices), back)
    return torch.where((back.abs() <= 1).all(-1), seen, image)


def slice_matrix(n: int, first: float, pitch: float, thickness: float, count: int) -> np.ndarray:
    """(n, n) float64 matrix: a line averaged over slices, then interpolated linearly between their centres.

    Args:
        n: voxels of the line.
        first: centre of the first slice, in voxels from the line's middle.
        pitch, thickness: of the slices, in voxels.
        count: number of slices; beyond the outer ones their values go on.
    """
    edges = np.arange(n + 1) - n / 2
    centres = first + pitch * np.arange(count)
    low, high = centres[:, None] - thickness / 2, centres[:, None] + thickness / 2
    average = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
    outside = average.sum(1) <= 0
    middles = edges[:-1] + 0.5
    average[outside, np.abs(middles - centres[outside, None]).argmin(1)] = 1
    average /= average.sum(1, keepdims=True)
    place = np.clip((middles - first) / pitch, 0, count - 1)
    hat = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count)))
    return hat @ average


def turned_places(image: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """``turn @ q`` for every voxel q of an image, from its middle, as shares of its half edges: (z, y, x, 3)."""
    half = torch.tensor([n / 2 for n in image.shape], device=image.device)
    lines = (torch.arange(n, device=image.device) + 0.5 - n / 2 for n in image.shape)
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1) @ turn.T / half


def at_places(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The image there, linearly interpolated; beyond it, its border."""
    grid = places.flip(-1)[None]
    return nnf.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
