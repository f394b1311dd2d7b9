"""MR: tissue signals by sequence, and scanner parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..regions import N_REGIONS, Region
from .tables import BLOBS, BLOOD, LEFT_BLOOD, RIGHT_BLOOD, Appearance

SEQUENCES = {"bssfp": 0.37, "mra": 0.18, "late_enhancement": 0.14, "gre": 0.14, "black_blood": 0.17}
"""Relative frequency of each sequence."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Sequence:
    """Ranges of tissue signals in a sequence, relative to its typical brightest tissue.

    Attributes:
        blood: left-heart blood.
        myocardium: LV myocardium, as a fraction of blood if ``relative``.
        relative: whether ``myocardium`` is a fraction of blood.
        right: right-heart blood as a fraction of left-heart blood.
        fat: fat without suppression.
        dark_fat: suppressed fat.
        suppression: probability of fat suppression.
        muscle, liver, spleen, kidney, fluid: these tissues.
        scar: scarred myocardium.
        clot: thrombus.
    """

    blood: Span
    myocardium: Span
    relative: bool
    right: Span
    fat: Span
    dark_fat: Span
    suppression: float
    muscle: Span
    liver: Span
    spleen: Span
    kidney: Span
    fluid: Span
    scar: Span
    clot: Span


_SIGNALS = {
    "bssfp": Sequence(
        (0.8, 1.1),
        (0.22, 0.5),
        True,
        (0.8, 1.2),
        (0.5, 1.4),
        (0.1, 0.4),
        0.4,
        (0.2, 0.5),
        (0.25, 0.6),
        (0.3, 0.7),
        (0.5, 1.0),
        (0.9, 1.6),
        (0.25, 0.6),
        (0.25, 0.6),
    ),
    "mra": Sequence(
        (0.85, 1.1),
        (0.25, 0.55),
        True,
        (0.75, 1.25),
        (0.15, 0.4),
        (0.04, 0.18),
        0.8,
        (0.08, 0.22),
        (0.2, 0.55),
        (0.35, 0.8),
        (0.6, 1.1),
        (0.06, 0.2),
        (0.3, 0.7),
        (0.06, 0.25),
    ),
    "late_enhancement": Sequence(
        (0.5, 0.9),
        (0.06, 0.35),
        True,
        (0.85, 1.15),
        (0.6, 1.3),
        (0.1, 0.3),
        0.4,
        (0.12, 0.4),
        (0.25, 0.7),
        (0.3, 0.7),
        (0.4, 0.9),
        (0.05, 0.4),
        (0.9, 1.4),
        (0.02, 0.1),
    ),
    "gre": Sequence(
        (0.7, 1.1),
        (0.35, 0.65),
        True,
        (0.65, 1.2),
        (0.4, 0.9),
        (0.1, 0.3),
        0.4,
        (0.3, 0.5),
        (0.3, 0.65),
        (0.3, 0.6),
        (0.3, 0.6),
        (0.2, 0.5),
        (0.3, 0.6),
        (0.25, 0.5),
    ),
    "black_blood": Sequence(
        (0.03, 0.18),
        (0.32, 0.6),
        False,
        (0.7, 1.6),
        (0.75, 1.3),
        (0.08, 0.22),
        0.3,
        (0.25, 0.5),
        (0.25, 0.5),
        (0.3, 0.7),
        (0.35, 0.7),
        (0.15, 1.0),
        (0.35, 0.8),
        (0.3, 0.7),
    ),
}


def draw_mr(rng: np.random.Generator, sequence: str | None = None) -> Appearance:
    """Draw the appearance of an MR image of a random or the given sequence; arbitrary units, blood or fat about 1."""
    u = rng.uniform
    if sequence is None:
        sequence = str(rng.choice(list(SEQUENCES), p=list(SEQUENCES.values())))
    if sequence not in _SIGNALS:
        raise ValueError(f"MR sequence '{sequence}' does not exist: choose one of {', '.join(SEQUENCES)}")
    mean, mixing, texture = _draw_tables(rng, sequence)
    thick = rng.random() < (0.3 if sequence == "mra" else 0.5)
    slice_axis = int(rng.choice([0, 0, 1, 2]))
    ghost_axis = int(rng.choice([1, 2]))
    plane = u(0.3, 1.4)
    blur = [plane, plane, plane]
    blur[ghost_axis] *= u(1, 1.8)
    flow = {"gre": (0.9, (0.1, 0.5)), "bssfp": (0.3, (0.03, 0.15)), "mra": (0.3, (0.03, 0.2))}
    share, span = flow.get(sequence, (0.2, (0.03, 0.1)))
    levels = int(rng.choice([255, 4095, 0], p=[0.25, 0.35, 0.4]))
    return Appearance(
        mean=mean,
        mixing=mixing,
        texture=texture,
        kind="mr",
        protocol=sequence,
        noise=float(max(mean[Region.LV_BLOOD], mean[Region.LV_MYO]) * np.exp(-u(np.log(8), np.log(40)))),
        noise_grain=u(0.3, 1.3),
        blur=(blur[0], blur[1], blur[2]),
        ringing=u(1.5, 3.0) if rng.random() < 0.25 else 0.0,
        slice_mm=u(2, 10) if thick else 0.0,
        slice_axis=slice_axis,
        tilt=u(-0.8, 0.8) if rng.random() < 0.4 else 0.0,
        motion=u(1, 4) if rng.random() < 0.35 else 0.0,
        gain=u(0.02, 0.2) if rng.random() < 0.7 else 0.0,
        front_gain=u(0.1, 1.0) if rng.random() < 0.6 else 0.0,
        banding=u(0.2, 0.8) if sequence == "bssfp" and rng.random() < 0.2 else 0.0,
        inflow=u(*span) if rng.random() < share else 0.0,
        ghost=u(0.03, 0.2) if rng.random() < 0.3 else 0.0,
        ghost_axis=ghost_axis,
        gamma=float(np.exp(u(-0.3, 0.3))) if rng.random() < 0.2 else 1.0,
        full_scale=float(levels) if levels else float(np.exp(u(np.log(1), np.log(5000)))),
        clip=float(np.exp(u(np.log(1e-4), np.log(0.02)))) if rng.random() < 0.6 else 0.0,
        levels=levels,
    )


def _draw_tables(rng: np.random.Generator, sequence: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw mean, mixing and texture of every region."""
    s, u, r = _SIGNALS[sequence], rng.uniform, Region
    m, a, f = (np.zeros(N_REGIONS, np.float32) for _ in range(3))
    left = u(*s.blood)
    right = left * u(*s.right)
    if sequence == "mra" and rng.random() < 0.3:  # the bolus is in one side of the heart
        left, right = (left, left * u(0.45, 0.75)) if rng.random() < 0.6 else (left * u(0.55, 0.8), left)
    myo = u(*s.myocardium) * (left if s.relative else 1.0)
    if s.relative:
        myo = min(myo, 0.75 * right)
    suppressed = rng.random() < s.suppression
    fat = u(*(s.dark_fat if suppressed else s.fat))
    muscle, liver, fluid, lung = u(*s.muscle), u(*s.liver), u(*s.fluid), u(0.02, 0.12)
    bone = u(0.05, 0.2) * 0.6
    for k in LEFT_BLOOD:
        m[k] = left * u(0.94, 1.06)
    for k in RIGHT_BLOOD:
        m[k] = right * u(0.94, 1.06)
    m[r.DESCENDING_AORTA], m[r.ARTERY] = m[r.AO_BLOOD] * u(0.85, 1.1), m[r.AO_BLOOD] * u(0.8, 1.1)
    m[r.FALSE_LUMEN] = left * u(0.5, 1.3)
    m[r.PULMONARY_VEIN], m[r.CORONARY] = m[r.LA_BLOOD] * u(0.85, 1.05), left * u(0.6, 1.0)
    m[r.SVC], m[r.IVC], m[r.VEIN] = right * u(0.8, 1.2), right * u(0.7, 1.2), right * u(0.7, 1.2)
    m[r.CORONARY_SINUS] = m[r.RA_BLOOD] * u(0.8, 1.1)
    m[r.LUNG_VESSEL] = 0.5 * (left + right) * u(0.4, 0.9)
    m[r.LV_MYO] = myo
    m[r.RV_WALL], m[r.PAPILLARY] = myo * u(0.8, 1.2), myo * u(0.9, 1.2)
    for k in (r.LA_WALL, r.RA_WALL, r.AO_WALL, r.PA_WALL, r.VESSEL_WALL):
        m[k] = myo * u(0.6, 1.2)
    m[r.TRABECULA] = myo + (right - myo) * u(0, 0.5)
    m[r.LEFT_VALVE], m[r.RIGHT_VALVE] = myo + (left - myo) * u(0, 0.6), myo + (right - myo) * u(0, 0.6)
    m[r.SCAR], m[r.THROMBUS] = max(u(*s.scar), myo * 1.1), u(*s.clot)
    m[r.PERICARDIUM] = u(0.04, 0.2)
    m[r.METAL], m[r.CALCIUM] = u(0.0, 0.04), u(0.02, 0.15)
    m[r.AIR] = m[r.UNSEEN] = m[r.GAS] = m[r.AIRWAY] = u(0, 0.02)
    m[r.TABLE] = u(0, 0.02)
    m[r.LUNG], m[r.INFILTRATE], m[r.ATELECTASIS] = lung, u(0.1, 0.6), u(0.3, 0.8)
    m[r.MEDIASTINAL_FAT], m[r.FAT] = fat * u(0.85, 1.1), fat
    m[r.SKIN], m[r.GLAND] = fat * u(0.3, 0.9), 0.5 * (fat + muscle) * u(0.7, 1.2)
    m[r.MUSCLE], m[r.OESOPHAGUS], m[r.SOFT_ORGAN] = muscle, muscle * u(0.9, 1.4), muscle * u(0.8, 1.8)
    m[r.CORTICAL_BONE], m[r.MARROW] = bone, fat * u(0.4, 1.0)
    m[r.CARTILAGE], m[r.DISC] = muscle * u(0.4, 1.5), muscle * u(0.4, 2.0)
    m[r.LIVER], m[r.SPLEEN], m[r.KIDNEY], m[r.PANCREAS] = liver, u(*s.spleen), u(*s.kidney), liver * u(0.8, 1.4)
    m[r.LIVER_VESSEL] = liver + (right - liver) * u(0.2, 0.9)
    m[r.GALLBLADDER], m[r.BLADDER], m[r.EFFUSION] = fluid * u(0.7, 1.1), fluid * u(0.8, 1.1), fluid * u(0.7, 1.0)
    m[r.SPINAL_CORD] = 0.5 * (fluid + muscle)
    m[r.STOMACH], m[r.BOWEL] = u(0.1, 0.8), u(0.1, 0.8)
    m[r.THYROID], m[r.LYMPH_NODE] = muscle * u(1, 2), muscle * u(0.9, 1.6)
    m[BLOBS] = u(0.02, 1.2, 6)
    f[:] = m * u(0, 0.06)
    f[r.LUNG], f[r.MARROW], f[r.BOWEL] = lung * u(0.1, 0.6), m[r.MARROW] * u(0.05, 0.2), m[r.BOWEL] * u(0.1, 0.5)
    f[r.GLAND], f[r.MUSCLE], f[r.FAT] = m[r.GLAND] * u(0.1, 0.4), muscle * u(0.03, 0.25), fat * u(0.02, 0.12)
    a[r.LV_MYO], a[r.LIVER] = myo * u(0, 0.12), liver * u(0, 0.1)
    a[r.STOMACH], a[r.BOWEL], a[r.LUNG] = m[r.STOMACH] * u(0, 0.4), m[r.BOWEL] * u(0, 0.4), lung * u(0, 0.5)
    slow = u(0.05, 0.3) if sequence == "black_blood" else left * u(0, 0.1)  # slow blood keeps its signal
    for k in BLOOD:
        a[k] = slow * u(0.3, 1)
    return m, a, f
