"""Which candidate is believed, and how the window follows it: the default model on the shipped sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heartseg import Segmenter, Settings
from heartseg.inference import engine, search
from heartseg.inference.looks import shifted
from heartseg.volume import Geometry


def run_of(result) -> dict:
    return result.provenance["run"]


def test_a_finder_that_sees_nothing_looks_again_in_another_grey_scale(segmenter, volume, monkeypatch):
    real, calls = engine.heart_candidates, []

    def blind_at_first(labels, grid, most):
        calls.append(labels)
        return real(labels, grid, most) if len(calls) > 1 else []

    monkeypatch.setattr(engine, "heart_candidates", blind_at_first)
    result = segmenter.segment(volume)
    assert result.heart_found
    assert run_of(result)["finder_grey_scale"] == engine._OTHER_SCALES[0]
    assert len(calls) == 2


@pytest.fixture
def blind(monkeypatch) -> list[Geometry]:
    """The finder sees nothing; the grids that it looked at."""
    looked: list[Geometry] = []
    monkeypatch.setattr(engine, "heart_candidates", lambda labels, grid, most: looked.append(grid) or [])
    return looked


def test_where_the_finder_sees_nothing_the_fine_network_may_vouch_for_the_middle(blind, segmenter, volume, result):
    alone = segmenter.segment(volume)
    assert len(blind) == 1 + len(engine._OTHER_SCALES)
    run = run_of(alone)
    assert (run["mode"], run["agreement"], run["finder_grey_scale"]) == ("middle of the scan", 0.0, None)
    assert run["same_story"] >= search.VOUCHING_STORY
    assert run["mean_probability"] >= search.VOUCHING_CONFIDENCE
    assert "networks-disagree" in [f.code for f in alone.findings]
    same = (alone.labels == result.labels) & (result.labels > 0)
    assert 2 * same.sum() / ((alone.labels > 0).sum() + (result.labels > 0).sum()) > 0.9


@pytest.mark.parametrize(("confidence", "story"), [(0.84, 0.99), (0.95, 0.89)])
def test_what_nobody_vouches_for_is_no_heart(blind, segmenter, volume, monkeypatch, confidence, story):
    monkeypatch.setattr(search, "confidence", lambda _: confidence)
    monkeypatch.setattr(search, "same_story", lambda *_: story)
    nothing = segmenter.segment(volume)
    assert not nothing.heart_found
    assert run_of(nothing)["heart"] == "no candidate was found", "the middle is no reason"
    assert len(blind) == 1 + len(engine._OTHER_SCALES)


def test_a_candidate_that_the_finder_does_not_confirm_can_be_vouched_for(segmenter, volume, monkeypatch, result):
    monkeypatch.setattr(search, "agreement", lambda *_: 0.1)
    vouched = segmenter.segment(volume)
    assert np.array_equal(vouched.labels, result.labels)
    assert run_of(vouched)["mode"] == "located"
    monkeypatch.setattr(search, "same_story", lambda *_: 0.89)
    rejected = segmenter.segment(volume)
    assert not rejected.heart_found
    assert "rejects it (agreement 0.10)" in run_of(rejected)["heart"]


@pytest.mark.parametrize(("agreement", "found"), [(0.59, False), (0.61, True)])
def test_a_heart_that_both_networks_doubt_is_none(segmenter, volume, monkeypatch, agreement, found):
    monkeypatch.setattr(search, "agreement", lambda *_: agreement)
    monkeypatch.setattr(search, "confidence", lambda _: search.LOW_CONFIDENCE - 0.01)
    doubted = segmenter.segment(volume)
    assert doubted.heart_found is found
    assert found or "both networks doubt it (agreement 0.59, mean probability 0.74)" in run_of(doubted)["heart"]


def in_the_corner(box, grid):
    """The candidate where the sample has lung and air, as large as a heart."""
    corner = np.zeros_like(box.labels)
    corner[-8:, :8, :8] = 1
    low = grid.index_to_world(np.array([grid.shape[0] - 8, 0, 0]))
    high = grid.index_to_world(np.array([grid.shape[0] - 1, 7, 7]))
    return replace(box, low=np.minimum(low, high), high=np.maximum(low, high), labels=corner)


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """In the scan's own grey scale all candidates are wrong; how many are asked for, grey scale by grey scale."""
    real, asked = engine.heart_candidates, []

    def wrong_in_the_own_scale(labels, grid, most):
        asked.append(most)
        found = real(labels, grid, most)
        return found if len(asked) > 1 else [in_the_corner(box, grid) for box in found]

    monkeypatch.setattr(engine, "heart_candidates", wrong_in_the_own_scale)
    return asked


def test_after_candidates_that_are_all_rejected_another_grey_scale_is_tried(asked, segmenter, volume):
    """Its largest candidate alone; and another window is asked, however well the networks agree."""
    result = segmenter.segment(volume)
    assert result.heart_found
    assert run_of(result)["finder_grey_scale"] == engine._OTHER_SCALES[0]
    assert run_of(result)["same_story"] >= search.REJECTED_STORY_ELSEWHERE
    assert asked == [3, 1]


@pytest.mark.usefixtures("asked")
def test_what_another_grey_scale_alone_shows_must_be_surer(segmenter, volume, monkeypatch):
    monkeypatch.setattr(search, "same_story", lambda *_: 0.8)
    assert not segmenter.segment(volume).heart_found


def test_after_a_candidate_that_the_fine_network_rejects_the_next_one_is_tried(segmenter, volume, monkeypatch):
    real = engine.heart_candidates

    def wrong_one_first(labels, grid, most):
        (box, *others) = real(labels, grid, most)
        return [in_the_corner(box, grid), box, *others]

    plain = segmenter.segment(volume)
    monkeypatch.setattr(engine, "heart_candidates", wrong_one_first)
    result = segmenter.segment(volume)
    assert np.array_equal(result.labels, plain.labels)


@pytest.mark.parametrize(("story", "found"), [(0.2, False), (0.8, True)])
def test_in_doubt_another_window_decides(segmenter, volume, monkeypatch, story, found):
    monkeypatch.setattr(search, "LOW_AGREEMENT", 1.01)  # every heart is doubtful
    monkeypatch.setattr(search, "same_story", lambda *_: story)
    result = segmenter.segment(volume)
    assert result.heart_found is found
    assert found or "do not agree (0.20)" in run_of(result)["heart"]


def test_the_sample_tells_the_same_story_in_another_window(segmenter, volume, monkeypatch):
    monkeypatch.setattr(search, "LOW_AGREEMENT", 1.01)
    result = segmenter.segment(volume)
    assert result.heart_found
    assert run_of(result)["same_story"] >= search.REJECTED_STORY


def test_a_window_that_never_stays_is_followed_only_so_often(segmenter, volume, monkeypatch):
    looked = []
    real_look = engine.Engine._look

    def counting(self, *args, **options):
        looked.append(args[5])
        return real_look(self, *args, **options)

    monkeypatch.setattr(engine.Engine, "_look", counting)
    monkeypatch.setattr(engine.Engine, "_recentred", lambda self, window, *_: shifted(window.grid, (1, 0, 0)))
    assert segmenter.segment(volume).heart_found
    assert len(looked) == 1 + search.MOVES


@pytest.mark.parametrize("how", ["located", "given centre"])
def test_a_heart_as_dark_as_air_is_none_however_its_place_was_found(default_model, segmenter, volume, how):
    """The sample, 900 HU darker and cut off at air: to the networks it looks the same, but no tissue is that dark."""
    centre = run_of(segmenter.segment(volume))["window_center_lps"]
    dark = replace(volume, array=np.maximum(volume.array.astype(np.int16) - 900, -1024), modality="CT")
    settings = Settings(device="cpu", heart_center=tuple(centre) if how == "given centre" else None)
    result = Segmenter(default_model, settings).segment(dark)
    assert not result.heart_found
