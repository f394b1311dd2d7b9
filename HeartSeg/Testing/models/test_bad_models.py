"""Unusable models: each gives one row or one line with a correct explanation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heartseg.cli.main import main
from heartseg.errors import ModelError
from heartseg.models.checking import check_model
from heartseg.models.folder import ModelFolder
from heartseg.models.store import list_models
from tiny_models import make_tiny_model_folder


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def network(content: dict) -> dict:
    return content["configurations"]["3d_fullres"]["architecture"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models that contains one valid model."""
    monkeypatch.setenv("HEARTSEG_MODELS", str(tmp_path / "models"))
    make_tiny_model_folder(tmp_path / "models" / "Good", features=(4, 8), patch=(16, 16, 16), card=True)
    return tmp_path / "models"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: (f / "plans.json").write_text("[]"),
        lambda f: (f / "plans.json").write_text("{}"),
        lambda f: (f / "dataset.json").write_text('{"labels": 7, "channel_names": []}'),
        lambda f: (f / "dataset.json").write_text('{"labels": {"a": [1, {}]}, "channel_names": {"0": 1}}'),
        lambda f: (f / "heartseg.json").write_text('{"name": ["x"], "version": {}}'),
        lambda f: edit(f / "plans.json", lambda p: network(p).update(arch_kwargs={"n_stages": "two"})),
        lambda f: edit(f / "plans.json", lambda p: p.update(configurations=3)),
    ],
)
def test_one_bad_model_is_one_row_of_the_list(
    store: Path, spoil: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = make_tiny_model_folder(store / "Bad", features=(4, 8), patch=(16, 16, 16), card=True)
    spoil(bad)
    assert {m.name for m in list_models()} >= {"Good", "Bad"}
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("Bad") and "cannot be used" in line for line in lines)
    assert any(line.startswith("Good") and "cannot be used" not in line for line in lines)
    assert main(["models", "list", "--json"]) == 0
    told = {m["name"]: m for m in json.loads(capsys.readouterr().out)}
    assert told["Bad"]["problem"] and not told["Good"]["problem"]


@pytest.mark.parametrize("stages", [10**8, 0, -1, 17, "6", None])
def test_a_network_with_absurdly_many_stages_is_refused_at_once(tmp_path: Path, stages: int | str | None) -> None:
    path = make_tiny_model_folder(tmp_path / "m", features=(4, 8), patch=(16, 16, 16))
    edit(path / "plans.json", lambda p: network(p)["arch_kwargs"].update(n_stages=stages, features_per_stage=8))
    with pytest.raises(ModelError, match="n_stages"):
        ModelFolder.open(path)


def test_a_finished_fold_all_beside_a_begun_fold_is_used(tmp_path: Path) -> None:
    path = make_tiny_model_folder(tmp_path / "m", features=(4, 8), patch=(16, 16, 16), folds=(0,))
    (path / "fold_0").rename(path / "fold_all")
    (path / "fold_0").mkdir()
    (path / "fold_0" / "debug.json").write_text("{}")
    assert ModelFolder.open(path).folds == ("all",)


def test_finished_folds_are_preferred_to_fold_all(tmp_path: Path) -> None:
    path = make_tiny_model_folder(tmp_path / "m", features=(4, 8), patch=(16, 16, 16), folds=(0, 1))
    (path / "fold_1").rename(path / "fold_all")
    assert ModelFolder.open(path).folds == ("0",)


def test_a_cascade_cannot_be_used(tmp_path: Path) -> None:
    path = make_tiny_model_folder(tmp_path / "m", features=(4, 8), patch=(16, 16, 16))
    edit(path / "plans.json", lambda p: p["configurations"]["3d_fullres"].update(previous_stage="3d_lowres"))
    findings = check_model(path)
    assert [f.code for f in findings if f.severity.value == "error"] == ["model-network"]
    assert "3d_lowres" in findings[0].message


def test_a_network_class_that_does_not_exist_cannot_be_used(tmp_path: Path) -> None:
    pytest.importorskip("dynamic_network_architectures")
    path = make_tiny_model_folder(tmp_path / "m", features=(4, 8), patch=(16, 16, 16))
    name = "dynamic_network_architectures.architectures.unet.NoSuchNet"
    edit(path / "plans.json", lambda p: network(p).update(network_class_name=name))
    assert "model-network" in [f.code for f in check_model(path) if f.severity.value == "error"]


def test_the_list_of_models_is_aligned(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dated = make_tiny_model_folder(store / "ALongerName", features=(4, 8), patch=(16, 16, 16), card=True)
    edit(dated / "heartseg.json", lambda card: card.update(name="ALongerName", version="2026-11-30"))
    make_tiny_model_folder(store / "Cardless", features=(4, 8), patch=(16, 16, 16))
    assert main(["models", "list"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "; 1.5 x 1.5" in line]
    assert len(lines) >= 3
    assert len({line.index("LV, RV") for line in lines}) == 1
    assert any("2026-11-30  user" in line for line in lines)
