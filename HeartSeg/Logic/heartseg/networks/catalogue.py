"""The networks that can be trained: their names, where they come from, and what they cost.

``build`` takes the arguments that nnU-Net's plans hold for ``PlainConvUNet``, whichever network is asked for.
"""

from __future__ import annotations

import pydoc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

STOCK = "dynamic_network_architectures.architectures.unet."


@dataclass(frozen=True)
class NetworkEntry:
    """One network of the catalogue.

    Attributes:
        key: its name in commands and tables.
        class_path: dotted name of the class, as nnU-Net's plans hold it.
        summary: one line.
        source: where it is described.
        extra: arguments in addition to the plan's.
        needs_nnunet: whether the class is nnU-Net's own (package dynamic-network-architectures).
        stock_class: nnU-Net's class with the same weights, if there is one: folders with it run without HeartSeg.
    """

    key: str
    class_path: str
    summary: str
    source: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    needs_nnunet: bool = False
    stock_class: str | None = None

    def arguments(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Return the plan's arguments (of ``PlainConvUNet``) as this network takes them, the extra ones with them."""
        arguments = {**plan, **self.extra}
        if self.needs_nnunet:
            arguments["n_blocks_per_stage"] = arguments.pop("n_conv_per_stage")
        return arguments


_OURS = "heartseg.networks."
_CSFBU = _OURS + "csfbu_net.CSFBUNet"
_DOCUMENT = "the founding document of CSFBU-Net"

_ENTRIES = (
    NetworkEntry(
        "plain",
        _OURS + "plain_unet.UNet",
        "nnU-Net's U-Net of plain convolutions, with the same weights",
        "Isensee et al. 2021, Nat Methods 18:203",
        stock_class=STOCK + "PlainConvUNet",
    ),
    NetworkEntry(
        "residual",
        STOCK + "ResidualEncoderUNet",
        "nnU-Net's own U-Net with residual blocks in the encoder",
        "Isensee et al. 2024, MICCAI (nnU-Net Revisited)",
        needs_nnunet=True,
        stock_class=STOCK + "ResidualEncoderUNet",
    ),
    NetworkEntry(
        "attention",
        _OURS + "attention_unet.AttentionUNet",
        "plain U-Net with an attention gate on every skip",
        "Oktay et al. 2018, MIDL",
    ),
    NetworkEntry(
        "tutorial",
        _OURS + "tutorial_unet.TutorialUNet",
        "double conv-BN-ReLU, max-pooling, linear interpolation up; in 3D two levels",
        "Ronneberger et al. 2015, MICCAI; Çiçek et al. 2016, MICCAI",
    ),
    NetworkEntry(
        "tutorial-corners",
        _OURS + "tutorial_unet.TutorialUNet",
        "the same, interpolated with aligned corners as in the tutorials' code",
        "founding document 004",
        {"align_corners": True},
    ),
    NetworkEntry(
        "tutorial-3d",
        _OURS + "tutorial_unet.TutorialUNet",
        "two resolutions in 3D and single convolutions, as document 004 prints its 3D network",
        "founding document 004",
        {"levels_3d": 1, "convolutions": 1},
    ),
    NetworkEntry(
        "mobile",
        _OURS + "mobile_unet.MobileUNet",
        "U-Net with an encoder of MobileNetV3 blocks: few parameters and operations",
        "Howard et al. 2019, ICCV; founding document 004",
    ),
    NetworkEntry(
        "integrated-attention",
        _OURS + "integrated_attention.IntegratedAttentionNet",
        "scale features in the encoder, spatial attention on pooled keys and channel attention on every skip",
        "the founding document of the integrated-attention network",
    ),
    NetworkEntry(
        "csfbu",
        _CSFBU,
        "inner-edge channels and attention feature fusion",
        _DOCUMENT,
        {"edge": "inner", "fusion": True},
    ),
    NetworkEntry(
        "csfbu-concatenate",
        _CSFBU,
        "CSFBU-Net that concatenates where it would add",
        _DOCUMENT,
        {"edge": "inner", "fusion": True, "fuse": "concatenate"},
    ),
    NetworkEntry("csfbu-edge", _CSFBU, "inner-edge channels alone", _DOCUMENT, {"edge": "inner", "fusion": False}),
    NetworkEntry("csfbu-fusion", _CSFBU, "attention feature fusion alone", _DOCUMENT, {"edge": "none", "fusion": True}),
    NetworkEntry(
        "csfbu-head",
        _CSFBU,
        "edges from an auxiliary head that is dropped after training; exports to stock",
        _DOCUMENT,
        {"edge": "head", "fusion": False},
    ),
)
NETWORKS: dict[str, NetworkEntry] = {entry.key: entry for entry in _ENTRIES}


def find(key: str) -> NetworkEntry:
    """Return the entry with this name; a dotted name is a class of the user's own.

    Raises:
        ValueError: there is none.
    """
    if key not in NETWORKS and "." in key:
        return NetworkEntry(key, key, "a network of the user's own", key.partition(".")[0])
    if key not in NETWORKS:
        raise ValueError(f"network is {key!r}: it must be one of {', '.join(NETWORKS)}")
    return NETWORKS[key]


def build(
    key: str, plan: Mapping[str, Any], input_channels: int, num_classes: int, deep_supervision: bool = False
) -> nn.Module:
    """Return a network with nnU-Net's initial weights.

    Args:
        key: name in :data:`NETWORKS`.
        plan: arguments of ``PlainConvUNet`` (``n_stages``, ``features_per_stage``, ...); classes, or their names.
        input_channels: image channels.
        num_classes: labels with background.
        deep_supervision: logits at every resolution.

    Raises:
        ValueError: an unknown name, or the plan does not fit.
        ImportError: the class is nnU-Net's and its package is not installed.
    """
    entry = find(key)
    network_class: Any = pydoc.locate(entry.class_path)
    if network_class is None and not entry.needs_nnunet:
        raise ImportError(f"network '{key}' cannot be imported: put the folder of its module into PYTHONPATH")
    if network_class is None:
        raise ImportError(
            f"network '{key}' needs nnU-Net's classes: pip install --no-deps dynamic-network-architectures"
        )
    arguments = {k: _resolve(v) for k, v in entry.arguments(plan).items()}
    network = network_class(
        input_channels=input_channels, num_classes=num_classes, deep_supervision=deep_supervision, **arguments
    )
    network.apply(network.initialize)
    return network


def unet_plan(features: Iterable[int], dims: int, convolutions: int = 2) -> dict[str, Any]:
    """Return a plan with 3-voxel kernels and strides of 2 along every axis, as nnU-Net writes it (classes by name)."""
    features = list(features)
    n = len(features)
    return {
        "n_stages": n,
        "features_per_stage": features,
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[3] * dims] * n,
        "strides": [[1] * dims] + [[2] * dims] * (n - 1),
        "n_conv_per_stage": [convolutions] * n,
        "n_conv_per_stage_decoder": [convolutions] * (n - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


@dataclass(frozen=True)
class Cost:
    """Cost of one network: parameters, and operations of one forward pass (a multiply-add is two)."""

    key: str
    parameters: int
    flops: int


def table(
    plan: Mapping[str, Any],
    patch: tuple[int, ...],
    input_channels: int = 1,
    num_classes: int = 8,
    keys: Iterable[str] = tuple(NETWORKS),
) -> list[Cost]:
    """Count parameters and operations of a prediction (evaluation mode, no deep supervision, batch 1).

    Counted by ``torch.utils.flop_counter`` (convolutions and matrix products) on the meta device: nothing is computed.
    Parameters are those that the prediction uses; heads of deep supervision are left out.
    """
    rows = []
    for key in keys:
        with torch.device("meta"):
            network = build(key, plan, input_channels, num_classes).eval()
        rows.append(Cost(key, count_parameters(network), count_flops(network, input_channels, patch)))
    return rows


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, including deep supervision's heads, as in the checkpoint."""
    return sum(p.numel() for p in network.parameters())


def count_flops(network: nn.Module, channels: int, patch: tuple[int, ...]) -> int:
    """Operations of one forward pass of a network on the meta device."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, channels, *patch, device="meta"))
    return counter.get_total_flops()


def _resolve(value: Any) -> Any:
    """Return a class for its dotted name; everything else as it is."""
    return pydoc.locate(value) if isinstance(value, str) and value.startswith("torch.nn.") else value
