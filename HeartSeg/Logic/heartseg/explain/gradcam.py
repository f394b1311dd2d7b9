"""Grad-CAM for segmentation: which features of a layer raise the logits of a structure.

Grad-CAM (Selvaraju et al. 2017, ICCV) weights each channel by the mean gradient of a score over all positions. The map
is the positive part of the weighted sum of the channels. In Seg-Grad-CAM (Vinogradova et al. 2020, AAAI student
abstract) the score is the sum of the logits of a class over a region, here the predicted region.

With several tiles the score remains a single number. The logits of the whole image are a blend of the logits of the
tiles with Gaussian weights, so each tile contributes its logits times its blending weights. Channel weights are
computed once over all tiles, and the maps of the tiles are blended like the logits. Tiles that do not overlap the
region contribute neither to the score nor to the map.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from ..devices import is_out_of_memory
from ..errors import DeviceError, SettingsError
from ..inference.tiles import gaussian_weights, padded_to_patch, tile_starts
from ..progress import Reporter
from ..wording import _
from .layers import Layer

Box = tuple[slice, ...]


def seg_grad_cam(
    networks: Sequence[nn.Module],
    layer: Layer,
    image: torch.Tensor,
    region: torch.Tensor,
    channels: Sequence[int],
    patch: tuple[int, ...],
    device: torch.device,
    reporter: Reporter,
    tile_step: float = 0.5,
) -> torch.Tensor:
    """Return the heat map of a region in an image, before clipping at 0 and scaling.

    Args:
        networks: one per fold, in evaluation mode; their maps are averaged. The networks are copied, not changed.
        layer: layer whose features are used.
        image: float32 ``(1, z, y, x)``, normalised, in the axes of the network.
        region: bool ``(z, y, x)``, the region over which logits are summed.
        channels: output channels of the class.
        patch: patch size of the network ``(z, y, x)``.
        device: device of the computation; the CPU is used if its memory is insufficient.
        reporter: receives progress and cancels, per tile.
        tile_step: distance between tiles as a fraction of the patch.

    Returns:
        float32 ``(z, y, x)`` on the CPU.

    Raises:
        SettingsError: the layer has no influence on the output.
        DeviceError: out of memory on the CPU.
    """
    tiles = _Tiles(image, region, patch, tile_step)
    with reporter.stage("explain", 2 * len(networks) * len(tiles.boxes)):
        try:
            heat = _mean_map(networks, layer, tiles, channels, device, reporter)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if device.type == "cpu":
                raise DeviceError(
                    _(
                        "out of memory with one tile of {size} voxels: close other programs, or use the layer 'last', "
                        "which needs the least memory"
                    ).format(size="x".join(map(str, patch)))
                ) from error
            reporter.announce(_("out of memory on {device}: making the heat map on the CPU").format(device=device))
            heat = _mean_map(networks, layer, tiles, channels, torch.device("cpu"), reporter)
    return heat[tiles.inner]


class _Tiles:
    """Tiles of an image that overlap a region, and their weights in the blend of all tiles."""

    def __init__(self, image: torch.Tensor, region: torch.Tensor, patch: tuple[int, ...], step: float) -> None:
        padded, self.inner = padded_to_patch(image.numpy(), patch)
        self.image = torch.from_numpy(padded)
        self.region = torch.from_numpy(padded_to_patch(region[None].float().numpy(), patch)[0][0])
        self.gaussian = torch.from_numpy(gaussian_weights(patch))
        self.weight = torch.zeros(self.region.shape)
        self.boxes: list[Box] = []
        for start in tile_starts(tuple(self.region.shape), patch, step):
            box = tuple(slice(a, a + p) for a, p in zip(start, patch, strict=True))
            self.weight[box] += self.gaussian
            if bool(self.region[box].any()):
                self.boxes.append(box)

    def crop(self, box: Box, device: torch.device) -> torch.Tensor:
        """Image of a tile, ``(1, c, z, y, x)``."""
        with_channels = (slice(None), *box)
        return self.image[with_channels][None].to(device)

    def share(self, box: Box) -> torch.Tensor:
        """Weight of a tile in the blended value of each of its voxels, ``(z, y, x)``."""
        return self.gaussian / self.weight[box]


def _mean_map(
    networks: Sequence[nn.Module],
    layer: Layer,
    tiles: _Tiles,
    channels: Sequence[int],
    device: torch.device,
    reporter: Reporter,
) -> torch.Tensor:
    """Return the mean of the maps of all networks, on the padded image."""
    total = torch.zeros(tiles.region.shape)
    for number, network in enumerate(networks):
        # The engine may have moved its networks in inference mode, which does not allow gradients.
        ours = copy.deepcopy(network).to(device).eval().requires_grad_(False)
        total += _map(ours, layer, tiles, channels, device, reporter, 2 * number * len(tiles.boxes))
    return total / len(networks)


def _map(
    network: nn.Module,
    layer: Layer,
    tiles: _Tiles,
    channels: Sequence[int],
    device: torch.device,
    reporter: Reporter,
    before: int,
) -> torch.Tensor:
    """Map of one network on the padded image: compute channel weights over all tiles, then the maps of the tiles."""
    weights: Any = 0
    features = None
    for done, box in enumerate(tiles.boxes, 1):
        share = (tiles.share(box) * tiles.region[box]).to(device)
        features, gradient = _features_and_gradient(network, layer, tiles.crop(box, device), share, channels)
        weights = weights + gradient.mean([0, *range(2, gradient.ndim)])
        reporter.advance(before + done)
    heat = torch.zeros(tiles.region.shape)
    for done, box in enumerate(tiles.boxes, 1 + len(tiles.boxes)):
        if len(tiles.boxes) > 1:  # the features of a single tile are still available
            features = _features(network, layer, tiles.crop(box, device))
        assert features is not None
        if features.ndim == 4:  # a slice, from a 2D network
            features = features[:, :, None]
        coarse = torch.einsum("c,bczyx->bzyx", weights, features)[None]
        fine = functional.interpolate(coarse, tuple(tiles.gaussian.shape), mode="trilinear", align_corners=False)
        heat[box] += fine[0, 0].cpu() * tiles.share(box)
        reporter.advance(before + done)
    return heat


def _features_and_gradient(
    network: nn.Module, layer: Layer, crop: torch.Tensor, share: torch.Tensor, channels: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features ``(1, c, …)`` of a layer and the gradient of the score with respect to them.

    Args:
        share: ``(z, y, x)``, weight of the logit of each voxel in the score; 0 outside the region.
    """
    with _cut_at(network, layer) as taken, torch.enable_grad():
        logits = network(crop)[0]
        score = (logits[list(channels)] * share).sum()
        gradient = torch.autograd.grad(score, taken)[0] if score.requires_grad else None
    if gradient is None:
        raise SettingsError(
            _("layer {name!r} has no influence on the output: choose another layer").format(name=layer.name)
        )
    return taken[0].detach(), gradient


def _features(network: nn.Module, layer: Layer, crop: torch.Tensor) -> torch.Tensor:
    """Return the features ``(1, c, …)`` of a layer."""
    with _cut_at(network, layer) as taken, torch.no_grad():
        network(crop)
    return taken[0].detach()


@contextmanager
def _cut_at(network: nn.Module, layer: Layer) -> Iterator[list[torch.Tensor]]:
    """Start gradients at a layer, so that earlier activations are not kept, which saves most of the memory."""
    taken: list[torch.Tensor] = []

    def cut(tensor: torch.Tensor) -> torch.Tensor:
        taken.append(tensor.detach().requires_grad_())
        return taken[-1].clone()  # in-place activations may change the clone

    def after(module: Any, inputs: Any, output: Any) -> torch.Tensor:
        return cut(output)

    def before(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (cut(inputs[0]), *inputs[1:])

    module = network.get_submodule(layer.name)
    handle = module.register_forward_pre_hook(before) if layer.at_input else module.register_forward_hook(after)
    try:
        yield taken
    finally:
        handle.remove()
