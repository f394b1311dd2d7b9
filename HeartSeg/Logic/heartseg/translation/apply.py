"""Translate a volume slice by slice, on the same grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..devices import choose_device, describe_device, is_out_of_memory, torch_settings
from ..errors import DeviceError, SettingsError
from ..progress import Reporter
from ..volume import Source, Volume, to_nearest_lps
from .model import DIRECTIONS, TranslationModel, open_model
from .slices import SLAB, check_modality, pixels, resample, to_unit

OVERLAP = 0.25
"""Minimum overlap of adjacent patches, as a fraction of a patch."""
TILES_AT_ONCE = 4


class Translator:
    """Translates volumes with one generator, which stays in memory.

    Args:
        model: model folder of ``heartseg translate train``, or an open model.
        direction: ``mr2ct`` or ``ct2mr``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: CPU threads; ``None`` keeps torch's setting.

    Raises:
        ModelError: the folder is unusable.
        SettingsError: the direction does not exist.
        DeviceError: the device does not exist.
    """

    def __init__(
        self,
        model: TranslationModel | str | Path,
        direction: str = "mr2ct",
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        if direction not in DIRECTIONS:
            raise SettingsError(f"direction is {direction!r}: it must be one of {', '.join(DIRECTIONS)}")
        self.model = model if isinstance(model, TranslationModel) else open_model(model)
        self.direction, self.threads = direction, threads
        self.device = choose_device(device)
        self.network = self.model.load(direction, self.device)

    def __call__(self, volume: Volume, reporter: Reporter | None = None) -> Volume:
        """Translate a volume.

        Axial slices are scaled and resampled as in training, translated, resampled back and scaled to grey values of
        the target: HU in int16 for CT, typical values of the MR training scans in float32. Slices larger than a
        training patch are translated in overlapping patches, which are blended. Detail finer than the training pixels
        is lost.

        Args:
            volume: a scan of the source modality (``mr2ct``: MR).
            reporter: receives progress and cancels.

        Returns:
            The translation, with exactly the geometry of the input.

        Raises:
            InputError: the scan has a different modality.
            DeviceError: the device has too little memory.
        """
        reporter = reporter or Reporter()
        source, target = DIRECTIONS[self.direction]
        other = next(d for d in DIRECTIONS if d != self.direction)
        check_modality(volume, source, f"use direction {other}, or omit this scan")
        flip, turned = to_nearest_lps(volume.geometry)
        stored = flip.apply(volume.array)
        limits = self.model.scaling[source].limits(volume.array)
        out = np.empty(stored.shape, np.int16 if target == "CT" else np.float32)
        x, y, _ = turned.spacing
        try:
            with torch_settings(self.threads), reporter.stage("translate", len(stored)):
                for start in range(0, len(stored), SLAB):
                    slab = to_unit(stored[start : start + SLAB], limits)
                    made = self._translate_slices(slab, (y, x), reporter, start)
                    out[start : start + SLAB] = self._grey_values(made, target)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{describe_device(self.device)} has too little memory to translate {volume.name!r}: use --device cpu"
            ) from None
        array = np.ascontiguousarray(flip.undo(out))
        name = f"{volume.name}-as-{target}"
        return replace(
            volume, array=array, name=name, modality=target, source=Source(path=volume.source.path), findings=()
        )

    def _translate_slices(
        self, slices: np.ndarray, spacing: tuple[float, float], reporter: Reporter, done: int
    ) -> np.ndarray:
        """Translate slices (n, y, x) in [-1, 1] with pixels of ``spacing`` (y, x) mm; keeps the pixel size."""
        wanted, shape = self.model.settings.spacing, slices.shape[1:]
        size = (pixels(shape[0], spacing[0], wanted), pixels(shape[1], spacing[1], wanted))
        small = torch.from_numpy(resample(slices, size)).to(self.device)
        made = np.empty((len(slices), *size), np.float32)
        for number, image in enumerate(small):
            made[number] = translate_slice(self.network, image, self.model.settings.patch).cpu().numpy()
            reporter.advance(done + number + 1)
        return resample(made, (shape[0], shape[1]))

    def _grey_values(self, unit: np.ndarray, target: str) -> np.ndarray:
        values = self.model.scaling[target].back(np.clip(unit, -1, 1))
        return np.clip(np.rint(values), -32768, 32767).astype(np.int16) if target == "CT" else values


def translate_slice(network: nn.Module, image: torch.Tensor, patch: int) -> torch.Tensor:
    """Translate one slice (y, x) in [-1, 1], in patches of the training size.

    Other sizes would change the result, because instance normalisation runs over the whole patch. Smaller slices are
    padded with -1 to the patch size, as in training. Larger slices are covered by patches that overlap by at least a
    quarter, with weights that decrease towards their borders.
    """
    height, width = image.shape
    below, right = max(0, patch - height), max(0, patch - width)
    around = (right // 2, right - right // 2, below // 2, below - below // 2)
    padded = torch.nn.functional.pad(image, around, value=-1.0)
    corners = [(a, b) for a in _starts(padded.shape[0], patch) for b in _starts(padded.shape[1], patch)]
    ramp = (torch.arange(patch, device=image.device) + 0.5).minimum(
        torch.arange(patch, 0, -1, device=image.device) - 0.5
    )
    weight = ramp[:, None] * ramp[None]
    total, share = torch.zeros_like(padded), torch.zeros_like(padded)
    for first in range(0, len(corners), TILES_AT_ONCE):
        some = corners[first : first + TILES_AT_ONCE]
        tiles = torch.stack([padded[a : a + patch, b : b + patch] for a, b in some])[:, None]
        for (a, b), tile in zip(some, network(tiles)[:, 0], strict=True):
            total[a : a + patch, b : b + patch] += weight * tile
            share[a : a + patch, b : b + patch] += weight
    blended = total / share
    return blended[below // 2 : below // 2 + height, right // 2 : right // 2 + width]


def _starts(length: int, patch: int) -> list[int]:
    """Return evenly spaced start positions of patches along an edge."""
    if length <= patch:
        return [0]
    count = 1 + int(np.ceil((length - patch) / (patch * (1 - OVERLAP))))
    return [round(v) for v in np.linspace(0, length - patch, count)]
