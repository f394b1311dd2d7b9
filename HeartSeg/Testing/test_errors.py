"""What is said about a file that cannot be written, and about a run's device."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from heartseg.cli.cases import Case
from heartseg.cli.summary import SummaryRow, write_summary
from heartseg.cohort import judge
from heartseg.cohort.table import write_cohort_table
from heartseg.devices import Device, describe_device
from heartseg.errors import OutputError, writing


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
        write_summary(tmp_path / "summary.csv", [Case("a", tmp_path)], {"a": SummaryRow("a", "done", 1.0)})


def test_a_cohort_in_a_folder_that_takes_no_file_is_not_a_full_disk() -> None:
    with pytest.raises(OutputError, match="cohort") as caught:
        write_cohort_table(judge(()), {}, Path("/proc/self"))
    assert "space" not in str(caught.value)


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_one_thread_is_singular(threads: int, text: str) -> None:
    assert describe_device(Device("cpu"), threads) == text
