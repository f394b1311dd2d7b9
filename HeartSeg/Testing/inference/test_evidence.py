"""Evidence on a candidate: agreement of the networks, consistency of windows, mean probability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heartseg import Segmenter, Settings
from heartseg.inference import evidence
from heartseg.inference.evidence import agreement, consistency, mean_confidence, probabilities, structure_agreement
from heartseg.inference.locate import HeartBox, center_candidate, heart_candidates
from heartseg.inference.run_findings import doubtful_findings
from heartseg.volume import Geometry, Volume
from tiny_models import make_tiny_model_folder, synthetic_volume, write_card


def grid_at(origin: tuple[float, float, float], size: int = 12, spacing: float = 2.0) -> Geometry:
    return Geometry((size,) * 3, (spacing,) * 3, origin)


def cube(value: int, low: int, high: int, size: int = 12) -> np.ndarray:
    labels = np.zeros((size,) * 3, np.uint8)
    labels[low:high, low:high, low:high] = value
    return labels


def test_equal_labels_in_two_windows_are_consistent_wherever_the_windows_lie() -> None:
    labels = np.random.default_rng(0).integers(0, 8, (16, 16, 16)).astype(np.uint8)
    first, second = labels[:12, :12, :12], labels[4:, 4:, 4:]
    found = consistency(first, grid_at((0, 0, 0)), second, grid_at((8, 8, 8)))
    assert found == 1.0


def test_another_structure_at_the_same_place_is_inconsistent() -> None:
    grid = grid_at((0, 0, 0))
    assert consistency(cube(1, 2, 8), grid, cube(2, 2, 8), grid) == 0.0
    # Two cubes with an edge of 6 voxels, one shifted by 3 along one axis: half of each overlaps.
    moved = np.roll(cube(1, 2, 8), 3, 0)
    assert consistency(cube(1, 2, 8), grid, moved, grid) == pytest.approx(0.5)


def test_windows_that_are_apart_or_empty_have_no_consistency() -> None:
    nothing, something = np.zeros((12, 12, 12), np.uint8), cube(1, 2, 8)
    assert consistency(something, grid_at((0, 0, 0)), something, grid_at((100, 0, 0))) == 0.0
    assert consistency(nothing, grid_at((0, 0, 0)), nothing, grid_at((0, 0, 0))) == 0.0


def box_of(labels: np.ndarray, geometry: Geometry) -> HeartBox:
    return heart_candidates(labels, geometry)[0]


def test_agreement_counts_the_heart_whatever_its_structures_are_called() -> None:
    coarse = Geometry((12, 12, 12), (6.0,) * 3, (0.0, 0.0, 0.0))
    box = box_of(cube(1, 2, 10), coarse)
    fine = Geometry((36, 36, 36), (2.0,) * 3, (-2.0, -2.0, -2.0))  # three voxels per axis in each coarse voxel
    inside = np.kron(cube(3, 2, 10), np.ones((3, 3, 3), np.uint8))
    assert agreement(inside, fine, box) == 1.0
    half = inside.copy()
    half[:18] = 0  # the coarse heart spans voxels 2-9, of which half remains: Dice 2 * 1/2 / (1 + 1/2)
    assert agreement(half, fine, box) == pytest.approx(2 / 3, abs=0.01)
    assert agreement(np.zeros((36, 36, 36), np.uint8), fine, box) == 0.0


def test_each_structure_has_an_agreement_of_its_own_and_an_unseen_candidate_has_none() -> None:
    coarse = Geometry((12, 12, 12), (6.0,) * 3, (0.0, 0.0, 0.0))
    both = cube(1, 2, 10)
    both[2:10, 2:10, 2:6] = 2
    box = box_of(both, coarse)
    fine = Geometry((36, 36, 36), (2.0,) * 3, (-2.0, -2.0, -2.0))
    found = np.kron(both, np.ones((3, 3, 3), np.uint8))
    assert structure_agreement(found, fine, box) == {"LV": 1.0, "RV": 1.0}
    found[found == 2] = 3  # another name, in the same place
    assert structure_agreement(found, fine, box) == {"LV": 1.0, "RV": 0.0, "LA": 0.0}
    assert structure_agreement(found, fine, center_candidate(coarse)) == {}


def test_candidates_come_largest_first_know_the_others_and_leave_out_the_small() -> None:
    geometry = Geometry((40, 40, 40), (6.0,) * 3, (0.0, 0.0, 0.0))
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[2:12, 2:12, 2:12] = 1  # 216 mL
    labels[20:28, 20:28, 20:28] = 2  # 111 mL
    labels[34:37, 34:37, 34:37] = 3  # 6 mL
    first, second = heart_candidates(labels, geometry)
    assert (first.volume_ml, second.volume_ml) == (pytest.approx(216), pytest.approx(110.6, abs=0.1))
    assert first.others_ml[0] == pytest.approx(second.volume_ml)
    assert second.others_ml[0] == pytest.approx(first.volume_ml)
    assert set(np.unique(second.labels)) == {0, 2}
    assert len(heart_candidates(labels, geometry, most=1)) == 1


def test_confidence_is_the_mean_probability_of_each_labelled_structure_averaged() -> None:
    """Channel 1 has two voxels of 0.6 and 0.8, channel 3 has one of 0.9; channel 2 and the background are ignored."""
    share = [
        [0.2, 0.1, 0.05, 0.97],
        [0.6, 0.8, 0.03, 0.01],
        [0.1, 0.05, 0.02, 0.01],
        [0.1, 0.05, 0.9, 0.01],
    ]
    logits = np.log(np.array(share, np.float32)).reshape(4, 1, 2, 2)
    assert mean_confidence(logits) == pytest.approx((0.7 + 0.9) / 2, abs=1e-3)
    sums = probabilities(logits)
    assert sums.chosen.tolist() == pytest.approx([0.97, 1.4, 0, 0.9], abs=1e-6)
    assert sums.voxels.tolist() == [1, 2, 0, 1]
    assert sums.everywhere.tolist() == pytest.approx([1.32, 1.44, 0.18, 1.06], abs=1e-6)
    assert sums.expected_dice[1] == pytest.approx(2 * 1.4 / (2 + 1.44), abs=1e-6)
    ours = sums.regrouped(np.array([0, 5, 5, 2, 9, 9], np.uint8))
    assert ours.voxels[[0, 2, 5]].tolist() == [1, 1, 2]
    assert ours.everywhere[5] == pytest.approx(1.62, abs=1e-6)


def test_confidence_does_not_depend_on_how_many_voxels_go_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(1).normal(size=(3, 7, 5, 4)).astype(np.float32)
    whole = mean_confidence(logits)
    monkeypatch.setattr(evidence, "_VOXELS_AT_A_TIME", 1)
    assert mean_confidence(logits) == whole


def test_without_labels_there_is_no_confidence() -> None:
    assert mean_confidence(np.stack([np.ones((2, 2, 2)), np.zeros((2, 2, 2))])) == 0.0


def test_structures_below_the_limit_of_the_card_are_doubtful() -> None:
    found = doubtful_findings({"LV": 0.97, "MYO": 0.9, "PA": 0.5}, {"LV": 0.95, "MYO": 0.92, "RA": 0.9})
    assert [(f.code, f.structure, f.values["expected_dice"]) for f in found] == [("structure-doubtful", "MYO", 0.9)]


def test_a_run_reports_what_is_below_the_limits_of_its_model(tmp_path: Path) -> None:
    folder = make_tiny_model_folder(tmp_path / "model", labels=("LV", "MYO"), card=True)
    write_card(folder, ("LV", "MYO"), doubtful_below={"LV": 1.0, "MYO": 1.0})
    result = Segmenter(folder, Settings(device="cpu", threads=1)).segment(
        Volume(synthetic_volume(2)[0], Geometry((40, 40, 40), (2.0,) * 3))
    )
    facts = result.provenance.run
    assert facts is not None and facts.expected_dice
    doubtful = {f.structure for f in result.findings if f.code == "structure-doubtful"}
    assert doubtful == set(facts.expected_dice)
