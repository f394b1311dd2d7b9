"""Parameters of an image, and groups of tissues common to all kinds of scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..regions import Region
from ..stacks import SliceStack
from ..switches import APPEARANCE_PARTS

LEFT_BLOOD = (Region.LV_BLOOD, Region.LA_BLOOD, Region.AO_BLOOD, Region.ARCH)
RIGHT_BLOOD = (Region.RV_BLOOD, Region.RA_BLOOD, Region.PA_BLOOD, Region.DISTAL_PA)
BLOOD = (
    *LEFT_BLOOD,
    *RIGHT_BLOOD,
    Region.DESCENDING_AORTA,
    Region.SVC,
    Region.IVC,
    Region.PULMONARY_VEIN,
    Region.CORONARY,
    Region.CORONARY_SINUS,
    Region.FALSE_LUMEN,
    Region.ARTERY,
    Region.VEIN,
    Region.LUNG_VESSEL,
)
HEART = (
    *range(1, 13),
    Region.CORONARY,
    Region.PAPILLARY,
    Region.TRABECULA,
    Region.LEFT_VALVE,
    Region.RIGHT_VALVE,
    Region.CALCIUM,
    Region.CORONARY_SINUS,
    Region.SCAR,
    Region.PERICARDIUM,
    Region.THROMBUS,
)
BLOBS = slice(Region.BLOB_0, Region.BLOB_5 + 1)

PARTS = frozenset(APPEARANCE_PARTS)
"""Parts of an appearance that can be switched off one by one."""


@dataclass(frozen=True)
class Appearance:
    """Imaging parameters of a scene.

    Tables have one entry per region, in HU for CT and in arbitrary units for MR and free images. A value of 0 (for
    ``window``: None) switches a part off.

    Attributes:
        mean: grey value of each region.
        mixing: amplitude of slow variation within it (contrast mixing, perfusion, slow flow).
        texture: amplitude of fine variation within it.
        kind: "ct", "mr" or "free".
        protocol: contrast phase of a CT, sequence of an MR image, else "free".
        noise: standard deviation of the scanner noise, in grey values; Rician in MR.
        noise_grain: blur of the noise, mm.
        noise_variation: relative increase of the noise in the middle of the body and towards one end along z.
        blur: Gaussian sigma of the point spread, mm (z, y, x).
        sharpness: overshoot of the kernel at edges in the axial plane, as a fraction of the edge.
        ringing: width of the point spread of truncated k-space along y and x, mm.
        slice_mm: slice thickness along ``slice_axis``, mm; no effect if not larger than a voxel.
        slice_axis: 0, 1 or 2 for slices stacked along z, y or x.
        slice_turn: axes of an oblique stack as columns, (z, y, x) each; ``slice_axis`` then refers to these. None for
            the axes of the image.
        tilt: slope of the slices relative to that axis: 0.5 smears each by half its thickness within its plane.
        motion: displacement of the heart between the averaged copies, mm.
        step: maximum in-plane displacement of slabs of slices, mm.
        bias: amplitude of a smooth additive field.
        gain: log-amplitude of a smooth multiplicative field.
        front_gain: log of the brightness at the front of the field of view relative to its back.
        banding: depth of dark off-resonance bands, as a fraction.
        inflow: log-amplitude of the brightness of blood along z and within pools.
        ghost: strength of displaced copies of moving tissue, as a fraction.
        ghost_axis: axis along which these copies are displaced (1 or 2).
        streak: strength of streaks beside a dense superior vena cava, metal and calcium.
        beam_hardening: strength of dark bands between dense structures.
        window: (low, high, levels) of windowed images, or None.
        gamma: exponent of the grey scale; 1 has no effect.
        full_scale: value to which the top of the grey scale of an MR image is scaled.
        clip: fraction of the voxels of an MR image clipped at the top.
        levels: number of grey levels of an MR image.
        stack: a slice stack, which replaces ``slice_mm``, ``slice_axis``, ``slice_turn`` and ``tilt``.
        effects: effects of generator 0.6, in order of application.
    """

    mean: np.ndarray
    mixing: np.ndarray
    texture: np.ndarray
    kind: str
    protocol: str
    noise: float
    noise_grain: float
    noise_variation: float = 0.0
    blur: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sharpness: float = 0.0
    ringing: float = 0.0
    slice_mm: float = 0.0
    slice_axis: int = 0
    slice_turn: np.ndarray | None = None
    tilt: float = 0.0
    motion: float = 0.0
    step: float = 0.0
    bias: float = 0.0
    gain: float = 0.0
    front_gain: float = 0.0
    banding: float = 0.0
    inflow: float = 0.0
    ghost: float = 0.0
    ghost_axis: int = 1
    streak: float = 0.0
    beam_hardening: float = 0.0
    window: tuple[float, float, int] | None = None
    gamma: float = 1.0
    full_scale: float = 0.0
    clip: float = 0.0
    levels: int = 0
    stack: SliceStack | None = None
    effects: tuple[Any, ...] = ()
