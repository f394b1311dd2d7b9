"""Diseased hearts: their dimensions at end-diastole, and the deformation of a healthy heart to them.

The ranges cover dilated cardiomyopathy and heart failure (LV up to 400 mL), hypertrophic cardiomyopathy (walls up to
30 mm), chronic infarction (walls below 5.5 mm, apical or posterior aneurysm), pulmonary hypertension (right ventricle
up to twice the left, flat septum), atrial fibrillation (atria up to 250 mL) and aortic aneurysm (up to 55 mm).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from .control import Motion
from .course import Course, run_course
from .flow import AO, LA, LV, MYO, PA, PATCH, RA, RV, Frame, Heart3D, frame_of, parts_of
from .walls import Patch

WALL_GROWTH = 0.6
"""Exponent of the growth of a chamber's thin wall relative to the growth of the chamber; 2/3 keeps its thickness."""
LENGTH_SHARE = 0.17
"""Fraction of the log volume factor by which a dilating ventricle lengthens; a third would keep its shape."""


@dataclass(frozen=True)
class Condition:
    """Dimensions of a diseased heart; None keeps the value of the shape model.

    Attributes:
        names: names of the diseases.
        lv_ml, rv_ml: end-diastolic volumes.
        la_ml, ra_ml: maximum volumes in the cardiac cycle.
        wall_mm: mean end-diastolic thickness of the left ventricular wall, without the patch.
        patch: a part of the wall that is thicker or thinner than the rest.
        patch_mm: thickness of the patch.
        bulge_ml: volume of an aneurysm at the patch, in addition to ``lv_ml``.
        septal_bow_mm: displacement of the middle of the septum to the right of its edges; 0 is flat, negative inverted.
        aorta_mm, pulmonary_mm: inner diameters of the ascending aorta and the pulmonary trunk.
        rv_wall: factor on the volume of the right ventricular wall.
    """

    names: tuple[str, ...] = ()
    lv_ml: float | None = None
    rv_ml: float | None = None
    la_ml: float | None = None
    ra_ml: float | None = None
    wall_mm: float | None = None
    patch: Patch | None = None
    patch_mm: float | None = None
    bulge_ml: float = 0.0
    septal_bow_mm: float | None = None
    aorta_mm: float | None = None
    pulmonary_mm: float | None = None
    rv_wall: float = 1.0

    def scaled(self, size: float) -> Condition:
        """Scale the disease to another heart size: lengths by ``size``, volumes by its cube."""

        def times(value: float | None, power: int) -> float | None:
            return None if value is None else value * size**power

        return replace(
            self,
            lv_ml=times(self.lv_ml, 3),
            rv_ml=times(self.rv_ml, 3),
            la_ml=times(self.la_ml, 3),
            ra_ml=times(self.ra_ml, 3),
            wall_mm=times(self.wall_mm, 1),
            patch_mm=times(self.patch_mm, 1),
            bulge_ml=self.bulge_ml * size**3,
            septal_bow_mm=times(self.septal_bow_mm, 1),
            aorta_mm=times(self.aorta_mm, 1),
            pulmonary_mm=times(self.pulmonary_mm, 1),
        )


def apply_condition(
    heart: Heart3D, condition: Condition, emptying: tuple[float, float], diameters: tuple[float, float]
) -> Heart3D:
    """Deform a healthy end-diastolic heart into a diseased one.

    Args:
        heart: the healthy heart; the patch of the condition, if any, is marked in its template.
        condition: the disease, at the size of the heart (:meth:`Condition.scaled`).
        emptying: emptying fractions of left and right atrium, which convert maximum to end-diastolic volumes.
        diameters: current diameters of the ascending aorta and the pulmonary stub, mm.
    """
    parts = parts_of(heart)
    course = _course_to(condition, parts.volumes / 1000, frame_of(heart, parts), emptying, diameters)
    if course is not None:
        heart = run_course(heart, course)
    if condition.bulge_ml and condition.patch is not None:
        heart = _bulge(heart, condition.bulge_ml)
    return heart


def _course_to(
    condition: Condition,
    volumes: np.ndarray,
    frame: Frame,
    emptying: tuple[float, float],
    diameters: tuple[float, float],
) -> Course | None:
    """Return the course from volumes (mL, by label) to a condition; None if nothing changes."""
    c = condition
    wanted = ((LV, c.lv_ml, 0.0), (RV, c.rv_ml, 0.0), (LA, c.la_ml, emptying[0]), (RA, c.ra_ml, emptying[1]))
    factors = {k: ml * (1 - gone) / float(volumes[k]) for k, ml, gone in wanted if ml is not None}
    for label, wall in ((RV, 8), (LA, 9), (RA, 10)):
        if factors.get(label, 1.0) != 1.0 or (label == RV and c.rv_wall != 1.0):
            factors[wall] = max(1.0, factors.get(label, 1.0)) ** WALL_GROWTH * (c.rv_wall if label == RV else 1.0)
    for label, wall, wanted_mm, now in ((AO, 11, c.aorta_mm, diameters[0]), (PA, 12, c.pulmonary_mm, diameters[1])):
        if wanted_mm is not None:
            factors[label], factors[wall] = (wanted_mm / now) ** 2, wanted_mm / now
    thickness = {}
    if c.wall_mm is not None:
        thickness[MYO] = c.wall_mm
    if c.patch_mm is not None and volumes[PATCH] > 0:
        thickness[PATCH] = c.patch_mm
    if not factors and not thickness and c.septal_bow_mm is None:
        return None
    growth = factors.get(LV, 1.0)
    lift = frame.length * (growth**LENGTH_SHARE - 1) if growth > 1 else 0.0
    motion = Motion(-lift, -0.8 * lift, round=False)
    steps = max(_steps(factors), 6 if thickness else 4)
    return Course(factors, motion, thickness, c.septal_bow_mm, steps=steps, corrections=4 if thickness else 3)


def _steps(factors: dict[int, float]) -> int:
    """Number of steps of a course, so that no step changes a volume by much more than 20 %."""
    largest = max((abs(float(np.log(f))) for f in factors.values()), default=0.0)
    return int(np.clip(np.ceil(largest / 0.22), 4, 9))


def _bulge(heart: Heart3D, millilitres: float) -> Heart3D:
    """Expand the cavity at the patch; the patch and all other structures keep their volume."""
    parts = parts_of(heart)
    points = heart.nodes.points()
    share = parts.fractions[PATCH]
    centre = (share * points).sum((1, 2, 3)) / share.sum()
    width = float(np.clip((parts.volumes[PATCH] / 8) ** (1 / 2) * 0.35, 9, 20))

    def near(frame: Frame, local: torch.Tensor) -> torch.Tensor:
        distance = ((points - centre.view(3, 1, 1, 1)) ** 2).sum(0)
        return torch.exp(-distance / (2 * width**2)) + 1e-3

    factors = {LV: 1 + millilitres * 1000 / float(parts.volumes[LV])}
    return run_course(heart, Course(factors, Motion(round=False), weights={LV: near}, steps=4, corrections=2))


def _dilated_lv(rng: np.random.Generator) -> Condition:
    u = rng.uniform
    return Condition(lv_ml=u(180, 400), wall_mm=u(5, 7), la_ml=u(80, 180) if rng.random() < 0.6 else None)


def _concentric(rng: np.random.Generator) -> Condition:
    u = rng.uniform
    return Condition(lv_ml=u(60, 130), wall_mm=u(12, 20), la_ml=u(80, 160) if rng.random() < 0.5 else None)


def _septal(rng: np.random.Generator) -> Condition:
    u = rng.uniform
    patch = Patch(u(0.45, 0.75), u(-0.5, 0.5), u(0.3, 0.5), u(0.7, 1.1))
    return Condition(lv_ml=u(70, 130), wall_mm=u(8.5, 12), patch=patch, patch_mm=u(16, 30))


def _apical(rng: np.random.Generator) -> Condition:
    u = rng.uniform
    patch = Patch(0.0, 0.0, u(0.28, 0.45), np.pi)
    return Condition(lv_ml=u(70, 120), wall_mm=u(8.5, 11), patch=patch, patch_mm=u(16, 30))


def _infarct_patch(rng: np.random.Generator) -> Patch:
    u = rng.uniform
    if rng.random() < 0.4:
        return Patch(0.05, 0.0, u(0.3, 0.42), np.pi)
    return Patch(u(0.3, 0.6), u(-np.pi, np.pi), u(0.2, 0.32), u(0.5, 0.9))


def _scar(rng: np.random.Generator) -> Condition:
    u = rng.uniform
    return Condition(lv_ml=u(120, 280), wall_mm=u(7, 9.5), patch=_infarct_patch(rng), patch_mm=u(3, 5.5))


def _aneurysm(rng: np.random.Generator) -> Condition:
    return replace(_scar(rng), patch_mm=rng.uniform(2.8, 4.5), bulge_ml=rng.uniform(15, 60))


def _dilated_rv(rng: np.random.Generator) -> Condition:
    u = rng.uniform
    left = u(70, 140)
    return Condition(
        lv_ml=left,
        rv_ml=left * u(1.5, 2.0),
        ra_ml=u(90, 220),
        septal_bow_mm=u(-6, 3),
        pulmonary_mm=u(28, 42),
        rv_wall=u(1.0, 1.6),
    )


def _atria(rng: np.random.Generator) -> Condition:
    u = rng.uniform
    return Condition(la_ml=u(110, 250), ra_ml=u(110, 250))


def _aorta(rng: np.random.Generator) -> Condition:
    return Condition(aorta_mm=rng.uniform(25, 55))


def _pulmonary(rng: np.random.Generator) -> Condition:
    return Condition(pulmonary_mm=rng.uniform(20, 45))


DISEASES: dict[str, Callable[[np.random.Generator], Condition]] = {
    "dilated_lv": _dilated_lv,
    "concentric_hypertrophy": _concentric,
    "septal_hypertrophy": _septal,
    "apical_hypertrophy": _apical,
    "scar": _scar,
    "aneurysm": _aneurysm,
    "dilated_rv": _dilated_rv,
    "large_atria": _atria,
    "aorta": _aorta,
    "pulmonary_artery": _pulmonary,
}
"""Diseases by name."""
EJECTION: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "dilated_lv": ((0.1, 0.4), (0.15, 0.55)),
    "concentric_hypertrophy": ((0.5, 0.75), (0.4, 0.7)),
    "septal_hypertrophy": ((0.55, 0.75), (0.4, 0.7)),
    "apical_hypertrophy": ((0.55, 0.75), (0.4, 0.7)),
    "scar": ((0.15, 0.5), (0.3, 0.65)),
    "aneurysm": ((0.1, 0.4), (0.3, 0.65)),
    "dilated_rv": ((0.4, 0.75), (0.15, 0.45)),
}
"""Ranges of left and right ejection fraction in each disease."""
VENTRICULAR = tuple(EJECTION)


def draw_condition(rng: np.random.Generator, name: str) -> Condition:
    """Draw the dimensions of a disease, for an adult heart.

    Raises:
        ValueError: the name is not in :data:`DISEASES`.
    """
    if name not in DISEASES:
        raise ValueError(f"disease {name!r} does not exist: choose from {', '.join(DISEASES)}")
    return replace(DISEASES[name](rng), names=(name,))


def combined(first: Condition, second: Condition) -> Condition:
    """Combine two diseases; if both set a dimension, the first applies."""
    values = {}
    for key in Condition.__dataclass_fields__:
        a, b, default = getattr(first, key), getattr(second, key), Condition.__dataclass_fields__[key].default
        values[key] = a if a != default else b
    return Condition(**values | {"names": first.names + second.names})
