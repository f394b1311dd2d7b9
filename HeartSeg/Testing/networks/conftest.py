"""Small plans, 2D and 3D, from which every network of the catalogue is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from heartseg.networks.catalogue import unet_plan

FEATURES = (8, 12, 16, 24)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of this size are slower with several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def dims(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def plan(dims: int) -> dict[str, Any]:
    return unet_plan(FEATURES, dims)


@pytest.fixture
def anisotropic(dims: int) -> dict[str, Any]:
    """The first stage neither convolves nor halves its first axis, as in nnU-Net's plans for thick slices."""
    plan = unet_plan(FEATURES, dims)
    plan["kernel_sizes"] = [[1, *[3] * (dims - 1)], *plan["kernel_sizes"][1:]]
    plan["strides"] = [[1] * dims, [1, *[2] * (dims - 1)], *plan["strides"][2:]]
    return plan


@pytest.fixture
def image(dims: int) -> torch.Tensor:
    """Noise of shape (2, 1, 32, 16) or (2, 1, 32, 16, 24)."""
    return torch.randn(2, 1, *(32, 16, 24)[:dims], generator=torch.Generator().manual_seed(0))
