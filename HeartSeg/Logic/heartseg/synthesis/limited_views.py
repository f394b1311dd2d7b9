"""Limited views of generator 0.6: cine stacks along the long axis of the heart, and scans that end within the heart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .fields import rotation_matrix
from .scenes import Scene
from .stacks import SliceStack
from .switches import FROZEN
from .views import View

STACK_SHARE, CUT_SHARE = 0.3, 0.12
"""Fractions of the views that become stacks, and that are cut."""
DrawView = Callable[[np.random.Generator, Scene, int, float], View]


@dataclass(frozen=True, eq=False)
class LongAxis:
    """Long axis of the left ventricle: centre of the mitral plane and apex, mm from voxel (0, 0, 0) (z, y, x)."""

    base: np.ndarray
    apex: np.ndarray


def draw_limited_view(
    draw: DrawView,
    rng: np.random.Generator,
    scene: Scene,
    size: int,
    spacing: float,
    generator: str = FROZEN,
    without: frozenset[str] = frozenset(),
) -> View:
    """Draw a view with ``draw``; in generator 0.6, turn some views into stacks and cut others."""
    view = draw(rng, scene, size, spacing)
    if generator == FROZEN:
        return view
    stream, pick = np.random.default_rng(int(rng.integers(2**62))), rng.random()
    if pick < STACK_SHARE:
        return view if "stacks" in without else as_stack_view(stream, view, scene)
    if pick < STACK_SHARE + CUT_SHARE and "cuts" not in without:
        return cut_view(stream, view, scene)
    return view


def as_stack_view(rng: np.random.Generator, view: View, scene: Scene, short_axis: bool = False) -> View:
    """Turn a view into a stack of slices: two thirds are short-axis stacks, some of which end near the base.

    The others have a random direction. With ``short_axis`` all are short-axis stacks, if the scene has a left
    ventricle. Slices are 6-10 mm thick, gaps 0-12 mm and pixels 1.2-2 mm. In six of ten stacks the slices are shifted
    by up to 5 mm, as between breath-holds.
    """
    u, axis = rng.uniform, long_axis(scene)
    middle = to_patch(view, np.array(scene.heart_centre))
    if axis is not None and (short_axis or rng.random() < 0.67):
        base, apex = to_patch(view, axis.base), to_patch(view, axis.apex)
        normal = (base - apex) / np.linalg.norm(base - apex)
        normal = rotation_matrix(np.deg2rad(np.clip(rng.normal(0, 7, 3), -20, 20))) @ normal
        low, high = float(normal @ apex) - u(-8, 25), float(normal @ base) + u(-12, 35)
    else:
        normal = rng.standard_normal(3)
        normal /= np.linalg.norm(normal)
        low, high = float(normal @ middle) - u(35, 85), float(normal @ middle) + u(35, 85)
    thickness = u(6, 10)
    gap = u(0, 12) if rng.random() < 0.5 else u(0, 2)
    count = max(4, int((high - low) / (thickness + gap)) + 1)
    apart = u(1, 5) if rng.random() < 0.6 else 0.0
    shifts = rng.uniform(-1, 1, (count, 2)) * apart / np.sqrt(2)
    turn = _frame(rng, normal)
    stack = SliceStack(turn, low, thickness, gap, u(1.2, 2.0), shifts)
    half = u(90, 190, 2) if rng.random() < 0.7 else np.full(2, 400.0)
    across = turn[:, 1:].T @ middle
    first, last = stack.extent
    low_mm = np.array([first, *(across - half + u(-25, 25, 2))])
    high_mm = np.array([last, *(across + half + u(-25, 25, 2))])
    low_vox, high_vox = low_mm / view.spacing + view.size / 2, high_mm / view.spacing + view.size / 2
    return replace(view, fov_low=low_vox, fov_high=high_vox, fov_rotation=turn, stack=stack)


def cut_view(rng: np.random.Generator, view: View, scene: Scene) -> View:
    """Cut a view above or below (sometimes both), within or near the heart; at least 45 mm remain."""
    middle = float(to_patch(view, np.array(scene.heart_centre))[0])
    below, above = middle - rng.uniform(-10, 60), middle + rng.uniform(-10, 60)
    pick = rng.random()
    low_mm = below if pick < 0.55 else -np.inf
    high_mm = above if pick > 0.45 else np.inf
    high_mm = max(high_mm, low_mm + 45)
    low = np.zeros(3) if view.fov_rotation is not None else view.fov_low.copy()
    high = np.full(3, float(view.size)) if view.fov_rotation is not None else view.fov_high.copy()
    low[0] = np.clip(np.floor(low_mm / view.spacing + view.size / 2), low[0], view.size - 12)
    high[0] = np.clip(np.ceil(high_mm / view.spacing + view.size / 2), low[0] + 12, high[0])
    return replace(view, fov_low=low, fov_high=high, fov_rotation=None)


def to_patch(view: View, place: np.ndarray) -> np.ndarray:
    """Convert a scene position (mm) to mm from the patch centre, without elastic deformation."""
    return np.linalg.solve(view.rotation @ np.diag(view.zoom), place - view.centre)


def long_axis(scene: Scene) -> LongAxis | None:
    """Long axis of the left ventricle of a scene, from its labels; None without left ventricle or left atrium.

    The base is the mean of the ventricular voxels within 6 mm of the atrium. The apex is the mean of the 2 % of the
    ventricular voxels that are farthest from the base.
    """
    if "long_axis" in scene.facts:
        known: Any = scene.facts["long_axis"]
        return None if known is None else LongAxis(*(np.array(p) for p in known))
    step = 2
    block = scene.target[::step, ::step, ::step]
    labels = block.cpu().numpy() if isinstance(block, torch.Tensor) else np.asarray(block)
    ventricle, atrium = (np.argwhere(labels == k) * step * scene.spacing for k in (1, 3))
    if len(ventricle) < 50 or len(atrium) < 50:
        return None
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(atrium).query(ventricle, distance_upper_bound=60.0)
    near = distance <= max(6.0, float(np.quantile(distance, 0.02)))
    base = ventricle[near].mean(0)
    away = np.linalg.norm(ventricle - base, axis=1)
    apex = ventricle[away >= np.quantile(away, 0.98)].mean(0)
    origin = np.array(scene.target_origin) * scene.spacing
    return LongAxis(base + origin, apex + origin)


def with_long_axis(scene: Scene) -> Scene:
    """Store the long axis of a scene in its facts, so that it is computed once and not for every view."""
    axis = long_axis(scene)
    points = None if axis is None else (axis.base.tolist(), axis.apex.tolist())
    return replace(scene, facts=scene.facts | {"long_axis": points})


def _frame(rng: np.random.Generator, normal: np.ndarray) -> np.ndarray:
    """3x3 rotation whose first column is ``normal``, with a random rotation about it."""
    other = rng.standard_normal(3)
    second = np.cross(normal, other)
    second /= np.linalg.norm(second)
    return np.stack([normal, second, np.cross(normal, second)], 1)
