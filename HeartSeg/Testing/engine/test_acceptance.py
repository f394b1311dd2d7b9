"""The search for the heart with the default model on the shipped sample: candidates, re-centring, acceptance.

The rules are tested on evidence alone (``inference/test_acceptance.py``). Here a modified finder makes specific errors;
everything else is real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg import Result, Segmenter, Settings, Volume
from heartseg.inference import finder as finder_module
from heartseg.inference.acceptance import CONFIDENT, CONFIDENT_CONSISTENCY, REJECTED_CONSISTENCY_OTHER_SCALE
from heartseg.inference.around_heart import MOVES, AroundHeart
from heartseg.inference.finder import OTHER_GREY_SCALES
from heartseg.inference.locate import HeartBox, heart_candidates
from heartseg.inference.network import OrientedNetwork
from heartseg.inference.test_time import shifted
from heartseg.progress import Reporter
from heartseg.volume import Geometry
from triples import triple

Candidates = Callable[[np.ndarray, object, int], list]


@pytest.fixture
def finder_sees(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], list[int]]:
    """Replace the labels of the finder; returns the recorded numbers of requested candidates, by scale."""

    def use(candidates: Callable) -> list[int]:
        asked: list[int] = []

        def counted(labels: np.ndarray, grid: Geometry, most: int) -> list[HeartBox]:
            asked.append(most)
            return candidates(labels, grid, most, len(asked))

        monkeypatch.setattr(finder_module, "heart_candidates", counted)
        return asked

    return use


def in_the_corner(box: HeartBox, grid: Geometry) -> HeartBox:
    """Return a candidate as large as a heart in the lung and air of the sample."""
    corner = np.zeros_like(box.labels)
    corner[-8:, :8, :8] = 1
    low = grid.index_to_world(np.array([grid.shape[0] - 8, 0, 0]))
    high = grid.index_to_world(np.array([grid.shape[0] - 1, 7, 7]))
    return replace(box, low=np.minimum(low, high), high=np.maximum(low, high), labels=corner)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    same = (a == b) & (a > 0)
    return 2 * same.sum() / ((a > 0).sum() + (b > 0).sum())


def test_a_finder_that_sees_nothing_searches_again_in_another_grey_scale(
    segmenter: Segmenter, volume: Volume, finder_sees: Callable[[Callable], list[int]]
) -> None:
    asked = finder_sees(lambda labels, grid, most, call: heart_candidates(labels, grid, most) if call > 1 else [])
    result = segmenter.segment(volume)
    assert result.heart_found
    assert result.provenance.run.finder_grey_scale == OTHER_GREY_SCALES[0]
    assert asked == [3, 3]


def test_where_the_finder_sees_nothing_a_confident_fine_network_is_enough(
    segmenter: Segmenter, volume: Volume, result: Result, finder_sees: Callable[[Callable], list[int]]
) -> None:
    asked = finder_sees(lambda labels, grid, most, call: [])
    alone = segmenter.segment(volume)
    assert len(asked) == 1 + len(OTHER_GREY_SCALES)
    run = alone.provenance.run
    assert (run.mode, run.agreement, run.finder_grey_scale) == ("middle of the scan", 0.0, None)
    assert run.consistency >= CONFIDENT_CONSISTENCY
    assert run.mean_probability >= CONFIDENT
    assert "networks-disagree" in [f.code for f in alone.findings]
    assert dice(alone.labels, result.labels) > 0.9


def test_after_candidates_that_are_all_rejected_another_grey_scale_is_tried(
    segmenter: Segmenter, volume: Volume, finder_sees: Callable[[Callable], list[int]]
) -> None:
    """Only the largest candidate is used, and a second window is compared even if the networks agree well."""

    def wrong_in_the_own_scale(labels: np.ndarray, grid: Geometry, most: int, call: int) -> list[HeartBox]:
        found = heart_candidates(labels, grid, most)
        return found if call > 1 else [in_the_corner(box, grid) for box in found]

    asked = finder_sees(wrong_in_the_own_scale)
    result = segmenter.segment(volume)
    assert result.heart_found
    assert result.provenance.run.finder_grey_scale == OTHER_GREY_SCALES[0]
    assert result.provenance.run.consistency >= REJECTED_CONSISTENCY_OTHER_SCALE
    assert asked == [3, 1]


def test_after_a_candidate_that_is_rejected_the_next_one_is_tried(
    segmenter: Segmenter, volume: Volume, result: Result, finder_sees: Callable[[Callable], list[int]]
) -> None:
    def wrong_one_first(labels: np.ndarray, grid: Geometry, most: int, call: int) -> list[HeartBox]:
        (box, *others) = heart_candidates(labels, grid, most)
        return [in_the_corner(box, grid), box, *others]

    finder_sees(wrong_one_first)
    assert np.array_equal(segmenter.segment(volume).labels, result.labels)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[Geometry]:
    """Record the grids of the fine network's input."""
    seen: list[Geometry] = []
    real = OrientedNetwork.window

    def counting(self: Any, scan: Any, grid: Geometry, reporter: Reporter, gamma: float = 1.0) -> Any:
        seen.append(grid)
        return real(self, scan, grid, reporter, gamma)

    monkeypatch.setattr(OrientedNetwork, "window", counting)
    return seen


def test_a_window_that_never_stays_is_followed_only_so_often(
    segmenter: Segmenter, volume: Volume, monkeypatch: pytest.MonkeyPatch, windows: list[Geometry]
) -> None:
    monkeypatch.setattr(AroundHeart, "_recentred", lambda self, found: shifted(found.window.grid, (1, 0, 0)))
    assert segmenter.segment(volume).heart_found
    assert len(windows) == 1 + MOVES


@pytest.mark.parametrize("how", ["located", "given centre"])
def test_a_heart_as_dark_as_air_is_none_however_its_place_was_found(
    default_model: Path, segmenter: Segmenter, volume: Volume, result: Result, how: str
) -> None:
    """The sample, 900 HU darker and clipped at air: it looks the same to the networks, but no tissue is that dark."""
    centre = result.provenance.run.window_center_lps
    dark = replace(volume, array=np.maximum(volume.array.astype(np.int16) - 900, -1024), modality="CT")
    settings = Settings(device="cpu", heart_center=triple(centre) if how == "given centre" else None)
    found = Segmenter(default_model, settings).segment(dark)
    assert not found.heart_found
