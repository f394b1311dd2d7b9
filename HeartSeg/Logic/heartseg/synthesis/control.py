"""Control of a flow: fix the apex, move the valve rings, keep the ventricle round or bend its septum.

A given divergence determines a velocity only up to divergence-free fields. This module adds a linear combination of a
few such fields, so that selected rates of the heart (velocities of apex, rings and septum, strains of the ventricle)
reach their targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf

from .flow import MYO, PATCH, RA, RV, Frame, Parts, divergence_flow, interface
from .shape import NodeGrid

RING_WIDTH, SEPTUM_WIDTH = 22.0, 36.0
"""Widths of the local fields that move the tricuspid ring and the septum, mm."""
APICAL_CAP = 8.0
"""Height of the fixed apical cap, mm."""
EDGE_MM = 3.0
"""Width of the soft limits of the cap and of the ventricle at the mitral plane; sharp limits would cause jitter."""


def smoothstep(x: torch.Tensor) -> torch.Tensor:
    """Smooth step: 0 below 0, 1 above 1."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


@dataclass(frozen=True)
class Motion:
    """Motion of the left ventricle and of the base.

    Attributes:
        mitral_mm, tricuspid_mm: descent of each ring towards the apex; negative values raise it.
        twist: rotation of the mitral plane relative to the apex, radians.
        septum_mm: shift of the middle of the septum towards the left ventricle, relative to its edges.
        round: whether to preserve the roundness of the ventricle's cross-section and keep its axis straight.
    """

    mitral_mm: float = 0.0
    tricuspid_mm: float = 0.0
    twist: float = 0.0
    septum_mm: float = 0.0
    round: bool = True


def controlled_flow(
    nodes: NodeGrid, parts: Parts, frame: Frame, divergence: torch.Tensor, motion: Motion, drift: np.ndarray
) -> torch.Tensor:
    """Velocity with a given divergence that fixes the apex, moves the rings, twists, and optionally keeps roundness.

    Twelve modes describe the velocity of the ventricle (translation, strain and rotation about the apex, and twist).
    Divergence-free fields are added so that each mode reaches its target rate. ``drift`` (3,) is the displacement of
    the apex in mm, which the velocity compensates.
    """
    points = nodes.points()
    local = frame.coordinates(points)
    fields = _basis(frame, local, points)
    wanted = np.zeros(14)
    wanted[:3] = -frame.axes @ drift
    wanted[3], wanted[11] = -motion.mitral_mm, motion.twist * frame.length
    wanted[12], wanted[13] = -motion.tricuspid_mm, -motion.septum_mm
    used = [0, 1, 2, 3, 12, *(range(4, 12) if motion.round else ()), *((13,) if motion.septum_mm else ())]
    rates = _rates(frame, local, parts)
    matrix = np.stack([rates(fields[k])[used] for k in used], 1)

    def correction(velocity: torch.Tensor) -> torch.Tensor:
        strength = np.linalg.solve(matrix, (wanted - rates(velocity))[used])
        return torch.stack([float(c) * fields[k] for c, k in zip(strength, used, strict=True)]).sum(0)

    design = correction(divergence_flow(nodes, divergence, None))
    velocity = divergence_flow(nodes, divergence, design)
    return velocity + correction(velocity)


def _modes(frame: Frame, local: torch.Tensor) -> list[torch.Tensor]:
    """Twelve velocity fields in the axes of the ventricle (3, ...), with unit speed at the mitral plane's distance."""
    z, a, b = local / frame.length
    zero, one = torch.zeros_like(z), torch.ones_like(z)
    rows = [
        (one, zero, zero),
        (zero, one, zero),
        (zero, zero, one),
        (z, -a / 2, -b / 2),
        (zero, a, -b),
        (zero, b, a),
        (zero, z, zero),
        (zero, zero, z),
        (a, zero, zero),
        (b, zero, zero),
        (zero, b, -a),
        (zero, z * b, -z * a),
    ]
    return [torch.stack(r) for r in rows]


def _basis(frame: Frame, local: torch.Tensor, points: torch.Tensor) -> list[torch.Tensor]:
    """Fields (3, z, y, x): the modes, fading out across the atria, and local fields at tricuspid ring and septum."""
    fade = 1 - smoothstep((local[0] / frame.length - 1.0) / 0.9)
    back = torch.from_numpy(frame.axes.T.astype(np.float32).copy())
    fields = [torch.tensordot(back, m * fade, 1) for m in _modes(frame, local)]
    ring = _push(points, frame.tricuspid, frame.axes[0], RING_WIDTH)
    return [*fields, ring, _push(points, frame.septum, frame.axes[1], SEPTUM_WIDTH)]


def _push(points: torch.Tensor, centre: np.ndarray, direction: np.ndarray, width: float) -> torch.Tensor:
    """Divergence-free field that moves the vicinity of a point along a direction, (3, z, y, x).

    It is the curl of ``bell * (direction x r) / 2`` = ``bell * (d - (r² d - (d.r) r) / (2 w²))``.
    """
    away = points - torch.from_numpy(centre.astype(np.float32)).view(3, 1, 1, 1)
    d = torch.from_numpy(direction.astype(np.float32)).view(3, 1, 1, 1)
    squares = (away * away).sum(0)
    bell = torch.exp(-squares / (2 * width**2))
    return bell * (d - (squares * d - (d * away).sum(0) * away) / (2 * width**2))


def _rates(frame: Frame, local: torch.Tensor, parts: Parts) -> Callable[[torch.Tensor], np.ndarray]:
    """Return a function that measures 14 rates of a velocity, in the order of :func:`_basis`.

    The first three are the mean velocity of the apical cap. The next nine are least-squares amplitudes of the modes in
    the ventricle (radial growth is fitted too, but omitted). The last two are the velocity of the tricuspid ring along
    the axis and that of the middle of the septum across it, relative to the edges of the septum.
    """
    below = torch.sigmoid((frame.length - local[0]) / EDGE_MM)
    ventricle = (parts.ventricle * below).reshape(-1)
    inside = torch.nonzero(ventricle > 0.01)[:, 0]
    here, root = local.reshape(3, -1)[:, inside], ventricle[inside].sqrt()
    radial = torch.stack([torch.zeros_like(here[0]), *(here[1:] / frame.length)])
    matrix = torch.stack([(m * root).reshape(-1) for m in (*_modes(frame, here), radial)], 1).double()
    inverse = torch.linalg.pinv(matrix)
    axes = torch.from_numpy(frame.axes.astype(np.float32))
    cap = parts.ventricle * torch.sigmoid((APICAL_CAP - local[0]) / EDGE_MM)
    ring = interface(parts, RV, RA)
    middle, edge = septum_weights(frame, local, parts)

    def mean(weight: torch.Tensor, velocity: torch.Tensor) -> np.ndarray:
        near = torch.nonzero(weight.reshape(-1))[:, 0]
        w = weight.reshape(-1)[near]
        return (axes @ (velocity.reshape(3, -1)[:, near] @ w) / w.sum().clamp(min=1e-6)).double().numpy()

    def measure(velocity: torch.Tensor) -> np.ndarray:
        turned = (axes @ velocity.reshape(3, -1)[:, inside] * root).reshape(-1).double()
        bow = mean(middle, velocity)[1] - mean(edge, velocity)[1]
        modes = (inverse @ turned)[3:12].numpy()
        return np.concatenate([mean(cap, velocity), modes, [mean(ring, velocity)[0], bow]])

    return measure


def septum_weights(frame: Frame, local: torch.Tensor, parts: Parts) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (z, y, x) of the middle and of the two edges of the right surface of the septum, at mid height."""
    near = [
        nnf.avg_pool3d(f[None, None], 3, stride=1, padding=1)[0, 0]
        for f in (parts.fractions[MYO] + parts.fractions[PATCH], parts.fractions[RV])
    ]
    height = local[0] / frame.length
    surface = near[0] * near[1] * (height > 0.3) * (height < 0.7)
    if float(surface.sum()) < 1e-3:
        return surface, surface
    reach = float((surface * local[2].abs()).sum() / surface.sum())
    return surface * (local[2].abs() < 0.6 * reach), surface * (local[2].abs() > 1.5 * reach)


def septal_bow(frame: Frame, parts: Parts, nodes: NodeGrid) -> float:
    """Displacement of the middle of the septum to the right of its edges, mm: about 10 if healthy, 0 if flat."""
    local = frame.coordinates(nodes.points())
    middle, edge = septum_weights(frame, local, parts)
    return float((middle * local[1]).sum() / middle.sum() - (edge * local[1]).sum() / edge.sum())
