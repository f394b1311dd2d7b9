"""New hearts from the statistical shape model: momenta are drawn, the template is shot along them.

The model is Rodero et al. 2021 (PLOS Comput Biol 17(4): e1008851), built by Deformetrica: 19 hearts are one template
deformed by a flow of diffeomorphisms. Control points q and momenta p follow Hamilton's equations with the kernel
``K(x, y) = exp(-|x - y|^2 / w^2)``; the template follows the velocity ``v(x) = sum_i K(x, q_i) p_i``.

Arrays of points are (n, 3) in (z, y, x) order and mm, LPS axes, in the model's own frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as nnf

NODE_SPACING = 4.0
"""Distance (mm) of the nodes that a flow is sampled on; less than half of the kernel's width."""
N_SUBJECTS = 19


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Template label map and the deformations that make each subject of it.

    Attributes:
        template: uint8 (z, y, x), labels 0-12 of :mod:`~heartseg.synthesis.regions`.
        spacing: of the template, mm, isotropic.
        origin: centre of the template's voxel (0, 0, 0), mm (z, y, x).
        control_points: float32 (c, 3), mm (z, y, x).
        momenta: float32 (19, c, 3), (z, y, x).
        kernel_width: w, mm.
        steps: Euler steps from 0 to 1.
    """

    template: np.ndarray
    spacing: float
    origin: np.ndarray
    control_points: np.ndarray
    momenta: np.ndarray
    kernel_width: float
    steps: int


@dataclass(frozen=True, eq=False)
class MomentaSpace:
    """Mean and principal modes of the momenta of some subjects; with n subjects there are n - 1 modes.

    Attributes:
        mean: float32 (c, 3).
        modes: float32 (n - 1, c, 3); mode k is scaled to one standard deviation.
        subjects: their numbers, from 1.
    """

    mean: np.ndarray
    modes: np.ndarray
    subjects: tuple[int, ...]

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, model: ShapeModel, subjects: tuple[int, ...]) -> MomentaSpace:
        """The space that ``subjects`` span."""
        chosen = model.momenta[[s - 1 for s in subjects]].astype(np.float64)
        mean = chosen.mean(0)
        centred = (chosen - mean).reshape(len(chosen), -1)
        _, values, rows = np.linalg.svd(centred, full_matrices=False)
        rank = len(chosen) - 1
        modes = rows[:rank] * (values[:rank] / np.sqrt(rank))[:, None]
        shape = model.momenta.shape[1:]
        return cls(mean.astype(np.float32), modes.reshape(-1, *shape).astype(np.float32), subjects)

    @cached_property
    def n_modes(self) -> int:
        return len(self.modes)

    def at(self, coefficients: np.ndarray) -> np.ndarray:
        """Momenta (c, 3) at ``coefficients`` (n_modes,) in standard deviations."""
        return self.mean + np.tensordot(coefficients.astype(np.float32), self.modes, 1)


def draw_coefficients(rng: np.random.Generator, n: int) -> np.ndarray:
    """Coefficients in standard deviations, each within -3 to 3: normal with a spread between 0.6 and 1.5."""
    return np.clip(rng.normal(0, rng.uniform(0.6, 1.5), n), -3, 3)


def draw_momenta(rng: np.random.Generator, model: ShapeModel, space: MomentaSpace) -> np.ndarray:
    """Momenta (c, 3) of a new heart in a space: along the modes (three in four) or a mix of two or three subjects."""
    if rng.random() < 0.75:
        return space.at(draw_coefficients(rng, space.n_modes))
    chosen = rng.choice(space.subjects, rng.integers(2, 4), replace=False)
    weights = rng.dirichlet(np.ones(len(chosen)))
    return np.tensordot(weights.astype(np.float32), model.momenta[chosen - 1], 1)


def shoot(model: ShapeModel, momenta: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Control points and momenta, each (c, 3), at the start of every Euler step."""
    q = torch.from_numpy(np.ascontiguousarray(model.control_points))
    p = torch.from_numpy(np.ascontiguousarray(momenta, dtype=np.float32))
    w2, dt = model.kernel_width**2, 1.0 / model.steps
    course = []
    for _ in range(model.steps):
        course.append((q, p))
        norm = (q * q).sum(1)
        kernel = gaussian((norm[:, None] + norm[None] - 2 * q @ q.T).clamp_(min=0) / w2, 80.0)
        pull = kernel * (p @ p.T)
        change = 2 / w2 * (q * pull.sum(1, keepdim=True) - pull @ q)
        q, p = q + dt * (kernel @ p), p + dt * change
    return course


@dataclass(frozen=True, eq=False)
class NodeGrid:
    """Nodes every ``spacing`` mm from ``low`` (z, y, x), ``shape`` an axis. Fields on it are (3, z, y, x) in mm."""

    low: np.ndarray
    shape: tuple[int, int, int]
    spacing: float = NODE_SPACING

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray, margin: float) -> NodeGrid:
        """The grid that covers a box and ``margin`` mm more on each side."""
        n = np.ceil((high - low + 2 * margin) / NODE_SPACING).astype(int) + 1
        return cls(np.asarray(low - margin, float), (int(n[0]), int(n[1]), int(n[2])))

    def lines(self) -> list[torch.Tensor]:
        """Coordinates (mm) of the nodes along each axis."""
        return [
            torch.arange(n, dtype=torch.float32) * self.spacing + float(a)
            for n, a in zip(self.shape, self.low, strict=True)
        ]

    def points(self) -> torch.Tensor:
        """Node coordinates, (3, z, y, x), mm."""
        return torch.stack(torch.meshgrid(*self.lines(), indexing="ij"))

    def at(self, field: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """A field (c, z, y, x) at ``points`` (3, ...) in mm, linear, its border value outside."""
        scaled = [(points[k] - float(self.low[k])) / self.spacing / (self.shape[k] - 1) * 2 - 1 for k in (2, 1, 0)]
        grid = torch.stack(scaled, -1).reshape(1, 1, 1, -1, 3)
        values = nnf.grid_sample(field[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
        return values.reshape(field.shape[0], *points.shape[1:])


def gaussian(squares: torch.Tensor, far: float) -> torch.Tensor:
    """exp(-squares), and 0 from ``far`` on: products of smaller values are denormal, 35 times as slow on a CPU."""
    return torch.where(squares < far, torch.exp(-squares), 0.0)


def velocity(grid: NodeGrid, q: torch.Tensor, p: torch.Tensor, width: float) -> torch.Tensor:
    """Velocity (3, z, y, x) on the nodes; exact, since a Gaussian kernel is a product along the axes."""
    along = [gaussian(((line[:, None] - q[None, :, k]) / width) ** 2, 25.0) for k, line in enumerate(grid.lines())]
    plane = (along[1].T[:, :, None] * along[2].T[:, None, :]).reshape(len(q), -1)
    return torch.stack([(along[0] * p[:, c]) @ plane for c in range(3)]).reshape(3, *grid.shape)


def backward_map(model: ShapeModel, momenta: np.ndarray, grid: NodeGrid) -> torch.Tensor:
    """Where in the template each node of ``grid`` (in the new heart's space) comes from, (3, z, y, x), mm."""
    points = grid.points()
    dt = 1.0 / model.steps
    for q, p in reversed(shoot(model, momenta)):
        v = velocity(grid, q, p, model.kernel_width)
        guess = points - dt * grid.at(v, points)
        points = points - dt * grid.at(v, guess)
    return points


def sample_template(model: ShapeModel, points: torch.Tensor) -> torch.Tensor:
    """Template label (uint8) nearest to ``points`` (3, ...) in mm; 0 outside it."""
    from .fields import nearest_index

    index, inside = nearest_index(
        [(points[k] - float(model.origin[k])) / model.spacing for k in range(3)], model.template.shape
    )
    labels = torch.from_numpy(np.ascontiguousarray(model.template)).reshape(-1)[index.reshape(-1)]
    return torch.where(inside, labels.reshape(index.shape), 0)
