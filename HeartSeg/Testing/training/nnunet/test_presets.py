"""Every preset has the settings of its source, in its dataclass, plans, optimiser and schedule."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from heartseg.errors import SettingsError
from heartseg.models.card import read_json
from heartseg.networks.catalogue import NETWORKS
from heartseg.training.losses import REGION_LOSSES
from heartseg.training.nnunet.planning import SETTINGS_KEY, adapted_plans
from heartseg.training.nnunet.presets import (
    CSFBU,
    INTEGRATED_ATTENTION,
    LOSSES,
    NETWORK_NAMES,
    NNUNET,
    PRESETS,
    Preset,
)
from heartseg.training.nnunet.supervision import TrainingLoss

from .conftest import base_plans, build_from

pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")


def built(preset: Preset, classes: int = 7) -> torch.nn.Module:
    """Return the network of the preset's plans, as built by nnU-Net."""
    return build_from(adapted_plans(base_plans(), preset, "x", 0), classes - 1)


def test_the_preset_csfbu_has_the_settings_of_the_original_document() -> None:
    p = CSFBU
    assert (p.network, p.dimension, p.optimizer, p.learning_rate, p.schedule) == ("csfbu", "2d", "sgd", 0.01, "linear")
    assert (p.epochs, p.batch, p.loss, p.alpha, p.beta, p.erosion) == (200, 14, "ce-dice", 1.0, 0.5, 1)
    assert p.edges == "inner"
    ((name, configuration),) = adapted_plans(base_plans(), p, "csfbu", 3)["configurations"].items()
    assert (name, configuration["batch_size"], configuration["patch_size"]) == ("2d", 14, [512, 512])
    assert configuration["architecture"]["network_class_name"] == "heartseg.networks.csfbu_net.CSFBUNet"
    assert configuration["architecture"]["arch_kwargs"]["edge"] == "inner"
    assert configuration["architecture"]["arch_kwargs"]["fusion"] is True


def test_the_preset_integrated_attention_has_the_settings_of_the_original_document() -> None:
    p = INTEGRATED_ATTENTION
    assert (p.optimizer, p.learning_rate, p.weight_decay, p.schedule) == ("adam", 1e-4, 1e-5, "constant")
    assert (p.batch, p.epochs, p.patch, p.stages, p.augmentation) == (16, 500, (256, 256), 6, "flips-brightness")
    (configuration,) = adapted_plans(base_plans(), p, "ia", 0)["configurations"].values()
    assert (configuration["batch_size"], configuration["patch_size"]) == (16, [256, 256])
    assert configuration["normalization_schemes"] == ["ZScoreNormalization"]
    assert configuration["data_identifier"] != "nnUNetPlans_2d", "z-scores need preprocessing of their own"
    kwargs = configuration["architecture"]["arch_kwargs"]
    assert kwargs["n_stages"] == len(kwargs["strides"]) == len(kwargs["features_per_stage"]) == 6, (
        "five steps down and five up"
    )
    assert p.loss == "ce-plus-dice"


def test_the_preset_nnunet_changes_nothing() -> None:
    p, base = NNUNET, base_plans()
    assert (p.optimizer, p.learning_rate, p.momentum, p.weight_decay, p.schedule) == ("sgd", 0.01, 0.99, 3e-5, "poly")
    assert (p.epochs, p.iterations, p.validation_iterations, p.oversample) == (1000, 250, 50, 0.33)
    assert (p.batch, p.patch, p.loss, p.augmentation) == (None, None, "nnunet", "nnunet")
    assert (p.deep_supervision, p.translated, p.unlabelled, p.regions) == (True, True, True, "whole")
    assert (p.stages, p.normalization, p.erosion, p.unlabelled_weight, p.pseudo_threshold) == (None, None, 1, 1.0, 0.95)
    (configuration,) = adapted_plans(base, p, "x", 0)["configurations"].values()
    assert configuration == base["configurations"]["3d_fullres"]


@pytest.mark.parametrize("name", PRESETS)
def test_plans_of_a_preset_contain_it_and_do_not_change_the_base_plans(name: str) -> None:
    base = base_plans()
    plans = adapted_plans(base, PRESETS[name], "x", 7)
    assert base == base_plans()
    assert plans[SETTINGS_KEY]["seed"] == 7
    assert Preset.from_dict(plans[SETTINGS_KEY]["preset"]) == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_the_network_of_every_preset_fits_its_patch(name: str) -> None:
    preset = PRESETS[name]
    (configuration,) = adapted_plans(base_plans(), preset, "x", 0)["configurations"].values()
    network = built(preset).eval()
    with torch.no_grad():
        found = network(torch.empty(1, 1, *configuration["patch_size"], device="meta"))
    assert found[0].shape == (1, 7, *configuration["patch_size"])


def test_a_smaller_patch_gets_the_pooling_that_fits_it() -> None:
    plans = adapted_plans(base_plans(), CSFBU.with_changes(patch=(64, 64)), "x", 0)
    (configuration,) = plans["configurations"].values()
    kwargs = configuration["architecture"]["arch_kwargs"]
    assert configuration["patch_size"] == [64, 64]
    assert kwargs["n_stages"] == 5  # 64 halved four times is 4, the minimum of nnU-Net
    assert kwargs["features_per_stage"] == [32, 64, 128, 256, 512]


def test_fine_tuning_uses_spacing_patch_network_and_weights_of_the_model(default_model: Path) -> None:
    plans, preset = read_json(default_model / "plans.json"), NNUNET
    start = {"plans": plans, "configuration": "3d_fullres", "checkpoint": "/start.pth"}
    found = adapted_plans(base_plans(), preset, "tuned", 0, start)
    mine, its = found["configurations"]["3d_fullres"], plans["configurations"]["3d_fullres"]
    for key in ("spacing", "patch_size", "normalization_schemes", "batch_size"):
        assert mine[key] == its[key], key
    assert mine["architecture"]["arch_kwargs"] == its["architecture"]["arch_kwargs"]
    assert found["transpose_forward"] == plans["transpose_forward"]
    assert found[SETTINGS_KEY]["start_from"] == "/start.pth"


def test_the_networks_of_presets_are_those_of_the_catalogue() -> None:
    assert set(NETWORK_NAMES) == set(NETWORKS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "u-net"}, "network 'u-net' is unknown"),
        ({"epochs": 0}, "epochs 0 is too few"),
        ({"beta": 1.5}, "beta 1.5 is outside"),
        ({"erosion": 4}, "erosion 4 is unknown: choose 0, 1, 2 or 3"),
        ({"patch": (64, 64, 64)}, "does not fit 2d"),
        ({"learning_rate": 0.0}, "learning rate 0.0 must be above 0"),
        ({"delta": 0.0}, "delta 0.0 must be above 0"),
        ({"loss": "tversky"}, "loss 'tversky' is unknown"),
        ({"loss": "tversky", "beta": 0.5}, "loss 'tversky' is unknown"),
        ({"loss": "focal", "beta": 0.5}, "beta 0.5 has no place in the loss 'focal': it belongs to ce-dice"),
        ({"loss": "nnunet", "delta": 2.0}, "delta 2.0 has no place in the loss 'nnunet'"),
    ],
)
def test_invalid_settings_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        CSFBU.with_changes(**changes)


def test_a_dimension_without_plans_is_refused() -> None:
    base = copy.deepcopy(base_plans())
    del base["configurations"]["3d_fullres"]
    with pytest.raises(SettingsError, match="cannot be trained in 3d"):
        adapted_plans(base, NNUNET, "x", 0)


def test_every_named_loss_exists() -> None:
    assert set(LOSSES) - {"nnunet", "ce-dice"} <= set(REGION_LOSSES)


def test_an_optimizer_has_its_own_default_learning_rate() -> None:
    assert CSFBU.with_changes(optimizer="adam").learning_rate == 1e-3
    assert CSFBU.with_changes(optimizer="adam", learning_rate=5e-4).learning_rate == 5e-4
    assert CSFBU.with_changes(optimizer="sgd").learning_rate == CSFBU.learning_rate
    assert INTEGRATED_ATTENTION.with_changes(optimizer="adam").learning_rate == 1e-4
    assert INTEGRATED_ATTENTION.with_changes(optimizer="sgd").learning_rate == 1e-2


def test_a_beta_or_delta_replaces_the_loss_of_nnunet() -> None:
    assert NNUNET.with_changes(beta=0.3).loss == NNUNET.with_changes(delta=2.0).loss == "ce-dice"
    assert NNUNET.with_changes(alpha=2.0).loss == "nnunet"
    assert NNUNET.with_changes(loss="focal").with_changes(epochs=2).loss == "focal"


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_that_of_regions_plus_that_of_edges(loss: str) -> None:
    preset = CSFBU.with_changes(loss=loss, network="csfbu-head", alpha=0.5)
    labels = torch.zeros(1, 1, 12, 12, dtype=torch.long)
    labels[..., 3:9, 3:9] = 1
    outputs = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))  # background, region, edge
    base = REGION_LOSSES[{"nnunet": "cross-entropy-dice", "ce-dice": "cross-entropy-dice"}.get(loss, loss)]
    edges = labels.clone()
    edges[..., 4:8, 4:8] = 0
    expected = base(outputs[:, :2], labels) + 0.5 * base(
        torch.stack([torch.zeros_like(outputs[:, 2]), outputs[:, 2]], 1), edges
    )
    assert torch.allclose(TrainingLoss(preset, 1, (1.0, 1.0))(outputs, labels), expected)
    plain = CSFBU.with_changes(loss=loss, network="plain")
    assert torch.allclose(TrainingLoss(plain, 1, (1.0, 1.0))(outputs[:, :2], labels), base(outputs[:, :2], labels))


def test_changing_the_dimension_resets_patch_and_batch() -> None:
    changed = INTEGRATED_ATTENTION.with_changes(dimension="3d")
    assert (changed.patch, changed.batch) == (None, None)
    given = CSFBU.with_changes(dimension="3d", batch=3, patch=(64, 64, 64))
    assert (given.patch, given.batch) == ((64, 64, 64), 3)
    assert CSFBU.with_changes(dimension="2d").batch == 14
