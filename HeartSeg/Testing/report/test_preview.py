"""The preview picture: content and orientation, with and without VTK."""

from __future__ import annotations

import importlib.util
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES, Structure, structure
from heartseg.findings import Finding, Severity
from heartseg.measure import measure_structures
from heartseg.provenance import ModelFacts, Provenance
from heartseg.report import write_preview
from heartseg.report.render3d import PYTHON_VARIABLE, render_surfaces
from heartseg.report.shading import shaded_projection
from heartseg.result import Result
from heartseg.volume.types import Volume
from phantoms import heart_phantom

PROVENANCE = Provenance(model=ModelFacts("phantom", "1"))
has_vtk = importlib.util.find_spec("vtk") is not None


@pytest.fixture(scope="module")
def heart() -> tuple[Volume, Result]:
    c, s = np.cos(0.3), np.sin(0.3)
    labels, geometry, image = heart_phantom((2.0, 2.0, 3.0), direction=(c, -s, 0, s, c, 0, 0, 0, 1))
    volume = Volume(image, geometry, name="phantom", modality="CT")
    measures = measure_structures(volume, labels)
    finding = Finding("not-enclosed", Severity.WARNING, "14 % of the surface is open.", "LV")
    return volume, Result(labels, geometry, STRUCTURES, (finding,), measures, (), PROVENANCE)


def png_size(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        head = file.read(24)
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def write_cube(path: Path, low: tuple[float, float, float], high: tuple[float, float, float]) -> None:
    """Write a closed box as binary STL with 12 triangles, LPS, mm."""
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    with path.open("wb") as file:
        file.write(b"box; SPACE=LPS".ljust(80) + struct.pack("<I", 12))
        for a, b, c, d in quads:
            for triangle in ((a, b, c), (a, c, d)):
                file.write(struct.pack("<3f", 0, 0, 0) + corners[list(triangle)].astype("<f4").tobytes() + b"\0\0")


@pytest.fixture
def boxes(tmp_path: Path) -> list[tuple[Structure, Path]]:
    """Surfaces of an LV on the patient's left and an RV on the right."""
    write_cube(tmp_path / "LV.stl", (20, -20, -20), (60, 20, 20))
    write_cube(tmp_path / "RV.stl", (-60, -20, -20), (-20, 20, 20))
    return [(structure("LV"), tmp_path / "LV.stl"), (structure("RV"), tmp_path / "RV.stl")]


def test_a_preview_without_surfaces_has_no_finding(heart: tuple[Volume, Result], tmp_path: Path) -> None:
    volume, result = heart
    assert write_preview(volume, result, (), tmp_path / "p.png") == ()
    assert png_size(tmp_path / "p.png") == (2000, 1250)


def test_previews_of_an_empty_result_and_a_single_slice_are_written(
    heart: tuple[Volume, Result], tmp_path: Path
) -> None:
    volume, result = heart
    empty = Result(np.zeros_like(result.labels), result.geometry)
    assert write_preview(volume, empty, (), tmp_path / "p.png") == ()
    assert png_size(tmp_path / "p.png")[0] > 1000
    grid = volume.geometry.cropped((slice(20, 21), slice(None), slice(None)))
    flat = Volume(np.zeros(grid.shape, np.int16), grid)
    write_preview(flat, Result(np.zeros(grid.shape, np.uint8), grid), (), tmp_path / "flat.png")


def test_the_frontal_view_shows_the_patients_right_on_the_left(heart: tuple[Volume, Result]) -> None:
    _, result = heart
    picture = shaded_projection(result.labels, result.geometry, (structure("RA"), structure("AO")), pixel_mm=2.0)
    rows, columns = np.nonzero(picture[..., 3])
    colour = picture[rows, columns, :3]
    pink = colour[:, 0] > colour[:, 2]  # aorta; the right atrium is blue
    assert columns[~pink].mean() < columns[pink].mean()
    assert rows[pink].min() < rows[~pink].min(), "the aorta extends above the atrium"


def test_empty_labels_are_not_shaded(heart: tuple[Volume, Result]) -> None:
    _, result = heart
    assert shaded_projection(np.zeros_like(result.labels), result.geometry, STRUCTURES) is None


@pytest.mark.skipif(not has_vtk, reason="vtk is not installed")
def test_surfaces_are_rendered_in_a_child_process_with_the_right_orientation(
    boxes: list[tuple[Structure, Path]],
) -> None:
    picture, reason = render_surfaces(boxes, (240, 180), (0.0, 0.0, 0.0))
    if picture is None:
        pytest.skip(f"no off-screen rendering: {reason}")
    assert picture.shape[:2] == (180, 240)
    red, blue = picture[..., 0] > picture[..., 2] + 0.1, picture[..., 2] > picture[..., 0] + 0.1
    assert red.any()
    assert blue.any()
    assert np.nonzero(blue)[1].mean() < np.nonzero(red)[1].mean(), (
        "the RV, on the patient's right, is shown on the left"
    )


@pytest.mark.skipif(not has_vtk, reason="vtk is not installed")
def test_a_surface_in_ras_is_converted(boxes: list[tuple[Structure, Path]], tmp_path: Path) -> None:
    lps, reason = render_surfaces(boxes, (120, 90), (0.0, 0.0, 0.0))
    if lps is None:
        pytest.skip(f"off-screen rendering is not available: {reason}")
    for name, low, high in (("LV", (-60, -20, -20), (-20, 20, 20)), ("RV", (20, -20, -20), (60, 20, 20))):
        write_cube(tmp_path / f"{name}.stl", low, high)
        content = (tmp_path / f"{name}.stl").read_bytes()
        (tmp_path / f"{name}.stl").write_bytes(content.replace(b"SPACE=LPS", b"SPACE=RAS"))
    ras, _ = render_surfaces(boxes, (120, 90), (0.0, 0.0, 0.0))
    # The triangulation differs, so shading differs slightly; silhouettes and colours are the same.
    for channel, other in ((0, 2), (2, 0)):
        before, after = (picture[..., channel] > picture[..., other] + 0.1 for picture in (lps, ras))
        assert (before & after).sum() / (before | after).sum() > 0.95


@pytest.fixture
def broken_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace the interpreter of the child process by a failing script."""

    def install(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv(PYTHON_VARIABLE, str(path))

    return install


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script as interpreter")
def test_the_labels_are_shaded_with_a_finding_if_the_rendering_process_crashes(
    heart: tuple[Volume, Result],
    boxes: list[tuple[Structure, Path]],
    broken_python: Callable[[str], None],
    tmp_path: Path,
) -> None:
    volume, result = heart
    broken_python("kill -SEGV $$")
    (finding,) = write_preview(volume, result, boxes, tmp_path / "p.png")
    assert (finding.code, finding.severity) == ("preview-simplified", Severity.INFO)
    assert "code -11" in finding.values["reason"]
    assert png_size(tmp_path / "p.png")[0] > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script as interpreter")
@pytest.mark.parametrize(("script", "expected"), [("echo 'no libEGL' >&2; exit 3", "no libEGL"), ("exit 0", "code 0")])
def test_the_reason_of_a_failed_rendering_process_is_returned(
    boxes: list[tuple[Structure, Path]], broken_python: Callable[[str], None], script: str, expected: str
) -> None:
    broken_python(script)
    picture, reason = render_surfaces(boxes, (64, 48), (0.0, 0.0, 0.0))
    assert picture is None
    assert expected in reason


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script as interpreter")
def test_a_hanging_rendering_process_times_out(
    boxes: list[tuple[Structure, Path]], broken_python: Callable[[str], None]
) -> None:
    broken_python("exec sleep 30")
    picture, reason = render_surfaces(boxes, (64, 48), (0.0, 0.0, 0.0), timeout_s=0.5)
    assert picture is None
    assert "0.5 s" in reason


def test_a_missing_interpreter_is_reported(
    boxes: list[tuple[Structure, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")
    picture, reason = render_surfaces(boxes, (64, 48), (0.0, 0.0, 0.0))
    assert picture is None
    assert "/nowhere/python" in reason
