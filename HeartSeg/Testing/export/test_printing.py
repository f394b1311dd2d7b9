"""Printed parts are closed, have the requested wall, and report what was counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.errors import OutputError, SettingsError
from heartseg.export import WALL_LIMITS_MM, Subject, check_solidity, print_parts, write_print_set
from heartseg.export.printing import CHECK_FILE, MYOCARDIUM_FILE, POOL_FILE, README_FILE
from heartseg.export.surface_files import read_stl
from heartseg.result import Result
from heartseg.volume import Geometry

pytest.importorskip("vtk", reason='needs vtk: pip install "heartseg[app]"')

BALL_MM = 15.0


def ball(label: int = 1, spacing: tuple[float, float, float] = (1.0, 1.0, 2.0), radius: float = BALL_MM) -> Result:
    """Return a ball of one structure whose volume and surfaces are known analytically."""
    shape = (24, 40, 40)
    geometry = Geometry(shape, spacing, (-20.0, -20.0, -24.0))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    inside = np.linalg.norm(geometry.index_to_world(index), axis=-1) < radius
    return Result((inside * np.uint8(label)).astype(np.uint8), geometry, STRUCTURES)


@pytest.mark.parametrize("wall", [1.0, 2.0, 4.0])
def test_a_hollow_ball_has_the_wall_that_was_asked_for(wall: float) -> None:
    (pool,) = print_parts(ball(), wall)
    assert pool.color == (200, 60, 60)  # red, as blood in every viewer
    found = check_solidity(pool.mesh)
    assert found.watertight
    assert found.shells == 2
    # The grid limits the ball to about half a voxel of 1 x 1 x 2 mm; the wall itself is computed on the fine grid.
    wall_ml = 4 / 3 * np.pi * ((BALL_MM + wall) ** 3 - BALL_MM**3) / 1000
    assert found.volume_ml == pytest.approx(wall_ml, rel=0.07)
    assert pool.facts["lumen_ml"] == pytest.approx(4 / 3 * np.pi * BALL_MM**3 / 1000, rel=0.05)
    for side in pool.facts["thickness_mm"].values():
        assert side["median"] == pytest.approx(wall, abs=0.06)  # step² / (6 wall) and the offset of step / 20
        assert side["p5"] == pytest.approx(wall, abs=0.15)
        assert side["p95"] == pytest.approx(wall, abs=0.15)


def test_the_myocardium_is_solid() -> None:
    (part,) = print_parts(ball(label=5))
    assert part.file == MYOCARDIUM_FILE
    found = check_solidity(part.mesh)
    assert found.watertight
    assert found.shells == 1
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * BALL_MM**3 / 1000, rel=0.05)


@pytest.fixture(scope="module")
def written(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("out") / "print"
    return folder, write_print_set(subject.result, folder)


def test_a_whole_heart_on_an_oblique_grid_is_watertight_as_written(
    written: tuple[Path, dict[str, Any]], subject: Subject
) -> None:
    folder, facts = written
    assert {p.name for p in folder.iterdir()} == {POOL_FILE, MYOCARDIUM_FILE, README_FILE, CHECK_FILE}
    for name in (POOL_FILE, MYOCARDIUM_FILE):
        found = check_solidity(read_stl(folder / name))
        assert found.watertight
        assert facts["parts"][name]["triangles"] == found.triangles
    voxels = sum(subject.result.mask(k).sum() for k in ("LV", "RV", "LA", "RA", "AO", "PA"))
    assert facts["parts"][POOL_FILE]["lumen_ml"] == pytest.approx(
        voxels * subject.result.geometry.voxel_volume_ml, rel=0.05
    )


def test_it_lies_where_the_heart_is(written: tuple[Path, dict[str, Any]], subject: Subject) -> None:
    folder, _ = written
    geometry, mask = subject.result.geometry, subject.result.mask("MYO")
    points = geometry.index_to_world(np.argwhere(mask))
    mesh = read_stl(folder / MYOCARDIUM_FILE)
    # half a diagonal of a 3 mm voxel, and the smoothing
    assert np.allclose(mesh.points.min(axis=0), points.min(axis=0), atol=3.6)
    assert np.allclose(mesh.points.max(axis=0), points.max(axis=0), atol=3.6)


def test_the_text_says_unit_wall_and_that_there_are_no_openings(written: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = written
    text = (folder / README_FILE).read_text(encoding="utf-8")
    for words in ("millimetre", ": 2 mm", "no openings", "Research use only", "LPS", "smoothed"):
        assert words in text
    assert json.loads((folder / CHECK_FILE).read_text(encoding="utf-8")) == json.loads(json.dumps(facts))


def test_crumbs_are_left_out_and_cavities_filled_and_both_are_counted() -> None:
    result = ball()
    labels = result.labels.copy()
    labels[10:13, 18:21, 18:21] = 0
    labels[1:3, 2:5, 2:5] = 2
    (pool,) = print_parts(Result(labels, result.geometry))
    assert pool.facts["pieces_left_out"] == 1
    assert pool.facts["cavities_filled"] == 1
    assert check_solidity(pool.mesh).shells == 2


@pytest.mark.parametrize("wall", [0.0, WALL_LIMITS_MM[0] - 0.1, WALL_LIMITS_MM[1] + 1, float("nan")])
def test_a_wall_that_cannot_be_printed_is_refused(wall: float) -> None:
    with pytest.raises(SettingsError, match=r"outside 0.8 to 10 mm"):
        print_parts(ball(), wall)


def test_without_a_heart_there_is_nothing_to_print() -> None:
    empty = Result(np.zeros((5, 5, 5), np.uint8), Geometry((5, 5, 5), (1.0, 1.0, 1.0)))
    with pytest.raises(OutputError, match="neither blood pool nor myocardium"):
        print_parts(empty)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("number", [1, 7])
@pytest.mark.parametrize("wall", [0.8, 2.0, 10.0])
def test_hearts_of_the_shape_model_are_watertight(shared_data: Path, tmp_path: Path, number: int, wall: float) -> None:
    from hearts import model_heart

    labels, geometry = model_heart(shared_data, number, step=1)
    facts = write_print_set(Result(labels, geometry), tmp_path / "print", wall)
    for part in facts["parts"].values():
        assert part["watertight"]
    assert facts["parts"][POOL_FILE]["thickness_mm"]["from_outer_surface"]["median"] == pytest.approx(wall, abs=0.1)
