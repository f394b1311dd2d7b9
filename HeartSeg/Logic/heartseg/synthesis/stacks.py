"""Stacks of parallel slices, as in cine MR: their geometry and their effect on positions and images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf

from .fields import apply_lines


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Stack of parallel slices in a patch.

    Attributes:
        turn: 3x3; its columns are the axes of the stack in patch axes (z, y, x), the first being the slice normal.
        first: position of the first slice centre along the normal, mm from the patch centre.
        thickness: slice thickness, mm.
        gap: gap between two slices, mm.
        in_plane: pixel size, mm.
        shifts: in-plane displacement of each slice, mm, (slices, 2), as between breath-holds.
    """

    turn: np.ndarray
    first: float
    thickness: float
    gap: float
    in_plane: float
    shifts: np.ndarray

    @property
    def pitch(self) -> float:
        """Distance between slice centres, mm."""
        return self.thickness + self.gap

    @property
    def extent(self) -> tuple[float, float]:
        """Outer ends of the first and the last slice, mm along the normal."""
        last = self.first + (len(self.shifts) - 1) * self.pitch
        return self.first - self.pitch / 2, last + self.pitch / 2

    def displacement(self, line: torch.Tensor) -> torch.Tensor:
        """Displacement (3, n, n, n) of the points of a cube, mm, patch axes.

        Every point moves with its nearest slice, so that the labels follow the slices as a reader's contours would.

        Args:
            line: positions of the points along each axis, mm from the patch centre, (n,).
        """
        t = self.turn[:, 0]
        along = (float(t[0]) * line)[:, None, None] + (float(t[1]) * line)[:, None] + float(t[2]) * line
        nearest = ((along - self.first) / self.pitch).round().clamp(0, len(self.shifts) - 1).long()
        moves = torch.from_numpy((self.shifts @ self.turn[:, 1:].T).astype(np.float32)).to(line.device)
        return moves.T[:, nearest]


def scan_stack(image: torch.Tensor, stack: SliceStack, spacing: float) -> torch.Tensor:
    """Simulate a scan of an image as a stack: average over slices and pixels, then interpolate linearly.

    The image is rotated to the axes of the stack and back. Its corners, which the rotated grid does not reach, stay
    unchanged.
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
    """(n, n) float64 matrix that averages a line over slices and interpolates linearly between their centres.

    Args:
        n: number of voxels on the line.
        first: centre of the first slice, in voxels from the middle of the line.
        pitch: distance between slice centres, in voxels.
        thickness: slice thickness, in voxels.
        count: number of slices; the outer ones extend to the ends of the line.
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
    """``turn @ q`` for every voxel position q relative to the image centre, in half image sizes, (z, y, x, 3)."""
    half = torch.tensor([n / 2 for n in image.shape], device=image.device)
    lines = (torch.arange(n, device=image.device) + 0.5 - n / 2 for n in image.shape)
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1) @ turn.T / half


def at_places(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Interpolate an image linearly at ``places``; border values extend outside."""
    grid = places.flip(-1)[None]
    return nnf.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
