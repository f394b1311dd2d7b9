"""Steering a flow: the apex held, the valve rings moved, the ventricle kept round or its septum bent.

A velocity of a given divergence is free up to fields without divergence. A few such fields, combined so that chosen
rates of the heart (speeds of apex, rings and septum, strains of the ventricle) come out as wanted, are added to it.
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
"""Widths of the pushes on the tricuspid ring and on the septum, mm."""
APICAL_CAP = 8.0
"""Height of the cap that is held as the apex, mm."""
EDGE_MM = 3.0
"""Softness of the limits of the cap and of the ventricle at the mitral plane: sharp ones would make phases jitter."""


def smoothstep(x: torch.Tensor) -> torch.Tensor:
    """0 below 0, 1 above 1, smooth between."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


@dataclass(frozen=True)
class Motion:
    """Motion of the left ventricle and of the base.

    Attributes:
        mitral_mm, tricuspid_mm: descent of each ring towards the apex; negative lifts it.
        twist: turn of the mitral plane against the apex, radians.
        septum_mm: shift of the middle of the septum towards the left ventricle, against its edges.
        round: keeps the ventricle's cross-section as round as it is and its axis straight.
    """

    mitral_mm: float = 0.0
    tricuspid_mm: float = 0.0
    twist: float = 0.0
    septum_mm: float = 0.0
    round: bool = True


def controlled_flow(
    nodes: NodeGrid, parts: Parts, frame: Frame, divergence: torch.Tensor, motion: Motion, drift: np.ndarray
) -> torch.Tensor:
    """Velocity of a divergence that holds the apex, moves the rings, twists, and keeps the ventricle round if wanted.

    The ventricle's velocities are described by twelve modes (translation, strain and turns about the apex, and twist);
    fields that have no divergence in it are added so that each mode has its wanted rate. ``drift`` (3,) mm is how far
    the apex has left its place; it is brought back.
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
    """Twelve velocity fields in the ventricle's axes (3, ...): unit speed at the mitral plane's distance."""
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
    """Fields (3, z, y, x): the modes, fading out through the atria; pushes on the tricuspid ring and on the septum."""
    fade = 1 - smoothstep((local[0] / frame.length - 1.0) / 0.9)
    back = torch.from_numpy(frame.axes.T.astype(np.float32).copy())
    fields = [torch.tensordot(back, m * fade, 1) for m in _modes(frame, local)]
    ring = _push(points, frame.tricuspid, frame.axes[0], RING_WIDTH)
    return [*fields, ring, _push(points, frame.septum, frame.axes[1], SEPTUM_WIDTH)]


def _push(points: torch.Tensor, centre: np.ndarray, direction: np.ndarray, width: float) -> torch.Tensor:
    """A field without divergence that moves what is near a point along a direction, (3, z, y, x).

    It is the curl of ``bell * (direction x r) / 2`` = ``bell * (d - (r² d - (d.r) r) / (2 w²))``.
    """
    away = points - torch.from_numpy(centre.astype(np.float32)).view(3, 1, 1, 1)
    d = torch.from_numpy(direction.astype(np.float32)).view(3, 1, 1, 1)
    squares = (away * away).sum(0)
    bell = torch.exp(-squares / (2 * width**2))
    return bell * (d - (squares * d - (d * away).sum(0) * away) / (2 * width**2))


def _rates(frame: Frame, local: torch.Tensor, parts: Parts) -> Callable[[torch.Tensor], np.ndarray]:
    """Measures a velocity: 14 rates in the order of :func:`_basis`.

    The first three are the apical cap's mean velocity, the next nine least-squares strengths of the modes over the
    ventricle (growth across the axis is fitted with them and left out), then the tricuspid ring's speed along the axis
    and the middle septum's across it, against the septum's edges.
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
    """Weights (z, y, x) of the middle of the septum's right surface and of its two edges, at mid height."""
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
    """How far the middle of the septum lies to the right of its edges, mm: about 10 in health, 0 if flat."""
    local = frame.coordinates(nodes.points())
    middle, edge = septum_weights(frame, local, parts)
    return float((middle * local[1]).sum() / middle.sum() - (edge * local[1]).sum() / edge.sum())
