"""Artefacts of the scanner and of motion: blur, streaks, beam hardening, steps, coil profile, ghosts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..fields import apply_lines, gaussian_blur, shift_matrix, smooth_field
from ..regions import N_REGIONS, Region
from .tables import HEART, Appearance
from .tissue import average, members


def shifted(image: torch.Tensor, shift: Sequence[float] | np.ndarray) -> torch.Tensor:
    """Shift an image by ``shift`` voxels (z, y, x); linear interpolation, border values replicated."""
    return apply_lines(
        image, [shift_matrix(n, s) if abs(s) > 0.02 else None for n, s in zip(image.shape, shift, strict=True)]
    )


def move_heart(
    rng: np.random.Generator, image: torch.Tensor, middle: torch.Tensor, voxels: float, spacing: float
) -> torch.Tensor:
    """Double (two copies) or blur (three copies) the heart and its vicinity."""
    weight = gaussian_blur(members(middle, HEART), [8 / spacing] * 3).mul_(1.6).clamp_(max=1)
    direction = rng.standard_normal(3)
    direction *= voxels / np.linalg.norm(direction)
    moved = shifted(image, 0.5 * direction) + shifted(image, -0.5 * direction)
    moved = 0.5 * moved if rng.random() < 0.5 else (moved + image) / 3
    return image + weight * (moved - image)


def add_streaks(
    rng: np.random.Generator, image: torch.Tensor, middle: torch.Tensor, a: Appearance, spacing: float
) -> None:
    """Add bright and dark rays around a dense superior vena cava, metal and calcium in each slice, in place."""
    excess = np.zeros(N_REGIONS, np.float32)
    excess[Region.SVC] = max(0.0, float(a.mean[Region.SVC]) - 250) * 0.6
    excess[Region.METAL] = max(0.0, float(a.mean[Region.METAL]) - 200) * 0.4
    excess[Region.CALCIUM] = max(0.0, float(a.mean[Region.CALCIUM]) - 500) * 0.3
    source = average(excess, [middle])
    total, count = source.sum((1, 2)), (source > 0).sum((1, 2))
    slices = torch.nonzero(total > 0)[:, 0]
    if not len(slices):
        return
    height, width = image.shape[1:]
    yy = torch.fft.fftfreq(2 * height, 1 / (2 * height), device=image.device)[:, None]
    xx = torch.fft.fftfreq(2 * width, 1 / (2 * width), device=image.device)[None]
    angle, radius = torch.atan2(yy, xx), torch.hypot(yy, xx) * spacing
    spread = torch.exp(-radius / 45) * (radius > 0)
    stars = []
    for _ in range(2):
        waves = torch.zeros_like(radius)
        for order in rng.integers(3, 20, 6):
            waves += float(rng.normal()) * torch.cos(int(order) * angle + float(rng.uniform(0, 6.3)))
        stars.append(torch.fft.rfft2(waves * spread))
    turn = (float(rng.uniform(0, 6.3)) + slices * spacing * float(rng.uniform(0.05, 0.4)))[:, None, None]
    star = torch.cos(turn) * stars[0] + torch.sin(turn) * stars[1]
    area = (count[slices] * spacing**2 / 40).clamp(max=1) / count[slices]
    spectrum = torch.fft.rfft2(source[slices] * area[:, None, None], s=(2 * height, 2 * width))
    band = torch.zeros_like(image)
    band[slices] = torch.fft.irfft2(spectrum * star, s=(2 * height, 2 * width))[:, :height, :width]
    image += 0.6 * a.streak * gaussian_blur(band, [3 / spacing, 0, 0]).clamp(-3000, 3000)


def harden_beam(image: torch.Tensor, strength: float, spacing: float) -> None:
    """Add dark bands between dense structures of a slice along x and y, in place."""
    dense = (image - 350).clamp(0, 2500)
    dense = gaussian_blur(dense, [0, 3 / spacing, 3 / spacing])
    body = (image > -300).float()
    reach = 60 / spacing
    for axis in (1, 2):
        n = image.shape[axis]
        distance = np.subtract.outer(np.arange(n), np.arange(n)) * 1.0
        before = np.where(distance > 0, np.exp(-np.abs(distance) / reach), 0) / (10 / spacing)
        one: list[np.ndarray | None] = [None, None, None]
        other: list[np.ndarray | None] = [None, None, None]
        one[axis], other[axis] = before, before.T
        band = torch.sqrt((apply_lines(dense, one) * apply_lines(dense, other)).clamp(min=0))
        image -= body * gaussian_blur((0.6 * strength * band).clamp(max=120), [4 / spacing, 6 / spacing, 6 / spacing])


def misregister(rng: np.random.Generator, image: torch.Tensor, voxels: float, spacing: float) -> None:
    """Displace slabs of 20-45 mm along z in the plane by up to ``voxels``, in place."""
    height, low = rng.uniform(20, 45) / spacing, rng.uniform(-20, 0) / spacing
    while low < image.shape[0]:
        shift = rng.uniform(-1, 1, 2)
        shift *= voxels / max(1.0, float(np.linalg.norm(shift)))
        slab = slice(max(0, int(low)), max(0, int(low + height)))
        if slab.stop > slab.start:
            image[slab] = shifted(image[slab], (0.0, *shift))
        low += height


def coil_gain(rng: np.random.Generator, image: torch.Tensor, a: Appearance) -> torch.Tensor:
    """Smooth gain field: coil profile, brighter at the front (low y), with dark off-resonance bands."""
    log = a.gain * smooth_field(rng, image.shape, max(image.shape) / 2.5, image.device)
    if a.front_gain:
        line = torch.linspace(1, 0, image.shape[1], device=image.device) ** float(rng.uniform(1, 2))
        log = log + a.front_gain * (line - line.mean())[None, :, None]
    gain = torch.exp(log.clamp(-1.1, 1.1))
    if a.banding:
        phase = smooth_field(rng, image.shape, max(image.shape) / 2, image.device)
        phase = gaussian_blur(phase, [n / 10 for n in image.shape]) * float(rng.uniform(1, 2))
        width = float(rng.uniform(0.08, 0.2))
        gain *= 1 - a.banding * torch.exp(-((torch.sin(phase + float(rng.uniform(0, 3.1))) / width) ** 2))
    return gain


def add_ghosts(
    rng: np.random.Generator, image: torch.Tensor, middle: torch.Tensor, a: Appearance, spacing: float
) -> None:
    """Add displaced, attenuated copies of the heart and the front of the chest, wrapped around, in place."""
    n = image.shape[a.ghost_axis]
    front = torch.linspace(1, 0, image.shape[1], device=image.device)[None, :, None] ** 3
    moving = image * (gaussian_blur(members(middle, HEART), [5 / spacing] * 3) + 0.6 * front)
    period = int(n / rng.integers(3, 8))
    for order, sign in ((1, 1), (1, -1), (2, 1), (2, -1)):
        phase = float(rng.choice((-1, 1)) * rng.uniform(0.4, 1))
        image += a.ghost / order * phase * torch.roll(moving, sign * order * period, a.ghost_axis)
    if a.kind == "mr":
        image.abs_()
