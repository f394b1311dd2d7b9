"""CT: HU tables by contrast phase and tube voltage, and scanner parameters."""

from __future__ import annotations

import numpy as np

from ..regions import N_REGIONS, Region
from .tables import BLOBS, LEFT_BLOOD, Appearance

PHASES = {
    "arterial": 0.45,
    "triple_rule_out": 0.2,
    "venous": 0.12,
    "weak": 0.07,
    "pulmonary": 0.08,
    "non_contrast": 0.08,
}
"""Relative frequency of each contrast phase."""

_TUBE_VOLTAGES = {70: 1.85, 80: 1.6, 100: 1.25, 120: 1.0, 140: 0.85}
"""Iodine enhancement at each tube voltage (kV), relative to 120 kV."""
_BLOOD_HU = 42.0
"""HU of blood without contrast medium."""


def draw_ct(rng: np.random.Generator, max_slice_mm: float = 8.0, phase: str | None = None) -> Appearance:
    """Draw the appearance of a CT, in HU, of a random or the given contrast phase."""
    u = rng.uniform
    if phase is None:
        phase = str(rng.choice(list(PHASES), p=list(PHASES.values())))
    mean, mixing, texture = _draw_tables(rng, phase)
    kernel, edge = u(0, 1), u(0, 2.0)
    blur = edge * (1.25 - 0.5 * kernel)
    return Appearance(
        mean=mean,
        mixing=mixing,
        texture=texture,
        kind="ct",
        protocol=phase,
        noise=u(5, 45),
        noise_grain=0.5 + 2.5 * (1 - kernel) * u(0.4, 1),
        noise_variation=u(0, 0.8) if rng.random() < 0.6 else 0.0,
        blur=(blur * u(0.6, 1.6), blur, blur),
        sharpness=(kernel - 0.5) * u(0, 1.0) if kernel > 0.5 else 0.0,
        slice_mm=u(4, max_slice_mm) if rng.random() < 0.25 else 0.0,
        motion=u(1, 4) if rng.random() < 0.2 else 0.0,
        step=u(1, 3) if rng.random() < 0.08 else 0.0,
        bias=u(0, 40) if rng.random() < 0.2 else 0.0,
        streak=u(0.05, 0.35) if rng.random() < 0.5 else 0.0,
        beam_hardening=u(0.1, 1.0) if rng.random() < 0.4 else 0.0,
        window=_draw_window(rng) if rng.random() < 0.32 else None,
        gamma=float(np.exp(u(-0.4, 0.4))) if rng.random() < 0.25 else 1.0,
    )


def _draw_window(rng: np.random.Generator) -> tuple[float, float, int]:
    """Draw a window; few start above 0 HU, because such windows hide weakly enhanced myocardium."""
    u = rng.uniform
    levels, kind = int(rng.choice([64, 256, 256])), rng.random()
    if kind < 0.5:
        low = u(0, 60) if kind < 0.08 else u(-200, 0)
        return low, low + u(200, 800), levels
    low, high = [(-100, 700), (-160, 240), (-200, 400), (-150, 550), (-1000, 600)][rng.integers(5)]
    return low + u(-60, 60), high + u(-60, 150), levels


def _draw_blood(rng: np.random.Generator, phase: str, iodine: float) -> tuple[float, float]:
    """Draw the HU of left- and right-heart blood in a contrast phase; ``iodine`` scales the enhancement."""
    u = rng.uniform
    if phase == "non_contrast":
        left = u(25, 60)
        return left, left + u(-5, 5)
    if phase == "weak":
        left = u(40, 90)
        right = left + u(-20, 30)
    elif phase == "venous":
        left = u(60, 170)
        right = left + u(-20, 30)
    elif phase == "pulmonary":
        right = u(190, 620)
        left = right * u(0.25, 0.85)
    elif phase == "triple_rule_out":
        left = u(160, 480)
        right = left * u(0.8, 1.2)
    elif phase == "arterial":
        left = u(150, 480)
        right = u(5, min(150.0, left)) if rng.random() < 0.5 else u(80, 600)
    else:
        raise ValueError(f"contrast phase '{phase}' does not exist: choose one of {', '.join(PHASES)}")
    return _BLOOD_HU + left * iodine, _BLOOD_HU + right * iodine


def _draw_tables(rng: np.random.Generator, phase: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw mean, mixing and texture (HU) of every region."""
    u = rng.uniform
    m, a, f = (np.zeros(N_REGIONS, np.float32) for _ in range(3))
    iodine = _TUBE_VOLTAGES[int(rng.choice(list(_TUBE_VOLTAGES), p=[0.05, 0.15, 0.3, 0.45, 0.05]))] * u(0.95, 1.05)
    left, right = _draw_blood(rng, phase, iodine)
    contrast = phase != "non_contrast"
    myo = min(u(50, 150), max(left - 25, 30)) if contrast else left + u(-10, 12)
    if contrast and rng.random() < 0.04:
        myo = left + u(-10, 10)
    fat = u(-120, -70)
    spread = 20 if contrast else 4
    for blood in LEFT_BLOOD:
        m[blood] = left + u(-spread, spread)
    m[Region.DESCENDING_AORTA] = m[6] + u(-30, 20) if rng.random() < 0.85 or not contrast else u(30, 500)
    m[Region.ARTERY] = m[6] + (u(-40, 20) if contrast else u(-5, 5))
    m[Region.FALSE_LUMEN] = u(30, 500) if contrast else left + u(-5, 20)
    m[Region.PULMONARY_VEIN] = m[3] + u(-spread, spread)
    m[Region.CORONARY] = left * u(0.5, 1)
    for k in (2, 4, 7, 29):
        m[k] = right + u(-1.5, 1.5) * spread
    if contrast and rng.random() < 0.5:
        m[7] = m[29] = 0.5 * (left + right) + u(-50, 80)
    dense = contrast and rng.random() < 0.55
    m[Region.SVC] = right + (u(0, 1200) if dense else u(-20, 40) if contrast else u(-5, 5))
    m[Region.VEIN] = m[Region.SVC] * u(0.8, 1.2) if rng.random() < 0.5 else (u(40, 200) if contrast else left)
    m[Region.IVC] = right if rng.random() < 0.35 else (u(40, 200) if contrast else right + u(-8, 8))
    uneven = u(0, 60 if phase in ("weak", "venous") else 300)
    mix = uneven if contrast and rng.random() < 0.65 else (10 if contrast else 2)
    a[4], a[2], a[Region.SVC] = mix, mix * u(0, 0.8), mix * u(0.3, 2)
    a[Region.IVC], a[7] = mix * u(0, 0.6), mix * u(0, 0.15)
    a[1] = a[3] = u(0, 15) if contrast else 2
    m[4] += mix * u(-0.4, 0.5)
    m[5] = myo
    m[8] = myo + u(-20, 20)
    for k in (9, 10, 11, 12):
        m[k] = u(20, 120) if contrast else left + u(-5, 20)
    m[Region.VESSEL_WALL] = u(30, 130) if rng.random() < 0.85 else u(200, 900)
    m[Region.PAPILLARY] = myo + u(-10, 40)
    m[Region.TRABECULA] = myo + (right - myo) * u(0, 0.6)
    m[Region.LEFT_VALVE] = myo + (left - myo) * u(0, 0.9)
    m[Region.RIGHT_VALVE] = myo + (right - myo) * u(0, 0.9)
    sinus = (m[4], myo, left * u(0.3, 0.9))[rng.integers(3)] if contrast else right
    m[Region.CORONARY_SINUS] = sinus + u(-spread, spread)
    m[Region.SCAR] = myo + (u(-50, 40) if contrast else u(-10, 5))
    m[Region.PERICARDIUM] = u(0, 60) if rng.random() < 0.9 else u(150, 700)
    m[Region.THROMBUS] = u(20, 90)
    m[Region.METAL], m[Region.CALCIUM] = u(2000, 3071), u(300, 1000) * (0.4 + 0.6 * iodine)
    m[Region.AIR] = m[Region.UNSEEN] = -1000
    m[Region.MEDIASTINAL_FAT], m[Region.FAT] = fat, fat + u(-10, 10)
    m[Region.GLAND] = u(-60, 60)
    m[Region.LUNG] = u(-930, -650)
    m[Region.LUNG_VESSEL] = m[Region.DISTAL_PA] * u(0.3, 1) if rng.random() < 0.5 else m[27] * u(0.3, 1)
    for k in (16, 28, 49, 65):
        m[k] = u(20, 110)
    m[Region.THYROID] += u(0, 100)
    m[Region.SOFT_ORGAN], m[Region.DISC], m[Region.SPINAL_CORD] = u(30, 120), u(50, 130), u(10, 60)
    m[Region.CORTICAL_BONE], m[Region.MARROW] = u(300, 800) * (0.5 + 0.5 * iodine), u(80, 350)
    m[Region.LIVER], m[Region.SPLEEN], m[Region.KIDNEY] = u(45, 140), u(45, 180), u(30, 260)
    m[Region.PANCREAS], m[Region.GALLBLADDER], m[Region.BLADDER] = u(30, 130), u(0, 30), u(0, 30)
    m[Region.BOWEL] = u(0, 120) if rng.random() < 0.8 else u(150, 500)
    m[Region.STOMACH] = u(-20, 120) if rng.random() < 0.8 else u(150, 500)
    m[Region.GAS], m[Region.AIRWAY], m[Region.SKIN] = -960, -990, u(-20, 60)
    m[Region.CARTILAGE], m[Region.LIVER_VESSEL] = u(60, 220), m[Region.LIVER] + u(-20, 80)
    m[Region.ATELECTASIS], m[Region.INFILTRATE] = u(-10, 80), u(-600, 60)
    m[Region.EFFUSION], m[Region.TABLE] = u(-10, 50), u(-700, 150)
    m[BLOBS] = u(-150, 400, 6)
    f[:] = u(0, 12)
    f[Region.AIR] = 0
    f[Region.LUNG], f[Region.MARROW], f[Region.BOWEL] = u(10, 60), u(10, 80), u(0, 60)
    f[Region.MEDIASTINAL_FAT] = f[Region.FAT] = u(5, 30)
    f[Region.MUSCLE], f[Region.GLAND] = u(3, 25), u(10, 50)
    f[Region.LUNG_VESSEL], f[Region.PAPILLARY], f[Region.TRABECULA] = 20, 10, 10
    a[Region.LIVER], a[Region.LUNG], a[5] = u(0, 10), u(0, 50), u(0, 15)
    a[Region.MEDIASTINAL_FAT], a[Region.STOMACH], a[Region.BOWEL] = u(0, 15), u(0, 40), u(0, 40)
    return m, a, f
