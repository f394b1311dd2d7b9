"""An explanation's folder: heat map, picture, how it was made; whole or not at all."""

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
    """Make sure that an explanation could be written there; see :func:`heartseg.staging.check_folder`."""
    return check_folder(folder, EXPLANATION_FOLDER, overwrite)


def write_explanation(
    explanation: Explanation,
    volume: Volume,
    folder: str | Path,
    suffix: str = ".nii.gz",
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write an explanation's files into a new folder: ``heat_map.nii.gz``, ``heat_map.png``, ``explanation.json``.

    Args:
        explanation: what :func:`~heartseg.explain.explaining.explain` returned.
        volume: the scan it was made from.
        folder: created; must be empty or absent unless ``overwrite``.
        suffix: of the heat map's file, one of :data:`SUFFIXES`.
        reporter: progress and cancel.

    Returns:
        ``"files"``: names written; ``"skipped"``: ``{"picture": why}`` where matplotlib is not installed.

    Raises:
        OutputError: the folder cannot be used, or the disk is full; nothing is left behind.
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
