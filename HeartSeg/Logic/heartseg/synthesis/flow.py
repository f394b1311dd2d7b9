"""Flows that give every structure of a heart a wanted volume, and its left ventricle a wanted motion.

A heart is a backward map: where in the template each node of a grid comes from (:class:`Heart3D`). It is changed by
small steps along a velocity with prescribed divergence. Divergence is the rate at which volume grows, so a structure
with rate ``s`` changes its volume by ``exp(s dt)``, and one with rate 0 (muscle) keeps it: a wall whose cavity empties
thickens by itself. Of all velocities with that divergence, the one nearest to a design field is taken (Helmholtz
decomposition, solved with a Fourier transform). The remaining freedom, fields without divergence, is used to hold the
apex, to keep the left ventricle round, to move the valve rings and to twist. Volumes are counted anew before each
step, so errors of one step are corrected by the next.

Arrays are (z, y, x), lengths mm, volumes mm³.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as nnf

from .shape import NodeGrid, ShapeModel, sample_template

LV, RV, LA, RA, MYO, AO, PA = 1, 2, 3, 4, 5, 6, 7
PATCH = 13
"""Label of a diseased part of the myocardium, beside the shape model's labels 0-12."""
N_LABELS = 14
FLOW_SPACING = 4.0
"""Distance of the nodes that these flows are computed on, mm."""
MARGIN = 36.0
"""Space around the template, mm: a dilated heart is up to 60 mm longer and wider than the template."""
RING_WIDTH, SEPTUM_WIDTH = 22.0, 36.0
"""Widths of the pushes on the tricuspid ring and on the septum, mm."""
APICAL_CAP = 10.0
"""Height of the cap that is held as the apex, mm."""
BASE_MM = 12.0
"""The wall's thickness is not measured this near to the left atrium and the aorta."""
CORRECTION_GAIN = 1.25
"""Excess of all growth rates in the last, correcting steps: thin structures share their nodes with others."""
PATCH_GAIN = 1.4
"""Excess of a patch's growth rate: part of it is lost to the wall beside it."""
LARGEST_STEP = 0.4
"""Largest change of a structure's volume (log factor) in a step."""


@dataclass(frozen=True, eq=False)
class Heart3D:
    """A heart as a map: ``origin`` (3, z, y, x) is the template point (mm) that each node comes from."""

    model: ShapeModel
    nodes: NodeGrid
    origin: torch.Tensor

    def moved(self, velocity: torch.Tensor) -> Heart3D:
        """The heart after a unit of time along a velocity (3, z, y, x) in mm, by one midpoint step."""
        points = self.nodes.points()
        middle = points - 0.5 * velocity
        back = points - self.nodes.at(velocity, middle)
        shift = self.nodes.at(self.origin - points, back)
        return replace(self, origin=back + shift)


@dataclass(frozen=True, eq=False)
class Parts:
    """What lies at each node.

    Attributes:
        labels: uint8 on a grid of half the nodes' distance.
        fractions: share of each label 0-13 in the node's cell, float32 (14, z, y, x).
        volumes: mm³ of each label, (14,).
    """

    labels: np.ndarray
    fractions: torch.Tensor
    volumes: np.ndarray

    @property
    def ventricle(self) -> torch.Tensor:
        """Share of the left ventricle, cavity and wall, at each node."""
        return self.fractions[LV] + self.fractions[MYO] + self.fractions[PATCH]


def parts_of(heart: Heart3D) -> Parts:
    """Count labels on a grid of half the nodes' distance."""
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
    """The left ventricle's own axes.

    Attributes:
        apex: its outermost point, mm.
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
        """Points (3, ...) as distances along the three axes from the apex, mm."""
        m = torch.from_numpy(self.axes.astype(np.float32))
        shifted = points - torch.from_numpy(self.apex.astype(np.float32)).view(3, *[1] * (points.dim() - 1))
        return torch.tensordot(m, shifted, 1)


def interface(parts: Parts, a: int, b: int) -> torch.Tensor:
    """Weight of each node for lying between two labels, (z, y, x), sum 1."""
    for width in (3, 5, 9, 15, 25):
        near = [
            nnf.avg_pool3d(parts.fractions[k][None, None], width, stride=1, padding=width // 2)[0, 0] for k in (a, b)
        ]
        weight = near[0] * near[1]
        if float(weight.sum()) > 1e-3:
            return weight / weight.sum()
    raise ValueError(f"labels {a} and {b} of the heart do not lie near each other: is the template a heart?")


def frame_of(heart: Heart3D, parts: Parts) -> Frame:
    """The left ventricle's axes in the present heart."""
    points = heart.nodes.points()
    mitral, tricuspid = (
        (interface(parts, *pair) * points).sum((1, 2, 3)).double().numpy() for pair in ((LV, LA), (RV, RA))
    )
    cavity, right = (_centre(parts.fractions[k], points) for k in (LV, RV))
    along = mitral - cavity
    inside = points[:, parts.ventricle > 0.5].double().numpy()
    for _ in range(3):
        along = along / np.linalg.norm(along)
        height = along @ inside
        apex = inside[:, height <= np.quantile(height, 0.004)].mean(1)
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
    """The velocity (3, z, y, x) nearest to ``design`` (default 0) whose divergence is ``divergence`` (default 0).

    The grid is periodic; the mean of the divergence is spread over it.
    """
    k = _wave_numbers(nodes)
    squares = sum(a * a for a in k)
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
    ventricle = parts.ventricle * (local[0] < frame.length)
    inside = torch.nonzero((ventricle > 0.5).reshape(-1))[:, 0][::3]
    here = local.reshape(3, -1)[:, inside]
    radial = torch.stack([torch.zeros_like(here[0]), *(here[1:] / frame.length)])
    matrix = torch.stack([m.reshape(-1) for m in (*_modes(frame, here), radial)], 1).double()
    inverse = torch.linalg.pinv(matrix)
    axes = torch.from_numpy(frame.axes.astype(np.float32))
    cap = parts.ventricle * (local[0] < APICAL_CAP)
    ring, middle, edge = interface(parts, RV, RA), *septum_weights(frame, local, parts)

    def mean(weight: torch.Tensor, velocity: torch.Tensor) -> np.ndarray:
        near = torch.nonzero(weight.reshape(-1))[:, 0]
        w = weight.reshape(-1)[near]
        return (axes @ (velocity.reshape(3, -1)[:, near] @ w) / w.sum().clamp(min=1e-6)).double().numpy()

    def measure(velocity: torch.Tensor) -> np.ndarray:
        turned = (axes @ velocity.reshape(3, -1)[:, inside]).reshape(-1).double()
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


Weights = Callable[[Frame, torch.Tensor], torch.Tensor]
"""Relative rate of growth at points given in the ventricle's axes (3, z, y, x): from frame and coordinates."""


@dataclass(frozen=True)
class Course:
    """What a heart shall become.

    Attributes:
        factors: wanted volume factor of each label; labels 1-13 that are not named keep their volume.
        motion: over the whole course.
        thickness: wanted thickness (mm) of the myocardium (5) and of its diseased patch (13), instead of a factor.
        septal_bow: wanted bow of the septum, mm (:func:`septal_bow`).
        weights: by label, where in it volume is gained or lost.
        steps: of the course; a few more correct what is missing at the end.
    """

    factors: Mapping[int, float]
    motion: Motion = field(default_factory=Motion)
    thickness: Mapping[int, float] = field(default_factory=dict)
    septal_bow: float | None = None
    weights: Mapping[int, Weights] = field(default_factory=dict)
    steps: int = 5
    corrections: int = 3


@dataclass(frozen=True, eq=False)
class _Start:
    """A course's first state: volumes, axes, thickness by label, bow of the septum."""

    volumes: np.ndarray
    frame: Frame
    thickness: dict[int, float]
    bow: float


def run_course(heart: Heart3D, course: Course) -> Heart3D:
    """Change a heart along a course: volumes on logarithmic ways, base, septum and twist evenly."""
    parts = parts_of(heart)
    frame = frame_of(heart, parts)
    bow = septal_bow(frame, parts, heart.nodes) if course.septal_bow is not None else 0.0
    error = _coarse_error(heart, parts, course)
    thickness = {k: v + error[k] for k, v in _thickness(heart, parts, course).items()}
    start = _Start(parts.volumes, frame, thickness, bow)
    for step in range(course.steps + course.corrections):
        done = min(1.0, (step + 1) / course.steps)
        frame = frame_of(heart, parts)
        if step == course.steps:
            error = _coarse_error(heart, parts, course)
        now = {k: v + error[k] for k, v in _thickness(heart, parts, course).items()}
        gain = 1.0 if step < course.steps else CORRECTION_GAIN
        divergence = gain * _divergence(heart, parts, frame, course, _Progress(start, now, done))
        motion = _missing(heart, parts, frame, course, start, step)
        drift = frame.apex - start.frame.apex
        heart = heart.moved(controlled_flow(heart.nodes, parts, frame, divergence, motion, drift))
        parts = parts_of(heart)
    return heart


def _missing(heart: Heart3D, parts: Parts, frame: Frame, course: Course, start: _Start, step: int) -> Motion:
    """Motion of this step: what each ring and the septum are short of their places."""
    done = min(1.0, (step + 1) / course.steps)
    then, m = start.frame, course.motion
    mitral, tricuspid = (
        -(a - b) @ then.axes[0] for a, b in ((frame.mitral, then.mitral), (frame.tricuspid, then.tricuspid))
    )
    bow = 0.0
    if course.septal_bow is not None:
        goal = start.bow + done * (course.septal_bow - start.bow)
        bow = float(np.clip(septal_bow(frame, parts, heart.nodes) - goal, -5, 5))
    return Motion(
        m.mitral_mm * done - float(mitral),
        m.tricuspid_mm * done - float(tricuspid),
        m.twist / course.steps if step < course.steps else 0.0,
        bow,
        m.round,
    )


@dataclass(frozen=True, eq=False)
class _Progress:
    """Where a course is: its start, the thickness (mm) now by label, and the share that is to be done after the step."""

    start: _Start
    thickness: dict[int, float]
    done: float


def _divergence(heart: Heart3D, parts: Parts, frame: Frame, course: Course, progress: _Progress) -> torch.Tensor:
    """Divergence (z, y, x) of a step: each label on its way from its first to its last volume or thickness."""
    total = torch.zeros(heart.nodes.shape)
    local = frame.coordinates(heart.nodes.points()) if course.weights else None
    start, now, done = progress.start, progress.thickness, progress.done
    for label in range(1, N_LABELS):
        if parts.volumes[label] < 1:
            continue
        if label in now:
            first = start.thickness[label]
            change = first * (course.thickness[label] / first) ** done / now[label]
        else:
            change = start.volumes[label] * course.factors.get(label, 1.0) ** done / parts.volumes[label]
        rate = float(np.clip(np.log(change), -LARGEST_STEP, LARGEST_STEP))
        share = PATCH_GAIN * _blurred_patch(parts) if label == PATCH else parts.fractions[label]
        if label in course.weights and local is not None:
            weight = course.weights[label](frame, local)
            share = share * weight * (share.sum() / (share * weight).sum().clamp(min=1e-6))
        total += rate * share
    return total


def _blurred_patch(parts: Parts) -> torch.Tensor:
    """The patch's share, spread smoothly over the myocardium beside it."""
    wall = parts.fractions[MYO] + parts.fractions[PATCH]
    spread = nnf.avg_pool3d(parts.fractions[PATCH][None, None], 3, stride=1, padding=1)
    around = nnf.avg_pool3d(wall[None, None], 3, stride=1, padding=1)
    return wall * (spread / around.clamp(min=1e-3))[0, 0].clamp(max=1)


def _thickness(heart: Heart3D, parts: Parts, course: Course) -> dict[int, float]:
    """Thickness (mm) of the parts of the wall whose thickness the course sets."""
    if not course.thickness:
        return {}
    return {k: wall_of(parts.labels, k, heart.nodes.spacing / 2) for k in course.thickness}


def _coarse_error(heart: Heart3D, parts: Parts, course: Course) -> dict[int, float]:
    """What :func:`_thickness` lacks (mm) against the same measure at about 1 mm."""
    if not course.thickness:
        return {}
    points = torch.nonzero(parts.ventricle > 0.05)
    low, high = (f(points, 0).clamp(min=2) for f in (torch.amin, torch.amax))
    box = tuple(slice(int(a) - 2, int(b) + 3) for a, b in zip(low, high, strict=True))
    fine = nnf.interpolate(heart.origin[(slice(None), *box)][None], scale_factor=4, mode="trilinear")[0]
    labels = sample_template(heart.model, fine).numpy()
    coarse = _thickness(heart, parts, course)
    return {k: wall_of(labels, k, heart.nodes.spacing / 4) - coarse[k] for k in course.thickness}


def wall_of(labels: np.ndarray, label: int, spacing: float) -> float:
    """Thickness (mm) of the myocardium: the mean of label 5 away from the base, or of a patch's thicker half.

    Measured as in :func:`~heartseg.synthesis.statistics.wall_thickness`. 0 where there is none.
    """
    found = np.argwhere(np.isin(labels, (LV, MYO, PATCH)))
    if not len(found):
        return 0.0
    box = tuple(slice(max(0, a - 2), b + 3) for a, b in zip(found.min(0), found.max(0), strict=True))
    part = np.pad(labels[box], 1)
    where = part == label
    base = np.isin(part, (LA, AO, 9, 11))
    if label == MYO and base.any():
        where &= ndi.distance_transform_edt(~base) * spacing >= BASE_MM
    if not where.any() or not (part == LV).any():
        return 0.0
    through = ndi.distance_transform_edt(part != LV) + ndi.distance_transform_edt(np.isin(part, (LV, MYO, PATCH)))
    values = (through[where] - 0.5) * spacing
    if label == MYO:
        return float(values.mean())
    low, high = np.percentile(values, (50, 95))
    return float(values[(values >= low) & (values <= high)].mean())
