"""Grey values: each tissue gets a mean, a mixing amplitude and a texture; then the scanner's blur, noise and habits.

All parameters are drawn first (:func:`draw_appearance`), then applied (:func:`render`), so that the same parameters
give the same kind of image on any grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf

from .fields import gaussian_blur, smooth_noise
from .regions import N_REGIONS, Region


@dataclass(frozen=True)
class Appearance:
    """How a scene is imaged. The three tables have one entry a region; HU for ``physics`` images.

    Attributes:
        mean: grey value of each region.
        mixing: amplitude of slow variation inside it (contrast mixing, perfusion).
        texture: amplitude of fine variation.
        noise: standard deviation of the scanner's noise.
        noise_grain: blur of the noise, mm.
        blur: point spread, mm (z, y, x), Gaussian sigma.
        slice_mm: slice thickness along z in mm, 0 for none beyond the voxel's.
        bias: amplitude of a smooth additive field.
        gain: log-amplitude of a smooth multiplicative field.
        gamma: exponent of the grey scale, 1 for none.
        window: (low, high, levels) for images kept as a windowed picture, or None.
        streak: strength of the dark and bright streaks beside a dense superior vena cava.
        physics: whether the values are HU.
    """

    mean: np.ndarray
    mixing: np.ndarray
    texture: np.ndarray
    noise: float
    noise_grain: float
    blur: tuple[float, float, float]
    slice_mm: float
    bias: float
    gain: float
    gamma: float
    window: tuple[float, float, int] | None
    streak: float
    physics: bool


def draw_appearance(rng: np.random.Generator, *, physics_share: float = 0.78, max_slice_mm: float = 8.0) -> Appearance:
    """Draw how a scene is imaged: HU tables for ``physics_share`` of the images, free grey values for the rest."""
    u = rng.uniform
    physics = bool(rng.random() < physics_share)
    mean, mixing, texture, noise = _draw_hu(rng) if physics else _draw_free(rng)
    window = _draw_window(rng) if physics and rng.random() < 0.32 else None
    thick = rng.random()
    slice_mm = float(u(4, max_slice_mm)) if thick < 0.25 else 0.0
    sharp = u(0, 2.0)
    return Appearance(
        mean=mean,
        mixing=mixing,
        texture=texture,
        noise=noise,
        noise_grain=u(0.5, 3.0),
        blur=(sharp * u(0.6, 1.6), sharp, sharp),
        slice_mm=slice_mm,
        bias=u(0, 40) if rng.random() < 0.3 else 0.0,
        gain=u(0, 0.3) if not physics and rng.random() < 0.6 else 0.0,
        gamma=float(np.exp(u(-0.4, 0.4))) if rng.random() < 0.3 else 1.0,
        window=window,
        streak=u(0.05, 0.35) if physics and rng.random() < 0.5 else 0.0,
        physics=physics,
    )


def _draw_window(rng: np.random.Generator) -> tuple[float, float, int]:
    """A reading window, or any other: in some of these fat and muscle are as black as lung."""
    u = rng.uniform
    levels = int(rng.choice([64, 256, 256]))
    if rng.random() < 0.5:
        low = u(-200, 60)
        return low, low + u(200, 800), levels
    low, high = [(-100, 700), (-160, 240), (-200, 400), (-150, 550), (-1000, 600)][rng.integers(5)]
    return low + u(-60, 60), high + u(-60, 150), levels


def _draw_blood(rng: np.random.Generator) -> tuple[float, float]:
    """Left- and right-heart enhancement (HU): arterial, both, venous or weak, right-dominant, or none."""
    u, phase = rng.uniform, rng.random()
    if phase < 0.07:  # no contrast
        left = u(25, 60)
        return left, left + u(-5, 5)
    if phase < 0.25:  # venous or weak: all pools alike
        left = u(90, 230)
        return left, left + u(-25, 40)
    if phase < 0.33:  # pulmonary phase: right heart first
        right = u(250, 800)
        return right * u(0.3, 0.9), right
    left = u(180, 650)
    kind = rng.random()
    if kind < 0.35:
        return left, left + u(-60, 60)
    if kind < 0.65:
        return left, u(45, min(200.0, left))
    return left, u(120, 800)


def _draw_hu(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """HU table of a contrast-enhanced (or not) CT."""
    u = rng.uniform
    m, a, f = (np.zeros(N_REGIONS, np.float32) for _ in range(3))
    left, right = _draw_blood(rng)
    contrast = left > 80
    myo = min(u(50, 150), max(left - 25, 30)) if contrast else left + u(-10, 12)
    if contrast and rng.random() < 0.04:
        myo = left + u(-10, 10)
    fat = u(-120, -70)
    spread = 20 if contrast else 4
    for k in (1, 3, 6, 35):
        m[k] = left + u(-spread, spread)
    m[Region.DESCENDING_AORTA] = m[6] + u(-30, 20) if rng.random() < 0.85 else u(30, 500)
    m[Region.ARTERY] = m[6] + u(-40, 20)
    m[Region.FALSE_LUMEN] = u(30, 500)
    m[Region.PULMONARY_VEIN] = m[3] + u(-spread, spread)
    m[Region.CORONARY] = left * u(0.5, 1)
    for k in (2, 4, 7, 29):
        m[k] = right + u(-1.5, 1.5) * spread
    if contrast and rng.random() < 0.5:
        m[7] = m[29] = 0.5 * (left + right) + u(-50, 80)
    dense = contrast and rng.random() < 0.55
    m[Region.SVC] = right + (u(0, 1200) if dense else u(-20, 40))
    m[Region.VEIN] = m[Region.SVC] * u(0.8, 1.2) if rng.random() < 0.5 else u(40, 200)
    m[Region.IVC] = right if rng.random() < 0.35 else (u(40, 200) if contrast else right + u(-8, 8))
    mix = u(0, 300) if contrast and rng.random() < 0.65 else (10 if contrast else 2)
    a[4], a[2], a[Region.SVC] = mix, mix * u(0, 0.8), mix * u(0.3, 2)
    a[Region.IVC], a[7] = mix * u(0, 0.6), mix * u(0, 0.15)
    a[1] = a[3] = u(0, 15) if contrast else 2
    m[4] += mix * u(-0.4, 0.5)
    m[5] = myo
    m[8] = myo + u(-20, 20)
    for k in (9, 10, 11, 12):
        m[k] = u(20, 120)
    m[Region.VESSEL_WALL] = u(30, 130) if rng.random() < 0.85 else u(200, 900)
    m[Region.PAPILLARY] = myo + u(-10, 40)
    m[Region.TRABECULA] = myo + (right - myo) * u(0, 0.6)
    m[Region.LEFT_VALVE] = myo + (left - myo) * u(0, 0.9)
    m[Region.RIGHT_VALVE] = myo + (right - myo) * u(0, 0.9)
    m[Region.AIR] = m[Region.UNSEEN] = -1000
    m[Region.MEDIASTINAL_FAT], m[Region.FAT] = fat, fat + u(-10, 10)
    m[Region.LUNG] = u(-930, -650)
    m[Region.LUNG_VESSEL] = m[Region.DISTAL_PA] * u(0.3, 1) if rng.random() < 0.5 else m[27] * u(0.3, 1)
    for k in (16, 28, 49, 65):
        m[k] = u(20, 110)
    m[Region.THYROID] += u(0, 100)
    m[Region.SOFT_ORGAN], m[Region.DISC], m[Region.SPINAL_CORD] = u(30, 120), u(50, 130), u(10, 60)
    m[Region.CORTICAL_BONE], m[Region.MARROW] = u(300, 1000), u(80, 350)
    m[Region.LIVER], m[Region.SPLEEN], m[Region.KIDNEY] = u(45, 140), u(45, 180), u(30, 260)
    m[Region.PANCREAS], m[Region.GALLBLADDER], m[Region.BLADDER] = u(30, 130), u(0, 30), u(0, 30)
    m[Region.BOWEL] = u(0, 120) if rng.random() < 0.8 else u(150, 500)
    m[Region.STOMACH] = u(-20, 120) if rng.random() < 0.8 else u(150, 500)
    m[Region.GAS], m[Region.AIRWAY], m[Region.SKIN] = -960, -990, u(-20, 60)
    m[Region.CARTILAGE], m[Region.LIVER_VESSEL] = u(60, 220), m[Region.LIVER] + u(-20, 80)
    m[Region.ATELECTASIS], m[Region.INFILTRATE] = u(-10, 80), u(-600, 60)
    m[Region.EFFUSION], m[Region.TABLE] = u(-10, 50), u(-700, 150)
    m[Region.BLOB_0 : Region.BLOB_5 + 1] = u(-150, 400, 6)
    f[:] = u(0, 12)
    f[Region.AIR] = 0
    f[Region.LUNG], f[Region.MARROW], f[Region.BOWEL] = u(10, 60), u(10, 80), u(0, 60)
    f[Region.MEDIASTINAL_FAT] = f[Region.FAT] = u(5, 30)
    f[Region.MUSCLE] = u(3, 25)
    f[Region.LUNG_VESSEL], f[Region.PAPILLARY], f[Region.TRABECULA] = 20, 10, 10
    a[Region.LIVER], a[Region.LUNG], a[5] = u(0, 10), u(0, 50), u(0, 15)
    a[Region.MEDIASTINAL_FAT], a[Region.STOMACH], a[Region.BOWEL] = u(0, 15), u(0, 40), u(0, 40)
    return m, a, f, float(u(5, 45))


_ALIKE = (
    (1, 31), (2, 32), (14, 47), (35, 6), (23, 35), (29, 7), (26, 4), (25, 4), (5, 31), (27, 3), (3, 1), (6, 1),
    (4, 2), (7, 2), (8, 5), (9, 8), (10, 8), (11, 8), (12, 8), (17, 13), (63, 6), (64, 25), (22, 0), (42, 0),
)  # fmt: skip


def _draw_free(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Grey values without physics; tissues that mostly look alike in any scan are tied together most of the time."""
    u = rng.uniform
    m = u(-250, 750, N_REGIONS).astype(np.float32)
    for copy, source in _ALIKE:
        if rng.random() < 0.7:
            m[copy] = m[source] + u(-30, 30)
    if rng.random() < 0.7:  # air and lung dark, as in CT and MR
        m[[Region.AIR, Region.GAS, Region.AIRWAY]] = m.min() - u(0, 60)
        m[Region.LUNG] = m[Region.AIR] + u(0, 150)
    m[Region.UNSEEN] = m[Region.AIR]
    a = (u(0, 30, N_REGIONS) * (u(0, 1, N_REGIONS) < 0.4)).astype(np.float32)
    if rng.random() < 0.4:
        a[4] = a[2] = u(0, 120)
    f = (u(0, 40, N_REGIONS) * (u(0, 1, N_REGIONS) < 0.6)).astype(np.float32)
    return m, a, f, float(u(5, 60))


def render(
    rng: np.random.Generator, regions: np.ndarray, appearance: Appearance, spacing: float, subdivisions: int = 2
) -> np.ndarray:
    """Image of a region map, ``subdivisions`` times coarser than it: partial volume by averaging grey values.

    Args:
        rng: randomness of the textures and the noise.
        regions: (z, y, x) uint8, every axis a multiple of ``subdivisions``.
        appearance: drawn parameters.
        spacing: voxel size of the image in mm (the map's is ``spacing / subdivisions``).
        subdivisions: map voxels an image voxel holds along each axis.

    Returns:
        float32 image, each axis ``subdivisions`` times shorter.
    """
    a = appearance
    image = _pool(a.mean[regions], subdivisions)
    shape = tuple(image.shape)
    scale = max(1.2, 1.0 + 12.0 / spacing * rng.uniform(0.3, 1.3))
    if (a.mixing > 0).any():
        image += _pool(a.mixing[regions], subdivisions) * torch.from_numpy(smooth_noise(rng, shape, scale))
    grain = torch.from_numpy(smooth_noise(rng, shape, rng.uniform(1.1, 2.5)))
    image += torch.from_numpy(a.texture[regions[1::subdivisions, 1::subdivisions, 1::subdivisions]]) * grain
    if a.streak:
        _add_streaks(rng, image, regions[1::subdivisions, 1::subdivisions, 1::subdivisions], a, spacing)
    image = gaussian_blur(image, [s / spacing for s in a.blur])
    noise = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    noise = gaussian_blur(noise, [a.noise_grain / spacing] * 3)
    image += a.noise * min(1.0, (2.5 / spacing)) * noise / (noise.std() + 1e-6)
    if a.slice_mm > spacing * 1.2:
        count = max(6, round(shape[0] * spacing / a.slice_mm))
        thick = nnf.interpolate(image[None, None], size=(count, *shape[1:]), mode="area")
        image = nnf.interpolate(thick, size=shape, mode="trilinear", align_corners=False)[0, 0]
    if a.bias:
        image += a.bias * torch.from_numpy(smooth_noise(rng, shape, max(shape) / 2.5))
    if a.gain:
        image *= torch.exp(a.gain * torch.from_numpy(smooth_noise(rng, shape, max(shape) / 2.5)))
    return _grey_scale(image.numpy(), a)


def _pool(values: np.ndarray, n: int) -> torch.Tensor:
    return nnf.avg_pool3d(torch.from_numpy(values)[None, None], n)[0, 0]


def _add_streaks(
    rng: np.random.Generator, image: torch.Tensor, regions: np.ndarray, a: Appearance, spacing: float
) -> None:
    """Radial bright and dark bands in each slice that holds a dense superior vena cava, in place."""
    dense = regions == Region.SVC
    excess = float(a.mean[Region.SVC] - 200)
    if excess < 50 or not dense.any():
        return
    z, y, x = (torch.from_numpy(q.astype(np.float32)) for q in np.nonzero(dense))
    cy, cx, z0, z1 = float(y.mean()), float(x.mean()), int(z.min()), int(z.max())
    yy = torch.arange(image.shape[1], dtype=torch.float32)[:, None] - cy
    xx = torch.arange(image.shape[2], dtype=torch.float32)[None, :] - cx
    radius = torch.hypot(yy, xx) * spacing
    angle = torch.atan2(yy, xx)
    waves = sum(
        float(rng.normal()) * torch.cos(int(n) * angle + float(rng.uniform(0, 6.3))) for n in rng.integers(2, 14, 5)
    )
    band = a.streak * excess * 0.4 * waves * torch.exp(-radius / 45)
    image[z0 : z1 + 1] += band


def _grey_scale(image: np.ndarray, a: Appearance) -> np.ndarray:
    """HU floor, window to a picture, gamma."""
    if a.physics:
        image = np.clip(image, -1024, 3071)
    if a.window is not None:
        low, high, levels = a.window
        image = np.floor((np.clip(image, low, high) - low) / (high - low) * (levels - 1) + 0.5)
    if a.gamma != 1.0:
        low, high = np.percentile(image, [0.5, 99.5])
        unit = np.clip((image - low) / max(high - low, 1e-6), 0, None)
        image = unit**a.gamma * (high - low) + low
    return image.astype(np.float32)
