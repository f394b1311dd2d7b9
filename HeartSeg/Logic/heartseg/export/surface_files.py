"""Write meshes to STL, PLY and OBJ files with NumPy; unlike some VTK writers it reports a full disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..anatomy import Structure
from ..errors import InputError
from ..wording import _
from .surfaces import Mesh

_STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_ROWS = 100_000  # lines of text formatted at once

Color = tuple[int, int, int]


def file_stem(structure: Structure) -> str:
    """Structure name in plain characters, such as ``left_ventricle``."""
    return re.sub(r"[^a-z0-9]+", "_", structure.name.lower()).strip("_")


def write_surface(mesh: Mesh, path: Path, coordinates: str, name: str, color: Color) -> Path:
    """Write a mesh in the format of the file suffix: ``.stl``, ``.ply`` or ``.obj`` (with an ``.mtl`` file).

    Args:
        mesh: surface in world LPS mm.
        path: file to write.
        coordinates: ``"LPS"`` or ``"RAS"``; recorded in the file header in the notation of 3D Slicer.
        name: object name, for PLY and OBJ.
        color: red, green, blue, 0-255; not stored in STL.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    turned = mesh.in_coordinates(coordinates)
    _WRITERS[path.suffix](turned, path, coordinates.upper(), name, color)
    return path


def _write_stl(mesh: Mesh, path: Path, coordinates: str, name: str, color: Color) -> None:
    """Write binary STL: a header of 80 bytes, the count, and 50 bytes per triangle."""
    triangles = np.zeros(len(mesh), _STL_TRIANGLE)
    corners = mesh.points.astype("<f4")[mesh.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    triangles["normal"] = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
    triangles["corners"] = corners
    with path.open("wb") as file:
        file.write(f"HeartSeg SPACE={coordinates}".encode("ascii").ljust(80))
        file.write(np.uint32(len(mesh)).astype("<u4").tobytes())
        file.write(triangles.tobytes())


def _write_ply(mesh: Mesh, path: Path, coordinates: str, name: str, color: Color) -> None:
    """Write binary PLY with a colour at every vertex."""
    vertices = np.zeros(len(mesh.points), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["rgb"] = mesh.points, color
    faces = np.zeros(len(mesh), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    head = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment SPACE={coordinates}",
        f"comment {_plain(name)}",
        "comment millimetres",
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {part}" for part in ("red", "green", "blue")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    with path.open("wb") as file:
        file.write(("\n".join(head) + "\n").encode("ascii"))
        file.write(vertices.tobytes())
        file.write(faces.tobytes())


def _write_obj(mesh: Mesh, path: Path, coordinates: str, name: str, color: Color) -> None:
    """Write OBJ with the colour in a material file and, for programs that ignore materials, at every vertex."""
    shade = " ".join(f"{c / 255:.4f}" for c in color)
    material = path.with_suffix(".mtl")
    material.write_text(f"newmtl {path.stem}\nKa {shade}\nKd {shade}\nKs 0.1 0.1 0.1\nillum 2\n", encoding="ascii")
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(f"# SPACE={coordinates}\n# HeartSeg, millimetres\nmtllib {material.name}\no {_plain(name)}\n")
        for part in _parts(mesh.points):
            file.write("".join(f"v {x:.5f} {y:.5f} {z:.5f} {shade}\n" for x, y, z in part.tolist()))
        file.write(f"usemtl {path.stem}\n")
        for part in _parts(mesh.triangles + 1):
            file.write("".join(f"f {a} {b} {c}\n" for a, b, c in part.tolist()))


_WRITERS: dict[str, Callable[[Mesh, Path, str, str, Color], None]] = {
    ".stl": _write_stl,
    ".ply": _write_ply,
    ".obj": _write_obj,
}


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii").replace("\n", " ")


def read_stl(path: Path) -> Mesh:
    """Read a binary STL file (32-bit coordinates) and merge equal points.

    Raises:
        InputError: the file is not a binary STL file or is truncated.
    """
    content = path.read_bytes()
    count = int.from_bytes(content[80:84], "little") if len(content) >= 84 else -1
    if len(content) != 84 + _STL_TRIANGLE.itemsize * count:
        raise InputError(_("{name!r} is not a complete binary STL file: write it again").format(name=path.name))
    corners = np.frombuffer(content, _STL_TRIANGLE, count, 84)["corners"].reshape(-1, 3)
    order = np.lexsort(corners.T)
    ordered = corners[order]
    new = np.any(np.diff(ordered, axis=0, prepend=np.nan) != 0, axis=1)  # sorted: equal points are adjacent
    index = np.empty(len(order), np.int64)
    index[order] = np.cumsum(new) - 1
    return Mesh(ordered[new].astype(float), index.reshape(-1, 3))


def write_surfaces(
    meshes: Sequence[tuple[Structure, Mesh]], folder: Path, formats: Sequence[str], coordinates: str = "LPS"
) -> dict[str, dict[str, Path]]:
    """Write the surface of every structure in every format.

    Args:
        meshes: structures with their surfaces in world LPS mm.
        folder: created if it does not exist.
        formats: some of :data:`~heartseg.formats.SURFACE_FORMATS`.
        coordinates: ``"LPS"`` or ``"RAS"``.

    Returns:
        For each format, the file of each structure key, such as ``left_ventricle.stl``.
    """
    written: dict[str, dict[str, Path]] = {kind: {} for kind in formats}
    if meshes:
        folder.mkdir(exist_ok=True)
    for structure, mesh in meshes:
        for kind in formats:
            path = folder / f"{file_stem(structure)}.{kind}"
            written[kind][structure.key] = write_surface(mesh, path, coordinates, structure.name, structure.color)
    return written
