"""Installation check: an anonymous report that can be shared, without names, scans and full paths.

Paths below the home folder begin with ``~``; only the last part of other paths is shown. Values of proxy settings are
not shown.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .anatomy import STRUCTURES
from .devices import cpu_threads
from .errors import HeartSegError, ModelError
from .models.checkpoint import verify_hash
from .models.store import StoredModel, list_models, user_folder
from .needs import RUNTIMES, installed_version, missing_runtimes, preferred_runtime
from .progress import Reporter
from .settings import Settings
from .version import __version__
from .volume.checks import available_memory
from .volume.geometry import Geometry
from .volume.types import Volume

LITTLE_SPACE = 2e9
"""Free space below which the report warns, bytes: a large model with its zip file, or the results of a day."""

_OTHERS = ("numpy", "scipy", "SimpleITK", "vtk", "matplotlib", "nnunetv2", "openvino", "torchvision")
_NETWORK = (
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "PIP_INDEX_URL",
    "PIP_PROXY",
    "PIP_CERT",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)
_SIDE, _STEP_MM = 64, 3.0


@dataclass(frozen=True)
class InstallationReport:
    """Report of an installation check.

    Attributes:
        sections: title -> rows of (name, value), in display order.
        problems: problems and how to fix them, one sentence each; empty if there are none.
    """

    sections: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The report as plain text."""
        lines = [f"HeartSeg {__version__}: installation report"]
        for title, rows in self.sections.items():
            width = max((len(name) for name, _ in rows), default=0)
            lines += ["", title, *(f"  {name:<{width}}  {value}".rstrip() for name, value in rows)]
        lines += ["", "Problems" if self.problems else "No problems"]
        lines += [f"  - {problem}" for problem in self.problems]
        return anonymous("\n".join(lines))


def check_installation(
    reporter: Reporter | None = None, self_test: bool = True, speed: bool = False, scan: Volume | None = None
) -> InstallationReport:
    """Check versions, devices, models, folders and network settings, and segment a small synthetic volume.

    Problems are part of the report and are not raised.

    Args:
        reporter: progress (stage ``check``) and cancellation.
        self_test: also run the network, which takes about ten seconds on a CPU, plus imports.
        speed: also run it in each way that is installed, and say which is fastest; about a minute.
        scan: the scan for that; one window of the small volume when omitted.

    Raises:
        Cancelled: the reporter's token was set.
    """
    reporter = reporter or Reporter()
    parts: list[tuple[str, Callable[[], tuple[list[tuple[str, str]], list[str]]]]] = [
        ("System", _system),
        ("Packages", _packages),
        ("Devices", _devices),
        ("Models", _models),
        ("Folders", _folders),
        ("Network", _network),
    ]
    if self_test:
        parts.append(("Self-test", lambda: _self_test(reporter)))
    if speed:
        parts.append(("Speed", lambda: _speed(scan, reporter)))
    sections: dict[str, tuple[tuple[str, str], ...]] = {}
    problems: list[str] = []
    with reporter.stage("check", len(parts)):
        for done, (title, check) in enumerate(parts):
            reporter.advance(done)
            rows, more = _checked(check)
            sections[title] = tuple(rows)
            problems += more
    return InstallationReport(sections, tuple(problems))


def anonymous(text: str) -> str:
    """Remove personal data from paths in a text: the home folder becomes ``~``; others keep their last part only."""
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~").replace(home.replace("\\", "/"), "~")
    text = re.sub(r"(?<![\w~./\\:])(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\":,()]+)+(?=[\\/])", "…", text)
    return re.sub(r"\\\\[^\\\s]+\\(?:[^\\\s'\"]+\\)*", "…\\\\", text)


def _checked(check: Callable[[], tuple[list[tuple[str, str]], list[str]]]) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        return check()
    except Exception as error:  # a failed check must not prevent the others
        name = f"{type(error).__name__}: {error}"
        return [("failed", name)], [f"a check failed ({name}): report it to the maintainers"]


def _system() -> tuple[list[tuple[str, str]], list[str]]:
    rows = [
        ("HeartSeg", __version__),
        ("Python", f"{platform.python_version()} ({platform.architecture()[0]})"),
        ("system", f"{platform.system()} {platform.release()} on {platform.machine()}"),
        ("Slicer", _slicer_version()),
        ("processor cores", str(os.cpu_count() or "unknown")),
    ]
    memory = available_memory()
    if memory is not None:
        rows.append(("free memory", _gb(memory)))
    return rows, []


def _slicer_version() -> str:
    slicer: Any = sys.modules.get("slicer")
    app = getattr(slicer, "app", None)
    version = getattr(app, "applicationVersion", "")
    if not version:
        return "not running"
    return f"{version} (revision {getattr(app, 'repositoryRevision', 'unknown')})"


def _packages() -> tuple[list[tuple[str, str]], list[str]]:
    names = [*(p.name for p in RUNTIMES), *_OTHERS]
    rows = [(name, installed_version(name) or "not installed") for name in names]
    missing = missing_runtimes()
    wanted = preferred_runtime()
    return rows, [f"a required package is missing: {m.text}" for m in missing if m.package is wanted]


def _devices() -> tuple[list[tuple[str, str]], list[str]]:
    if importlib.util.find_spec("torch") is None:
        return [("torch", "not installed: networks run on the processor"), ("cpu threads", str(cpu_threads()))], []
    import torch

    rows = [("torch", f"{torch.__version__}, CUDA build {torch.version.cuda or 'none'}")]
    problems = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            major, minor = torch.cuda.get_device_capability(index)
            rows.append(
                (
                    f"cuda:{index}",
                    f"{torch.cuda.get_device_name(index)}, {_gb(free)} of {_gb(total)} free, "
                    f"compute capability {major}.{minor}",
                )
            )
    elif shutil.which("nvidia-smi"):
        rows.append(("cuda", "not available"))
        build = "was built without CUDA" if torch.version.cuda is None else "does not fit the driver"
        problems.append(
            f"torch cannot use the NVIDIA GPU because it {build}: reinstall torch with the PyTorch extension"
        )
    else:
        rows.append(("cuda", "no NVIDIA driver found"))
    rows.append(("mps", "available" if torch.backends.mps.is_available() else "not available"))
    rows.append(("cpu threads", str(torch.get_num_threads())))
    return rows, problems


def _models() -> tuple[list[tuple[str, str]], list[str]]:
    models = list_models()
    rows, problems = [], []
    for model in models:
        state, problem = _model_state(model)
        rows.append((model.name, f"{'shipped' if model.shipped else 'user'}, {state}"))
        problems += [problem] if problem else []
    if not models:
        problems.append("no model is installed: install one with heartseg models install")
    return rows, problems


def _model_state(model: StoredModel) -> tuple[str, str]:
    if model.folder is None:
        return "cannot be used", f"model '{model.name}' cannot be used: {model.problem}"
    version = model.folder.card.version if model.folder.card else "no card"
    try:
        for relative, expected in model.folder.hashes.items():
            verify_hash(model.folder.path / relative, expected)
    except ModelError as error:
        return f"{version}, damaged", f"model '{model.name}' is damaged: {error}"
    return f"{version}, {len(model.folder.hashes)} file hashes verified", ""


def _folders() -> tuple[list[tuple[str, str]], list[str]]:
    rows, problems = [], []
    for name, folder in (("models", user_folder()), ("temporary files", Path(tempfile.gettempdir()))):
        free, writable = _disk(folder)
        rows.append((name, f"{folder}: {_gb(free)} free, {'writable' if writable else 'NOT writable'}"))
        if not writable:
            problems.append(
                f"the folder for {name} ('{folder}') is not writable: change its permissions"
                + (" or set HEARTSEG_MODELS" if name == "models" else " or set TMPDIR")
            )
        elif free < LITTLE_SPACE:
            problems.append(f"only {_gb(free)} are free in the folder for {name}: free some space")
    return rows, problems


def _disk(folder: Path) -> tuple[int, bool]:
    """Free bytes and whether a file can be created in a folder, or in its nearest existing parent."""
    existing = next(p for p in (folder, *folder.parents) if p.is_dir())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return shutil.disk_usage(existing).free, True
    except OSError:
        return shutil.disk_usage(existing).free, False


def _network() -> tuple[list[tuple[str, str]], list[str]]:
    rows = [(name, "set") for name in _NETWORK if os.environ.get(name) or os.environ.get(name.lower())]
    system = sorted(urllib.request.getproxies())
    rows.append(("proxies for", ", ".join(system) if system else "none"))
    return rows, []


def _self_test(reporter: Reporter) -> tuple[list[tuple[str, str]], list[str]]:
    if missing_runtimes():
        return [("run", "skipped: packages are missing")], []
    started = time.perf_counter()
    try:
        from .pipeline import Segmenter

        settings = Settings(heart_center=(0.0, 0.0, 0.0), structures=None)
        segmenter = Segmenter(settings=settings)
        loaded = time.perf_counter()
        result = segmenter.segment(tiny_volume(), reporter=Reporter(cancel=reporter.cancel))
    except HeartSegError as error:
        return [("run", f"failed: {error}")], [f"the self-test failed: {error}"]
    seconds = time.perf_counter() - loaded
    device = result.provenance.run.device if result.provenance.run else "unknown"
    rows = [
        ("run", f"{seconds:.1f} s for one window on {device}, {loaded - started:.1f} s to load the model"),
        (
            "labels",
            f"{int(np.count_nonzero(result.labels))} of {result.labels.size} voxels in {len(result.structures)} "
            "structures",
        ),
    ]
    return rows, []


def _speed(scan: Volume | None, reporter: Reporter) -> tuple[list[tuple[str, str]], list[str]]:
    if missing_runtimes():
        return [("ways", "skipped: packages are missing")], []
    from .speed import SAFE_DICE, compare_ways

    center = (0.0, 0.0, 0.0) if scan is None else None
    try:
        timings = compare_ways(scan or tiny_volume(), Settings(heart_center=center), reporter)
    except HeartSegError as error:
        return [("ways", f"failed: {error}")], [f"the comparison failed: {error}"]
    names = {structure.label: structure.key for structure in STRUCTURES}
    rows = []
    for timing in timings:
        text = f"{timing.warm:.2f} s, {timing.first:.2f} s for the first scan"
        if scan is not None:  # a few voxels of the small volume say nothing about hearts
            text += f"; Dice at least {timing.dice:.4f} ({names[timing.worst]})" if timing.worst else "; same labels"
        rows.append((f"{timing.run.backend}, {timing.run.precision}, {timing.run.device}", text))
    safe = [t for t in timings if (t.dice >= SAFE_DICE if scan is not None else t.settings.precision != "half")]
    best = min(safe, key=lambda timing: timing.warm)
    least = "" if scan is None else f" (of those whose structures all have a Dice of {SAFE_DICE:g} to the first)"
    rows.append(("fastest", f"{best.options}{least}"))
    if scan is None:
        rows.append(("labels", "not compared: heartseg doctor --speed SCAN compares them on a scan of yours"))
    return rows, []


def tiny_volume() -> Volume:
    """Create a synthetic CT of 192 mm, centred on the world origin: two bright pools in muscle, fat and lung.

    It tests that the software runs, not the accuracy of the model.
    """
    axis = (np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2) * _STEP_MM
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)

    def ball(cx: float, cy: float, cz: float, radius: float) -> np.ndarray:
        return np.asarray((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < radius**2)

    image = np.full((_SIDE,) * 3, -800.0, np.float32)
    image[ball(0, 0, 0, 80)] = -90.0
    image[ball(10, 0, 0, 55)] = 110.0
    image[ball(20, 0, -5, 32)] = 350.0
    image[ball(-30, -15, 0, 25)] = 350.0
    image += np.random.default_rng(0).normal(0.0, 20.0, image.shape).astype(np.float32)
    origin = float(axis[0])
    geometry = Geometry((_SIDE,) * 3, (_STEP_MM,) * 3, (origin, origin, origin))
    return Volume(image.astype(np.int16), geometry, "self-test", "CT")


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
