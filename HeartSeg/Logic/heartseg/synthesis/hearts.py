"""Make a heart from the shape model: deform, remodel chambers and walls, pose, add detail (1 mm, z y x, LPS)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as nnf

from .fields import coarse_distance, rotation_matrix, smooth_noise
from .regions import TARGET_OF_HEART, Region
from .shape import MomentaSpace, NodeGrid, ShapeModel, backward_map, draw_momenta, sample_template

SIZE = 216
"""Edge length of the cube that holds a heart, in voxels of 1 mm."""
TRAINING_SUBJECTS = tuple(range(1, 15))
VALIDATION_SUBJECTS = (15, 16)
RESERVED_SUBJECTS = (17, 18, 19)
FLOW_STEPS = 4
"""Integration steps of the chamber changes."""
FLOW_CORRECTIONS = 6
"""Maximum number of corrections of the flow towards the requested chamber volumes."""
VOLUME_TOLERANCE = 0.05
"""Error of the chamber volumes (log factor) below which the corrections stop."""


@dataclass(frozen=True)
class Pose:
    """Random pose and elastic deformation of a heart: maps the cube to the model, mm, axes z y x."""

    matrix: np.ndarray
    centre: np.ndarray
    elastic: tuple[tuple[np.ndarray, float], ...]


@dataclass(frozen=True)
class Remodelling:
    """Number of 1 mm layers that each wall loses, and that the LV cavity and the outer LV wall gain."""

    thinning: dict[int, int]
    cavity_layers: int
    epicardial_layers: int


@dataclass
class Heart:
    """A heart in its cube: ``labels`` with the model's 12 labels, ``regions`` with added detail, ``target`` 0-7.

    ``facts`` records how it was made. ``aorta_mm`` and ``pulmonary_mm`` are the inner diameters of the added parts of
    the ascending aorta and the pulmonary trunk. With None the aorta continues at its own diameter, and the diameter of
    the pulmonary trunk is random.
    """

    labels: np.ndarray
    regions: np.ndarray
    target: np.ndarray
    facts: dict[str, object] = field(default_factory=dict)
    aorta_mm: float | None = None
    pulmonary_mm: float | None = None


WALL_OF = {2: 8, 3: 9, 4: 10, 6: 11, 7: 12}


def draw_shape(
    rng: np.random.Generator, model: ShapeModel, subject: int | None, without: frozenset[str] = frozenset()
) -> np.ndarray:
    """Draw the momenta (c, 3) of a heart.

    If ``subject`` is None, the momenta are drawn in the space of the training subjects (13 modes; with "modes" in
    ``without``, one of the subjects). A number selects that subject, with its deformation scaled by 0.9-1.1.
    """
    if subject is not None:
        return model.momenta[subject - 1] * np.float32(rng.uniform(0.9, 1.1))
    if "modes" in without:
        return model.momenta[int(rng.choice(TRAINING_SUBJECTS)) - 1]
    return draw_momenta(rng, model, MomentaSpace.of(model, TRAINING_SUBJECTS))


def draw_chamber_factors(rng: np.random.Generator) -> dict[int, float]:
    """Draw the volume factor of each cavity (labels 1-4) relative to the healthy end-diastolic heart.

    Both ventricles share the cardiac phase: a third of the hearts are systolic (0.35-0.8), a quarter dilated (up to 2)
    and the rest near diastole. Each ventricle then varies independently. Atrial factors range from 0.55 to 2.4.
    """
    u, kind = rng.uniform, rng.random()
    beat = u(0.35, 0.8) if kind < 0.33 else u(1.2, 2.0) if kind < 0.58 else u(0.8, 1.2)
    atria = float(np.exp(u(np.log(0.6), np.log(2.1))))
    return {
        1: beat * float(np.exp(rng.normal(0, 0.12))),
        2: beat * float(np.exp(rng.normal(0, 0.22))),
        3: atria * float(np.exp(rng.normal(0, 0.15))),
        4: atria * float(np.exp(rng.normal(0, 0.2))),
    }


def chamber_flow(nodes: NodeGrid, labels: torch.Tensor, factors: dict[int, float], with_wall: bool) -> torch.Tensor:
    """Velocity (3, z, y, x) that expands or shrinks chambers about their centres by the given volume factors.

    The scaling of a chamber fades out over about 8 mm beyond it, so that its neighbours move too. With ``with_wall``
    the LV wall moves along (dilation); otherwise the cavity grows into the wall (which thins) or shrinks away from it
    (which thickens it).
    """
    points, total = nodes.points(), torch.zeros(3, *nodes.shape)
    for label, factor in factors.items():
        mask = (labels == label) | ((labels == 5) & (label == 1) & with_wall)
        if int(mask.sum()) < 4:
            continue
        centre = points[:, labels == label].mean(1)
        weight = torch.from_numpy(ndi.gaussian_filter(mask.numpy().astype(np.float32), 8.0 / nodes.spacing))
        weight = weight / weight.max()
        total += float(np.log(factor)) / 3 * 1.35 * weight * (points - centre[:, None, None, None])
    return total


def strengths_for(
    nodes: NodeGrid, model: ShapeModel, origin: torch.Tensor, factors: dict[int, float], with_wall: bool
) -> dict[int, float]:
    """Find the factors for :func:`chamber_flow` that change the chamber volumes by ``factors``.

    The flows of neighbouring chambers overlap, so each volume changes by less than its factor. This function counts
    the resulting labels on the nodes and adds the missing log factor to the strength of each chamber, repeatedly.
    """
    labels = sample_template(model, origin)
    wanted = {k: f for k, f in factors.items() if int((labels == k).sum()) >= 4}
    before = {k: int((labels == k).sum()) for k in wanted}
    strengths, best, least = dict(wanted), dict(wanted), np.inf
    for _ in range(FLOW_CORRECTIONS):
        made = sample_template(
            model, nodes.at(origin, _against_flow(nodes, labels, strengths, with_wall, nodes.points()))
        )
        missing = {k: float(np.log(f * before[k] / max(1, int((made == k).sum())))) for k, f in wanted.items()}
        worst = max(map(abs, missing.values()), default=0.0)
        if worst < least:
            best, least = dict(strengths), worst
        if worst < VOLUME_TOLERANCE:
            break
        for k, log_factor in missing.items():
            strengths[k] = float(np.exp(np.clip(np.log(strengths[k]) + log_factor, -2.5, 2.5)))
    return best


def _against_flow(
    nodes: NodeGrid, labels: torch.Tensor, factors: dict[int, float], with_wall: bool, points: torch.Tensor
) -> torch.Tensor:
    """Map ``points`` (3, ...) in the changed heart to the unchanged one."""
    flow = chamber_flow(nodes, labels, factors, with_wall)
    for _ in range(FLOW_STEPS):
        points = points - nodes.at(flow, points) / FLOW_STEPS
    return points


def draw_pose(rng: np.random.Generator, size: int = SIZE) -> Pose:
    """Draw a scale of 0.8-1.13, rotations up to 20 degrees, a shift up to 14 mm, two elastic fields (SD up to 3 mm)."""
    scale = rng.uniform(0.84, 1.08) * rng.uniform(0.95, 1.05, 3)
    matrix = rotation_matrix(np.deg2rad(rng.uniform(-20, 20, 3))) @ np.diag(1 / scale)
    elastic = []
    for spacing, amplitude in ((40, rng.uniform(0, 3.0)), (20, rng.uniform(0, 1.2))):
        n = size // spacing + 2
        elastic.append((rng.standard_normal((1, 3, n, n, n)).astype(np.float32), amplitude))
    return Pose(matrix, np.full(3, size / 2) + rng.uniform(-14, 14, 3), tuple(elastic))


def still_pose(size: int = SIZE) -> Pose:
    """Pose of the model itself, in the middle of the cube."""
    return Pose(np.eye(3), np.full(3, size / 2), ())


def shape_labels(
    model: ShapeModel,
    momenta: np.ndarray,
    factors: dict[int, float] | None,
    with_wall: bool,
    pose: Pose,
    exact: bool = True,
) -> np.ndarray:
    """Labels 0-12 (uint8, ``SIZE`` cube) of a heart: the deformed template with changed chambers, posed.

    With ``exact`` the chambers reach the requested volumes. Without it the factors go to the flow uncorrected, which
    achieves 40 to 65 % of a change.
    """
    extent = np.array(model.template.shape) * model.spacing
    nodes = NodeGrid.around(model.origin, model.origin + extent, 28.0)
    origin = backward_map(model, momenta, nodes)
    labels = sample_template(model, origin)
    centre = nodes.points()[:, labels > 0].mean(1)
    points = _pose_nodes(pose, centre)
    if factors is not None:
        strengths = strengths_for(nodes, model, origin, factors, with_wall) if exact else factors
        points = _against_flow(nodes, labels, strengths, with_wall, points)
    inside = torch.stack([(points[k] - float(nodes.low[k])) / nodes.spacing for k in range(3)])
    last = torch.tensor(nodes.shape).view(3, 1, 1, 1) - 1
    outside = (inside < 0).any(0) | (inside > last).any(0)
    source = nodes.at(origin, points)
    source[:, outside] = -1e4
    fine = nnf.interpolate(source[None], size=(SIZE,) * 3, mode="trilinear", align_corners=True)[0]
    return sample_template(model, fine).numpy()


def _pose_nodes(pose: Pose, centre: torch.Tensor) -> torch.Tensor:
    """Model coordinates (3, n, n, n) of nodes spaced evenly in the cube, about 4 mm apart."""
    n = SIZE // 4 + 1
    line = torch.linspace(0, SIZE - 1, n)
    axes = [line - float(c) for c in pose.centre]
    m = torch.from_numpy(pose.matrix.astype(np.float32))
    points = torch.stack(
        [
            m[k, 0] * axes[0][:, None, None] + m[k, 1] * axes[1][None, :, None] + m[k, 2] * axes[2][None, None, :]
            for k in range(3)
        ]
    )
    for values, amplitude in pose.elastic:
        points += (
            amplitude
            * nnf.interpolate(torch.from_numpy(values), size=(n,) * 3, mode="trilinear", align_corners=True)[0]
        )
    return points + centre[:, None, None, None]


def draw_remodelling(rng: np.random.Generator) -> Remodelling:
    """Thin the walls towards the 1-2 mm of real atria and right ventricles; thin or thicken the LV wall."""
    choices = {2: (0, 1, 2, 2, 3), 3: (0, 1, 1, 2), 4: (0, 1, 1, 2), 6: (0, 1, 1, 2), 7: (0, 1, 2, 2)}
    return Remodelling(
        thinning={label: int(rng.choice(c)) for label, c in choices.items()},
        cavity_layers=int(rng.choice([-3, -2, -1, 0, 0, 0, 1, 2, 3])),
        epicardial_layers=int(rng.choice([0, 0, 0, 0, 1, 2, 3])),
    )


def remodel(labels: np.ndarray, change: Remodelling) -> np.ndarray:
    """Apply a remodelling to a (cropped) label map."""
    c = labels.copy()
    depth = coarse_distance(c > 0)
    for blood, wall in WALL_OF.items():
        layers = change.thinning[blood]
        if layers:
            reach = ndi.binary_dilation(c == blood, iterations=layers, mask=(c == blood) | (c == wall))
            c[reach & (c == wall)] = blood
    if change.cavity_layers > 0:
        may = (c == 1) | ((c == 5) & (depth > 4))
        c[ndi.binary_dilation(c == 1, iterations=change.cavity_layers, mask=may) & (c == 5)] = 1
    elif change.cavity_layers < 0:
        cavity = c == 1
        kept = ndi.binary_erosion(cavity | (c == 3) | (c == 6), iterations=-change.cavity_layers)
        c[cavity & ~kept] = 5
    if change.epicardial_layers:
        c[ndi.binary_dilation(c == 5, iterations=change.epicardial_layers) & (c == 0)] = 5
    return c


def septum_to_myocardium(labels: np.ndarray) -> np.ndarray:
    """Relabel the septal part of the model's RV wall, which lies on the LV wall, as myocardium; returns a copy."""
    c = labels.copy()
    depth = coarse_distance(c > 0)
    c[(c == 8) & (depth > 5) & ndi.binary_dilation(c == 5, iterations=3)] = 5
    return c


def add_detail(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Draw papillary muscles, trabeculae and valve leaflets into the blood; returns regions, keeps the labels."""
    r = labels.copy()
    from_myocardium = coarse_distance(labels != 5)
    blobs = smooth_noise(rng, labels.shape, rng.uniform(5, 9))
    papillary = (labels == 1) & (from_myocardium < rng.uniform(4, 14)) & (blobs > rng.uniform(0.8, 2.2))
    r[papillary] = Region.PAPILLARY
    from_wall = coarse_distance(~np.isin(labels, (5, 8)))
    blobs = smooth_noise(rng, labels.shape, rng.uniform(4, 7))
    trabecula = (labels == 2) & (from_wall < rng.uniform(3, 14)) & (blobs > rng.uniform(0.7, 2.0))
    r[trabecula] = Region.TRABECULA
    gaps = smooth_noise(rng, labels.shape, 12)
    for chambers, region in (((1, 3, 6), Region.LEFT_VALVE), ((2, 4, 7), Region.RIGHT_VALVE)):
        inside = np.isin(labels, chambers)
        highest = ndi.maximum_filter(np.where(inside, labels, 0), size=3)
        lowest = ndi.minimum_filter(np.where(inside, labels, 99), size=3)
        leaflet = inside & ((highest != labels) | (lowest != labels))
        r[leaflet & (gaps > rng.uniform(-2, 1.5))] = region
    return r


def make_heart(
    rng: np.random.Generator,
    model: ShapeModel,
    subject: int | None = None,
    without: frozenset[str] = frozenset(),
    exact: bool = True,
) -> Heart:
    """Make a heart in its cube (1 mm).

    For ``subject`` see :func:`draw_shape`, for ``without`` :mod:`~heartseg.synthesis.switches`, for ``exact``
    :func:`shape_labels`.
    """
    momenta = draw_shape(rng, model, subject, without)
    factors = None if "chambers" in without else draw_chamber_factors(rng)
    with_wall = bool(rng.random() < 0.5)
    pose = still_pose() if "pose" in without else draw_pose(rng)
    whole = shape_labels(model, momenta, factors, with_wall, pose, exact)
    low = np.argwhere(whole[::2, ::2, ::2] > 0).min(0) * 2
    high = np.argwhere(whole[::2, ::2, ::2] > 0).max(0) * 2
    box = tuple(slice(max(a - 8, 0), min(b + 9, SIZE)) for a, b in zip(low, high, strict=True))
    cropped = septum_to_myocardium(whole[box])
    if "walls" not in without:
        cropped = remodel(cropped, draw_remodelling(rng))
    labels, regions, target = (np.zeros((SIZE,) * 3, np.uint8) for _ in range(3))
    heart = Heart(labels, regions, target)
    heart.labels[box] = cropped
    heart.regions[box] = cropped if "detail" in without else add_detail(rng, cropped)
    heart.target[box] = TARGET_OF_HEART[cropped]
    heart.facts = {"chamber_factors": {str(k): round(v, 3) for k, v in (factors or {}).items()}}
    return heart
