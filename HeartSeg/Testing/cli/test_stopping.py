"""Runs in separate processes that are stopped, killed or run out of disk space; and start-up time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from command_lines import LOGIC, PATIENCE, end_by, environment, tree, worker_of
from heartseg.cli import check, segment
from heartseg.cli.main import main
from heartseg.volume import Volume

if TYPE_CHECKING:
    from cli.conftest import Outcome, Running

LIMITED = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048));"
MAIN = "from heartseg.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize(
    ("stop", "stage"),
    [
        (signal.SIGINT, "read"),
        (signal.SIGINT, "predict"),
        (signal.SIGTERM, "predict"),
        (signal.SIGINT, "write"),
        pytest.param(signal.SIGTERM, "read", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "write", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_leaves_nothing(
    launch: Callable[..., Running],
    save_scan: Callable[..., Path],
    tmp_path: Path,
    tiny_model: Path,
    temporary: Path,
    stop: signal.Signals,
    stage: str,
) -> None:
    scan = save_scan(shape=(80, 80, 80))
    before = tree(tmp_path)
    running = launch("segment", scan, "-o", tmp_path / "new" / "out", "--model", tiny_model)
    running.wait_for(f"{stage} ...")
    running.process.send_signal(stop)
    outcome = running.finish()
    assert outcome.code == 130, outcome
    assert len(outcome.complaints) == 1
    assert outcome.out == ""
    assert tree(tmp_path) == before
    assert tree(temporary) == set()


def test_ctrl_c_stops_the_run_also_where_a_library_drops_the_exception(
    heartseg: Callable[..., Outcome],
    save_scan: Callable[..., Path],
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    from heartseg import pipeline

    check = pipeline.check_for_run

    def dropping(volume: Volume) -> Volume:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            pass
        return check(volume)

    monkeypatch.setattr(pipeline, "check_for_run", dropping)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a test run in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, inherited))
    before = signal.getsignal(signal.SIGINT)
    outcome = heartseg("segment", save_scan(), "-o", tmp_path / "out", "--model", tiny_model)
    assert outcome.code == 130, outcome
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz"}
    assert signal.getsignal(signal.SIGINT) is before


def test_after_a_kill_the_next_run_cleans_up_and_works(
    launch: Callable[..., Running],
    heartseg: Callable[..., Outcome],
    save_scan: Callable[..., Path],
    tmp_path: Path,
    tiny_model: Path,
) -> None:
    scan = save_scan()
    arguments = ("segment", scan, "-o", tmp_path / "out", "--model", tiny_model)
    running = launch(*arguments)
    running.wait_for("write ...")
    while not any(tmp_path.glob(".out.partial-*/*")):
        assert running.process.poll() is None
    worker = worker_of(running.process.pid)
    worker.kill()
    outcome = running.finish()
    assert outcome.code == 1 and len(outcome.complaints) == 1, outcome
    assert "SIGKILL" in outcome.complaints[0] and "memory" in outcome.complaints[0]
    assert not (tmp_path / "out").exists() and any(tmp_path.glob(".out.partial-*"))
    assert heartseg(*arguments, "--format", "labels").code == 0
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz", "out"}
    assert tree(tmp_path / "out") == {"labels.nii.gz", "report.json"}


def test_a_crash_while_reading_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], save_scan: Callable[..., Path], tmp_path: Path
) -> None:
    monkeypatch.setattr(segment, "segment_case", partial(end_by, signal.SIGSEGV))
    code = main(["segment", str(save_scan()), "-o", str(tmp_path / "out")])
    printed = capfd.readouterr()
    (line,) = (line for line in printed.err.splitlines() if not line.endswith(" ..."))
    assert (code, printed.out) == (2, "")
    assert "SIGSEGV" in line and "damaged" in line
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz"}


def test_a_crash_before_reading_does_not_blame_the_scan(
    launch: Callable[..., Running], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    running = launch("segment", save_scan(), "-o", tmp_path / "out", "--model", tiny_model)
    os.kill(worker_of(running.process.pid).pid, signal.SIGSEGV)
    outcome = running.finish()
    assert (outcome.code, outcome.out, len(outcome.complaints)) == (1, "", 1), outcome
    assert "SIGSEGV" in outcome.complaints[0] and "damaged" not in outcome.complaints[0]
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz"}


def test_a_single_scan_has_a_time_limit(
    launch: Callable[..., Running], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    arguments = ("segment", save_scan(), "-o", tmp_path / "out", "--model", tiny_model, "--time-limit", "0.0001")
    outcome = launch(*arguments).finish()
    assert (outcome.code, outcome.out, len(outcome.complaints)) == (1, "", 1), outcome
    assert "--time-limit" in outcome.complaints[0]
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz"}


def test_a_crash_in_a_check_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], save_scan: Callable[..., Path]
) -> None:
    monkeypatch.setattr(check, "check_case", partial(end_by, signal.SIGSEGV))
    assert main(["check", str(save_scan()), "--quick", "--json"]) == 2
    (finding,) = json.loads(capfd.readouterr().out)["checks"]
    assert finding["code"] == "scan-refused" and "SIGSEGV" in finding["message"]


def test_a_killed_program_takes_its_worker_along(
    launch: Callable[..., Running], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path, temporary: Path
) -> None:
    running = launch("segment", save_scan(shape=(80, 80, 80)), "-o", tmp_path / "out", "--model", tiny_model)
    running.wait_for("predict ...")
    worker = worker_of(running.process.pid)
    running.process.kill()
    worker.wait(PATIENCE)
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz"}
    assert tree(temporary) == set()


def test_a_full_disk(
    heartseg: Callable[..., Outcome],
    save_scan: Callable[..., Path],
    tmp_path: Path,
    tiny_model: Path,
    temporary: Path,
    request: pytest.FixtureRequest,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root; the file size limit is tested instead")
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", str(disk)], check=True))
    outcome = heartseg("segment", save_scan(), "-o", disk / "new" / "out", "--model", tiny_model)
    assert outcome.code == 2 and outcome.out == "", outcome
    (line,) = outcome.complaints
    assert line.startswith("heartseg: ") and str(disk / "new" / "out") in line
    assert tree(disk) == set()
    assert tree(temporary) == set()


def test_a_file_size_limit_counts_as_a_full_disk(
    launch: Callable[..., Running], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    scan = save_scan()
    program = ("-c", f"{LIMITED} {MAIN}")
    outcome = launch("segment", scan, "-o", tmp_path / "out", "--model", tiny_model, program=program).finish()
    assert outcome.code == 2, outcome
    assert len(outcome.complaints) == 1 and str(tmp_path / "out") in outcome.complaints[0]
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz"}


# --- missing packages -------------------------------------------------------------------------------------------------


@pytest.fixture
def without(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make packages missing in all processes that are launched."""

    def block(*packages: str) -> None:
        folder = tmp_path_factory.mktemp("site")
        (folder / "sitecustomize.py").write_text(
            f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Missing())
"""
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(LOGIC)]))

    return block


def test_without_the_optional_packages_the_rest_is_written_and_what_is_not_is_said(
    launch: Callable[..., Running],
    without: Callable[..., None],
    save_scan: Callable[..., Path],
    tmp_path: Path,
    tiny_model: Path,
) -> None:
    without("slicer", "slicer_core", "vtk", "vtkmodules", "matplotlib", "rich", "nnunetv2", "pydicom", "psutil")
    scan = save_scan()
    outcome = launch("segment", scan, "-o", tmp_path / "out", "--model", tiny_model).finish()
    assert outcome.code == 0, outcome
    assert tree(tmp_path / "out") == {"segmentation.seg.nrrd", "labels.nii.gz", "measurements.csv", "report.json"}
    skipped = json.loads((tmp_path / "out" / "report.json").read_text())["output"]["skipped"]
    assert set(skipped) == {"stl", "preview"}
    for name in skipped:
        assert f"not written: {name} (" in outcome.out
    assert "heartseg[app]" in outcome.out


@pytest.mark.parametrize(("name", "package"), [("stl", "vtk"), ("preview", "matplotlib")])
def test_a_format_asked_for_by_name_fails_at_once(
    launch: Callable[..., Running],
    without: Callable[..., None],
    save_scan: Callable[..., Path],
    tmp_path: Path,
    tiny_model: Path,
    name: str,
    package: str,
) -> None:
    scan = save_scan()
    arguments = ("segment", scan, "-o", tmp_path / "out", "--model", tiny_model, "--format", f"labels,{name}")
    without(package)
    outcome = launch(*arguments).finish()
    assert outcome.code == 2 and outcome.out == "", outcome
    assert outcome.complaints == outcome.err.splitlines(), "nothing was begun"
    (line,) = outcome.complaints
    assert f"format {name} needs {package}" in line and "pip install 'heartseg[app]'" in line
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz"}


# --- start-up time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        "import heartseg",
        "from heartseg.cli.main import build_parser; build_parser().format_help()",
        "from heartseg.cli.main import main\ntry: main(['segment', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(program: str) -> None:
    heavy = ("torch", "SimpleITK", "vtk", "vtkmodules", "matplotlib", "slicer", "nnunetv2", "pydicom", "rich")
    check = f"\nimport sys; found = [m for m in {heavy!r} if m in sys.modules]; assert not found, found"
    subprocess.run([sys.executable, "-c", program + check], check=True, stdout=subprocess.DEVNULL, env=environment())


def test_a_pipe_that_closes_early_is_no_fault() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "heartseg.cli.main", "models", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    text = process.stderr.read().decode()
    process.wait(120)
    assert "Traceback" not in text


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    missing = tmp_path / "größe.nii"
    run = subprocess.run(
        [sys.executable, "-m", "heartseg.cli.main", "segment", str(missing), "-o", str(tmp_path / "out")],
        capture_output=True,
        env={**environment(), "PYTHONIOENCODING": "ascii"},
        timeout=240,
    )
    assert run.returncode == 2
    assert b"Traceback" not in run.stderr
