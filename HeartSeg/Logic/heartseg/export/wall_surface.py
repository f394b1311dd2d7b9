"""The endocardial surface of the left ventricle with the wall thickness at every point, as mesh and as file.

The mesh is the surface of the left ventricle as in all exports. Its points have the thickness measured at the nearest
endocardial points; points over 3 mm away from any, as at the valves, have none (NaN).
"""

from __future__ import annotations

import struct
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..anatomy import structure
from ..errors import InputError, OutputError, writing
from ..measure.bullseye import SCALES, THICKNESS, color_of
from ..measure.grid import Unknown
from ..measure.wall import WallThickness
from ..volume.geometry import Geometry
from ..wording import _
from .surfaces import Mesh, label_surfaces

SUFFIXES = (".vtp", ".ply")
ARRAY_NAME = "wall thickness (mm)"
REACH_MM = 3.0
"""Largest distance from an endocardial point at which a point of the surface has a thickness."""
NEIGHBOURS = 4


@dataclass(frozen=True, eq=False)
class WallSurface:
    """The endocardial surface.

    Attributes:
        mesh: world LPS, mm.
        thickness_mm: ``(n,)`` at the points of the mesh; NaN where the wall was not measured.
    """

    mesh: Mesh
    thickness_mm: np.ndarray


def wall_surface(labels: np.ndarray, geometry: Geometry, wall: WallThickness | Unknown) -> WallSurface:
    """Return the surface of the left ventricle with the wall thickness.

    Args:
        labels: uint8 ``(z, y, x)`` in which the thickness was measured.
        geometry: grid of the labels.
        wall: the thickness.

    Raises:
        InputError: the thickness is unknown; with the reason.
    """
    from scipy.spatial import cKDTree

    if isinstance(wall, Unknown):
        raise InputError(_("the wall thickness is unknown: {why}").format(why=wall.why))
    mesh = label_surfaces(labels, geometry, (structure("LV"),))["LV"]
    count = min(NEIGHBOURS, len(wall.thickness_mm))
    distance, index = cKDTree(wall.points_lps_mm).query(mesh.points, k=count)
    distance, index = distance.reshape(-1, count), index.reshape(-1, count)
    weight = 1.0 / np.maximum(distance, 0.05)
    thickness = (weight * wall.thickness_mm[index]).sum(axis=1) / weight.sum(axis=1)
    return WallSurface(mesh, np.where(distance[:, 0] <= REACH_MM, thickness, np.nan))


def write_wall_surface(surface: WallSurface, path: str | Path) -> None:
    """Write the surface in world LPS, mm: VTK PolyData (``.vtp``) or PLY with thickness and colours (``.ply``).

    Raises:
        OutputError: the suffix is unknown, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            _("file {path!r} is no surface: give a name with {endings}").format(
                path=str(path), endings=" or ".join(SUFFIXES)
            )
        )
    content = _vtp(surface) if path.suffix.lower() == ".vtp" else _ply(surface)
    with writing(path):
        path.write_bytes(content)


def _vtp(surface: WallSurface) -> bytes:
    """XML PolyData with base64 arrays."""
    mesh, count = surface.mesh, len(surface.mesh)

    def array(values: np.ndarray, kind: str, name: str, components: int = 1) -> str:
        raw = np.ascontiguousarray(values).tobytes()
        text = b64encode(struct.pack("<Q", len(raw)) + raw).decode("ascii")
        head = f'<DataArray type="{kind}" Name="{name}" NumberOfComponents="{components}" format="binary">'
        return f"{head}{text}</DataArray>"

    lines = [
        '<?xml version="1.0"?>',
        '<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64"><!-- SPACE=LPS, mm -->',
        f'<PolyData><Piece NumberOfPoints="{len(mesh.points)}" NumberOfPolys="{count}">',
        f'<PointData Scalars="{ARRAY_NAME}">',
        array(surface.thickness_mm.astype("<f4"), "Float32", ARRAY_NAME),
        "</PointData><Points>",
        array(mesh.points.astype("<f4"), "Float32", "Points", 3),
        "</Points><Polys>",
        array(mesh.triangles.astype("<i8"), "Int64", "connectivity"),
        array(3 * np.arange(1, count + 1, dtype="<i8"), "Int64", "offsets"),
        "</Polys></Piece></PolyData></VTKFile>",
    ]
    return "\n".join(lines).encode("ascii")


def _ply(surface: WallSurface) -> bytes:
    """Binary PLY with the property ``thickness_mm`` and a colour at every vertex."""
    mesh = surface.mesh
    vertices = np.zeros(len(mesh.points), [("xyz", "<f4", 3), ("thickness", "<f4"), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["thickness"] = mesh.points, surface.thickness_mm
    steps = np.arange(256)
    low, high = SCALES[THICKNESS]
    table = np.array([color_of(low + (high - low) * k / 255, (low, high)) for k in steps])
    known = np.isfinite(surface.thickness_mm)
    at = np.clip((np.where(known, surface.thickness_mm, low) - low) / (high - low) * 255, 0, 255).astype(int)
    colors = np.where(known[:, None], table[at], color_of(None, (low, high)))
    vertices["rgb"] = np.round(255 * colors)
    faces = np.zeros(len(mesh), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    head = [
        "ply",
        "format binary_little_endian 1.0",
        "comment SPACE=LPS",
        "comment millimetres",
        f"element vertex {len(vertices)}",
        *(f"property float {name}" for name in ("x", "y", "z", "thickness_mm")),
        *(f"property uchar {part}" for part in ("red", "green", "blue")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return ("\n".join(head) + "\n").encode("ascii") + vertices.tobytes() + faces.tobytes()
