"""All backends give the same results as torch, and networks return to their original device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heartseg.devices import CPU, Device
from heartseg.inference.openvino_backend import openvino_predictor
from heartseg.inference.torch_backend import FusedNormActivation, LeanDecoder, fuse_norms, torch_predictor
from heartseg.models.folder import ModelFolder
from heartseg.models.loading import load_model
from tiny_models import make_tiny_model_folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    folder = make_tiny_model_folder(tmp_path_factory.mktemp("tiny") / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    return load_model(ModelFolder.open(folder)).networks[0]


@torch.inference_mode()
def test_fused_norms_differ_by_rounding_only(network: torch.nn.Module) -> None:
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    fast = fuse_norms(network)(image.contiguous(memory_format=torch.channels_last_3d))
    assert torch.allclose(fast, network(image), atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("at_a_time", [1, 50_000, 10**9])
def test_features_that_are_joined_in_parts_give_the_same_logits(
    network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr("heartseg.inference.torch_backend._JOINED_VALUES", at_a_time)
    fast = fuse_norms(network)
    assert isinstance(fast.decoder, LeanDecoder)
    image = torch.randn(1, 1, 48, 32, 64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        fast(image.contiguous(memory_format=torch.channels_last_3d)), network(image), atol=1e-3, rtol=0
    )


@torch.inference_mode()
def test_a_mean_far_from_zero_costs_no_digits() -> None:
    norm = torch.nn.InstanceNorm3d(3, affine=True)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0])), norm.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    x = 1000 + torch.randn(1, 3, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    wanted = torch.nn.functional.leaky_relu(norm(x), 0.01)
    ours = FusedNormActivation(norm, 0.01)(x.contiguous(memory_format=torch.channels_last_3d))
    assert torch.allclose(ours, wanted, atol=2e-3)


@torch.inference_mode()
def test_a_batch_on_the_cpu_is_its_samples(network: torch.nn.Module) -> None:
    batch = torch.randn(3, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    run = torch_predictor(network, CPU, "float32")
    assert np.allclose(run(batch.numpy()), network(batch), atol=1e-3)


@torch.inference_mode()
def test_a_batch_on_a_card_stays_there_in_single_precision(network: torch.nn.Module) -> None:
    """Torch's ``cpu:0`` represents the card."""
    batch = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    found = torch_predictor(network, Device("cpu", 0), "bfloat16")(batch.numpy())
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float32
    torch.testing.assert_close(found, network(batch), rtol=0, atol=0.05 * float(network(batch).abs().max()))


@pytest.mark.parametrize(("precision", "atol"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_openvino_gives_the_values_of_torch_in_both_precisions(
    network: torch.nn.Module, precision: str, atol: float
) -> None:
    """bfloat16 has 8 bits of mantissa; processors without it compute in float32."""
    pytest.importorskip("openvino", reason="the optional backend is not installed")
    batch = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = network(batch).numpy()
    run = openvino_predictor(network, (1, 32, 32, 32), precision, lambda: None, 1)
    for _ in range(2):
        assert np.abs(run(batch.numpy()) - wanted).max() < atol * np.abs(wanted).max()
        run.free()


def test_the_last_rung_takes_the_network_back_from_the_card(
    network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a card, the requests to the network represent the move; a copy on the card would stay there."""
    asked = []
    monkeypatch.setattr(network, "to", lambda device, **options: asked.append(device) or network, raising=False)
    monkeypatch.setattr("heartseg.inference.torch_backend.fuse_norms", lambda moved: moved)
    torch_predictor(network, CPU, "float32")
    assert asked == ["cpu"]
