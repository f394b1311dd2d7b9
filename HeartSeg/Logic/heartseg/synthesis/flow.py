"""Hearts as backward maps, and velocities with prescribed divergence.

A heart (:class:`Heart3D`) maps each node of a grid to its position in the template. It is deformed in small steps along
a velocity. The divergence of the velocity is the growth rate of volume: a structure with rate ``s`` changes its volume
by ``exp(s dt)``, and a structure with rate 0 (muscle) keeps it, so the wall of an emptying cavity thickens. Of all
velocities with a given divergence, :func:`divergence_flow` returns the one nearest to a design field (Helmholtz
decomposition, solved with a Fourier transform). :mod:`~heartseg.synthesis.control` adds divergence-free fields that
control the ventricle and the base; :mod:`~heartseg.synthesis.course` takes the steps.

Arrays are (z, y, x), lengths mm, volumes mm³.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as nnf

from .shape import NodeGrid, ShapeModel, sample_template

LV, RV, LA, RA, MYO, AO, PA = 1, 2, 3, 4, 5, 6, 7
PATCH = 13
"""Label of a diseased part of the myocardium, in addition to labels 0-12 of the shape model."""
N_LABELS = 14
FLOW_SPACING = 4.0
"""Distance between the nodes on which flows are computed, mm."""
APEX_SOFTNESS = 2.0
"""Decay length (mm) of the weights that define the apex; a sharp limit would make it jump between nodes."""
MARGIN = 36.0
"""Margin around the template, mm; a dilated heart is up to 60 mm longer and wider than the template."""


@dataclass(frozen=True, eq=False)
class Heart3D:
    """A heart as a backward map: ``origin`` (3, z, y, x) is the template point (mm) of each node."""

    model: ShapeModel
    nodes: NodeGrid
    origin: torch.Tensor

    def moved(self, velocity: torch.Tensor) -> Heart3D:
        """Move the heart along a velocity (3, z, y, x) in mm for one unit of time, with one midpoint step."""
        points = self.nodes.points()
        middle = points - 0.5 * velocity
        back = points - self.nodes.at(velocity, middle)
        shift = self.nodes.at(self.origin - points, back)
        return replace(self, origin=back + shift)


@dataclass(frozen=True, eq=False)
class Parts:
    """Labels of a heart and their fractions at each node.

    Attributes:
        labels: uint8, on a grid with half the node spacing.
        fractions: fraction of each label 0-13 in the cell of each node, float32 (14, z, y, x).
        volumes: volume of each label in mm³, (14,).
    """

    labels: np.ndarray
    fractions: torch.Tensor
    volumes: np.ndarray

    @property
    def ventricle(self) -> torch.Tensor:
        """Fraction of the left ventricle (cavity and wall) at each node."""
        return self.fractions[LV] + self.fractions[MYO] + self.fractions[PATCH]


def parts_of(heart: Heart3D) -> Parts:
    """Count labels on a grid with half the node spacing."""
    fine = nnf.interpolate(heart.origin[None], scale_factor=2, mode="trilinear", align_corners=False)[0]
    labels = sample_template(heart.model, fine)
    n = heart.nodes.shape
    cells = torch.arange(int(np.prod(n)), dtype=torch.int32).view(n[0], 1, n[1], 1, n[2], 1)
    index = labels.view(n[0], 2, n[1], 2, n[2], 2).to(torch.int32) * cells.numel() + cells
    counts = torch.bincount(index.reshape(-1), minlength=N_LABELS * cells.numel())
    fractions = counts.reshape(N_LABELS, *n).float() / 8
    return Parts(labels.numpy(), fractions, fractions.sum((1, 2, 3)).double().numpy() * heart.nodes.spacing**3)


@dataclass(frozen=True, eq=False)
class Frame:
    """Axes of the left ventricle.

    Attributes:
        apex: outer end of the ventricle, mm, averaged over a few millimetres.
        mitral, tricuspid: centres of the valve planes, mm.
        axes: rows are the unit vectors from the apex to the mitral plane, across towards the right ventricle, and
            perpendicular to both.
        septum: middle of the septum, mm.
        length: from the apex to the mitral plane, mm.
    """

    apex: np.ndarray
    mitral: np.ndarray
    tricuspid: np.ndarray
    septum: np.ndarray
    axes: np.ndarray
    length: float

    def coordinates(self, points: torch.Tensor) -> torch.Tensor:
        """Convert points (3, ...) to distances from the apex along the three axes, mm."""
        m = torch.from_numpy(self.axes.astype(np.float32))
        shifted = points - torch.from_numpy(self.apex.astype(np.float32)).view(3, *[1] * (points.dim() - 1))
        return torch.tensordot(m, shifted, 1)


def interface(parts: Parts, a: int, b: int) -> torch.Tensor:
    """Weights (z, y, x) of the nodes at the interface of two labels, with sum 1."""
    for width in (3, 5, 9, 15, 25):
        near = [
            nnf.avg_pool3d(parts.fractions[k][None, None], width, stride=1, padding=width // 2)[0, 0] for k in (a, b)
        ]
        weight = near[0] * near[1]
        if float(weight.sum()) > 1e-3:
            return weight / weight.sum()
    raise ValueError(f"labels {a} and {b} of the heart are not adjacent: check that the template is a heart")


def frame_of(heart: Heart3D, parts: Parts) -> Frame:
    """Compute the axes of the left ventricle of a heart."""
    points = heart.nodes.points()
    mitral, tricuspid = (
        (interface(parts, *pair) * points).sum((1, 2, 3)).double().numpy() for pair in ((LV, LA), (RV, RA))
    )
    cavity, right = (_centre(parts.fractions[k], points) for k in (LV, RV))
    along = mitral - cavity
    share = parts.ventricle.reshape(-1)
    found = torch.nonzero(share)[:, 0]
    inside, shares = points.reshape(3, -1)[:, found].double().numpy(), share[found].double().numpy()
    for _ in range(3):
        along = along / np.linalg.norm(along)
        height = along @ inside
        weight = shares * np.exp(-(height - height.min()) / APEX_SOFTNESS)
        apex = inside @ weight / weight.sum()
        along = mitral - apex
    length = float(np.linalg.norm(along))
    along = along / length
    across = right - cavity
    across = across - across @ along * along
    across /= np.linalg.norm(across)
    septum = (interface(parts, MYO, RV) * points).sum((1, 2, 3)).double().numpy()
    return Frame(apex, mitral, tricuspid, septum, np.stack([along, across, np.cross(along, across)]), length)


def _centre(weight: torch.Tensor, points: torch.Tensor) -> np.ndarray:
    return ((weight * points).sum((1, 2, 3)) / weight.sum()).double().numpy()


def divergence_flow(nodes: NodeGrid, divergence: torch.Tensor | None, design: torch.Tensor | None) -> torch.Tensor:
    """Velocity (3, z, y, x) nearest to ``design`` (default 0) with divergence ``divergence`` (default 0).

    The grid is periodic, so the mean of the divergence is subtracted.
    """
    k = _wave_numbers(nodes)
    squares = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    squares = torch.where(squares == 0, 1.0, squares)
    total = torch.zeros(nodes.shape) if divergence is None else divergence
    potential = torch.fft.rfftn(total) / squares
    if design is not None:
        waves = [torch.fft.rfftn(d) for d in design]
        potential = potential - 1j * sum(a * w for a, w in zip(k, waves, strict=True)) / squares
    potential[0, 0, 0] = 0
    # With div v = s and v = design + grad(phi): phi = -(s - div design) / k².
    gradient = torch.stack([torch.fft.irfftn(-1j * a * potential, s=nodes.shape) for a in k])
    return gradient if design is None else design + gradient


def _wave_numbers(nodes: NodeGrid) -> list[torch.Tensor]:
    n = nodes.shape
    waves = [torch.fft.fftfreq(n[0]), torch.fft.fftfreq(n[1]), torch.fft.rfftfreq(n[2])]
    turned = [2 * np.pi / nodes.spacing * w for w in waves]
    for w, size in zip(turned, n, strict=True):
        if size % 2 == 0:
            w[size // 2] = 0  # the derivative of the highest wave is not real
    return [turned[0][:, None, None], turned[1][None, :, None], turned[2][None, None, :]]
