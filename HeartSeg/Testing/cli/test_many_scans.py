"""Folders, lists and time series: one row and one folder per scan, regardless of the other scans."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from command_lines import tree
from heartseg.cli import workers
from heartseg.settings import Settings
from near_ties import assert_equal_but_few

if TYPE_CHECKING:
    from cli.conftest import Outcome, Running

COLUMNS_WITH_UNITS = {"seconds (s)", "LV volume (mL)", "MYO mass (g)", "AO diameter (mm)"}


@pytest.fixture
def segment(heartseg: Callable[..., Outcome], tiny_model: Path) -> Callable[..., Outcome]:
    """Run ``heartseg segment`` with the tiny model, labels and measurements only."""
    return lambda *arguments: heartseg("segment", *arguments, "--model", tiny_model, "--format", "labels,csv")


@pytest.fixture
def scans(save_scan: Callable[..., Path], tmp_path: Path) -> Path:
    """Make a folder with three valid scans."""
    for k, name in enumerate("abc"):
        save_scan(f"scans/{name}.nii.gz", seed=5 + k)
    return tmp_path / "scans"


def summary(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def statuses(folder: Path) -> dict[str, str]:
    return {row["case"]: row["status"] for row in summary(folder)}


def labels_of(folder: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labels.nii.gz")))


def marks(file: Path) -> tuple[int, int]:
    return file.stat().st_mtime_ns, file.stat().st_ino


def hidden(folder: Path) -> list[str]:
    return [name for name in tree(folder) if "/." in f"/{name}"]


def test_good_and_bad_scans_and_dicom_folders_together(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], save_dicom: Callable[..., Path], tmp_path: Path
) -> None:
    save_scan("scans/b ö.nii.gz")
    short = save_scan("scans/short.nii.gz")
    short.write_bytes(short.read_bytes()[:5000])
    save_dicom("scans/patient/study/series")
    (tmp_path / "scans" / "notes.txt").write_text("no scan")
    outcome = segment(tmp_path / "scans", "-o", tmp_path / "out")
    assert outcome.code == 1, outcome
    assert statuses(tmp_path / "out") == {"b_ö": "done", "patient": "done", "short": "failed"}
    rows = {row["case"]: row for row in summary(tmp_path / "out")}
    assert set(rows["patient"]) > COLUMNS_WITH_UNITS
    assert "cut short" in rows["short"]["message"] and not (tmp_path / "out" / "short").exists()
    assert float(rows["patient"]["LV volume (mL)"]) > 10
    assert rows["short"]["LV volume (mL)"] == ""
    assert [line[:5] for line in outcome.complaints] == ["[1/3]", "[2/3]", "[3/3]"]
    assert hidden(tmp_path / "out") == []


@pytest.mark.usefixtures("batch_in_one_process")
def test_a_list_of_scans(
    segment: Callable[..., Outcome], scans: Path, save_series: Callable[..., Path], tmp_path: Path
) -> None:
    save_series("cine.nrrd", frames=2)
    (tmp_path / "list.csv").write_text("path,name,frame\nscans/a.nii.gz,first,\ncine.nrrd,second,1\n")
    outcome = segment(tmp_path / "list.csv", "-o", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome
    rows = json.loads(outcome.out)
    assert [(r["case"], r["status"]) for r in rows] == [("first", "done"), ("second", "done")]
    report = json.loads((tmp_path / "out" / "second" / "report.json").read_text())
    assert report["provenance"]["input"]["frame"] == 1


@pytest.mark.usefixtures("batch_in_one_process")
def test_every_frame_of_a_time_series(
    segment: Callable[..., Outcome], save_series: Callable[..., Path], tmp_path: Path
) -> None:
    outcome = segment(save_series("cine.nrrd", frames=3), "-o", tmp_path / "out", "--frame", "all")
    assert outcome.code == 0, outcome
    assert statuses(tmp_path / "out") == {f"cine_frame{k}": "done" for k in range(3)}
    one, two = (labels_of(tmp_path / "out" / f"cine_frame{k}") for k in (0, 1))
    assert one.any() and (one != two).any()


@pytest.mark.usefixtures("batch_in_one_process")
def test_a_folder_where_no_scan_has_a_heart_exits_with_3(
    heartseg: Callable[..., Outcome], scans: Path, tmp_path: Path, blind_model: Path
) -> None:
    arguments = ("segment", scans, "-o", tmp_path / "out", "--model", blind_model, "--format", "csv")
    assert heartseg(*arguments).code == 3
    assert set(statuses(tmp_path / "out").values()) == {"no heart"}
    assert heartseg(*arguments, "--resume").code == 3


@pytest.mark.usefixtures("batch_in_one_process")
def test_scans_of_one_name_get_folders_of_their_own(
    segment: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    first = save_scan("one/scan.nii.gz", seed=5)
    second = save_scan("two/scan.nii.gz", seed=6)
    (tmp_path / "list.csv").write_text(f"path,name\n{first},x\n{second},x\n{first},x_2\n")
    assert segment(tmp_path / "list.csv", "-o", tmp_path / "out").code == 0
    paths = {r["case"]: r["path"] for r in summary(tmp_path / "out")}
    assert len(paths) == 3 and paths["x"] == str(first)
    for name, path in paths.items():
        assert json.loads((tmp_path / "out" / name / "report.json").read_text())["provenance"]["input"]["path"] == path


@pytest.mark.usefixtures("batch_in_one_process")
def test_resuming_goes_on_with_what_changed_only(segment: Callable[..., Outcome], scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment(scans, "-o", out).code == 0
    before = {name: marks(out / name / "report.json") for name in "abc"}
    assert segment(scans, "-o", out, "--resume", "--threads", "1").code == 0
    assert statuses(out) == dict.fromkeys("abc", "done before")
    assert before == {name: marks(out / name / "report.json") for name in "abc"}
    assert segment(scans, "-o", out, "--resume", "--structures", "LV").code == 0
    assert statuses(out) == dict.fromkeys("abc", "done")


@pytest.mark.usefixtures("batch_in_one_process")
def test_without_resume_or_overwrite_earlier_results_are_safe(
    segment: Callable[..., Outcome], scans: Path, tmp_path: Path
) -> None:
    assert segment(scans, "-o", tmp_path / "out").code == 0
    before = tree(tmp_path / "out")
    outcome = segment(scans, "-o", tmp_path / "out")
    assert outcome.code == 2 and "--resume" in outcome.err
    assert tree(tmp_path / "out") == before


def test_a_model_that_is_not_there_ends_a_batch_with_nothing_made(
    heartseg: Callable[..., Outcome], scans: Path, tmp_path: Path
) -> None:
    outcome = heartseg("segment", scans, "-o", tmp_path / "out", "--model", "NoSuchModel")
    assert outcome.code == 2 and not (tmp_path / "out").exists()


# --- processes --------------------------------------------------------------------------------------------------------


def test_two_processes_give_the_labels_of_one(
    segment: Callable[..., Outcome], scans: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    outcome = segment(scans, "-o", tmp_path / "two", "--jobs", "2")
    assert outcome.code == 0, outcome
    request.getfixturevalue("batch_in_one_process")
    assert segment(scans, "-o", tmp_path / "one").code == 0
    assert statuses(tmp_path / "two") == dict.fromkeys("abc", "done")
    for name in "abc":
        assert_equal_but_few(labels_of(tmp_path / "one" / name), labels_of(tmp_path / "two" / name))  # other threads


@pytest.mark.parametrize(
    ("cores", "free_gib", "scans", "processes"),
    [(2, 16, 20, 2), (16, 64, 20, 4), (16, 64, 1, 1), (8, 5, 20, 2), (8, 1, 20, 1), (1, 16, 20, 1), (8, None, 20, 2)],
)
def test_cores_and_free_memory_choose_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, cores: int, free_gib: int | None, scans: int, processes: int
) -> None:
    monkeypatch.setattr(workers, "cpu_cores", lambda: cores)
    monkeypatch.setattr(workers, "available_memory", lambda: None if free_gib is None else free_gib * 2**30)
    assert workers.processes_for(scans) == processes


def test_several_processes_divide_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cpu_threads", lambda: 8)
    assert workers.with_shared_cores(Settings(), 4).threads == 2
    assert workers.with_shared_cores(Settings(), 16).threads == 1
    assert workers.with_shared_cores(Settings(), 1).threads is None
    assert workers.with_shared_cores(Settings(), 0).threads is None  # a part of a cohort without scans
    assert workers.with_shared_cores(Settings(threads=3), 4).threads == 3


def test_the_default_segments_two_scans_at_a_time_with_a_thread_each(
    heartseg: Callable[..., Outcome], scans: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "cpu_cores", lambda: 2)
    monkeypatch.setattr(workers, "cpu_threads", lambda: 2)
    monkeypatch.setattr(workers, "available_memory", lambda: 2**33)
    started = []

    class Counted(workers.Child):
        def __init__(self, *arguments: Any) -> None:
            started.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(workers, "Child", Counted)
    arguments = ("-o", tmp_path / "out", "--model", tiny_model, "--format", "labels")
    assert heartseg("segment", scans, *arguments).code == 0
    assert len(started) == 2
    report = json.loads((tmp_path / "out" / "a" / "report.json").read_text())
    assert report["provenance"]["run"]["device"] == "cpu (1 thread)"


def test_a_fault_that_every_scan_would_meet_ends_a_batch_of_processes(
    heartseg: Callable[..., Outcome], scans: Path, tmp_path: Path, tiny_model: Path
) -> None:
    import shutil

    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    outcome = heartseg("segment", scans, "-o", tmp_path / "out", "--model", model, "--jobs", "2")
    assert outcome.code == 2 and "SHA-256" in outcome.complaints[-1], outcome
    assert not (tmp_path / "out").exists()


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the segmenting processes, oldest first."""
    children = psutil.Process(pid).children()
    return sorted((p for p in children if "spawn_main" in " ".join(p.cmdline())), key=lambda p: p.create_time())


def test_a_process_that_dies_costs_its_scan_only(
    launch: Callable[..., Running], scans: Path, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    running = launch("segment", scans, "-o", out, "--model", tiny_model, "--format", "labels", "--jobs", "2")
    end = time.monotonic() + 120
    while len(workers_of(running.process.pid)) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    workers_of(running.process.pid)[0].kill()
    outcome = running.finish()
    assert outcome.code == 1, outcome
    assert statuses(out) == {"a": "failed", "b": "done", "c": "done"}
    (row,) = [r for r in summary(out) if r["case"] == "a"]
    assert "SIGKILL" in row["message"] and "--jobs" in row["message"]
    assert tree(out) >= {"b/labels.nii.gz", "c/labels.nii.gz"} and hidden(out) == []


def test_resuming_after_a_kill_does_not_redo_what_is_done(
    launch: Callable[..., Running], segment: Callable[..., Outcome], scans: Path, tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "out"
    running = launch("segment", scans, "-o", out, "--model", tiny_model, "--format", "labels,csv", "--jobs", 1)
    running.wait_for("[1/3]")
    running.process.kill()
    running.process.wait()
    done = [name for name in "abc" if (out / name / "report.json").is_file()]
    assert "a" in done
    before = {name: marks(out / name / "report.json") for name in done}
    (out / f".b.partial-{running.process.pid}-left").mkdir(exist_ok=True)  # as after a kill during writing
    outcome = segment(scans, "-o", out, "--resume")
    assert outcome.code == 0, outcome
    assert statuses(out)["a"] == "done before" and len(statuses(out)) == 3
    assert before == {name: marks(out / name / "report.json") for name in done}
    assert hidden(out) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_sigterm_in_a_batch_leaves_whole_folders_only(
    launch: Callable[..., Running], scans: Path, tmp_path: Path, tiny_model: Path, jobs: int
) -> None:
    out = tmp_path / "out"
    formats = ("--format", "labels,csv") if jobs == 1 else ()  # writing all formats takes long enough
    running = launch("segment", scans, "-o", out, "--model", tiny_model, "--jobs", jobs, *formats)
    if jobs == 1:
        running.wait_for("[1/3]")
    else:
        end = time.monotonic() + 120
        while not any(p.name.startswith(".") for p in out.glob(".*partial*")) and time.monotonic() < end:
            time.sleep(0.01)
    segmenting = workers_of(running.process.pid)
    running.process.terminate()
    outcome = running.finish()
    assert outcome.code == 130, outcome
    assert "Traceback" not in outcome.err
    assert not any(psutil.pid_exists(w.pid) and w.status() != psutil.STATUS_ZOMBIE for w in segmenting)
    assert hidden(out) == [] if out.exists() else True
    for folder in (p for p in out.glob("*") if p.is_dir()):
        assert (folder / "report.json").is_file()
