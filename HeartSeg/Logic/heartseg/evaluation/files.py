"""Tables and figure into files: all of them whole, or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..errors import OutputError, write_error, writing
from .figure import check_matplotlib, write_figure
from .scores import Evaluation
from .study import Study
from .tables import write_csv, write_json

STANDARD_NAMES = {"csv": "evaluation.csv", "json": "evaluation.json", "figure": "evaluation.png"}
"""Kind of file -> its name in an output folder."""

_WRITERS = {"csv": write_csv, "json": write_json, "figure": write_figure}


def check_targets(targets: Mapping[str, Path], overwrite: bool = False) -> None:
    """Check that the files can be written, before anything is computed.

    Args:
        targets: kind (``"csv"``, ``"json"``, ``"figure"``, ``"picture"``) -> file.
        overwrite: whether files that exist may be replaced.

    Raises:
        OutputError: a file exists, is a folder, or its folder cannot be written to; two are the same file.
        DependencyError: a figure is asked for and matplotlib is not installed.
    """
    if len({p.resolve() for p in targets.values()}) < len(targets):
        raise OutputError("two of the files to write have the same name: give each its own")
    for kind, path in targets.items():
        if kind in ("figure", "picture"):
            check_matplotlib()
            if path.suffix.lower() != ".png":
                raise OutputError(f"cannot write {str(path)!r}: a figure's name must end in .png")
        with writing(path):
            _check(path, overwrite)


def _check(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: it is a folder, choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{str(path)!r} exists: choose another name, or add --overwrite")
    home = next(p for p in path.resolve().parents if p.exists())
    if not home.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: {home} is a file, choose another folder")
    with tempfile.TemporaryFile(dir=home):
        pass


def write_files(found: Evaluation | Study, targets: Mapping[str, Path], overwrite: bool = False) -> None:
    """Write the files under temporary names beside their places, and give them their names when all are whole.

    Args, raises:
        as :func:`check_targets`; a full disk is an ``OutputError`` too.
    """
    check_targets(targets, overwrite)
    made: list[Path] = []
    temporary: dict[Path, Path] = {}
    try:
        for kind, path in targets.items():
            made += [p for p in path.resolve().parents if not p.exists() and p not in made]
            path.parent.mkdir(parents=True, exist_ok=True)
            stage = path.parent / f".{path.name}.partial-{os.getpid()}"
            temporary[stage] = path
            _WRITERS[kind](found, stage)
        for stage, path in temporary.items():
            stage.replace(path)
    except BaseException as error:
        for stage in temporary:
            stage.unlink(missing_ok=True)
        for folder in sorted(made, key=lambda p: -len(p.parts)):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        if isinstance(error, OSError):
            where = ", ".join(map(str, targets.values()))
            raise write_error(error, where) from error
        raise
