"""The parameters of an image, and the tissues that go together in every kind of scan."""

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
    """How a scene is imaged. Tables have one entry a region: HU for CT, any unit for MR and free images.

    A part is off at 0 (``window``: None).

    Attributes:
        mean: grey value of each region.
        mixing: amplitude of slow variation inside it (contrast mixing, perfusion, slow flow).
        texture: amplitude of fine variation.
        kind: "ct", "mr" or "free".
        protocol: contrast phase of a CT, sequence of an MR, else "free".
        noise: standard deviation of the scanner's noise, in grey values; Rician in MR.
        noise_grain: blur of the noise, mm.
        noise_variation: how much more noise the middle of the body and one end along z have, as a share.
        blur: point spread, mm (z, y, x), Gaussian sigma.
        sharpness: overshoot of the kernel at edges in the axial plane, as a share of the edge.
        ringing: width of the truncated k-space's point spread along y and x, mm.
        slice_mm: slice thickness along ``slice_axis`` in mm, nothing beyond the voxel's if smaller than that.
        slice_axis: 0, 1 or 2 for slices stacked along z, y or x.
        slice_turn: for oblique slices the axes of their stack as columns, (z, y, x) each; ``slice_axis`` is one of
            these. None: the image's own.
        tilt: slope of the slices against that axis: 0.5 smears each by half its thickness within its plane.
        motion: displacement of the heart between the copies that are averaged, mm.
        step: in-plane displacement of slabs of slices, mm, at most.
        bias: amplitude of a smooth additive field.
        gain: log-amplitude of a smooth multiplicative field.
        front_gain: log of how much brighter the front of the field of view is than its back.
        banding: depth of dark off-resonance bands, as a share.
        inflow: log-amplitude of the blood's brightness along z and within pools.
        ghost: strength of the displaced copies of moving tissue, as a share.
        ghost_axis: axis along which they are displaced (1 or 2).
        streak: strength of the streaks beside a dense superior vena cava, metal and calcium.
        beam_hardening: strength of the dark bands between dense things.
        window: (low, high, levels) for images kept as a windowed picture, or None.
        gamma: exponent of the grey scale, 1 for none.
        full_scale: value that the top of an MR image's grey scale is brought to.
        clip: share of an MR image's voxels that are cut off at the top.
        levels: grey levels of an MR image.
        stack: the slices of a stack, which then replace ``slice_mm``, ``slice_axis``, ``slice_turn`` and ``tilt``.
        effects: what generator 0.6 adds, in the order in which it is applied.
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
