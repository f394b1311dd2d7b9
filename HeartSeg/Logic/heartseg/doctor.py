"""Is this installation fit to segment? A report that a user can paste into a message: no names, no scans, no paths.

Paths below the home folder begin with ``~``; of others only the last part is told. Of proxies only that they are set.
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

from . import __version__
from .errors import HeartSegError, ModelError
from .models.checkpoint import verify_hash
from .models.store import StoredModel, list_models, user_folder
from .needs import PACKAGES, installed_version, missing_packages
from .progress import Reporter
from .settings import Settings
from .volume.checks import available_memory
from .volume.geometry import Geometry
from .volume.types import Volume

LITTLE_SPACE = 2e9
"""Free bytes below which the report warns: a large model with its zip file, or a day's results."""

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
    """What was found.

    Attributes:
        sections: title -> lines of (what, value), in the order in which they are shown.
        problems: what needs mending, one sentence each with the way out; empty if all is well.
    """

    sections: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole report, plain text with lines of moderate length."""
        lines = [f"HeartSeg {__version__}: report on this installation"]
        for title, rows in self.sections.items():
            width = max((len(name) for name, _ in rows), default=0)
            lines += ["", title, *(f"  {name:<{width}}  {value}".rstrip() for name, value in rows)]
        lines += ["", "To mend" if self.problems else "Nothing to mend"]
        lines += [f"  - {problem}" for problem in self.problems]
        return anonymous("\n".join(lines))


def check_installation(reporter: Reporter | None = None, self_test: bool = True) -> InstallationReport:
    """Look at versions, devices, models, folders, network settings, and segment a tiny made-up volume.

    Never raises for what it finds: that is a problem in the report.

    Args:
        reporter: progress (stage ``check``) and cancellation.
        self_test: also run the network; about ten seconds on a processor, as long as importing torch takes longer.

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
    sections: dict[str, tuple[tuple[str, str], ...]] = {}
    problems: list[str] = []
    with reporter.stage("check", len(parts)):
        for done, (title, look) in enumerate(parts):
            reporter.advance(done)
            rows, more = _looked(look)
            sections[title] = tuple(rows)
            problems += more
    return InstallationReport(sections, tuple(problems))


def anonymous(text: str) -> str:
    """A text in which paths tell nothing about a person: the home folder is ``~``, of others the last part is kept."""
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~").replace(home.replace("\\", "/"), "~")
    text = re.sub(r"(?<![\w~./\\:])(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\":,()]+)+(?=[\\/])", "…", text)
    return re.sub(r"\\\\[^\\\s]+\\(?:[^\\\s'\"]+\\)*", "…\\\\", text)


def _looked(look: Callable[[], tuple[list[tuple[str, str]], list[str]]]) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        return look()
    except Exception as error:  # whatever is broken on this machine must not keep the rest from being told
        name = f"{type(error).__name__}: {error}"
        return [("failed", name)], [f"looking at this failed ({name}): tell the maintainers"]


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
        return "not the application"
    return f"{version} (revision {getattr(app, 'repositoryRevision', 'unknown')})"


def _packages() -> tuple[list[tuple[str, str]], list[str]]:
    names = [*(p.name for p in PACKAGES), *_OTHERS]
    rows = [(name, installed_version(name) or "not installed") for name in names]
    return rows, [f"a package is missing: {m.text}" for m in missing_packages()]


def _devices() -> tuple[list[tuple[str, str]], list[str]]:
    if importlib.util.find_spec("torch") is None:
        return [("torch", "not installed")], []
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
            f"there is an NVIDIA driver, but this torch {build}: reinstall torch with the PyTorch extension"
        )
    else:
        rows.append(("cuda", "no NVIDIA driver was found"))
    rows.append(("mps", "available" if torch.backends.mps.is_available() else "not available"))
    rows.append(("cpu threads", str(torch.get_num_threads())))
    return rows, problems


def _models() -> tuple[list[tuple[str, str]], list[str]]:
    models = list_models()
    rows, problems = [], []
    for model in models:
        state, problem = _model_state(model)
        rows.append((model.name, f"{'shipped' if model.shipped else 'yours'}, {state}"))
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
    return f"{version}, {len(model.folder.hashes)} file hashes are right", ""


def _folders() -> tuple[list[tuple[str, str]], list[str]]:
    rows, problems = [], []
    for name, folder in (("models", user_folder()), ("temporary files", Path(tempfile.gettempdir()))):
        free, writable = _disk(folder)
        rows.append((name, f"{folder}: {_gb(free)} free, {'can' if writable else 'CANNOT'} be written"))
        if not writable:
            problems.append(
                f"the folder for {name} ('{folder}') cannot be written: change its permissions"
                + (" or set HEARTSEG_MODELS" if name == "models" else " or set TMPDIR")
            )
        elif free < LITTLE_SPACE:
            problems.append(f"only {_gb(free)} are free where {name} are kept: make room")
    return rows, problems


def _disk(folder: Path) -> tuple[int, bool]:
    """Free bytes and whether a file can be made there, or in the nearest folder above that exists."""
    there = next(p for p in (folder, *folder.parents) if p.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there):
            return shutil.disk_usage(there).free, True
    except OSError:
        return shutil.disk_usage(there).free, False


def _network() -> tuple[list[tuple[str, str]], list[str]]:
    rows = [(name, "set") for name in _NETWORK if os.environ.get(name) or os.environ.get(name.lower())]
    system = sorted(urllib.request.getproxies())
    rows.append(("proxies in use for", ", ".join(system) if system else "none"))
    return rows, []


def _self_test(reporter: Reporter) -> tuple[list[tuple[str, str]], list[str]]:
    if missing_packages():
        return [("run", "left out: packages are missing")], []
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
    device = result.provenance["run"].get("device", "unknown")
    rows = [
        ("run", f"{seconds:.1f} s for one window on {device}, after {loaded - started:.1f} s to load"),
        (
            "labels",
            f"{int(np.count_nonzero(result.labels))} of {result.labels.size} voxels in {len(result.structures)} "
            "structures",
        ),
    ]
    return rows, []


def tiny_volume() -> Volume:
    """A made-up CT of 192 mm, about the world's origin: two bright pools with a wall between them, in fat and lung.

    It resembles a heart as little as a traffic sign resembles a person: a test of the machinery, not of the model.
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
