"""New hearts from the statistical shape model: draw momenta and deform the template along them.

The model is that of Rodero et al. 2021 (PLOS Comput Biol 17(4): e1008851), built with Deformetrica. It describes 19
hearts as deformations of one template by a flow of diffeomorphisms. Control points q and momenta p follow Hamilton's
equations with the kernel
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
"""Distance (mm) between the nodes on which a flow is sampled; less than half the kernel width."""
N_SUBJECTS = 19


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Template label map and the deformation from it to each subject.

    Attributes:
        template: uint8 (z, y, x), labels 0-12 of :mod:`~heartseg.synthesis.regions`.
        spacing: voxel size of the template, mm, isotropic.
        origin: centre of the template's voxel (0, 0, 0), mm (z, y, x).
        control_points: float32 (c, 3), mm (z, y, x).
        momenta: float32 (19, c, 3), (z, y, x).
        kernel_width: width w of the kernel, mm.
        steps: number of Euler steps from 0 to 1.
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
    """Mean and principal modes of the momenta of some subjects; n subjects have n - 1 modes.

    Attributes:
        mean: float32 (c, 3).
        modes: float32 (n - 1, c, 3); mode k is scaled to one standard deviation.
        subjects: numbers of the subjects, from 1.
    """

    mean: np.ndarray
    modes: np.ndarray
    subjects: tuple[int, ...]

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, model: ShapeModel, subjects: tuple[int, ...]) -> MomentaSpace:
        """Space spanned by ``subjects``."""
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
    """Draw normal coefficients with a standard deviation between 0.6 and 1.5, clipped to -3 to 3."""
    return np.clip(rng.normal(0, rng.uniform(0.6, 1.5), n), -3, 3)


def draw_momenta(rng: np.random.Generator, model: ShapeModel, space: MomentaSpace) -> np.ndarray:
    """Draw the momenta (c, 3) of a new heart: along the modes (75 %), else a mixture of two or three subjects."""
    if rng.random() < 0.75:
        return space.at(draw_coefficients(rng, space.n_modes))
    chosen = rng.choice(space.subjects, rng.integers(2, 4), replace=False)
    weights = rng.dirichlet(np.ones(len(chosen)))
    return np.tensordot(weights.astype(np.float32), model.momenta[chosen - 1], 1)


def shoot(model: ShapeModel, momenta: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return control points and momenta, each (c, 3), at the start of every Euler step."""
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
    """Grid of ``shape`` nodes, ``spacing`` mm apart, from ``low`` (z, y, x). Its fields are (3, z, y, x) in mm."""

    low: np.ndarray
    shape: tuple[int, int, int]
    spacing: float = NODE_SPACING

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray, margin: float) -> NodeGrid:
        """Grid that covers a box with ``margin`` mm on each side."""
        n = np.ceil((high - low + 2 * margin) / NODE_SPACING).astype(int) + 1
        return cls(np.asarray(low - margin, float), (int(n[0]), int(n[1]), int(n[2])))

    def lines(self) -> list[torch.Tensor]:
        """Node coordinates (mm) along each axis."""
        return [
            torch.arange(n, dtype=torch.float32) * self.spacing + float(a)
            for n, a in zip(self.shape, self.low, strict=True)
        ]

    def points(self) -> torch.Tensor:
        """Node coordinates, (3, z, y, x), mm."""
        return torch.stack(torch.meshgrid(*self.lines(), indexing="ij"))

    def at(self, field: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Interpolate a field (c, z, y, x) linearly at ``points`` (3, ...) in mm; border values extend outside."""
        scaled = [(points[k] - float(self.low[k])) / self.spacing / (self.shape[k] - 1) * 2 - 1 for k in (2, 1, 0)]
        grid = torch.stack(scaled, -1).reshape(1, 1, 1, -1, 3)
        values = nnf.grid_sample(field[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
        return values.reshape(field.shape[0], *points.shape[1:])


def gaussian(squares: torch.Tensor, far: float) -> torch.Tensor:
    """Return exp(-squares), 0 from ``far`` on: denormal products of smaller values are 35 times slower on a CPU."""
    return torch.where(squares < far, torch.exp(-squares), 0.0)


def velocity(grid: NodeGrid, q: torch.Tensor, p: torch.Tensor, width: float) -> torch.Tensor:
    """Velocity (3, z, y, x) on the nodes; exact, because the Gaussian kernel is separable."""
    along = [gaussian(((line[:, None] - q[None, :, k]) / width) ** 2, 25.0) for k, line in enumerate(grid.lines())]
    plane = (along[1].T[:, :, None] * along[2].T[:, None, :]).reshape(len(q), -1)
    return torch.stack([(along[0] * p[:, c]) @ plane for c in range(3)]).reshape(3, *grid.shape)


def backward_map(model: ShapeModel, momenta: np.ndarray, grid: NodeGrid) -> torch.Tensor:
    """Map each node of ``grid`` (in the space of the new heart) to its position in the template, (3, z, y, x), mm."""
    points = grid.points()
    dt = 1.0 / model.steps
    for q, p in reversed(shoot(model, momenta)):
        v = velocity(grid, q, p, model.kernel_width)
        guess = points - dt * grid.at(v, points)
        points = points - dt * grid.at(v, guess)
    return points


def sample_template(model: ShapeModel, points: torch.Tensor) -> torch.Tensor:
    """Template label (uint8) nearest to each of ``points`` (3, ...) in mm; 0 outside the template."""
    from .fields import nearest_index

    index, inside = nearest_index(
        [(points[k] - float(model.origin[k])) / model.spacing for k in range(3)], model.template.shape
    )
    labels = torch.from_numpy(np.ascontiguousarray(model.template)).reshape(-1)[index.reshape(-1)]
    return torch.where(inside, labels.reshape(index.shape), 0)
