"""Write a heat map, its picture and its provenance to a folder, atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import DependencyError
from ..progress import Reporter
from ..staging import FolderKind, check_folder, staged_folder
from ..volume.types import Volume
from ..volume.writing import write_volume
from .explaining import Explanation
from .picture import write_picture

EXPLANATION_FILE, _PICTURE = "explanation.json", "heat_map.png"
SUFFIXES = (".nii.gz", ".nrrd")
EXPLANATION_FOLDER = FolderKind(
    "a heat map of HeartSeg", (*(f"heat_map{s}" for s in SUFFIXES), _PICTURE, EXPLANATION_FILE), EXPLANATION_FILE
)


def check_explanation_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Check that an explanation can be written to a folder; see :func:`heartseg.staging.check_folder`."""
    return check_folder(folder, EXPLANATION_FOLDER, overwrite)


def write_explanation(
    explanation: Explanation,
    volume: Volume,
    folder: str | Path,
    suffix: str = ".nii.gz",
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write an explanation to a new folder: ``heat_map.nii.gz``, ``heat_map.png``, ``explanation.json``.

    Args:
        explanation: result of :func:`~heartseg.explain.explaining.explain`.
        volume: the explained scan.
        folder: folder to create; must be empty or absent unless ``overwrite``.
        suffix: file suffix of the heat map, one of :data:`SUFFIXES`.
        overwrite: whether to replace an earlier heat map.
        reporter: receives progress and cancels.

    Returns:
        ``"files"``: names of the files; ``"skipped"``: ``{"picture": reason}`` if matplotlib is not installed.

    Raises:
        OutputError: the folder is unusable or the disk is full; no file remains.
    """
    skipped = {}
    reporter = reporter or Reporter()
    with staged_folder(Path(folder), EXPLANATION_FOLDER, overwrite) as stage, reporter.stage("write", 2):
        write_volume(Volume(explanation.heat, explanation.geometry), stage / f"heat_map{suffix}")
        reporter.advance(1)
        try:
            write_picture(volume, explanation, stage / _PICTURE)
        except DependencyError as error:
            skipped["picture"] = str(error)
        written = {"files": [*sorted(p.name for p in stage.iterdir()), EXPLANATION_FILE], "skipped": skipped}
        content = {**explanation.details, "notices": list(explanation.notices), "output": written}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (stage / EXPLANATION_FILE).write_text(text + "\n", encoding="utf-8")
    return written
