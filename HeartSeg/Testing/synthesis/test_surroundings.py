"""Surroundings of the heart: devices and disease, the deformed trunk, and parts that can be disabled."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from heartseg.synthesis import devices, trunk
from heartseg.synthesis.hearts import Heart
from heartseg.synthesis.regions import IGNORE, TARGET_OF_HEART, Region
from heartseg.synthesis.scenes import Scene
from heartseg.synthesis.source import Source
from heartseg.synthesis.vessels import landmarks

DEVICES = {
    "lead": Region.METAL,
    "valve_ring": (Region.METAL, Region.CALCIUM),
    "stent": Region.METAL,
    "calcium": Region.CALCIUM,
    "scar": Region.SCAR,
    "thrombus": Region.THROMBUS,
    "clips": Region.METAL,
}
DRAWN_REGIONS = {int(r) for r in (Region.METAL, Region.CALCIUM, Region.SCAR, Region.THROMBUS)}


@pytest.fixture
def block_heart() -> Heart:
    """Return blocks of 120 mm: a ventricle in its wall below left atrium and aorta (with a wall), right heart."""
    labels = np.zeros((120, 120, 120), np.uint8)
    for (z0, z1), (y0, y1), (x0, x1), label in (
        ((15, 72), (38, 92), (56, 112), 5),
        ((25, 72), (45, 85), (63, 105), 1),
        ((72, 95), (62, 90), (60, 105), 3),
        ((72, 112), (36, 60), (60, 84), 11),
        ((72, 112), (38, 58), (62, 82), 6),
        ((60, 95), (40, 80), (15, 45), 4),
        ((20, 58), (35, 75), (12, 54), 2),
        ((60, 80), (20, 34), (50, 70), 7),
    ):
        labels[z0:z1, y0:y1, x0:x1] = label
    return Heart(labels, labels.copy(), TARGET_OF_HEART[labels])


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_drawn_into_the_tissues_and_changes_no_label(block_heart: Heart, name: str) -> None:
    heart, before = block_heart, copy.deepcopy(block_heart)
    for seed in range(8):  # some patches miss the wall by chance
        getattr(devices, f"_{name}")(np.random.default_rng(seed), heart, landmarks(heart))
    drawn = heart.regions != before.regions
    assert 5 < drawn.sum() < 0.5 * (before.labels > 0).sum()
    assert set(np.unique(heart.regions[drawn])) <= set(np.atleast_1d(np.asarray(DEVICES[name])).astype(int))
    assert np.array_equal(heart.labels, before.labels)
    assert np.array_equal(heart.target, before.target)
    within = {"scar": {5}, "thrombus": {1, 3}}.get(name)
    assert within is None or set(np.unique(heart.labels[drawn])) <= within


def test_the_facts_name_the_devices_by_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEVICES:
        monkeypatch.setattr(devices, f"_{name}", lambda *_: None)
    found: list[Any] = []
    empty = np.zeros(1)
    for seed in range(300):
        devices.add_devices(np.random.default_rng(seed), heart := Heart(empty, empty, empty), None)
        found.append(heart.facts["devices"])
    # 25 % of hearts have calcium, 12 % a lead; standard deviation of a fraction of 300: 2.5 %.
    assert np.mean(["calcium" in f for f in found]) == pytest.approx(0.25, abs=0.08)
    assert np.mean(["lead" in f for f in found]) == pytest.approx(0.12, abs=0.06)


def test_every_axis_of_a_trunk_is_changed_by_15_to_25_per_cent(toy: Source, plain_heart: Heart) -> None:
    atlas = trunk.make_atlas(toy)
    changes = np.array([trunk.draw_placement(np.random.default_rng(s), atlas, plain_heart).change for s in range(60)])
    assert np.abs(changes - 1).min() >= 0.15
    assert np.abs(changes - 1).max() <= 0.25
    assert 0.3 < (changes > 1).mean() < 0.7


def test_organs_that_are_switched_off_are_named_and_gone() -> None:
    ids = [*trunk.SWITCHABLE, Region.LUNG, Region.MUSCLE]
    gone = set()
    for seed in range(60):
        regions = np.repeat(np.array(ids, np.uint8), 2)[None, None, :].copy()
        names = trunk.switch_organs(np.random.default_rng(seed), regions)
        missing = {r.name.lower() for r in ids if (regions == r).sum() < 2}
        assert missing - {"lung"} == set(names) - {"lung"}
        gone |= missing
    assert {"liver", "stomach", "spleen"} <= gone
    assert "muscle" not in gone


@pytest.mark.shared
def test_a_real_trunk_s_facts_tell_its_change_its_organs_and_its_devices(real_scene: Scene) -> None:
    facts: dict[str, Any] = real_scene.facts
    change = np.array(facts["trunk_change"])
    assert change.shape == (3,)
    assert np.maximum(change, 1 / change).min() >= 1.15 - 1e-3
    for name in facts["organs_off"]:
        assert name == "lung" or not (real_scene.regions == Region[name.upper()]).any(), name
    assert set(facts["devices"]) <= {"lead", "valve", "stent", "calcium", "scar", "thrombus", "clips"}
    assert len(facts["volumes_mL"]) == 7


def test_parts_that_are_switched_off_leave_no_trace_in_a_trunk(trunk_scene: Scene) -> None:
    found = set(np.unique(trunk_scene.regions))
    assert "devices" not in trunk_scene.facts
    assert not found & DRAWN_REGIONS
    assert trunk_scene.facts["trunk_change"] == [1.0, 1.0, 1.0]
    assert trunk_scene.facts["organs_off"] == []
    assert not found & set(range(Region.BLOB_0, Region.BLOB_5 + 1))
    kept = {Region.LIVER, Region.STOMACH, Region.LUNG, Region.CORTICAL_BONE, Region.DESCENDING_AORTA, Region.IVC}
    assert {int(r) for r in kept} <= found


def test_a_trunk_has_every_label_inside_a_body_with_skin(trunk_scene: Scene) -> None:
    assert set(np.unique(trunk_scene.target)) == {*range(8), IGNORE}
    assert (trunk_scene.regions == Region.SKIN).any()
    block = trunk_scene.regions[
        tuple(slice(o, o + n) for o, n in zip(trunk_scene.target_origin, trunk_scene.target.shape, strict=True))
    ]
    heart = (trunk_scene.target > 0) & (trunk_scene.target < IGNORE)
    assert not np.isin(block[heart], (Region.AIR, Region.LUNG, Region.FAT, Region.UNSEEN)).any()
