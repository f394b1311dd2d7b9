"""Loading checkpoints of stock nnU-Net: hashes are verified and no code from a file is executed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import stock_nnunet
from heartseg.errors import ModelError
from heartseg.models.checkpoint import load_checkpoint
from heartseg.models.folder import ModelFolder
from heartseg.models.loading import build_network, load_model
from tiny_models import (
    MODEL_FOLDER_NAME,
    held_out_dice,
    make_tiny_model_folder,
    synthetic_volume,
    write_card,
    write_pickle_bomb,
)


def checkpoint_of(folder: Path) -> Path:
    return folder / "fold_0" / "checkpoint_final.pth"


def test_an_nnunet_checkpoint_with_numpy_scalars_is_read(cardless: Path) -> None:
    with pytest.raises(pickle.UnpicklingError):
        torch.load(checkpoint_of(cardless), weights_only=True)
    found = load_checkpoint(checkpoint_of(cardless))
    assert found["trainer_name"] == "nnUNetTrainer"
    assert found["configuration"] == "3d_fullres"
    assert found["mirroring_axes"] == (0, 1, 2)
    assert all(isinstance(w, torch.Tensor) for w in found["network_weights"].values())


@pytest.mark.parametrize("kind", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
def test_numpy_numbers_of_every_type_are_read(cardless: Path, kind: str) -> None:
    content = torch.load(checkpoint_of(cardless), weights_only=False)
    content["logging"] = {"best": np.dtype(kind).type(1)}
    torch.save(content, checkpoint_of(cardless))
    assert load_checkpoint(checkpoint_of(cardless))["configuration"] == "3d_fullres"


def test_numpy_arrays_are_refused_with_the_entries_that_are_needed(cardless: Path) -> None:
    content = torch.load(checkpoint_of(cardless), weights_only=False)
    torch.save({**content, "random_state": np.zeros(3)}, checkpoint_of(cardless))
    with pytest.raises(ModelError, match=r"NumPy arrays .*network_weights, init_args") as error:
        load_checkpoint(checkpoint_of(cardless))
    assert "\n" not in str(error.value)


def test_the_allow_list_is_restored_after_loading(cardless: Path) -> None:
    before = set(torch.serialization.get_safe_globals())  # a set: its order is not stable
    load_checkpoint(checkpoint_of(cardless))
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_reduced_checkpoint_is_read(carded: Path) -> None:
    assert load_checkpoint(checkpoint_of(carded))["configuration"] == "3d_fullres"


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_with_code_is_refused_and_not_executed(tmp_path: Path, cardless: Path, legacy: bool) -> None:
    marker = tmp_path / "pwned"
    bomb = write_pickle_bomb(checkpoint_of(cardless), marker, legacy=legacy)
    with pytest.raises(ModelError, match="mkdir") as error:
        load_checkpoint(bomb)
    assert "\n" not in str(error.value)
    assert not marker.exists()


def test_the_pickle_bomb_of_these_tests_works(tmp_path: Path, cardless: Path) -> None:
    marker = tmp_path / "pwned"
    bomb = write_pickle_bomb(checkpoint_of(cardless), marker)
    torch.load(bomb, weights_only=False)
    assert marker.is_dir()


def test_numpy_object_arrays_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "objects.pth"
    torch.save({"network_weights": {"a": torch.zeros(1)}, "x": np.array([object()], dtype=object)}, file)
    with pytest.raises(ModelError, match=r"objects\.pth"):
        load_checkpoint(file)


def test_a_wrong_hash_is_reported_before_the_file_is_opened(tmp_path: Path, cardless: Path) -> None:
    marker = tmp_path / "pwned"
    bomb = write_pickle_bomb(checkpoint_of(cardless), marker)
    with pytest.raises(ModelError, match=r"SHA-256 [0-9a-f]{12}\.\.\..* a{12}\.\.\."):
        load_checkpoint(bomb, "a" * 64)
    assert not marker.exists()


def test_loading_a_model_verifies_the_hash_in_the_card(carded: Path) -> None:
    checkpoint = torch.load(checkpoint_of(carded), weights_only=True)
    torch.save(checkpoint | {"trainer_name": "Another"}, checkpoint_of(carded))
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(ModelFolder.open(carded))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused_with_a_one_line_message(cardless: Path, share: float) -> None:
    file = checkpoint_of(cardless)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth") as error:
        load_checkpoint(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x04", b"PK\x03\x04garbage", b"<html>404</html>"])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(ModelError) as error:
        load_checkpoint(tmp_path / "c.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[1], {"state_dict": {}}, {"network_weights": {}}, {"network_weights": {"a": 1}}])
def test_a_checkpoint_without_weights_is_refused(
    tmp_path: Path, content: list[int] | dict[str, Any] | dict[str, dict[str, int]]
) -> None:
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"c\.pth"):
        load_checkpoint(tmp_path / "c.pth")


def test_invalid_mirroring_axes_are_refused(tmp_path: Path) -> None:
    content = {"network_weights": {"a": torch.zeros(1)}, "inference_allowed_mirroring_axes": (0, 7)}
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"\(0, 7\).*0, 1, 2"):
        load_checkpoint(tmp_path / "c.pth")


def test_a_checkpoint_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pth", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("archive/data/0", bytes(50_000_000))
    with pytest.raises(ModelError, match="48 MiB"):
        load_checkpoint(tmp_path / "c.pth")


def test_loaded_networks_are_ready_for_inference(cardless: Path) -> None:
    (network,) = load_model(ModelFolder.open(cardless)).networks
    assert not network.training
    assert all(not p.requires_grad and p.dtype == torch.float32 and not p.is_meta for p in network.parameters())
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 4, 16, 16, 16)


def test_half_precision_weights_become_single_precision(tmp_path: Path) -> None:
    folder = ModelFolder.open(make_tiny_model_folder(tmp_path / MODEL_FOLDER_NAME, half=True))
    (network,) = load_model(folder).networks
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_all_folds_and_the_mirroring_axes_are_loaded(tmp_path: Path) -> None:
    path = make_tiny_model_folder(tmp_path / MODEL_FOLDER_NAME, folds=(0, 1), mirroring_axes=(1, 2))
    model = load_model(ModelFolder.open(path))
    assert model.mirroring_axes == (1, 2)
    first, second = (next(n.parameters()) for n in model.networks)
    assert not torch.equal(first, second)


def test_a_model_trained_without_mirroring_has_no_axes(tmp_path: Path) -> None:
    path = make_tiny_model_folder(tmp_path / MODEL_FOLDER_NAME, mirroring_axes=None)
    assert load_model(ModelFolder.open(path)).mirroring_axes == ()


def change_architecture(folder: Path, **changes: Any) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(changes)
    (folder / "plans.json").write_text(json.dumps(plans))


def test_weights_of_a_different_network_are_refused_with_the_first_difference(cardless: Path) -> None:
    change_architecture(cardless, features_per_stage=[8, 16, 48])
    with pytest.raises(ModelError, match=r"encoder.*\(48, 16, 3, 3, 3\)"):
        load_model(ModelFolder.open(cardless))


def test_plans_of_an_enormous_network_allocate_no_memory(cardless: Path) -> None:
    change_architecture(cardless, features_per_stage=[100_000, 100_000, 100_000])
    with pytest.raises(ModelError, match="100000"):
        load_model(ModelFolder.open(cardless))


def test_plans_without_a_valid_network_are_refused(cardless: Path) -> None:
    change_architecture(cardless, kernel_sizes=[[3, 3, 3]])
    with pytest.raises(ModelError, match=r"PlainConvUNet.*plans\.json"):
        load_model(ModelFolder.open(cardless))


@pytest.mark.parametrize(
    "name", ["torch.nn.init.zeros_", "torch.nn.functional.relu", "torch.nn.Nothing", "torch.nn.modules.os.system"]
)
def test_a_name_below_torch_nn_that_is_not_a_class_is_refused(cardless: Path, name: str) -> None:
    change_architecture(cardless, nonlin=name)
    with pytest.raises(ModelError, match=f"'{name}'"):
        build_network(ModelFolder.open(cardless))


def test_a_function_below_an_allowed_root_is_refused(cardless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("heartseg.networks.sneaky")
    vars(module)["Net"] = subprocess.Popen
    monkeypatch.setitem(sys.modules, "heartseg.networks.sneaky", module)
    text = (cardless / "plans.json").read_text()
    stock = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    text = text.replace(stock, "heartseg.networks.sneaky.Net")
    (cardless / "plans.json").write_text(text)
    with pytest.raises(ModelError, match=r"heartseg\.networks\.sneaky\.Net"):
        build_network(ModelFolder.open(cardless))


def test_a_configuration_that_differs_from_the_checkpoint_is_refused(cardless: Path) -> None:
    path = cardless.rename(cardless.with_name("nnUNetTrainer__nnUNetPlans__2d"))
    with pytest.raises(ModelError, match=r"'3d_fullres'.*'2d'"):
        load_model(ModelFolder.open(path))


def test_non_finite_weights_are_refused(cardless: Path) -> None:
    content = load_checkpoint(checkpoint_of(cardless))
    name, weights = next(iter(content["network_weights"].items()))
    weights.fill_(float("nan"))
    torch.save(content, checkpoint_of(cardless))
    with pytest.raises(ModelError, match=f"'{name}'"):
        load_model(ModelFolder.open(cardless))


def test_loading_preserves_the_random_state(cardless: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build_network(ModelFolder.open(cardless))
    load_model(ModelFolder.open(cardless))
    assert torch.equal(torch.rand(1), expected)


def test_loading_does_not_import_heavy_packages(carded: Path) -> None:
    code = (
        f"import sys; from heartseg.models.folder import ModelFolder; m = ModelFolder.open({str(carded)!r});"
        "from heartseg.models.loading import load_model; load_model(m);"
        "heavy = ('nnunetv2', 'batchgenerators', 'timm', 'torchvision', 'einops', 'pandas', 'skimage');"
        "sys.exit(','.join(n for n in heavy if n in sys.modules) or 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.fixture
def stock_predictor() -> Iterator[Any]:
    """nnU-Net's own predictor."""
    import torch

    with stock_nnunet.importable() as stock:
        yield stock.nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"residual": True, "full_checkpoint": False},
        {"anisotropic": True, "spacing": (4.0, 1.0, 1.0), "patch": (16, 32, 32), "transpose_forward": (2, 0, 1)},
        {"normalization": "CTNormalization", "folds": (0, 1), "half": True},
    ],
    ids=["plain", "residual", "anisotropic", "two folds in half precision"],
)
def test_stock_nnunet_opens_the_folders_and_computes_the_same_logits(
    tmp_path: Path, stock_predictor: Any, options: dict[str, Any]
) -> None:
    path = make_tiny_model_folder(tmp_path / MODEL_FOLDER_NAME, **options)
    stock_predictor.initialize_from_trained_model_folder(str(path), use_folds=None)
    folder = ModelFolder.open(path)
    assert list(stock_predictor.configuration_manager.patch_size) == list(folder.patch_size)
    assert list(stock_predictor.configuration_manager.spacing) == list(folder.spacing)
    assert stock_predictor.label_manager.num_segmentation_heads == folder.num_output_channels
    assert tuple(stock_predictor.plans_manager.transpose_backward) == folder.transpose_backward
    model = load_model(folder)
    assert tuple(stock_predictor.allowed_mirroring_axes) == model.mirroring_axes
    x = torch.randn(1, 1, *folder.patch_size, generator=torch.Generator().manual_seed(0))
    for ours, weights in zip(model.networks, stock_predictor.list_of_parameters, strict=True):
        theirs = stock_predictor.network
        theirs.load_state_dict(weights)
        with torch.inference_mode():
            torch.testing.assert_close(ours(x), theirs.eval()(x), rtol=0, atol=1e-5)


def test_a_tiny_model_can_be_trained(tmp_path: Path, stock_predictor: Any) -> None:
    path = make_tiny_model_folder(tmp_path / MODEL_FOLDER_NAME, train_steps=100)
    write_card(path, ("LV", "RV", "MYO"))
    (network,) = load_model(ModelFolder.open(path)).networks
    dice, shares = held_out_dice(network, json.loads((path / "plans.json").read_text()), 3)
    assert min(dice) > 0.8
    assert min(shares) > 0.01
    stock_predictor.initialize_from_trained_model_folder(str(path), use_folds=(0,))
    image, truth = synthetic_volume(3, seed=5)
    found = stock_predictor.predict_single_npy_array(image[None], {"spacing": [1.5, 1.5, 1.5]})
    for label in (1, 2, 3):
        both = ((found == label) & (truth == label)).sum()
        assert 2 * both / ((found == label).sum() + (truth == label).sum()) > 0.8
