"""Networks, losses and augmentations of the user by dotted name; settings in a file; the history."""

from __future__ import annotations

import csv
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")

from heartseg.cli.main import build_parser
from heartseg.errors import ModelError, SettingsError
from heartseg.networks.catalogue import build, unet_plan
from heartseg.training.nnunet.augmentation import adapted
from heartseg.training.nnunet.config import read_config, write_config
from heartseg.training.nnunet.history import log_to_tensorboard, rows, write_history
from heartseg.training.nnunet.planning import adapted_plans
from heartseg.training.nnunet.presets import CSFBU, INTEGRATED_ATTENTION, PRESETS, Preset
from heartseg.training.nnunet.supervision import TrainingLoss
from heartseg.workshop.training_options import preset_of

from .conftest import base_plans, build_from

MODULE = """
import torch
from heartseg.networks.plain_unet import UNet

class Net(UNet):
    def forward(self, x):
        outputs = super().forward(x)
        return [2 * o for o in outputs] if isinstance(outputs, list) else 2 * outputs

def loss(logits, target, *, ignore):
    return (logits.float().mean() - 3) ** 2 + 0 * (target == ignore).sum()

def augmentation(transforms):
    transforms.transforms.append("mine")
    return transforms

number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of an importable module with a network, a loss and an augmentation."""
    (tmp_path / "my_methods.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_methods"
    sys.modules.pop("my_methods", None)


def test_a_custom_network_is_built_from_the_plans_of_nnunet(mine: str) -> None:
    preset = CSFBU.with_changes(network=f"{mine}.Net")
    assert preset.edges == "none"
    plans = adapted_plans(base_plans(), preset, "x", 0)
    network = build_from(plans, structures=7)
    assert type(network).__name__ == "Net"
    plan = unet_plan((4, 8), 2)
    ours, theirs = build(f"{mine}.Net", plan, 1, 3).eval(), build("plain", plan, 1, 3).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(ours(x), 2 * theirs(x))


def test_a_custom_loss_gets_regions_and_edges(mine: str) -> None:
    outputs = torch.full((1, 3, 12, 12), 5.0)
    labels = torch.zeros(1, 1, 12, 12, dtype=torch.long)
    plain = TrainingLoss(CSFBU.with_changes(loss=f"{mine}.loss", network="plain"), 2, (1.0, 1.0))
    assert plain(outputs, labels).item() == 4.0
    head = TrainingLoss(CSFBU.with_changes(loss=f"{mine}.loss", network="csfbu-head", alpha=2.0), 1, (1.0, 1.0))
    edges = (2.5 - 3) ** 2  # logits of "no edge" are 0, of the edge 5
    assert head(outputs, labels).item() == 4.0 + 2.0 * edges


def test_a_custom_augmentation_gets_the_transforms_of_nnunet(mine: str) -> None:
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    assert adapted(ComposeTransforms([]), f"{mine}.augmentation").transforms == ["mine"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere_at_all.Net", "network 'nowhere_at_all.Net' cannot be imported"),
        ("my_methods.Other", "does not exist"),
        ("my_methods.number", "is a int: name a class or a function"),
    ],
)
def test_custom_parts_that_cannot_be_imported_are_refused_before_training(mine: str, name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        adapted_plans(base_plans(), CSFBU.with_changes(network=name), "x", 0)


def test_a_model_with_a_custom_network_loads_only_if_its_package_is_trusted(
    mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartseg.models import plans

    raw = adapted_plans(base_plans(), CSFBU.with_changes(network=f"{mine}.Net"), "x", 0)["configurations"]["2d"]
    with pytest.raises(ModelError, match="refused"):
        plans._network(raw, 2, "plans.json")
    monkeypatch.setenv(plans.TRUSTED_PACKAGES, f"other, {mine}")
    assert plans._network(raw, 2, "plans.json").class_name == f"{mine}.Net"
    assert plans.network_roots() == (*plans.NETWORK_ROOTS, "other.", f"{mine}.")


@pytest.mark.parametrize("name", PRESETS)
def test_every_setting_survives_a_round_trip_through_the_file(name: str, tmp_path: Path) -> None:
    write_config(PRESETS[name], tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml", Preset(epochs=3, alpha=9.0)) == PRESETS[name]
    assert set(yaml.safe_load((tmp_path / "config.yaml").read_text())) == set(PRESETS[name].to_dict())


def test_the_structures_with_edges_survive_a_round_trip_through_the_file(tmp_path: Path) -> None:
    chosen = CSFBU.with_changes(edge_structures=("AO", "PA"))
    write_config(chosen, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml", Preset()) == chosen


def test_options_override_the_file_and_the_file_overrides_the_preset(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("epochs: 7\nlearning_rate: 0.5\npatch: [64, 96]\n")
    command = ["train", "d", "-o", "o", "--preset", "integrated-attention", "--config", str(tmp_path / "run.yaml")]
    found = preset_of(build_parser().parse_args([*command, "--epochs", "9"]))
    assert (found.epochs, found.learning_rate, found.patch) == (9, 0.5, (64, 96))
    assert found.network == INTEGRATED_ATTENTION.network


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour: red", "'colour' in .* is not a setting"),
        ("epochs: many", "epochs in .* is 'many': it must be a int"),
        ("epochs: 0", "epochs 0 is too few"),
        ("deep_supervision: 1", "must be a bool"),
        ("edge_structures: AO", "edge_structures in .* is 'AO': it must be a list"),
        ("patch: 96", "patch in .* is 96: it must be a list"),
        ("- 1", "holds no settings"),
        ("a: [", "cannot be read"),
    ],
)
def test_an_invalid_settings_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_config(tmp_path / "run.yaml", CSFBU)


LOGGED: dict[str, list[Any]] = {
    "mean_fg_dice": [0.25, 0.5],
    "train_losses": [1.5, 1.25],
    "val_losses": [2.0, 1.0],
    "lrs": [0.01, 0.005],
    "dice_per_class_or_region": [[0.5, 0.0], [0.75, float("nan")]],
    "epoch_start_timestamps": [10.0, 20.0],
    "epoch_end_timestamps": [14.0, 21.5, 99.0],
}


def test_the_history_has_one_row_per_epoch(tmp_path: Path) -> None:
    write_history(LOGGED, ["LV", "AO"], tmp_path / "history.csv")
    first, second = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert first == {
        "epoch": "1",
        "loss": "1.5",
        "loss of held-out patches": "2",
        "mean Dice of held-out patches": "0.25",
        "learning rate": "0.01",
        "Dice of LV": "0.5",
        "Dice of AO": "0",
        "seconds": "4",
    }
    assert (second["epoch"], second["Dice of AO"], second["seconds"]) == ("2", "nan", "1.5")
    assert [p.name for p in tmp_path.iterdir()] == ["history.csv"]


def test_tensorboard_gets_every_column_of_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert Path(folder) == tmp_path

        def __enter__(self) -> object:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

    stand_in = types.ModuleType("torch.utils.tensorboard")
    vars(stand_in)["SummaryWriter"] = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    assert log_to_tensorboard(rows(LOGGED, ["LV", "AO"])[0], tmp_path)
    assert ("loss", 1.5, 1) in written and ("Dice of LV", 0.5, 1) in written
    assert len(written) == 7
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert not log_to_tensorboard(rows(LOGGED, ["LV", "AO"])[0], tmp_path)
