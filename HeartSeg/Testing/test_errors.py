"""What messages tell: the way out fits the cause, and lists read as a sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from heartseg.cli.cases import Case
from heartseg.cli.summary import SummaryRow, write_summary
from heartseg.cohort import judge
from heartseg.cohort.table import write_cohort_table
from heartseg.devices import Device, describe_device
from heartseg.errors import InputError, OutputError, writing
from heartseg.findings import borders_text
from heartseg.volume import Geometry, Volume
from heartseg.volume.label_maps import as_label_map


@pytest.mark.parametrize(
    ("number", "space"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (errno.EROFS, False), (errno.ENOENT, False)],
)
def test_space_is_asked_for_only_if_the_disk_is_full(number: int, space: bool) -> None:
    with pytest.raises(OutputError, match=r"/data/table\.csv") as caught, writing(Path("/data/table.csv")):
        raise OSError(number, os.strerror(number))
    assert ("free some space" in str(caught.value)) == space
    assert ("another folder" in str(caught.value)) or space


def test_a_full_disk_ends_a_batch_with_the_option_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("heartseg.cli.summary.write_table", full)
    with pytest.raises(OutputError, match="--resume"):
        write_summary(tmp_path / "summary.csv", [Case(tmp_path, "a")], {"a": SummaryRow("a", "done", 1.0)})


def test_a_cohort_in_a_folder_that_takes_no_file_is_not_a_full_disk() -> None:
    with pytest.raises(OutputError, match="cohort") as caught:
        write_cohort_table(judge(()), {}, Path("/proc/self"))
    assert "space" not in str(caught.value)


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_one_thread_is_singular(threads: int, text: str) -> None:
    assert describe_device(Device("cpu"), threads) == text


@pytest.mark.parametrize(
    ("sides", "text"),
    [
        (("left",), "left border"),
        (("left", "superior"), "left and superior borders"),
        (("right", "left", "superior"), "right, left and superior borders"),
    ],
)
def test_borders_are_listed(sides: tuple[str, ...], text: str) -> None:
    assert borders_text(sides) == text


@pytest.mark.parametrize(
    ("values", "labels", "way_out"),
    [
        ((0, 1, 4), {500: "LV", 420: "LA"}, "give --truth-labels heartseg"),
        ((0, 500, 421), None, "give --truth-labels mmwhs"),
        ((0, 30, 40), None, 'give --truth-labels "30=LV,40=RV"'),
    ],
)
def test_labels_that_mean_nothing_are_refused_with_those_that_fit(
    values: tuple[int, ...], labels: dict[int, str] | None, way_out: str
) -> None:
    array = np.resize(np.array(values, np.uint16), (5, 6, 7))
    source = Volume(array, Geometry(array.shape, spacing=(1.0, 1.0, 1.0)), name="reference")
    with pytest.raises(InputError, match=way_out):
        as_label_map(source, labels, "--truth-labels")
