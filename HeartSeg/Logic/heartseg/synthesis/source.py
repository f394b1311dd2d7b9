"""Input of the generator: the heart shape model and one labelled trunk, from separate files or one packed file.

The packed file (``.npz``) holds the same arrays and makes scenes without SimpleITK.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .shape import ShapeModel

SHAPE_FILE = Path("heart-shape-model") / "four_chamber_heart.npz"
TEMPLATE_FILE = Path("heart-shape-model") / "labelmaps" / "mean_template.nii.gz"
TRUNK_FILE = Path("thorax") / "s0327_labels.nii.gz"


@dataclass(frozen=True, eq=False)
class Source:
    """Shape model and labelled trunk.

    Attributes:
        model: the heart shape model.
        trunk: uint8 (z, y, x), 1.5 mm, LPS axes; values are keys of ``structures``.
        structures: structure name of each trunk id.
    """

    model: ShapeModel
    trunk: np.ndarray
    structures: dict[int, str]


@lru_cache(maxsize=2)
def load_source(path: str | Path) -> Source:
    """Read a data folder (``heart-shape-model/``, ``thorax/``) or a file written by :func:`pack_source`.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _load_packed(path)
    for part in (SHAPE_FILE, TEMPLATE_FILE, TRUNK_FILE):
        if not (path / part).is_file():
            raise FileNotFoundError(f"'{path / part}' is missing: give the folder that holds {part.parts[0]}/")
    import SimpleITK as sitk

    template = sitk.ReadImage(str(path / TEMPLATE_FILE))
    with np.load(path / SHAPE_FILE, allow_pickle=False) as arrays:
        model = _model(
            arrays,
            sitk.GetArrayFromImage(template).astype(np.uint8),
            float(template.GetSpacing()[0]),
            np.array(template.GetOrigin()[::-1]),
        )
    trunk = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path / TRUNK_FILE)), "LPS"))
    with (path / str(TRUNK_FILE).replace(".nii.gz", ".csv")).open() as lines:
        structures = {int(row["index"]): row["structure"] for row in csv.DictReader(lines)}
    return Source(model, trunk.astype(np.uint8), structures)


def _model(arrays: Any, template: np.ndarray, spacing: float, origin: np.ndarray) -> ShapeModel:
    """Reorder the points of the file, (x, y, z), to (z, y, x)."""
    return ShapeModel(
        template,
        spacing,
        origin,
        np.ascontiguousarray(arrays["control_points"][:, ::-1]),
        np.ascontiguousarray(arrays["momenta"][..., ::-1]),
        float(arrays["kernel_width"]),
        int(arrays["steps"]),
    )


def pack_source(source: Source, path: Path) -> None:
    """Write a source to one ``.npz`` file (about 1.6 MB), atomically."""
    m = source.model
    part = path.with_name(path.name + ".part")
    with part.open("wb") as out:
        np.savez_compressed(
            out,
            template=m.template,
            spacing=m.spacing,
            origin=m.origin,
            control_points=m.control_points,
            momenta=m.momenta,
            kernel_width=m.kernel_width,
            steps=m.steps,
            trunk=source.trunk,
            indices=np.array(list(source.structures), np.int64),
            names=np.array(list(source.structures.values())),
        )
    part.replace(path)


def _load_packed(path: Path) -> Source:
    with np.load(path, allow_pickle=False) as a:
        model = ShapeModel(
            a["template"],
            float(a["spacing"]),
            a["origin"],
            a["control_points"],
            a["momenta"],
            float(a["kernel_width"]),
            int(a["steps"]),
        )
        structures = {int(i): str(n) for i, n in zip(a["indices"], a["names"], strict=True)}
        return Source(model, a["trunk"], structures)
