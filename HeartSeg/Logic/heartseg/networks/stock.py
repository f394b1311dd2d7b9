"""Our classes in place of nnU-Net's own, so that loading a model needs torch alone."""

from __future__ import annotations

from torch import nn

from .plain_unet import UNet

STOCK_PACKAGE = "dynamic_network_architectures."
"""Package of nnU-Net's network classes, which have moved between its modules from version to version."""


def equivalent_class(class_name: str) -> type[nn.Module] | None:
    """Return our class for a network class that nnU-Net's plans name.

    The class takes the same arguments and builds a network with the same names of weights and the same outputs, bit
    for bit, without importing nnU-Net's package.

    Args:
        class_name: dotted name from ``plans.json``, for example
            ``dynamic_network_architectures.architectures.unet.PlainConvUNet``.

    Returns:
        The class, or None if we have no equivalent.
    """
    if class_name.startswith(STOCK_PACKAGE) and class_name.rpartition(".")[2] == "PlainConvUNet":
        return UNet
    return None
