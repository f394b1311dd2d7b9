"""Draw the appearance of a scan of any kind, without the parts that are switched off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..switches import FROZEN, IMAGE_PARTS, check_generator
from .ct import draw_ct
from .effects import draw_effects
from .free import draw_free
from .mr import draw_mr
from .tables import PARTS, Appearance

KINDS = ("ct", "mr", "free")
MORE_PLAIN_CT = 0.08
"""Fraction of CT in generator 0.6 that is non-contrast (as in PET/CT), in addition to the drawn contrast phases."""

_OFF: dict[str, dict[str, Any]] = {
    "streaks": {"streak": 0.0},
    "noise": {"noise": 0.0},
    "slices": {"slice_mm": 0.0},
    "motion": {"motion": 0.0, "step": 0.0},
    "bias": {"bias": 0.0, "gain": 0.0, "front_gain": 0.0, "banding": 0.0},
    "window": {"window": None},
    "ghosts": {"ghost": 0.0},
    "inflow": {"inflow": 0.0},
    "beam_hardening": {"beam_hardening": 0.0},
    "kernel": {"sharpness": 0.0, "ringing": 0.0},
}


def draw_appearance(
    rng: np.random.Generator,
    kind: str = "mixed",
    *,
    protocol: str | None = None,
    max_slice_mm: float = 8.0,
    ct_share: float = 0.5,
    mr_share: float = 0.3,
    without: frozenset[str] = frozenset(),
    generator: str = FROZEN,
) -> Appearance:
    """Draw the imaging parameters of a scene.

    Args:
        rng: source of randomness.
        kind: "ct", "mr", "free", or "mixed" for one of them.
        protocol: a contrast phase (``ct.PHASES``) or MR sequence (``mr.SEQUENCES``) instead of a random one; requires
            ``kind`` "ct" or "mr".
        max_slice_mm: maximum slice thickness of CT and free images.
        ct_share: fraction of CT among mixed images.
        mr_share: fraction of MR among mixed images; the rest are free.
        without: parts to switch off (:data:`~heartseg.synthesis.switches.IMAGE_PARTS`); all other parts stay as drawn.
            "mr" or "free" turns mixed images of that kind into CT.
        generator: version of the generator (:data:`~heartseg.synthesis.switches.GENERATORS`); 0.6 adds effects.

    Raises:
        ValueError: the kind, a part or the generator does not exist.
    """
    check_generator(generator)
    unknown = without - frozenset(IMAGE_PARTS) - {"mr", "free"}
    if unknown:
        raise ValueError(f"part {', '.join(sorted(unknown))} does not exist: choose from {', '.join(IMAGE_PARTS)}")
    if kind == "mixed":
        pick = rng.random()
        kind = "ct" if pick < ct_share else "mr" if pick < ct_share + mr_share else "free"
        kind = "ct" if kind in without else kind
    stream = None if generator == FROZEN else np.random.default_rng(int(rng.integers(2**62)))
    if stream is not None and kind == "ct" and protocol is None and stream.random() < MORE_PLAIN_CT:
        protocol = None if "low_dose" in without else "non_contrast"
    if kind == "ct":
        drawn = draw_ct(rng, max_slice_mm, protocol)
    elif kind == "mr":
        drawn = draw_mr(rng, protocol)
    elif kind == "free":
        drawn = draw_free(rng, max_slice_mm)
    else:
        raise ValueError(f"kind '{kind}' does not exist: choose mixed, {', '.join(KINDS)}")
    for part in sorted(without & PARTS):
        drawn = replace(drawn, mixing=np.zeros_like(drawn.mixing)) if part == "mixing" else replace(drawn, **_OFF[part])
    return drawn if stream is None else replace(drawn, effects=draw_effects(stream, drawn, without))
