"""From a region map and the parameters of a scan to the image: anatomy, artefacts, resolution, noise, grey scale."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as nnf

from ..fields import apply_lines, gaussian_blur, gaussian_matrix, line_matrix, shift_matrix, smooth_field
from ..regions import N_REGIONS, Region
from .tables import BLOOD, HEART, Appearance

_STEPS = (
    "mixing",
    "inflow",
    "texture",
    "motion",
    "streaks",
    "beam_hardening",
    "steps",
    "coil",
    "ghosts",
    "noise",
    "bias",
)


def render(
    rng: np.random.Generator,
    regions: torch.Tensor | np.ndarray,
    appearance: Appearance,
    spacing: float,
    subdivisions: int = 2,
) -> torch.Tensor:
    """Image of a region map, ``subdivisions`` times coarser than it: partial volume by averaging grey values.

    Args:
        rng: randomness of the textures, artefacts and noise. Each has its own stream, so that switching one off leaves
            the others as they are. The same state gives the same image on one device, and one alike on another.
        regions: (z, y, x) uint8 (:class:`~heartseg.synthesis.regions.Region`), axes LPS, every axis a multiple of
            ``subdivisions``, on any device.
        appearance: drawn parameters.
        spacing: voxel size of the image in mm (the map's is ``spacing / subdivisions``).
        subdivisions: map voxels an image voxel holds along each axis.

    Returns:
        float32 image on the map's device, each axis ``subdivisions`` times shorter.
    """
    if isinstance(regions, np.ndarray):
        regions = torch.from_numpy(np.array(regions, dtype=np.uint8))
    a = appearance
    streams = {name: np.random.default_rng(int(rng.integers(2**62))) for name in _STEPS}
    image, middle = _anatomy(streams, regions, a, spacing, subdivisions)
    if a.motion:
        image = _move_heart(streams["motion"], image, middle, a.motion / spacing, spacing)
    if a.streak:
        _add_streaks(streams["streaks"], image, middle, a, spacing)
    if a.beam_hardening:
        _harden_beam(image, a.beam_hardening, spacing)
    if a.step:
        _misregister(streams["steps"], image, a.step / spacing, spacing)
    if a.gain or a.front_gain or a.banding:
        image *= _coil_gain(streams["coil"], image, a)
    if a.ghost:
        _add_ghosts(streams["ghosts"], image, middle, a, spacing)
    image = apply_lines(image, _point_spread(image.shape, a, spacing))
    if a.noise:
        image = _add_noise(streams["noise"], image, a, spacing)
    if a.slice_mm > spacing * 1.2:
        image = _stack_slices(image, a, spacing) if a.slice_turn is None else _stack_oblique(image, a, spacing)
    if a.bias:
        image += a.bias * smooth_field(streams["bias"], image.shape, max(image.shape) / 2.5, image.device)
    return _grey_scale(image, a)


def _anatomy(
    streams: dict[str, np.random.Generator], regions: torch.Tensor, a: Appearance, spacing: float, n: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey values of the tissues with their variation, and the region in the middle of each voxel (int32)."""
    device = regions.device
    corners = [(i, j, k) for i in range(n) for j in range(n) for k in range(n)]
    index = [regions[i::n, j::n, k::n].to(torch.int32) for i, j, k in corners]
    middle = regions[n // 2 :: n, n // 2 :: n, n // 2 :: n].to(torch.int32)
    image, shape = _average(a.mean, index), middle.shape
    few = index[:: max(1, len(index) - 1)]
    if (a.mixing > 0).any():
        scale = max(1.2, 1.0 + 12.0 / spacing * streams["mixing"].uniform(0.3, 1.3))
        image += _average(a.mixing, few) * smooth_field(streams["mixing"], shape, scale, device)
    if a.inflow:
        blood = np.zeros(N_REGIONS, np.float32)
        blood[list(BLOOD)] = 1
        along = smooth_field(streams["inflow"], (shape[0], 1, 1), shape[0] / 2.5, device)
        along = gaussian_blur(along, [shape[0] / 12, 0, 0])
        within = smooth_field(streams["inflow"], shape, max(1.5, 25 / spacing), device)
        field = 1.2 * torch.tanh(a.inflow * (0.8 * along + 0.6 * within))
        image *= 1 + _average(blood, few) * (torch.exp(field) - 1)
    if (a.texture > 0).any():
        grain = _white(streams["texture"], shape, device)
        grain = gaussian_blur(grain, [streams["texture"].uniform(0.4, 0.9)] * 3)
        image += _average(a.texture, [middle]) * (grain / grain.std())
    if a.kind == "mr":
        image.clamp_(min=0)
    return image, middle


def _average(table: np.ndarray, index: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean of a table's values over several index maps of one shape."""
    values = torch.from_numpy(table.astype(np.float32) / len(index)).to(index[0].device)
    total = values.index_select(0, index[0].reshape(-1))
    for i in index[1:]:
        total += values.index_select(0, i.reshape(-1))
    return total.reshape(index[0].shape)


def _members(middle: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """1.0 where the region is one of ``ids``, else 0.0."""
    table = np.zeros(N_REGIONS, np.float32)
    table[list(ids)] = 1
    return _average(table, [middle])


def _white(rng: np.random.Generator, shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """White noise of unit standard deviation."""
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    return torch.randn(tuple(shape), generator=generator, device=device)


def _shifted(image: torch.Tensor, shift: Sequence[float] | np.ndarray) -> torch.Tensor:
    """Image moved by ``shift`` voxels (z, y, x), linearly interpolated, its border replicated."""
    return apply_lines(
        image, [shift_matrix(n, s) if abs(s) > 0.02 else None for n, s in zip(image.shape, shift, strict=True)]
    )


def _move_heart(
    rng: np.random.Generator, image: torch.Tensor, middle: torch.Tensor, voxels: float, spacing: float
) -> torch.Tensor:
    """Doubling (two copies) or blurring (three) of the heart and what is next to it, about its place."""
    weight = gaussian_blur(_members(middle, HEART), [8 / spacing] * 3).mul_(1.6).clamp_(max=1)
    direction = rng.standard_normal(3)
    direction *= voxels / np.linalg.norm(direction)
    moved = _shifted(image, 0.5 * direction) + _shifted(image, -0.5 * direction)
    moved = 0.5 * moved if rng.random() < 0.5 else (moved + image) / 3
    return image + weight * (moved - image)


def _add_streaks(
    rng: np.random.Generator, image: torch.Tensor, middle: torch.Tensor, a: Appearance, spacing: float
) -> None:
    """Star of bright and dark rays about a dense superior vena cava, metal and calcium in each slice, in place."""
    excess = np.zeros(N_REGIONS, np.float32)
    excess[Region.SVC] = max(0.0, float(a.mean[Region.SVC]) - 250) * 0.6
    excess[Region.METAL] = max(0.0, float(a.mean[Region.METAL]) - 200) * 0.4
    excess[Region.CALCIUM] = max(0.0, float(a.mean[Region.CALCIUM]) - 500) * 0.3
    source = _average(excess, [middle])
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


def _harden_beam(image: torch.Tensor, strength: float, spacing: float) -> None:
    """Dark bands between dense things of one slice along x and along y, in place."""
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


def _misregister(rng: np.random.Generator, image: torch.Tensor, voxels: float, spacing: float) -> None:
    """Slabs of 20-45 mm along z displaced in the plane by up to ``voxels``, in place."""
    height, low = rng.uniform(20, 45) / spacing, rng.uniform(-20, 0) / spacing
    while low < image.shape[0]:
        shift = rng.uniform(-1, 1, 2)
        shift *= voxels / max(1.0, float(np.linalg.norm(shift)))
        slab = slice(max(0, int(low)), max(0, int(low + height)))
        if slab.stop > slab.start:
            image[slab] = _shifted(image[slab], (0.0, *shift))
        low += height


def _coil_gain(rng: np.random.Generator, image: torch.Tensor, a: Appearance) -> torch.Tensor:
    """Smooth factor: coil profile, brighter at the front (low y), and dark off-resonance bands."""
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


def _add_ghosts(
    rng: np.random.Generator, image: torch.Tensor, middle: torch.Tensor, a: Appearance, spacing: float
) -> None:
    """Displaced, attenuated copies of the heart and the front of the chest, wrapped around, in place."""
    n = image.shape[a.ghost_axis]
    front = torch.linspace(1, 0, image.shape[1], device=image.device)[None, :, None] ** 3
    moving = image * (gaussian_blur(_members(middle, HEART), [5 / spacing] * 3) + 0.6 * front)
    period = int(n / rng.integers(3, 8))
    for order, sign in ((1, 1), (1, -1), (2, 1), (2, -1)):
        phase = float(rng.choice((-1, 1)) * rng.uniform(0.4, 1))
        image += a.ghost / order * phase * torch.roll(moving, sign * order * period, a.ghost_axis)
    if a.kind == "mr":
        image.abs_()


def _point_spread(shape: Sequence[int], a: Appearance, spacing: float) -> list[np.ndarray | None]:
    """Matrix of each axis: blur, then the kernel's overshoot or the truncated k-space's ringing in the plane."""
    matrices: list[np.ndarray | None] = []
    for axis, n in enumerate(shape):
        matrix = None
        if a.blur[axis] / spacing >= 0.2:
            matrix = gaussian_matrix(n, a.blur[axis] / spacing)
        if a.sharpness and axis > 0:
            wide = gaussian_matrix(n, max(0.6, 1.8 / spacing))
            edge = (1 + a.sharpness) * np.eye(n) - a.sharpness * wide
            matrix = edge if matrix is None else edge @ matrix
        if a.ringing > spacing and axis > 0:
            cut = spacing / a.ringing
            ring = line_matrix(n, partial(_truncated, cut=cut), int(12 / cut))
            matrix = ring if matrix is None else ring @ matrix
        matrices.append(matrix)
    return matrices


def _truncated(distance: np.ndarray, cut: float) -> np.ndarray:
    """Point spread of a k-space cut off at a share of its width, its far side lobes damped; distance in voxels."""
    return np.sinc(cut * distance) * np.exp(-0.5 * (distance * cut / 5) ** 2)


def _add_noise(rng: np.random.Generator, image: torch.Tensor, a: Appearance, spacing: float) -> torch.Tensor:
    """Correlated noise: Gaussian, stronger in the middle of the body and towards one end in CT; Rician in MR."""
    shape, grain = image.shape, [a.noise_grain / spacing] * 3

    def field() -> torch.Tensor:
        noise = gaussian_blur(_white(rng, shape, image.device), grain)
        return noise * (a.noise * min(1.0, 2.5 / spacing) / (noise.std() + 1e-6))

    if a.kind == "mr":
        return torch.hypot(image + field(), field())
    noise = field()
    if a.noise_variation:
        z, y, x = (torch.linspace(-1, 1, n, device=image.device) for n in shape)
        inner = torch.exp(-1.5 * (y[:, None] ** 2 + x[None] ** 2)) - 0.5
        slope = float(rng.uniform(-0.5, 0.7)) * z
        noise *= (1 + a.noise_variation * (inner[None] + slope[:, None, None])).clamp(min=0.3)
    return image + noise


def _stack_slices(image: torch.Tensor, a: Appearance, spacing: float) -> torch.Tensor:
    """Slices ``slice_mm`` thick and as far apart, interpolated linearly between their centres; tilted ones smear."""
    n, thick = image.shape[a.slice_axis], a.slice_mm / spacing
    if a.tilt:
        across = 1 if a.slice_axis != 1 else 2
        shift = [0.0, 0.0, 0.0]
        shift[across] = 0.25 * a.tilt * thick
        image = 0.5 * (_shifted(image, shift) + _shifted(image, [-s for s in shift]))
    count = max(6, round(n / thick))
    edges = np.linspace(0, n, count + 1)
    rows = np.arange(n)
    overlap = np.minimum(edges[1:, None], rows + 1) - np.maximum(edges[:-1, None], rows)
    average = np.maximum(overlap, 0)
    average /= average.sum(1, keepdims=True)
    place = np.clip((rows + 0.5) * count / n - 0.5, 0, count - 1)
    hat = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count)))
    matrices: list[np.ndarray | None] = [None, None, None]
    matrices[a.slice_axis] = hat @ average
    return apply_lines(image, matrices)


def _stack_oblique(image: torch.Tensor, a: Appearance, spacing: float) -> torch.Tensor:
    """As :func:`_stack_slices`, of slices across an oblique axis, such as the heart's: turned, stacked, turned back.

    What the turned grid, as large as the image's, does not reach (the corners) stays as it is.
    """
    assert a.slice_turn is not None
    turn = torch.from_numpy(np.ascontiguousarray(a.slice_turn)).float().to(image.device)
    there, back = _turned_places(image, turn), _turned_places(image, turn.T)
    stacked = _at_places(_stack_slices(_at_places(image, there), a, spacing), back)
    return torch.where((back.abs() <= 1).all(-1), stacked, image)


def _turned_places(image: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """``turn @ q`` for every voxel q of an image, from its middle, as shares of its half edges: (z, y, x, 3)."""
    half = torch.tensor([n / 2 for n in image.shape], device=image.device)
    lines = (torch.arange(n, device=image.device) + 0.5 - n / 2 for n in image.shape)
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1) @ turn.T / half


def _at_places(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The image there, linearly interpolated; beyond it, its border."""
    grid = places.flip(-1)[None]
    return nnf.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False)[0, 0]


def _quantiles(image: torch.Tensor, shares: Sequence[float]) -> list[float]:
    """Quantiles of about 100 000 of the voxels, evenly spread."""
    values = image.reshape(-1)[:: max(1, image.numel() // 100_000)].sort().values
    return [float(values[round(s * (len(values) - 1))]) for s in shares]


def _grey_scale(image: torch.Tensor, a: Appearance) -> torch.Tensor:
    """HU limits and window of a CT, full scale, clipping and grey levels of an MR image, gamma."""
    if a.kind == "ct":
        image = image.clamp(-1024, 3071)
    if a.window is not None:
        low, high, levels = a.window
        image = torch.floor((image.clamp(low, high) - low) / (high - low) * (levels - 1) + 0.5)
    if a.gamma != 1.0:
        low, high = _quantiles(image, (0.005, 0.995))
        unit = ((image - low) / max(high - low, 1e-6)).clamp(min=0)
        image = unit**a.gamma * (high - low) + low
    if a.full_scale:
        top = max(_quantiles(image, (1 - a.clip,))[0], 1e-6)
        image = image * (a.full_scale / top)
        if a.clip or a.levels:
            image = image.clamp(max=a.full_scale)
        if a.levels:
            image = torch.floor(image + 0.5)
    return image.float()
