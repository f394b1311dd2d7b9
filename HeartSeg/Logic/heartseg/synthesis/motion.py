"""Cardiac cycle: emptying of the ventricles, filling of the atria and descent of the base as functions of the phase.

The phase runs from 0 to 1 over one cycle and starts at end-diastole, the phase of the shape model. The curves follow
the volumes of healthy ventricles and atria (Wiggers diagram): ejection, rapid filling, diastasis, atrial contraction.
They are smooth and periodic, so that a cine series of a heart is a closed loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import CubicSpline, PchipInterpolator

from .control import Motion
from .course import Course, run_course
from .flow import AO, LA, LV, RA, RV, Frame, Heart3D

APICAL_PULL = 1.5
"""Excess emptying of the apical cavity for full apical closure (rate at the apex relative to the mean)."""
SMALLEST_CHANGE = 1e-3
"""Fraction of the stroke below which a phase counts as end-diastole."""


@dataclass(frozen=True)
class Beat:
    """Function of a heart over the cardiac cycle.

    Attributes:
        lv_ef, rv_ef: ejection fractions, 0.1-0.75 and 0.15-0.7.
        la_emptying, ra_emptying: emptying fraction (maximum - minimum) / maximum volume of each atrium.
        mitral_mm, tricuspid_mm: descent of the valve rings from end-diastole to end-systole.
        twist_degrees: rotation of the base relative to the apex at end-systole.
        apical_closure: 0 empties the ventricle uniformly; 1 empties its apex first.
        systole: phase of end-systole.
    """

    lv_ef: float = 0.62
    rv_ef: float = 0.55
    la_emptying: float = 0.5
    ra_emptying: float = 0.45
    mitral_mm: float = 13.0
    tricuspid_mm: float = 17.0
    twist_degrees: float = 7.0
    apical_closure: float = 0.3
    systole: float = 0.36

    def __post_init__(self) -> None:
        for name, low, high in (("lv_ef", 0.0, 0.85), ("rv_ef", 0.0, 0.85), ("systole", 0.2, 0.6)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}: choose {low} to {high}")


@dataclass(frozen=True)
class State:
    """State at a phase: fractions (0 to 1) of ventricular emptying, atrial filling and twist."""

    emptied: float
    filled: float
    twisted: float


@lru_cache(maxsize=64)
def _curve(times: tuple[float, ...], values: tuple[float, ...]) -> CubicSpline:
    """Make a smooth periodic curve through the points without overshoot."""
    steps = np.linspace(0, 1, 25)
    loop = PchipInterpolator(
        np.concatenate([np.array(times[:-1]) - 1, times, np.array(times[1:]) + 1]), [*values[:-1], *values, *values[1:]]
    )
    samples = loop(steps)
    samples[-1] = samples[0]
    return CubicSpline(steps, samples, bc_type="periodic")


def state_at(beat: Beat, phase: float) -> State:
    """Return the state at a phase; phases outside 0-1 wrap around."""
    p, s = float(phase) % 1.0, beat.systole
    rest = 1 - s
    filling = tuple(s + rest * f for f in (0.12, 0.35, 0.7))
    times = (0.0, 0.2 * s, s, *filling, 1.0)
    emptied = _curve(times, (0.0, 0.12, 1.0, 0.85, 0.35, 0.25, 0.0))
    filled = _curve(times, (0.0, 0.18, 1.0, 0.9, 0.48, 0.42, 0.0))
    twisted = _curve(times, (0.0, 0.15, 1.0, 0.65, 0.15, 0.05, 0.0))
    return State(*(float(np.clip(c(p), 0, 1)) for c in (emptied, filled, twisted)))


def course_of(beat: Beat, state: State, scale: float = 1.0) -> Course:
    """Return the course from end-diastole to a state; lengths in mm are divided by ``scale``, the size of the heart."""
    factors = {
        LV: 1 - beat.lv_ef * state.emptied,
        RV: 1 - beat.rv_ef * state.emptied,
        LA: 1 + (1 / (1 - beat.la_emptying) - 1) * state.filled,
        RA: 1 + (1 / (1 - beat.ra_emptying) - 1) * state.filled,
        AO: 1 + 0.04 * state.emptied,
    }
    motion = Motion(
        beat.mitral_mm / scale * state.emptied,
        beat.tricuspid_mm / scale * state.emptied,
        np.deg2rad(beat.twist_degrees) * state.twisted,
    )

    def apex_first(frame: Frame, local: torch.Tensor) -> torch.Tensor:
        height = (local[0] / frame.length).clamp(0, 1)
        return 1 + APICAL_PULL * beat.apical_closure * (1 - 2 * height).clamp(-0.5, 1)

    return Course(factors, motion, weights={LV: apex_first})


def at_phase(heart: Heart3D, beat: Beat, phase: float, scale: float = 1.0) -> Heart3D:
    """Deform an end-diastolic heart to a phase of the cardiac cycle.

    Args:
        heart: the end-diastolic heart.
        beat: function of the heart.
        phase: 0 (end-diastole) to 1; ``beat.systole`` is end-systole.
        scale: final size of the heart; lengths in ``beat`` refer to this size.
    """
    state = state_at(beat, phase)
    if max(state.emptied, state.filled) < SMALLEST_CHANGE:
        return heart
    return run_course(heart, course_of(beat, state, scale))


def draw_beat(
    rng: np.random.Generator,
    lv_ef: tuple[float, float] = (0.1, 0.75),
    rv_ef: tuple[float, float] = (0.15, 0.7),
    size: float = 1.0,
) -> Beat:
    """Draw the function of a heart; descent and atrial emptying depend on the ejection fractions.

    Args:
        rng: source of randomness.
        lv_ef, rv_ef: ranges of the ejection fractions.
        size: size of the heart; the descent is 5-20 mm in an adult heart (size 1) and proportional to the size.
    """
    u = rng.uniform
    left, right = u(*lv_ef), u(*rv_ef)
    return Beat(
        lv_ef=left,
        rv_ef=right,
        la_emptying=u(0.1, 0.3) + 0.4 * left,
        ra_emptying=u(0.1, 0.3) + 0.4 * right,
        mitral_mm=size * float(np.clip(4 + 16 * left + rng.normal(0, 2), 5, 20)),
        tricuspid_mm=size * float(np.clip(5 + 22 * right + rng.normal(0, 2), 5, 20)),
        twist_degrees=u(0, 10),
        apical_closure=u(0, 1),
        systole=u(0.3, 0.42),
    )
