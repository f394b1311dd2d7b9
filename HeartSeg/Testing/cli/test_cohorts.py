"""Cohorts with crashes, unresponsive scans, links, changed inputs and cells that resemble formulas."""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from command_lines import end_by, environment, worker_of
from heartseg.cli import cases
from heartseg.cli.cases import Case, list_cases
from heartseg.cli.exits import _is_importing
from heartseg.cli.finished import choices_of, finished_report, key_of, model_hash
from heartseg.cli.processes import Answer, ProcessError, _why_ended, in_child
from heartseg.cli.scan_options import scan_path
from heartseg.cli.segment import settings_from
from heartseg.cli.summary import SummaryRow, write_summary
from heartseg.errors import HeartSegError, InputError, SettingsError
from heartseg.models.folder import ModelFolder
from heartseg.settings import Settings
from heartseg.tables import plain_cell

if TYPE_CHECKING:
    from cli.conftest import Outcome, Running


def names(folder: Path) -> list[str]:
    return [case.name for case in list_cases(folder)]


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


# --- C1, C3: processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "stage", "words", "damaged"),
    [
        (-signal.SIGSEGV, "read", ("SIGSEGV",), True),
        (7, "read", ("exit code 7",), True),
        (-signal.SIGABRT, "", ("SIGABRT", "doctor"), False),  # the scan was not opened yet
        (-signal.SIGSEGV, "predict", ("SIGSEGV", "predict"), False),
        (-signal.SIGKILL, "predict", ("SIGKILL", "--jobs", "predict"), False),
        (-signal.SIGKILL, "read", ("SIGKILL", "--jobs"), False),
        (-signal.SIGXCPU, "read", ("SIGXCPU", "outside"), False),
        (0, "read", ("outside",), False),  # as after SIGTERM
        (None, "read", ("answering",), False),  # its connection is closed, and it does not end
    ],
)
def test_the_end_of_a_process_is_explained(code: int | None, stage: str, words: tuple[str, ...], damaged: bool) -> None:
    answer = _why_ended(code, stage)
    assert answer.damaged == damaged == ("damaged" in answer.end)
    assert all(word in answer.end for word in words)
    assert ("memory" in answer.end) == (code == -signal.SIGKILL)
    assert ("crashed" in answer.end) == (code not in (None, 0, -signal.SIGKILL, -signal.SIGXCPU))


@pytest.mark.parametrize(
    ("signal_number", "error"),
    [(signal.SIGSEGV, InputError), (signal.SIGTERM, ProcessError), (signal.SIGKILL, ProcessError)],
)
def test_a_process_that_a_signal_ends_is_told_from_one_with_a_damaged_scan(
    signal_number: int, error: type[HeartSegError]
) -> None:
    with pytest.raises(error) as caught:
        in_child(partial(end_by, signal_number), None)
    assert type(caught.value) is error


def test_a_crash_costs_one_row_also_with_one_job(
    launch: Callable[..., Running], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    for name in "ab":
        save_scan(f"scans/{name}.nii.gz")
    arguments = ("segment", tmp_path / "scans", "-o", tmp_path / "out", "--model", tiny_model, "--format", "csv")
    running = launch(*arguments)
    os.kill(worker_of(running.process.pid).pid, signal.SIGSEGV)
    assert running.finish().code == 1
    found = rows(tmp_path / "out")
    assert {name: row["status"] for name, row in found.items()} == {"a": "failed", "b": "done"}
    assert "SIGSEGV" in found["a"]["message"]


def test_a_scan_that_takes_too_long_costs_one_row(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    save_scan("scans/a.nii.gz")
    outcome = heartseg(
        "segment", tmp_path / "scans", "-o", tmp_path / "out", "--model", tiny_model, "--time-limit", "0.0001"
    )
    assert outcome.code == 1, outcome
    assert "--time-limit" in rows(tmp_path / "out")["a"]["message"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"summary.csv"}


@pytest.mark.parametrize(("minutes", "seconds"), [("3", 180.0), ("0", None)])
def test_counting_the_frames_of_a_scan_has_the_time_limit_that_its_message_names(
    heartseg: Callable[..., Outcome],
    save_series: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    minutes: str,
    seconds: float | None,
) -> None:
    limits = []

    def late(works: Any, progress: Any = None, limit: float | None = None) -> Iterator[Answer]:
        limits.append(limit)
        yield Answer(end="late")

    monkeypatch.setattr(cases, "answers", late)
    arguments = ("segment", save_series(), "-o", tmp_path / "out", "--frame", "all", "--time-limit", minutes)
    assert heartseg(*arguments).code == 1
    assert limits == [seconds]


def test_a_negative_time_limit_is_refused(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    save_scan("scans/a.nii.gz")
    outcome = heartseg("segment", tmp_path / "scans", "-o", tmp_path / "o", "--model", tiny_model, "--time-limit", "-1")
    assert outcome.code == 2 and "-1 minutes" in outcome.err


# --- C2: the key of a finished case -----------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path: Path, save_scan: Callable[..., Path], tiny_model: Path) -> tuple[Path, Case, dict[str, Any]]:
    """Make a result folder with the report of a finished case, the case and its options."""
    case = Case(save_scan("scan.nii.gz"), "scan")
    choices = choices_of(case, Settings(), model_hash(ModelFolder.open(tiny_model)), ("csv",), False)
    report = {"findings": [], "measures": [], "heart_found": True, "case": key_of(case, choices).to_dict()}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text(json.dumps(report))
    return tmp_path / "out", case, choices


def test_a_case_that_did_not_change_is_finished(finished: tuple[Path, Case, dict[str, Any]]) -> None:
    folder, case, choices = finished
    assert finished_report(folder, case, choices) is not None


def test_a_copy_of_the_same_scan_is_finished(finished: tuple[Path, Case, dict[str, Any]]) -> None:
    folder, case, choices = finished
    content = case.path.read_bytes()
    case.path.unlink()
    case.path.write_bytes(content)
    assert finished_report(folder, case, choices) is not None


def test_a_scan_that_changed_is_not_finished_even_with_its_old_time(
    finished: tuple[Path, Case, dict[str, Any]],
) -> None:
    folder, case, choices = finished
    status = case.path.stat()
    content = bytearray(case.path.read_bytes())
    content[-1] ^= 1
    case.path.write_bytes(content)
    os.utime(case.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert finished_report(folder, case, choices) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"series": "3"},
        {"frame": 1},
        {"modality": "MR"},
    ],
    ids=str,
)
def test_other_choices_in_the_list_are_not_finished(
    finished: tuple[Path, Case, dict[str, Any]], changed: dict[str, Any]
) -> None:
    folder, case, choices = finished
    other = replace(case, **changed)
    assert finished_report(folder, other, choices_of(other, Settings(), choices["model"], ("csv",), False)) is None


@pytest.mark.parametrize(
    "settings",
    [
        Settings(structures=("LV",)),
        Settings(locate=False),
        Settings(clean_up=False),
        Settings(accurate=True),
        Settings(precision="half"),
        Settings(backend="openvino"),
        Settings(tile_step=0.7),
        Settings(reorient=False),
        Settings(heart_center=(1.0, 2.0, 3.0)),
        Settings(confidence_map=True),
        Settings(label_map=((1, "LV"),)),
    ],
    ids=str,
)
def test_other_settings_are_not_finished(finished: tuple[Path, Case, dict[str, Any]], settings: Settings) -> None:
    folder, case, choices = finished
    assert finished_report(folder, case, choices_of(case, settings, choices["model"], ("csv",), False)) is None


@pytest.mark.parametrize("settings", [Settings(threads=2), Settings(device="cpu")], ids=str)
def test_settings_that_only_change_the_speed_are_the_same(
    finished: tuple[Path, Case, dict[str, Any]], settings: Settings
) -> None:
    folder, case, choices = finished
    assert finished_report(folder, case, choices_of(case, settings, choices["model"], ("csv",), False)) is not None


def test_other_formats_weights_and_anonymity_are_not_finished(
    finished: tuple[Path, Case, dict[str, Any]], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder, case, choices = finished
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    same = model_hash(ModelFolder.open(model))
    assert same == choices["model"]
    opened = ModelFolder.open(model)
    weights = model / "fold_0" / "checkpoint_final.pth"
    weights.write_bytes(weights.read_bytes() + b"\0")
    monkeypatch.setattr(ModelFolder, "open_finder", lambda _: None)
    other = model_hash(opened)
    for changed in (
        choices_of(case, Settings(), other, ("csv",), False),
        choices_of(case, Settings(), same, ("csv", "labels"), False),
        choices_of(case, Settings(), same, None, False),
        choices_of(case, Settings(), same, ("csv",), True),
    ):
        assert finished_report(folder, case, changed) is None


def test_a_dicom_series_with_another_slice_is_not_finished(tmp_path: Path, save_dicom: Callable[..., Path]) -> None:
    folder = save_dicom(slices=3)
    case = Case(folder, "dicom")
    choices = choices_of(case, Settings(), "m", None, False)
    report = {"findings": [], "measures": [], "heart_found": True, "case": key_of(case, choices).to_dict()}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text(json.dumps(report))
    assert finished_report(tmp_path / "out", case, choices) is not None
    (folder / "more.dcm").write_bytes(b"x")
    assert finished_report(tmp_path / "out", case, choices) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"case": {}}', '{"case": {"choices": 1}}', "\0", "nan"])
def test_a_report_that_says_nothing_is_not_finished(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    assert finished_report(tmp_path, Case(tmp_path, "x"), {}) is None


# --- C4: links --------------------------------------------------------------------------------------------------------


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_dangling_links_get_a_row_each(tmp_path: Path) -> None:
    touch(tmp_path / "scans" / "a.nii.gz")
    for name in ("b.nii.gz", "c.nrrd", "patient4", "notes.txt"):
        (tmp_path / "scans" / name).symlink_to(tmp_path / "gone" / name)
    assert names(tmp_path / "scans") == ["a", "b", "c", "patient4"]


def test_a_dangling_link_fails_with_its_own_row(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    save_scan("scans/a.nii.gz")
    (tmp_path / "scans" / "b.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    arguments = ("segment", tmp_path / "scans", "-o", tmp_path / "out", "--model", tiny_model, "--format", "csv")
    assert heartseg(*arguments).code == 1
    found = rows(tmp_path / "out")
    assert found["a"]["status"] == "done"
    assert "does not exist" in found["b"]["message"]


@pytest.mark.parametrize("depth", [1, 2, 12])
def test_links_that_lead_up_or_across_are_followed_once(tmp_path: Path, depth: int) -> None:
    """With ``n`` links in each of ``n`` folders there are n^40 paths before the system refuses to follow more links."""
    folders = [tmp_path / "scans" / f"f{k:02}" for k in range(depth)]
    for folder in folders:
        touch(folder / "deep" / "a.nii.gz")
    for folder in folders:
        (folder / "up").symlink_to(tmp_path / "scans")
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    start = time.process_time()
    found = list_cases(tmp_path / "scans")
    assert time.process_time() - start < 10
    assert len({case.path.resolve() for case in found}) == depth
    assert len(found) == depth


def test_a_linked_folder_is_a_scan_like_any_other(tmp_path: Path, save_dicom: Callable[..., Path]) -> None:
    save_dicom("archive/one", slices=2, patient="A", study="1.1")
    save_dicom("archive/two", slices=2, patient="B", study="1.2")
    (tmp_path / "scans").mkdir()
    for name in ("one", "two"):
        (tmp_path / "scans" / name).symlink_to(tmp_path / "archive" / name)
    assert names(tmp_path / "scans") == ["one", "two"]


# --- C5: signals ------------------------------------------------------------------------------------------------------


def test_a_signal_during_an_import_waits_until_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension module that is interrupted while loading crashes when the interpreter exits."""
    from heartseg.cli.exits import stop_token, stopped_by_signals

    source = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.2)\nDONE = True\n"
    (tmp_path / "slow_to_load.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        import slow_to_load

        assert slow_to_load.DONE
        assert stop_token().cancelled
        time.sleep(5)


def test_a_signal_that_waited_for_an_import_is_dropped_when_the_work_is_over(tmp_path: Path) -> None:
    (tmp_path / "quick_to_load.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    program = (
        "from heartseg.cli.exits import stop_token, stopped_by_signals\n"
        "import time\n"
        "with stopped_by_signals():\n"
        "    import quick_to_load\n"
        "assert stop_token().cancelled\n"
        "time.sleep(0.3)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment())
    assert finished.returncode == 0


def test_only_frames_of_an_import_are_taken_for_one() -> None:
    assert not _is_importing(sys._getframe())
    assert not _is_importing(None)


# --- C7 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_cells_that_begin_like_a_formula_are_text(tmp_path: Path, text: str) -> None:
    assert plain_cell(text) == f"'{text}"
    case = Case(Path(text), "a")
    write_summary(tmp_path / "summary.csv", [case], {"a": SummaryRow("a", "failed", -1.5, text, text)})
    (row,) = rows(tmp_path).values()
    assert row["message"].startswith("'") and row["path"].startswith("'")
    assert row["seconds (s)"] == "-1.5", "numbers stay numbers"


@pytest.mark.parametrize("text", ["", " ", "\t"])
@pytest.mark.parametrize("command", ["segment", "check"])
def test_an_empty_path_is_not_the_current_folder(
    heartseg: Callable[..., Outcome], tmp_path: Path, command: str, text: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        scan_path(text)
    more = ("-o", tmp_path / "out") if command == "segment" else ()
    outcome = heartseg(command, text, *more)
    assert outcome.code == 2 and "empty" in outcome.err


def test_more_threads_than_the_machine_can_run_are_refused(save_scan: Callable[..., Path]) -> None:
    args = argparse.Namespace(
        device="auto", structures=None, no_locate=False, no_cleanup=False, accurate=False, precision="auto"
    )
    args.backend, args.labels, args.threads = "torch", None, 100000
    with pytest.raises(SettingsError, match="100000"):
        settings_from(args)
    args.threads = 1
    assert settings_from(args).threads == 1
