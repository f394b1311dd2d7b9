"""The sliding window: tiles one by one, blended by a Gaussian, with fallbacks when memory runs out.

Tile positions and weights are nnU-Net v2's (Isensee et al. 2021, Nat Methods 18:203), so that the same folder gives the
same labels. The loop is our own, so that it reports progress, stops at any tile, and continues where it was when memory
runs out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..devices import is_out_of_memory
from ..errors import DeviceError
from ..progress import Reporter

if TYPE_CHECKING:
    import torch

Predictor = Callable[["torch.Tensor"], "torch.Tensor"]
"""Takes a batch ``(b, c, z, y, x)`` on the rung's device, returns logits ``(b, classes, z, y, x)``."""


@dataclass(frozen=True)
class Rung:
    """One way to run: where tiles are computed, where they are accumulated, and how many at a time."""

    device: torch.device
    accumulate_on: torch.device
    batch: int

    def __str__(self) -> str:
        return f"{self.batch} tile(s) at a time on {self.device}, accumulated on {self.accumulate_on}"


def ladder(device: torch.device, batch: int) -> list[Rung]:
    """Ways to run, fastest first: all on the device, sums on the CPU, smaller batches, everything on the CPU."""
    import torch

    cpu = torch.device("cpu")
    if device.type == "cpu":
        return [Rung(cpu, cpu, 1)]
    rungs = [Rung(device, device, batch), Rung(device, cpu, batch)]
    while batch > 1:
        batch //= 2
        rungs.append(Rung(device, cpu, batch))
    return [*rungs, Rung(cpu, cpu, 1)]


def tile_starts(image: tuple[int, ...], patch: tuple[int, ...], step: float) -> list[tuple[int, ...]]:
    """First voxels ``(z, y, x)`` of all tiles, evenly spaced, at most ``step`` of a patch (or one voxel) apart."""
    per_axis = []
    for size, tile in zip(image, patch, strict=True):
        count = int(np.ceil((size - tile) / max(1.0, tile * step))) + 1
        stride = (size - tile) / (count - 1) if count > 1 else 0.0
        per_axis.append([int(np.round(stride * k)) for k in range(count)])
    return list(itertools.product(*per_axis))


@lru_cache(maxsize=4)
def gaussian_weights(patch: tuple[int, ...]) -> torch.Tensor:
    """float32 weight of each voxel of a tile: a Gaussian of sigma = patch / 8 around its middle, maximum 10."""
    import torch
    from scipy.ndimage import gaussian_filter

    peak = np.zeros(patch)
    peak[tuple(n // 2 for n in patch)] = 1
    weights = gaussian_filter(peak, [n / 8 for n in patch], 0, mode="constant", cval=0)
    weights *= 10 / weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    return torch.from_numpy(weights.astype(np.float32))


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
    image: torch.Tensor,
    window: SlidingWindow,
    networks: Callable[[Rung], list[Predictor]],
    classes: int,
    rungs: list[Rung],
    reporter: Reporter,
) -> torch.Tensor:
    """Average the networks' logits over overlapping tiles.

    Args:
        image: float32 ``(c, z, y, x)``, normalised; padded with 0 where it is smaller than the patch.
        window: the tiles and mirrored copies.
        networks: makes the networks (one per fold) ready for a rung.
        classes: number of output channels.
        rungs: from :func:`ladder`. Each step down is announced; finished tiles are kept.
        reporter: counts tiles in its open stage; a cancel is noticed at every tile and mirrored copy.

    Returns:
        float32 logits ``(classes, z, y, x)`` on the CPU, of the image's own shape.

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
                    f"out of memory on {rung.device} with one tile of {'x'.join(map(str, window.patch))} voxels: "
                    "close other programs, or use a model with a smaller patch"
                ) from error
            state.free(remaining[0])
            reporter.announce(f"out of memory with {rung}: continuing at tile {state.done + 1} with {remaining[0]}")
    with_classes = (slice(None), *inner)
    return state.mean()[with_classes]


def padded_to_patch(image: torch.Tensor, patch: tuple[int, ...]) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """``(c, z, y, x)`` padded with zeros to the patch where it is smaller, and the image's box in the result."""
    import torch.nn.functional as functional

    shape = image.shape[1:]
    missing = [max(0, p - n) for p, n in zip(patch, shape, strict=True)]
    padding = [v for m in reversed(missing) for v in (m // 2, m - m // 2)]
    inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, shape, strict=True))
    return (functional.pad(image, padding) if any(missing) else image), inner


class _Accumulator:
    """Sum of weighted logits, kept when another rung continues."""

    def __init__(self, image: torch.Tensor, classes: int, window: SlidingWindow) -> None:
        self.image, self.classes, self.window, self.done = image, classes, window, 0
        self.total: torch.Tensor | None = None
        self.weight: torch.Tensor | None = None

    def run(
        self,
        rung: Rung,
        networks: list[Predictor],
        tiles: list[tuple[int, ...]],
        check: Callable[[], None],
    ) -> Iterator[int]:
        """Process the remaining tiles; yields the size of each finished batch."""
        import torch

        if self.total is None or self.weight is None:
            self.total = torch.zeros((self.classes, *self.image.shape[1:]), device=rung.accumulate_on)
            self.weight = torch.zeros(self.image.shape[1:], device=rung.accumulate_on)
        patch = self.window.patch
        gaussian = gaussian_weights(patch).to(rung.accumulate_on)
        while self.done < len(tiles):
            batch = tiles[self.done : self.done + rung.batch]
            boxes = [(slice(None), *(slice(a, a + p) for a, p in zip(t, patch, strict=True))) for t in batch]
            crops = torch.stack([self.image[box] for box in boxes]).to(rung.device)
            logits = _average(crops, networks, self.window.mirror_axes, check).to(rung.accumulate_on)
            for box, one in zip(boxes, logits, strict=True):
                self.total[box].addcmul_(one.float(), gaussian)
                self.weight[box[1:]] += gaussian
            self.done += len(batch)
            yield len(batch)

    def free(self, next_rung: Rung) -> None:
        """Release the device's memory and move the sums to where the next rung accumulates."""
        import torch

        if self.total is not None and self.weight is not None:
            self.total, self.weight = self.total.to(next_rung.accumulate_on), self.weight.to(next_rung.accumulate_on)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def mean(self) -> torch.Tensor:
        assert self.total is not None and self.weight is not None
        return self.total.div_(self.weight).cpu()  # in place: a second copy may be more than the card has left


def _average(
    crops: torch.Tensor, networks: list[Predictor], mirror_axes: tuple[int, ...], check: Callable[[], None]
) -> torch.Tensor:
    """Mean logits over folds and mirrored copies; ``check`` is called between them."""
    flips = [tuple(a + 2 for a in axes) for axes in mirror_combinations(mirror_axes)]
    total = None
    for network in networks:
        for axes in flips:
            if total is not None:
                check()
            logits = network(crops.flip(axes)).flip(axes) if axes else network(crops)
            total = logits.float() if total is None else total + logits
    assert total is not None
    return total / (len(networks) * len(flips))
