"""Find the device of a run without loading torch, which takes seconds.

The information comes from torch's version file and from ``nvidia-smi``. Runs on the worker thread.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ..needs import RUNTIMES, TORCH, missing_packages
from ..wording import _

REFERENCE_GFLOP_PER_S = 45.0
"""Single-precision matrix product on one core of the machine on which :data:`REFERENCE_SECONDS` was measured."""

REFERENCE_SECONDS = 9.0
"""Seconds of a run of the default model on that machine, including loading the model (one core, sample scan)."""


@dataclass(frozen=True)
class DeviceReport:
    """Device of a run.

    Attributes:
        kind: ``"cuda"``, ``"mps"``, ``"cpu"``, or ``""`` if nothing that runs the network is installed.
        name: name of the graphics card or processor.
        free_bytes, total_bytes: memory of the graphics card; ``None`` if unknown or not applicable.
        why: reason for not using an expected graphics card, else ``""``.
        cpu_factor: run time of this processor relative to the reference machine; ``None`` if not applicable.
    """

    kind: str
    name: str = ""
    free_bytes: int | None = None
    total_bytes: int | None = None
    why: str = ""
    cpu_factor: float | None = None


def installed_runtime() -> str:
    """Name of the package that would run the network, without loading it; ``""`` if none is installed."""
    missing = {m.package.name for m in missing_packages(RUNTIMES)}
    return next((package.name for package in RUNTIMES if package.name not in missing), "")


def look_at_device(wish: str = "auto") -> DeviceReport:
    """Return the device of a run with this setting. Never raises; takes at most a second."""
    runtime = installed_runtime()
    if not runtime:
        return DeviceReport("", why=_("the package that runs the network is not installed yet"))
    if runtime != TORCH.name:
        return _processor("")
    kind = wish.split(":")[0]
    if kind in ("auto", "cuda"):
        build = cuda_build()
        cards = _cards() if build or kind == "auto" else []
        if build and cards:
            return cards[min(int(wish.partition(":")[2] or 0), len(cards) - 1)]
        if cards:
            return _processor(_("{name} is present, but this torch was built without CUDA").format(name=cards[0].name))
        if kind == "cuda":
            return _processor(_("no NVIDIA card was found"))
    if kind in ("auto", "mps") and sys.platform == "darwin" and platform.machine() == "arm64":
        return DeviceReport("mps", "Apple graphics")
    return _processor("")


def cuda_build() -> str:
    """Return the CUDA version of the installed torch from its version file; ``""`` for none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return ""
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^cuda\s*(?::[^=]*)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found.group(1) if found else ""


def list_cards() -> tuple[str, ...]:
    """Names of the NVIDIA cards that this torch could use, in the order of ``cuda:0``, ``cuda:1``… On the worker."""
    return tuple(card.name for card in _cards()) if cuda_build() else ()


def _cards() -> list[DeviceReport]:
    """List the NVIDIA cards with ``nvidia-smi``."""
    query = ["nvidia-smi", "--query-gpu=name,memory.free,memory.total", "--format=csv,noheader,nounits"]
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True, creationflags=hidden)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_cards(answer.stdout)


def parse_cards(text: str) -> list[DeviceReport]:
    """Parse the output of ``nvidia-smi``: name, free and total memory in MiB, one card per line."""
    cards = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 2)]
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            cards.append(DeviceReport("cuda", parts[0], int(parts[1]) << 20, int(parts[2]) << 20))
    return cards


def _processor(why: str) -> DeviceReport:
    return DeviceReport("cpu", platform.processor() or platform.machine(), why=why, cpu_factor=cpu_factor())


def cpu_factor() -> float:
    """Estimate the run time of a network relative to the reference machine from a matrix product (20 ms)."""
    import numpy as np

    size = 512
    a = np.ones((size, size), np.float32)
    a @ a
    rounds, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < 0.02 or rounds < 2:
        a @ a
        rounds += 1
    return REFERENCE_GFLOP_PER_S / (rounds * 2 * size**3 / elapsed / 1e9)
