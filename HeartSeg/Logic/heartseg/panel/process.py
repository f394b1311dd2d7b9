"""Run in a separate process, for machines where a crash must not end Slicer.

The parent (the worker thread) writes the scan and the request to a temporary folder and starts::

    python -m heartseg.panel.process FOLDER

The child prints one JSON object per line: ``{"event": …}`` for progress, then ``{"done": true}`` or ``{"error": …}``.
It writes the labels and the rest of the result to the folder. A cancel kills the child and all its children. This
module makes no Qt and MRML calls.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .. import errors
from ..errors import HeartSegError
from ..findings import Finding
from ..measure.boxes import bounding_box
from ..needs import PackageNeeded
from ..progress import ProgressEvent, Reporter
from ..result import Result
from ..settings import Settings
from ..volume.geometry import Geometry
from ..volume.patient import Patient
from ..volume.types import Source, Volume
from ..wording import read_wordings, with_wordings

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_SCAN, _REQUEST, _LABELS, _RESULT = "scan.npy", "request.json", "labels.npy", "result.json"


class ProcessFailed(Exception):
    """The child ended with an unexpected error or without a result; ``trace`` is its last output."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(f"{message}\n{trace}" if trace else message)
        self.trace = trace


def segment_in_process(volume: Volume, model: str, settings: Settings, reporter: Reporter) -> Result:
    """Segment a scan in a separate process.

    Args:
        volume: the scan.
        model: name of the model; ``""`` for the default model.
        settings: settings of the run.
        reporter: receives the progress of the child; a cancel kills the child within 0.1 s.

    Raises:
        HeartSegError: as the run itself would raise.
        ProcessFailed: the child crashed.
        Cancelled: the user asked to stop.
    """
    folder = Path(tempfile.mkdtemp(prefix="heartseg-run-"))
    try:
        _write_request(folder, volume, model, settings)
        with (folder / "stderr.txt").open("w", encoding="utf-8") as complaints:
            child = subprocess.Popen(
                [python_executable(), "-m", "heartseg.panel.process", str(folder)],
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                encoding="utf-8",
                env=_environment(),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            try:
                _follow(child, reporter)
            finally:
                kill_tree(child)
        return _read_result(folder, volume)
    except _NoAnswer as silent:
        complaints_text = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")[-4000:]
        raise ProcessFailed(str(silent), complaints_text) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def python_executable() -> str:
    """Return the Python interpreter for a child: ``PythonSlicer`` in the application."""
    return shutil.which("PythonSlicer") or sys.executable


def kill_tree(child: subprocess.Popen[str]) -> None:
    """End a child and all its children (``PythonSlicer`` is a launcher that starts the run as a child)."""
    if child.poll() is None:
        for process in _descendants(child.pid):
            process.kill()
        child.kill()
    if child.stdout is not None:
        child.stdout.close()
    child.wait()


def _descendants(pid: int) -> list[Any]:
    try:
        import psutil

        return list(psutil.Process(pid).children(recursive=True))
    except ImportError:
        return []
    except psutil.Error:
        return []


class _NoAnswer(Exception):
    """The child ended without a result."""


def _follow(child: subprocess.Popen[str], reporter: Reporter) -> None:
    """Forward the progress of the child until it ends; raises the error that it reports."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    assert child.stdout is not None
    threading.Thread(target=_read_lines, args=(child.stdout, lines), daemon=True).start()
    while True:
        reporter.check()
        try:
            line = lines.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            raise _NoAnswer(f"the separate process ended without an answer (exit code {child.wait()})")
        told = _message(line)
        if "event" in told:
            reporter.relay(ProgressEvent(**told["event"]))
        elif "error" in told:
            raise _error(told["error"])
        elif told.get("done"):
            return


def _read_lines(stream: TextIO, lines: queue.SimpleQueue[str | None]) -> None:
    try:
        for line in stream:
            lines.put(line)
    except ValueError:  # closed by a cancel
        pass
    lines.put(None)


def _message(line: str) -> dict[str, Any]:
    """Parse a line of the protocol; other output of libraries is ignored."""
    try:
        told = read_wordings(json.loads(line))
    except ValueError:
        logger.debug("separate process: %s", line.rstrip())
        return {}
    return told if isinstance(told, dict) else {}


def _error(told: dict[str, Any]) -> Exception:
    if "package" in told:
        return PackageNeeded(*told["package"])
    kind = getattr(errors, told["type"], None)
    if isinstance(kind, type) and issubclass(kind, HeartSegError):
        return kind(told["message"])
    return ProcessFailed(f"{told['type']}: {told['message']}", told["trace"])


def _environment() -> dict[str, str]:
    """Return the environment of the parent, with this package first on the child's path."""
    package = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([package, *([inherited] if inherited else [])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}


def _write_request(folder: Path, volume: Volume, model: str, settings: Settings) -> None:
    np.save(folder / _SCAN, volume.array)
    request = {
        "model": model,
        "settings": settings.to_dict(),
        "geometry": asdict(volume.geometry),
        "name": volume.name,
        "modality": volume.modality,
        "source": asdict(volume.source),
        "findings": [f.to_dict() for f in volume.findings],
    }
    (folder / _REQUEST).write_text(json.dumps(with_wordings(request)), encoding="utf-8")


def _read_request(folder: Path) -> tuple[Volume, str, Settings]:
    request = read_wordings(json.loads((folder / _REQUEST).read_text(encoding="utf-8")))
    geometry = Geometry(**{key: tuple(value) for key, value in request["geometry"].items()})
    findings = tuple(Finding.from_dict(f) for f in request["findings"])
    array = np.load(folder / _SCAN, mmap_mode="r")
    source = Source(**{**request["source"], "patient": Patient(**request["source"]["patient"])})
    volume = Volume(array, geometry, request["name"], request["modality"], source, findings)
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in request["settings"].items()}
    if settings.get("label_map") is not None:
        settings["label_map"] = tuple(tuple(pair) for pair in settings["label_map"])
    return volume, request["model"], Settings(**settings)


def _write_result(folder: Path, result: Result) -> None:
    box = bounding_box(result.labels) or (slice(0, 0),) * 3
    np.save(folder / _LABELS, np.ascontiguousarray(result.labels[box]))
    content = {"box": [[span.start, span.stop] for span in box], "result": result.to_dict()}
    (folder / _RESULT).write_text(json.dumps(with_wordings(content)), encoding="utf-8")


def _read_result(folder: Path, volume: Volume) -> Result:
    content = read_wordings(json.loads((folder / _RESULT).read_text(encoding="utf-8")))
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[tuple(slice(low, high) for low, high in content["box"])] = np.load(folder / _LABELS)
    return Result.from_dict(content["result"], labels, volume.geometry)


def _say(**message: Any) -> None:
    sys.__stdout__.write(json.dumps(with_wordings(message)) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def main(folder: Path) -> int:
    """Main function of the child: read the request, run it, report progress and outcome."""
    from .segmenter import make_segmenter
    from .worker import describe_failure

    sys.stdout = sys.stderr  # keeps the output of libraries out of the protocol
    try:
        volume, model, settings = _read_request(folder)
        result = make_segmenter(model, settings).segment(volume, progress=lambda event: _say(event=asdict(event)))
        _write_result(folder, result)
    except BaseException as error:
        package = {"package": error.args} if isinstance(error, PackageNeeded) else {}
        _say(error={"type": type(error).__name__, "message": str(error), "trace": describe_failure(error), **package})
        return 1
    _say(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
