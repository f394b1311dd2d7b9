"""Saved states of a run: parts of limited size with checksums; the newest complete state is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from heartseg.training import state
from heartseg.training.state import load_state, save_state, shrink_optimiser


def test_a_state_comes_back_whole_from_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PART_BYTES", 1000)
    written: dict[str, Any] = {"step": 3, "network": {"w": torch.arange(900.0)}, "note": "x"}
    folder = save_state(tmp_path, written, 3)
    parts = sorted(folder.glob("part-*.bin"))
    assert len(parts) > 3
    assert all(p.stat().st_size <= 1000 for p in parts)
    found = load_state(tmp_path)
    assert found["step"] == 3
    assert torch.equal(found["network"]["w"], written["network"]["w"])


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("state-*"))


def test_a_damaged_or_unfinished_state_is_passed_over(tmp_path: Path) -> None:
    save_state(tmp_path, {"step": 1}, 1)
    second = save_state(tmp_path, {"step": 2}, 2)
    (second / "part-00.bin").write_bytes(b"damaged")
    assert load_state(tmp_path)["step"] == 1
    (second / "state.json").unlink()
    assert load_state(tmp_path)["step"] == 1


def test_damaged_unfinished_and_later_states_go_and_whole_ones_stay(tmp_path: Path) -> None:
    for step in (1, 2, 9):
        save_state(tmp_path, {"step": step}, step, keep=3)
    (tmp_path / "state-0000002" / "part-00.bin").write_bytes(b"damaged")
    (tmp_path / "state-0000002.part").mkdir()
    save_state(tmp_path, {"step": 3}, 3)
    assert names(tmp_path) == ["state-0000001", "state-0000003"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    save_state(tmp_path, {"step": 1, "note": "first"}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(state.json, "dumps", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_state(tmp_path, {"step": step, "note": "second"}, step)
    assert load_state(tmp_path)["note"] == "first"
    save_state(tmp_path, {"step": step, "note": "third"}, step)
    assert load_state(tmp_path)["note"] == "third"


def test_a_whole_state_that_was_not_renamed_yet_is_taken(tmp_path: Path) -> None:
    folder = save_state(tmp_path, {"step": 1}, 1)
    folder.rename(tmp_path / "state-0000001.part")
    assert load_state(tmp_path)["step"] == 1


def test_states_that_are_all_damaged_are_refused(tmp_path: Path) -> None:
    (save_state(tmp_path, {"step": 1}, 1) / "part-00.bin").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"all saved states are damaged .*state-"):
        load_state(tmp_path)


def test_a_first_state_that_was_never_finished_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "state-0000001.part").mkdir()
    assert load_state(tmp_path) is None


def test_a_state_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    folder = save_state(tmp_path / "run", {"step": 1}, 1)
    (tmp_path / "secret.bin").write_bytes(b"x")
    card = json.loads((folder / "state.json").read_text())
    card["parts"][0]["name"] = "../../secret.bin"
    (folder / "state.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="damaged"):
        load_state(tmp_path / "run")


def test_old_states_are_removed(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save_state(tmp_path, {"step": step}, step)
    assert sorted(p.name for p in tmp_path.glob("state-*")) == ["state-0000003", "state-0000004"]


def test_no_state_is_no_error(tmp_path: Path) -> None:
    assert load_state(tmp_path / "nothing") is None


def test_moments_travel_in_half_the_bytes_and_still_load(tmp_path: Path) -> None:
    network = torch.nn.Linear(20, 20)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    network(torch.ones(1, 20)).sum().backward()
    optimiser.step()
    small = shrink_optimiser(optimiser.state_dict())
    assert small["state"][0]["exp_avg"].dtype == torch.bfloat16
    other = torch.optim.AdamW(network.parameters(), 1e-2)
    other.load_state_dict(small)
    assert other.state_dict()["state"][0]["exp_avg"].dtype == torch.float32
    assert float(other.state_dict()["state"][0]["step"]) == 1
