"""A run's state on disk: pieces of bounded size, checked, the newest whole one is taken."""

from __future__ import annotations

import json

import torch

from heartseg.training import state
from heartseg.training.state import load_state, save_state, shrink_optimiser


def test_a_state_comes_back_whole_from_small_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "PART_BYTES", 1000)
    written = {"step": 3, "network": {"w": torch.arange(900.0)}, "note": "x"}
    folder = save_state(tmp_path, written, 3)
    parts = sorted(folder.glob("part-*.bin"))
    assert len(parts) > 3
    assert all(p.stat().st_size <= 1000 for p in parts)
    found = load_state(tmp_path)
    assert found["step"] == 3
    assert torch.equal(found["network"]["w"], written["network"]["w"])


def test_a_damaged_or_unfinished_state_is_passed_over(tmp_path):
    save_state(tmp_path, {"step": 1}, 1)
    second = save_state(tmp_path, {"step": 2}, 2)
    (second / "part-00.bin").write_bytes(b"damaged")
    assert load_state(tmp_path)["step"] == 1
    third = save_state(tmp_path, {"step": 3}, 3)
    (third / "state.json").unlink()
    assert load_state(tmp_path) is None or load_state(tmp_path)["step"] < 3


def test_a_state_cannot_name_a_file_elsewhere(tmp_path):
    folder = save_state(tmp_path / "run", {"step": 1}, 1)
    (tmp_path / "secret.bin").write_bytes(b"x")
    card = json.loads((folder / "state.json").read_text())
    card["parts"][0]["name"] = "../../secret.bin"
    (folder / "state.json").write_text(json.dumps(card))
    assert load_state(tmp_path / "run") is None


def test_old_states_are_removed(tmp_path):
    for step in (1, 2, 3, 4):
        save_state(tmp_path, {"step": step}, step)
    assert sorted(p.name for p in tmp_path.glob("state-*")) == ["state-0000003", "state-0000004"]


def test_no_state_is_no_error(tmp_path):
    assert load_state(tmp_path / "nothing") is None


def test_moments_travel_in_half_the_bytes_and_still_load(tmp_path):
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
