"""A short version of ``make torture``, with a fixed seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from torture import cohort, fuzz


def test_spoilt_files_are_refused_or_read_and_never_do_harm() -> None:
    counts, faults = fuzz.run(200, start=1)
    assert faults == []
    assert sum(counts.values()) == 200
    assert counts["refused"] > 20 and counts["read"] > 20, "both outcomes must occur, or the fuzzing tests nothing"


def test_a_cut_file_that_reads_as_something_else_is_noticed() -> None:
    sound = fuzz.Outcome("read", voxels="a", grid=[1])
    other = fuzz.Outcome("read", voxels="b", grid=[1])
    assert fuzz.judged(other, sound, short=True) == "silent"
    assert fuzz.judged(other, sound, short=False) == "read"
    assert fuzz.judged(fuzz.Outcome("read", voxels="b", grid=[1], warnings=["x"]), sound, short=True) == "warned"


@pytest.mark.slow
def test_a_cohort_that_is_killed_and_resumed_is_complete(tmp_path: Path) -> None:
    counts, faults = cohort.run(tmp_path, count=40, kills=4, start=2)
    assert faults == []
    assert counts["failed"] == 4
    assert sum(counts.values()) == 40


@pytest.mark.slow
def test_a_cohort_on_a_cluster_whose_parts_are_killed_is_complete(tmp_path: Path) -> None:
    counts, faults = cohort.run_on_cluster(tmp_path, count=30, every_s=1, start=3, workers=2, least=2)
    assert faults == []
    assert counts["failed"] == 3 and counts.pop("workers killed") > 0
    assert sum(counts.values()) == 30
