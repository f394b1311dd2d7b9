"""The real command line on tiny scans and tiny trained models, in this process or in a separate one."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_lines import PATIENCE, environment, tree, write_dicom, write_time_series
from heartseg.volume import Geometry, Volume, write_volume
from tiny_models import make_tiny_model_folder, synthetic_volume, write_card

SPACING = 4.0
SHAPE = (40, 40, 40)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks are slower with many threads than with one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that finds the ellipsoids of :func:`synthetic_volume`."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    return make_tiny_model_folder(
        path,
        card=True,
        train_steps=40,
        features=(4, 8),
        patch=(16, 16, 16),
        spacing=(SPACING,) * 3,
        full_checkpoint=False,
    )


@pytest.fixture(scope="session")
def blind_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that labels everything as background."""
    import torch

    path = tmp_path_factory.mktemp("models") / "blind"
    make_tiny_model_folder(path, features=(4, 8), patch=(16, 16, 16), spacing=(SPACING,) * 3, full_checkpoint=False)
    file = path / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=True)
    for name, values in checkpoint["network_weights"].items():
        if "seg_layers" in name and name.endswith("bias"):
            values[0] += 1e4
    torch.save(checkpoint, file)
    write_card(path, ("LV", "RV", "MYO"))
    return path


def scan_volume(seed: int = 5, shape: tuple[int, int, int] = SHAPE) -> Volume:
    """Return an int16 scan, 160 mm wide, on a grid that is neither at the origin nor along the axes."""
    image, _ = synthetic_volume(3, shape, seed)
    c, s = np.cos(0.1), np.sin(0.1)
    direction = (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)
    grid = Geometry(shape, (SPACING, SPACING, SPACING * 0.9), (-81.5, 12.25, 300.0), direction)
    return Volume(image.astype(np.int16), grid)


@pytest.fixture
def shipped_model(default_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default model of the tree; no other model is accessible."""
    monkeypatch.delenv("HEARTSEG_MODELS", raising=False)
    return default_model


@pytest.fixture
def save_scan(tmp_path: Path) -> Callable[..., Path]:
    """Write a valid scan below ``tmp_path`` and return its path."""

    def save(name: str = "scan.nii.gz", **choices: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_volume(scan_volume(**choices), path)

    return save


@pytest.fixture
def save_series(tmp_path: Path) -> Callable[..., Path]:
    """Write a time series of valid scans."""
    from heartseg.volume.itk import image_of

    def save(name: str = "cine.nrrd", frames: int = 3) -> Path:
        volumes = [scan_volume(seed=5 + k) for k in range(frames)]
        return write_time_series(tmp_path / name, [image_of(v.array, v.geometry) for v in volumes])

    return save


@pytest.fixture
def save_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write a valid scan as a DICOM series into a folder below ``tmp_path``."""

    def save(name: str = "dicom", *, seed: int = 5, slices: int = SHAPE[0], **tags: Any) -> Path:
        return write_dicom(tmp_path / name, scan_volume(seed).array[:slices], SPACING, **tags)

    return save


@dataclass
class Outcome:
    """Outcome of a command."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """Lines on standard error other than progress."""
        return [line for line in self.err.splitlines() if line.strip() and not line.endswith(" ...")]


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate folder for temporary files of this process and its children."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def heartseg(capfd: pytest.CaptureFixture[str], temporary: Path, one_process: None) -> Callable[..., Outcome]:
    """Run ``main`` in this process and capture all output, including that of libraries."""
    from heartseg.cli.main import main

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capfd.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def batch_in_one_process(monkeypatch: pytest.MonkeyPatch, one_process: None) -> None:
    """Segment the scans of a batch one after the other in this process, which has imported torch already."""
    from heartseg.cli import batch, processes, workers

    def rows(cases: list[Any], job: Any, count: int, progress: Any = None) -> Iterator[Any]:
        do = workers.runs(job, progress or (lambda event: None))
        yield from (processes.value_of(processes._answer(do, case, False)) for case in cases)

    monkeypatch.setattr(batch, "rows_from_processes", rows)


@dataclass
class Running:
    """A command in a separate process."""

    process: subprocess.Popen
    folder: Path
    lines: list[str] = field(default_factory=list)

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until standard error contains a text."""
        end = time.monotonic() + PATIENCE
        while text not in self.stderr:
            assert self.process.poll() is None, f"ended without {text!r}: {self.stderr}"
            assert time.monotonic() < end, f"no {text!r} in {PATIENCE} s: {self.stderr}"
            time.sleep(0.01)

    def finish(self) -> Outcome:
        code = self.process.wait(PATIENCE)
        return Outcome(code, (self.folder / "stdout").read_text(encoding="utf-8", errors="replace"), self.stderr)


def ordinary_interrupts() -> None:
    """Ctrl-C as at a terminal; a test run in the background ignores it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def launch(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[Callable[..., Running]]:
    """Run the command in a separate process, which is killed at the end of the test if it still runs."""
    started: list[Running] = []

    def start(*arguments: object, program: tuple[str, ...] = ("-m", "heartseg.cli.main")) -> Running:
        folder = tmp_path_factory.mktemp("printed")
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, *program, *map(str, arguments)],
                stdout=out,
                stderr=err,
                env=environment(),
                preexec_fn=ordinary_interrupts,
            )
        started.append(Running(process, folder))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def refused(outcome: Outcome, *words: str, code: int = 2) -> None:
    """Check for one line on standard error with these words, no traceback, nothing on standard output."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert len(outcome.complaints) == 1, outcome.err
    (line,) = outcome.complaints
    assert line.startswith("heartseg: ")
    for word in words:
        assert word in line, line


@pytest.fixture
def refuses(heartseg: Callable[..., Outcome], tmp_path: Path, temporary: Path) -> Callable[..., None]:
    """Run ``segment`` on a bad input: one line with these words, exit code 2, and no remaining files."""

    def check(*arguments: object, words: tuple[str, ...]) -> None:
        before = tree(tmp_path)
        refused(heartseg("segment", *arguments), *words)
        assert tree(tmp_path) == before
        assert tree(temporary) == set()

    return check
