"""A phantom heart for export, small enough to write many times."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.export import Subject, measured
from heartseg.provenance import ModelFacts, Provenance
from heartseg.result import Result
from heartseg.volume import Volume
from phantoms import heart_phantom

PROVENANCE = Provenance(model=ModelFacts(name="made up", version="1.0"), created="2026-01-02T03:04:05+00:00")


@pytest.fixture(scope="session")
def subject() -> Subject:
    """A whole heart on an oblique grid of 3 mm, with its scan and measures."""
    angle = np.deg2rad(25)
    turn = (np.cos(angle), -np.sin(angle), 0.0, np.sin(angle), np.cos(angle), 0.0, 0.0, 0.0, 1.0)
    labels, geometry, image = heart_phantom((3.0, 3.0, 3.0), direction=turn)
    volume = Volume(image.astype(np.int16), geometry, "phantom", "CT")
    return measured(Subject(Result(labels, geometry, STRUCTURES, provenance=PROVENANCE), volume, "phantom"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts real file systems of a few kB; requires root."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        folder = tmp_path / f"disk{kilobytes}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if not hasattr(os, "geteuid") or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk needs root on Linux")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
