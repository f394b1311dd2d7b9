"""The two networks of the default model and their training views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from heartseg.networks.plain_unet import PlainUNet
from heartseg.synthesis.scenes import Scene
from heartseg.synthesis.views import AWAY, View, draw_finder_view, draw_fine_view

LABELS = {"background": 0, "LV": 1, "RV": 2, "LA": 3, "RA": 4, "MYO": 5, "AO": 6, "PA": 7}
NETWORK_CLASS = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


@dataclass(frozen=True)
class Stage:
    """A network: its grid, size and training views.

    Attributes:
        name: ``finder`` or ``fine``.
        spacing: isotropic voxel size, mm.
        patch: patch size, voxels along each axis.
        features: channels at each resolution level.
        kinds: kinds of training scenes, each with its fraction of the samples.
        draw_view: function that draws a training view of a scene.
        batch: samples per step.
        learning_rate: peak learning rate of AdamW.
        upper_percentile: grey values above this percentile of the seen voxels are clipped, here and in the card.
        heart_weight: weight of a heart voxel relative to a background voxel in the cross-entropy.
    """

    name: str
    spacing: float
    patch: int
    features: tuple[int, ...]
    kinds: tuple[tuple[str, float], ...]
    draw_view: Callable[[np.random.Generator, Scene, int, float], View]
    batch: int = 1
    learning_rate: float = 5e-3
    upper_percentile: float = 100.0
    heart_weight: float = 1.0


FINDER = Stage(
    "finder",
    6.0,
    64,
    (8, 16, 32, 64, 128),
    (("trunk", 0.6), ("thorax", 0.25), ("heartless", 0.15)),
    draw_finder_view,
    learning_rate=8e-3,
    heart_weight=6.0,
)
FINE = Stage(
    "fine",
    2.0,
    96,
    (16, 32, 64, 128, 256),
    (("trunk", 0.51), ("thorax", 0.34), ("heartless", 0.15)),
    draw_fine_view,
    upper_percentile=97.0,
)
FINE_FULL = replace(FINE, spacing=1.5, patch=128)
SIZES = {"small": (FINDER, FINE), "full": (FINDER, FINE_FULL)}
"""Finder and fine network for training on a CPU (small) and on a GPU (full)."""
STAGES = {s.name: s for s in (FINDER, FINE)}


def with_empty_views(stage: Stage, factor: float) -> Stage:
    """Return the fine stage with this factor on its fractions of scenes without a heart and of views away from it."""
    kinds = tuple((kind, share * (factor if kind == "heartless" else 1)) for kind, share in stage.kinds)
    return replace(stage, kinds=kinds, draw_view=partial(draw_fine_view, away=AWAY * factor))


def architecture_kwargs(features: tuple[int, ...]) -> dict[str, Any]:
    """Arguments of ``PlainConvUNet`` in the format of nnU-Net plans (classes as dotted names)."""
    n = len(features)
    return {
        "n_stages": n,
        "features_per_stage": list(features),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * n,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (n - 1),
        "n_conv_per_stage": [2] * n,
        "n_conv_per_stage_decoder": [2] * (n - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


CLASS_KEYS = ("conv_op", "norm_op", "dropout_op", "nonlin")


def build_network(features: tuple[int, ...], deep_supervision: bool = True) -> nn.Module:
    """Build the same network as nnU-Net from :func:`architecture_kwargs`; one input channel, eight outputs.

    With ``deep_supervision`` the forward pass returns logits at full, 1/2, 1/4 and 1/8 resolution, otherwise only at
    full resolution.
    """
    network = PlainUNet(features, n_classes=len(LABELS), deep_supervision=deep_supervision)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=1e-2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    heads = network.decoder.seg_layers
    assert isinstance(heads, nn.ModuleList)
    for layer in heads:  # small initial logits: the network starts without a preference for any label
        assert isinstance(layer, nn.Conv3d)
        nn.init.normal_(layer.weight, std=0.1)
    return network


def as_input(image: np.ndarray) -> torch.Tensor:
    """Convert a (z, y, x) float image to a (1, 1, z, y, x) tensor."""
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]


def full_resolution(outputs: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Return the full-resolution logits of a network with or without deep supervision."""
    return outputs[0] if isinstance(outputs, list | tuple) else outputs
