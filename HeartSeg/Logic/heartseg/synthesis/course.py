"""Deform a heart in steps towards target volumes, wall thickness, position of the base and septal curvature.

Before every step the remaining difference of each structure is measured, so that a step corrects the errors of the
previous one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as nnf

from .control import Motion, controlled_flow, septal_bow
from .flow import AO, LA, LV, MYO, N_LABELS, PATCH, Frame, Heart3D, Parts, frame_of, parts_of
from .shape import sample_template

BASE_MM = 12.0
"""Distance (mm) from the left atrium and the aorta within which the wall thickness is not measured."""
CORRECTION_GAIN = 1.25
"""Factor on all growth rates in the final correction steps, because thin structures share nodes with others."""
PATCH_GAIN = 1.4
"""Factor on the growth rates of a patch and the adjacent wall, which blur into each other."""
LARGEST_STEP = 0.4
"""Maximum change of the volume of a structure (log factor) per step."""

Weights = Callable[[Frame, torch.Tensor], torch.Tensor]
"""Function of frame and points in the axes of the ventricle (3, z, y, x) that returns relative growth rates."""


@dataclass(frozen=True)
class Course:
    """Target of a deformation.

    Attributes:
        factors: target volume factor of each label; other labels 1-13 keep their volume.
        motion: motion over the whole course.
        thickness: target thickness (mm) of the myocardium (5) and of its diseased patch (13), instead of a factor.
        septal_bow: target curvature of the septum, mm (:func:`septal_bow`).
        weights: for each label, spatial weights of the volume change.
        steps: number of steps.
        corrections: number of additional steps that correct the remaining errors.
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
    """Initial state of a course: volumes, axes, thickness by label, septal curvature."""

    volumes: np.ndarray
    frame: Frame
    thickness: dict[int, float]
    bow: float


def run_course(heart: Heart3D, course: Course) -> Heart3D:
    """Deform a heart along a course: volumes change geometrically; base, septum and twist change linearly."""
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
    """Return the motion of this step: the remaining displacement of each ring and of the septum."""
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
    """Progress of a course: its start, current thickness (mm) by label, and completed fraction after the step."""

    start: _Start
    thickness: dict[int, float]
    done: float


def _divergence(heart: Heart3D, parts: Parts, frame: Frame, course: Course, progress: _Progress) -> torch.Tensor:
    """Divergence (z, y, x) of a step that brings each label towards its target volume or thickness."""
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
        gain = PATCH_GAIN if label in now and parts.volumes[PATCH] > 0 else 1.0
        rate = float(np.clip(gain * np.log(change), -LARGEST_STEP, LARGEST_STEP))
        share = _blurred_patch(parts) if label == PATCH else parts.fractions[label]
        if label in course.weights and local is not None:
            weight = course.weights[label](frame, local)
            share = share * weight * (share.sum() / (share * weight).sum().clamp(min=1e-6))
        total += rate * share
    return total


def _blurred_patch(parts: Parts) -> torch.Tensor:
    """Fraction of the patch, blurred into the adjacent myocardium."""
    wall = parts.fractions[MYO] + parts.fractions[PATCH]
    spread = nnf.avg_pool3d(parts.fractions[PATCH][None, None], 3, stride=1, padding=1)
    around = nnf.avg_pool3d(wall[None, None], 3, stride=1, padding=1)
    return wall * (spread / around.clamp(min=1e-3))[0, 0].clamp(max=1)


def _thickness(heart: Heart3D, parts: Parts, course: Course) -> dict[int, float]:
    """Current thickness (mm) of the parts of the wall with a target thickness."""
    if not course.thickness:
        return {}
    return {k: wall_of(parts.labels, k, heart.nodes.spacing / 2) for k in course.thickness}


def _coarse_error(heart: Heart3D, parts: Parts, course: Course) -> dict[int, float]:
    """Difference (mm) between the thickness measured at about 1 mm and that of :func:`_thickness`."""
    if not course.thickness:
        return {}
    points = torch.nonzero(parts.ventricle > 0.05)
    low, high = (f(points, 0).clamp(min=2) for f in (torch.amin, torch.amax))
    box = tuple(slice(int(a) - 2, int(b) + 3) for a, b in zip(low, high, strict=True))
    part = heart.origin[:, box[0], box[1], box[2]]
    fine = nnf.interpolate(part[None], scale_factor=4, mode="trilinear")[0]
    labels = sample_template(heart.model, fine).numpy()
    coarse = _thickness(heart, parts, course)
    return {k: wall_of(labels, k, heart.nodes.spacing / 4) - coarse[k] for k in course.thickness}


def wall_of(labels: np.ndarray, label: int, spacing: float) -> float:
    """Thickness (mm) of the myocardium (mean of label 5 away from the base) or of a patch (mean of its thicker half).

    Measured as in :func:`~heartseg.synthesis.statistics.wall_thickness`. 0 if the label is absent.
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
