"""A phantom with all tissues, and appearances that show only the tissue means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heartseg.synthesis.appearance import PARTS, Appearance, draw_appearance
from heartseg.synthesis.regions import Region


def body(size: int = 48) -> np.ndarray:
    """Return a trunk of muscle in air that contains all regions: blocks, a heart, a metal rod and a bone."""
    regions = np.zeros((size, size, size), np.uint8)
    regions[:, 4:-4, 4:-4] = Region.MUSCLE
    ids = [r for r in Region if r != Region.UNSEEN]
    for number, region in enumerate(ids):
        z, y, x = (4 * (number // 25) + 4, 6 * (number // 5 % 5) + 8, 6 * (number % 5) + 8)
        regions[z : z + 4, y : y + 4, x : x + 4] = region
    regions[24:40, 10:38, 10:38] = Region.LV_MYO
    regions[26:38, 12:36, 12:24] = Region.RV_BLOOD
    regions[26:38, 12:36, 26:36] = Region.LV_BLOOD
    regions[20:44, 24:26, 15:17] = Region.METAL
    regions[20:40, 38:42, 20:28] = Region.CORTICAL_BONE
    return regions


def plain(kind: str) -> Appearance:
    """An appearance of tissue means only."""
    appearance = draw_appearance(np.random.default_rng(3), kind, without=PARTS)
    flat = np.zeros_like(appearance.texture)
    return replace(appearance, texture=flat, blur=(0.0, 0.0, 0.0), gamma=1.0, full_scale=0.0, clip=0.0, levels=0)
