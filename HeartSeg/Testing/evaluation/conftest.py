"""Fixtures that write label maps and run ``heartseg evaluate`` in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.volume.itk import image_of
from label_boxes import grid


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write an array below ``tmp_path``, optionally with metadata."""
    import SimpleITK as sitk

    def write(name: str, array: np.ndarray, metadata: dict[str, str] | None = None, **changes: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = image_of(array, grid(array.shape, **changes))
        for key, value in (metadata or {}).items():
            image.SetMetaData(key, value)
        sitk.WriteImage(image, str(path), True)
        return path

    return write


@dataclass
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``heartseg evaluate`` in this process."""
    from heartseg.cli.main import main

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main(["evaluate", *map(str, arguments)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run
