"""Topology of label maps: faults are found, counted and repaired, or the map is rejected."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.topology import check_topology, repair, sound_labels, tidy_target


@pytest.fixture
def heart() -> np.ndarray:
    """Return a ventricle in its wall, open to an atrium above and an aorta beside it; other structures are separate."""
    labels = np.zeros((60, 60, 60), np.uint8)
    labels[8:36, 8:36, 8:36] = 5
    labels[14:36, 14:30, 14:30] = 1
    labels[36:50, 8:36, 8:24] = 3
    labels[36:50, 8:36, 24:36] = 6
    labels[8:30, 40:55, 8:25] = 2
    labels[8:30, 40:55, 30:45] = 4
    labels[36:50, 40:55, 8:25] = 7
    return labels


def test_a_whole_heart_is_sound(heart: np.ndarray) -> None:
    assert check_topology(heart).sound
    labels, changed = sound_labels(heart)
    assert changed == 0
    assert np.array_equal(labels, heart)


@pytest.mark.parametrize("outside", [0, 2, 8])
def test_a_gap_in_the_wall_is_a_leak_and_is_closed_by_muscle(heart: np.ndarray, outside: int) -> None:
    heart[20:22, 30:36, 20:22] = outside
    found = check_topology(heart)
    # 2 x 2 voxels face the blood; only the gap touches it.
    assert found.leaks == 4
    assert not found.sound
    labels, changed = sound_labels(heart)
    assert check_topology(labels).sound
    assert changed >= 4
    assert (labels[20:22, 30, 20:22] == 5).all()


def test_beside_a_valve_other_tissue_may_touch_the_blood(heart: np.ndarray) -> None:
    heart[35, 30:36, 20:22] = 9
    assert check_topology(heart).leaks == 0


def test_stray_pieces_go_to_their_neighbours_and_holes_are_filled(heart: np.ndarray) -> None:
    heart[10, 10, 10] = 1
    heart[40, 20, 10] = 0
    found = check_topology(heart)
    assert found.pieces == {1: 1}
    assert found.holes == {3: 1, 5: 1}
    mended = repair(heart)
    assert check_topology(mended).sound
    assert mended[10, 10, 10] == 5
    assert mended[40, 20, 10] == 3


def test_a_heart_that_lacks_a_structure_or_most_of_its_wall_is_refused(heart: np.ndarray) -> None:
    without = np.where(heart == 7, 0, heart).astype(np.uint8)
    assert check_topology(without).missing == (7,)
    assert sound_labels(without) is None
    bare = heart.copy()
    bare[8:30, 30:36, 8:36] = 0
    bare[8:30, 8:14, 8:36] = 0
    bare[8:30, 8:36, 30:36] = 0
    assert sound_labels(bare) is None


def test_a_scene_s_leaks_become_muscle_and_its_stray_pieces_are_ignored(heart: np.ndarray) -> None:
    target, regions = heart.copy(), heart.copy()
    target[20, 30:36, 20] = 0
    regions[20, 30:36, 20] = Region.LUNG
    target[55, 5, 5] = 6
    counts = tidy_target(target, regions)
    assert counts == {"scene_leaks": 1, "scene_strays": 1}
    assert target[20, 30, 20] == 5
    assert regions[20, 30, 20] == Region.LV_MYO
    assert target[55, 5, 5] == IGNORE
    assert (target == heart).sum() >= heart.size - 8


def test_an_empty_map_is_named(heart: np.ndarray) -> None:
    with pytest.raises(ValueError, match="label map is empty"):
        check_topology(np.zeros_like(heart))
