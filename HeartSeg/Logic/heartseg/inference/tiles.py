"""The sliding window: tiles one by one, blended by a Gaussian, with fallbacks when memory runs out.

Tile positions and weights are nnU-Net v2's (Isensee et al. 2021, Nat Methods 18:203), so that the same folder gives the
same labels. The loop is our own, so that it reports progress, stops at any tile, and continues where it was when memory
runs out.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..devices import CPU, Device, is_out_of_memory
from ..errors import DeviceError
from ..progress import Reporter
from ..wording import _

Predictor = Callable[[np.ndarray], Any]
"""Takes a float32 batch ``(b, c, z, y, x)``, returns float32 logits ``(b, classes, z, y, x)`` on the rung's device: a
NumPy array on the CPU, a tensor of torch on others."""


@dataclass(frozen=True)
class Rung:
    """One way to run: where tiles are computed, where they are accumulated, and how many at a time."""

    device: Device
    accumulate_on: Device
    batch: int

    def __str__(self) -> str:
        return f"{self.batch} tile(s) at a time on {self.device}, accumulated on {self.accumulate_on}"


def ladder(device: Device, batch: int) -> list[Rung]:
    """Ways to run, fastest first: all on the device, sums on the CPU, smaller batches, everything on the CPU."""
    if device == CPU:
        return [Rung(CPU, CPU, 1)]
    rungs = [Rung(device, device, batch), Rung(device, CPU, batch)]
    while batch > 1:
        batch //= 2
        rungs.append(Rung(device, CPU, batch))
    return [*rungs, Rung(CPU, CPU, 1)]


def tile_starts(image: tuple[int, ...], patch: tuple[int, ...], step: float) -> list[tuple[int, ...]]:
    """First voxels ``(z, y, x)`` of all tiles, evenly spaced, at most ``step`` of a patch (or one voxel) apart."""
    per_axis = []
    for size, tile in zip(image, patch, strict=True):
        count = int(np.ceil((size - tile) / max(1.0, tile * step))) + 1
        stride = (size - tile) / (count - 1) if count > 1 else 0.0
        per_axis.append([int(np.round(stride * k)) for k in range(count)])
    return list(itertools.product(*per_axis))


@lru_cache(maxsize=4)
def gaussian_weights(patch: tuple[int, ...]) -> np.ndarray:
    """float32 weight of each voxel of a tile: a Gaussian of sigma = patch / 8 around its middle, maximum 10."""
    from scipy.ndimage import gaussian_filter

    peak = np.zeros(patch)
    peak[tuple(n // 2 for n in patch)] = 1
    weights = gaussian_filter(peak, [n / 8 for n in patch], 0, mode="constant", cval=0)
    weights *= 10 / weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    return weights.astype(np.float32)


def mirror_combinations(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All sets of axes to flip, the empty one first."""
    return [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]


@dataclass(frozen=True)
class SlidingWindow:
    """How an image is cut into overlapping tiles.

    Attributes:
        patch: voxels of a tile ``(z, y, x)``.
        step: distance of neighbouring tiles as a share of the patch.
        mirror_axes: spatial axes (0 = z) over whose flips the prediction is averaged.
    """

    patch: tuple[int, ...]
    step: float = 0.5
    mirror_axes: tuple[int, ...] = ()

    def starts(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """First voxels of the tiles of an image ``(z, y, x)``, which is padded to the patch where it is smaller."""
        return tile_starts(tuple(max(n, p) for n, p in zip(shape, self.patch, strict=True)), self.patch, self.step)


def predict_tiles(
    image: np.ndarray,
    window: SlidingWindow,
    networks: Callable[[Rung], list[Predictor]],
    classes: int,
    rungs: list[Rung],
    reporter: Reporter,
) -> np.ndarray:
    """Average the networks' logits over overlapping tiles.

    Args:
        image: float32 ``(c, z, y, x)``, normalised; padded with 0 where it is smaller than the patch.
        window: the tiles and mirrored copies.
        networks: makes the networks (one per fold) ready for a rung.
        classes: number of output channels.
        rungs: from :func:`ladder`. Each step down is announced; finished tiles are kept.
        reporter: counts tiles in its open stage; a cancel is noticed at every tile and mirrored copy.

    Returns:
        float32 logits ``(classes, z, y, x)`` of the image's own shape.

    Raises:
        DeviceError: out of memory on the last rung.
    """
    padded, inner = padded_to_patch(image, window.patch)
    tiles = window.starts(tuple(image.shape[1:]))
    state = _Accumulator(padded, classes, window)
    remaining = list(rungs)
    while state.done < len(tiles):
        rung = remaining.pop(0)
        try:
            for count in state.run(rung, networks(rung), tiles, reporter.check):
                reporter.step(count)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if not remaining:
                raise DeviceError(
                    _(
                        "out of memory on {device} with one tile of {size} voxels: close other programs, or use a "
                        "model with a smaller patch"
                    ).format(device=rung.device, size="x".join(map(str, window.patch)))
                ) from error
            state.free(remaining[0])
            reporter.announce(
                _("out of memory with {rung}: continuing at tile {done} with {remaining}").format(
                    rung=rung, done=state.done + 1, remaining=remaining[0]
                )
            )
    with_classes = (slice(None), *inner)
    return state.mean()[with_classes]


def padded_to_patch(image: np.ndarray, patch: tuple[int, ...]) -> tuple[np.ndarray, tuple[slice, ...]]:
    """``(c, z, y, x)`` padded with zeros to the patch where it is smaller, and the image's box in the result."""
    shape = image.shape[1:]
    missing = [max(0, p - n) for p, n in zip(patch, shape, strict=True)]
    inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, shape, strict=True))
    return (np.pad(image, [(0, 0), *((m // 2, m - m // 2) for m in missing)]) if any(missing) else image), inner


class _Accumulator:
    """Sum of weighted logits, kept when another rung continues: NumPy arrays on the CPU, tensors on other devices.

    The logits of an image of one tile are their own mean, and are not copied.
    """

    def __init__(self, image: np.ndarray, classes: int, window: SlidingWindow) -> None:
        self.image, self.classes, self.window, self.done = image, classes, window, 0
        self.total: Any = None
        self.weight: Any = None

    def run(
        self,
        rung: Rung,
        networks: list[Predictor],
        tiles: list[tuple[int, ...]],
        check: Callable[[], None],
    ) -> Iterator[int]:
        """Process the remaining tiles; yields the size of each finished batch."""
        if len(tiles) == 1:
            self.total = _average(self.image[None], networks, self.window.mirror_axes, check)[0]
            self.done = 1
            yield 1
            return
        if self.total is None:
            shape = self.image.shape[1:]
            self.total = _moved(np.zeros((self.classes, *shape), np.float32), rung.accumulate_on)
            self.weight = _moved(np.zeros(shape, np.float32), rung.accumulate_on)
        patch = self.window.patch
        gaussian = _moved(gaussian_weights(patch), rung.accumulate_on)
        while self.done < len(tiles):
            batch = tiles[self.done : self.done + rung.batch]
            boxes = [(slice(None), *(slice(a, a + p) for a, p in zip(t, patch, strict=True))) for t in batch]
            crops = np.stack([self.image[box] for box in boxes])
            logits = _moved(_average(crops, networks, self.window.mirror_axes, check), rung.accumulate_on)
            for box, one in zip(boxes, logits, strict=True):
                for total, logit in zip(self.total[box], one, strict=True):  # one by one, for the memory of the product
                    total += logit * gaussian
                self.weight[box[1:]] += gaussian
            self.done += len(batch)
            yield len(batch)

    def free(self, next_rung: Rung) -> None:
        """Release the device's memory and move the sums to where the next rung accumulates."""
        if self.total is not None:
            self.total, self.weight = (_moved(sums, next_rung.accumulate_on) for sums in (self.total, self.weight))
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def mean(self) -> np.ndarray:
        if self.weight is not None:
            self.total /= self.weight  # in place: a second copy may be more than the card has left
        return _moved(self.total, CPU)


def _moved(array: Any, device: Device) -> Any:
    """An array or tensor on a device: a NumPy array on the CPU."""
    if device == CPU:
        return array if isinstance(array, np.ndarray) else array.cpu().numpy()
    import torch

    return torch.as_tensor(array, device=str(device))


def _average(
    crops: np.ndarray, networks: list[Predictor], mirror_axes: tuple[int, ...], check: Callable[[], None]
) -> Any:
    """Mean logits over folds and mirrored copies; ``check`` is called between them."""
    flips = [tuple(a + 2 for a in axes) for axes in mirror_combinations(mirror_axes)]
    total = None
    for network in networks:
        for axes in flips:
            if total is not None:
                check()
            logits = _flipped(network(np.flip(crops, axes)), axes)
            total = logits if total is None else total + logits
    assert total is not None
    return total / (len(networks) * len(flips)) if len(networks) * len(flips) > 1 else total


def _flipped(logits: Any, axes: tuple[int, ...]) -> Any:
    return np.flip(logits, axes) if isinstance(logits, np.ndarray) else logits.flip(axes)
