"""Atomic writing of result folders, and the list of files in the report."""

from __future__ import annotations

import builtins
import csv
import errno
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from heartseg.errors import DependencyError, OutputError
from heartseg.output import FORMATS, check_output_folder, staged_folder, write_result
from heartseg.progress import Reporter
from heartseg.provenance import Provenance
from heartseg.result import Measure, Result
from heartseg.volume import Geometry, Volume

GRID = Geometry((24, 30, 36), (1.5, 1.25, 2.0), (-31.0, 12.0, -250.5), (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
PLAIN = ["labels", "csv"]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    made = np.zeros(GRID.shape, np.uint8)
    made[5:14, 6:16, 8:20] = 5
    made[7:13, 8:14, 10:17] = 1
    made[4:12, 7:17, 20:29] = 2
    return made


@pytest.fixture(scope="module")
def result(labels: np.ndarray) -> Result:
    measures = (Measure("LV", "volume", 1.5, "mL"),)
    return Result(labels, GRID, measures=measures, provenance=Provenance(seconds={"predict": 1.0}))


@pytest.fixture(scope="module")
def volume(labels: np.ndarray) -> Volume:
    noise = np.random.default_rng(0).integers(-100, 400, GRID.shape)
    return Volume((noise + labels * 50).astype(np.int16), GRID, "scan")


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# --- formats ----------------------------------------------------------------------------------------------------------


def test_the_report_lists_all_written_files(result: Result, volume: Volume, tmp_path: Path) -> None:
    written = write_result(result, volume, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(written["files"]) == names(tmp_path / "out") == set(report["output"]["files"])
    top = {p.name for p in (tmp_path / "out").iterdir()}
    assert top == {
        "segmentation.seg.nrrd",
        "labels.nii.gz",
        "surfaces",
        "measurements.csv",
        "preview.png",
        "report.json",
    }
    assert report["output"]["skipped"] == {}
    assert report["output"]["seconds"]["write"] > 0
    assert len(list((tmp_path / "out" / "surfaces").glob("*.stl"))) == 3
    assert set(tmp_path.iterdir()) == {tmp_path / "out"}


def test_the_label_map_has_the_grid_of_the_scan(
    result: Result, volume: Volume, labels: np.ndarray, tmp_path: Path
) -> None:
    write_result(result, volume, tmp_path / "out", PLAIN)
    image = sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(image), labels)
    # NIfTI stores float32: relative precision of 2^-24 for coordinates (up to 250 mm) and direction vectors
    assert image.GetSpacing() == pytest.approx(GRID.spacing, rel=1e-6)
    assert image.GetOrigin() == pytest.approx(GRID.origin, abs=1e-4)
    assert image.GetDirection() == pytest.approx(GRID.direction, abs=1e-6)


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        (["labels"], {"labels.nii.gz"}),
        (["csv"], {"measurements.csv"}),
        (["seg"], {"segmentation.seg.nrrd"}),
        ([], set()),
        (
            ["stl", "csv"],
            {
                "surfaces/left_ventricle.stl",
                "surfaces/right_ventricle.stl",
                "surfaces/left_ventricular_myocardium.stl",
                "measurements.csv",
            },
        ),
    ],
)
def test_only_requested_formats_are_written(
    result: Result, volume: Volume, tmp_path: Path, formats: list[str], expected: set[str]
) -> None:
    written = write_result(result, volume, tmp_path / "out", formats)
    assert names(tmp_path / "out") == expected | {"report.json"} == set(written["files"])


def test_the_preview_leaves_no_surface_files(result: Result, volume: Volume, tmp_path: Path) -> None:
    write_result(result, volume, tmp_path / "out", ["preview"])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"preview.png", "report.json"}


def test_measurements_have_units(result: Result, volume: Volume, tmp_path: Path) -> None:
    write_result(result, volume, tmp_path / "out", ["csv"])
    text = (tmp_path / "out" / "measurements.csv").read_text(encoding="utf-8-sig")
    rows = list(csv.reader(text.splitlines()))
    assert any("mL" in cell for row in rows for cell in row)


def test_an_empty_result_is_written(volume: Volume, tmp_path: Path) -> None:
    empty = Result(np.zeros(GRID.shape, np.uint8), GRID)
    written = write_result(empty, volume, tmp_path / "out", ["seg", "labels", "stl", "csv"])
    assert set(written["files"]) == {"segmentation.seg.nrrd", "labels.nii.gz", "measurements.csv", "report.json"}


def test_permissions_follow_the_umask(result: Result, volume: Volume, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_result(result, volume, tmp_path / "out", PLAIN)
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_an_unknown_format_is_refused(result: Result, volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"dicom.* seg, labels"):
        write_result(result, volume, tmp_path / "out", ["labels", "dicom"])
    assert list(tmp_path.iterdir()) == []


# --- missing packages -------------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make packages appear not to be installed."""

    def hide(*packages: str) -> None:
        real_import, real_find = builtins.__import__, importlib.util.find_spec

        def importing(name: str, *more: Any, **kinds: Any) -> ModuleType:
            if name.split(".")[0] in packages and not (more and more[-1] and isinstance(more[-1], int)):
                raise ImportError(f"No module named {name!r}")
            return real_import(name, *more, **kinds)

        def finding(name: str, *more: Any) -> ModuleSpec | None:
            return None if name.split(".")[0] in packages else real_find(name, *more)

        monkeypatch.setattr(builtins, "__import__", importing)
        monkeypatch.setattr(importlib.util, "find_spec", finding)

    return hide


def test_default_formats_without_their_packages_are_skipped_and_reported(
    result: Result, volume: Volume, tmp_path: Path, without: Callable[..., None]
) -> None:
    without("slicer", "vtk", "matplotlib")
    write_result(result, volume, tmp_path / "out")
    assert names(tmp_path / "out") == {"segmentation.seg.nrrd", "labels.nii.gz", "measurements.csv", "report.json"}
    skipped = json.loads((tmp_path / "out" / "report.json").read_text())["output"]["skipped"]
    assert set(skipped) == {"stl", "preview"}
    assert all("heartseg[app]" in why for why in skipped.values())


@pytest.mark.parametrize(("name", "package"), [("stl", "vtk"), ("preview", "matplotlib")])
def test_a_requested_format_without_its_package_is_refused(
    result: Result, volume: Volume, tmp_path: Path, without: Callable[..., None], name: str, package: str
) -> None:
    without(package)
    with pytest.raises(DependencyError, match=rf"{name}.*{package}.*pip install"):
        write_result(result, volume, tmp_path / "out", [name])
    assert list(tmp_path.iterdir()) == []


# --- atomic writing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_an_error_leaves_no_files(tmp_path: Path, error: type[Exception]) -> None:
    with pytest.raises((error, OutputError)), staged_folder(tmp_path / "new" / "deep" / "out") as stage:
        (stage / "labels.nii.gz").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_other_folders(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "new" / "out"):
        (tmp_path / "new" / "other").touch()
        raise KeyboardInterrupt
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["other"]


def test_the_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out") as stage:
        (stage / "report.json").write_text("{}")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "report.json").read_text() == "{}"


def earlier(folder: Path) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text("earlier")
    (folder / "preview.png").write_text("earlier")
    return folder


def test_overwriting_replaces_the_whole_result(result: Result, volume: Volume, tmp_path: Path) -> None:
    write_result(result, volume, earlier(tmp_path / "out"), PLAIN, overwrite=True)
    assert names(tmp_path / "out") == {"labels.nii.gz", "measurements.csv", "report.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_overwrite_keeps_the_earlier_result(tmp_path: Path) -> None:
    folder = earlier(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), staged_folder(folder, overwrite=True):
        raise KeyboardInterrupt
    assert names(folder) == {"report.json", "preview.png"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_overwrite_that_fails_at_the_last_rename_keeps_the_earlier_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = earlier(tmp_path / "out")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if "old" not in str(target) and self.name != "old":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="Permission denied"), staged_folder(folder, overwrite=True):
        pass
    assert names(folder) == {"report.json", "preview.png"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["notes.txt", "scan.nii.gz", ".git"])
def test_overwriting_a_folder_with_other_files_is_refused(tmp_path: Path, name: str) -> None:
    folder = earlier(tmp_path / "out")
    (folder / name).touch()
    with pytest.raises(OutputError, match=re.escape(name)):
        check_output_folder(folder, overwrite=True)
    with pytest.raises(OutputError, match=re.escape(name)) as caught:
        check_output_folder(folder)
    assert "--overwrite" not in str(caught.value)  # it would not help


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_a_full_disk_is_recognised_in_the_cause_of_an_error(tmp_path: Path, number: int, full: bool) -> None:
    with pytest.raises(OutputError) as caught, staged_folder(tmp_path / "out"):
        raise OutputError("cannot write a file") from OSError(number, "")
    assert ("disk is full" in str(caught.value)) == full
    assert (str(tmp_path / "out") in str(caught.value)) == full


@pytest.mark.parametrize(("count", "listed"), [(3, "(a, b, c)"), (4, "(a, b, c, ...)")])
def test_an_error_names_three_of_the_other_files(tmp_path: Path, count: int, listed: str) -> None:
    folder = earlier(tmp_path / "out")
    for name in "abcd"[:count]:
        (folder / name).touch()
    with pytest.raises(OutputError, match=re.escape(listed)):
        check_output_folder(folder, overwrite=True)


def test_files_of_the_operating_system_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    assert check_output_folder(tmp_path / "out") == tmp_path / "out"


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_temporary_folders_of_killed_runs_are_deleted_but_not_those_of_running_ones(tmp_path: Path) -> None:
    machine = platform.node()[:60]
    killed, alive = f".out.partial-{dead_pid()}-{machine}-x", f".out.partial-{os.getppid()}-{machine}-x"
    elsewhere = f".out.partial-{os.getppid()}-node-17-x"  # of a worker whose case was given to this machine
    other, strange = f".another.partial-{dead_pid()}-x", ".out.partial-mine"
    for name in (killed, alive, elsewhere, other, strange):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.nii.gz").touch()
    with staged_folder(tmp_path / "out"):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {"out", alive, other, strange}


def test_the_old_result_is_restored_after_a_kill_during_replacement(tmp_path: Path) -> None:
    keep = tmp_path / f".out.partial-{dead_pid()}-x"
    keep.mkdir()
    earlier(keep / "old")
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "out"):
        raise KeyboardInterrupt
    assert names(tmp_path / "out") == {"report.json", "preview.png"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_folder_names_can_contain_glob_characters(tmp_path: Path) -> None:
    folder = tmp_path / "out [1]*"
    leftover = tmp_path / f".out [1]*.partial-{dead_pid()}-x"
    leftover.mkdir()
    with staged_folder(folder):
        pass
    assert list(tmp_path.iterdir()) == [folder]


def test_a_link_to_a_folder_remains_a_link(result: Result, volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_result(result, volume, tmp_path / "link", PLAIN)
    assert (tmp_path / "link").is_symlink()
    assert "report.json" in names(tmp_path / "real")


def test_the_current_folder_can_be_the_output_folder(
    result: Result, volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    write_result(result, volume, ".", PLAIN)
    assert "report.json" in names(tmp_path / "out")


def test_cancelling_while_writing_leaves_no_files(result: Result, volume: Volume, tmp_path: Path) -> None:
    from heartseg.errors import Cancelled

    reporter = Reporter(lambda event: reporter.cancel.cancel() if event.done == 1 else None)
    with pytest.raises(Cancelled):
        write_result(result, volume, tmp_path / "out", PLAIN, reporter=reporter)
    assert list(tmp_path.iterdir()) == []


# --- full disks and mounts --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount file systems of a few kB; requires root."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        folder = tmp_path / f"disk{kilobytes}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if not hasattr(os, "geteuid") or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk requires root on Linux; the file size limit is tested instead")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disk_full_at(folder: Path) -> str:
    """Pattern of the error of a full disk, which names the output folder rather than the temporary one."""
    return rf"disk is full.* {re.escape(str(folder))}\b"


@pytest.mark.parametrize("kilobytes", [4, 8, 16, 32, 64, 120])
def test_a_disk_that_fills_up_at_any_step_leaves_no_files(
    result: Result, volume: Volume, small_disk: Callable[[int], Path], kilobytes: int
) -> None:
    disk = small_disk(kilobytes)
    (disk / "keep").mkdir()
    with pytest.raises(OutputError, match=disk_full_at(disk / "keep" / "out")):
        write_result(result, volume, disk / "keep" / "out")
    assert [p.name for p in disk.rglob("*")] == ["keep"]


def test_a_disk_that_fills_up_while_overwriting_keeps_the_earlier_result(
    result: Result, volume: Volume, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(24)
    folder = earlier(disk / "out")
    with pytest.raises(OutputError, match=disk_full_at(folder)):
        write_result(result, volume, folder, overwrite=True)
    assert names(disk) == {"out/report.json", "out/preview.png"}


def test_a_mounted_folder_can_be_the_output_folder(
    result: Result, volume: Volume, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(4096)
    write_result(result, volume, disk, PLAIN)
    assert names(disk) == {"labels.nii.gz", "measurements.csv", "report.json"}
    write_result(result, volume, disk, ["labels"], overwrite=True)
    assert names(disk) == {"labels.nii.gz", "report.json"}
    assert [p for p in disk.iterdir() if p.is_dir()] == []


def test_the_file_size_limit_is_reported_as_a_full_disk(tmp_path: Path) -> None:
    """Sets RLIMIT_FSIZE in a separate process, which does not require root."""
    pytest.importorskip("resource", reason="needs POSIX limits")
    program = """
import resource, sys
import numpy as np
from pathlib import Path
from heartseg.errors import OutputError
from heartseg.output import write_result
from heartseg.result import Result
from heartseg.volume import Geometry, Volume
grid = Geometry((40, 40, 40), (1, 1, 1), (0, 0, 0))
labels = np.random.default_rng(0).integers(0, 7, grid.shape).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_result(Result(labels, grid), Volume(labels, grid, "scan"), Path(sys.argv[1]), ["labels", "csv"])
except OutputError as error:
    print(error)
"""
    root = Path(__file__).resolve().parents[2] / "Logic"
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=240,
    )
    assert re.search(disk_full_at(tmp_path / "out"), run.stdout), run
    assert list(tmp_path.iterdir()) == []


def test_all_formats_have_a_description() -> None:
    assert all(": " in text for text in FORMATS.values())
