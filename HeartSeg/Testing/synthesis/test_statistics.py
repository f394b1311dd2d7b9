"""Statistics of generated hearts: bodies of known thickness and volume, and the output files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from heartseg.synthesis import statistics
from heartseg.synthesis.hearts import Heart


def shell(size: int = 80, inner: float = 20.0, outer: float = 30.0) -> np.ndarray:
    """Return a spherical cavity (1) in a wall (5), voxels of 1 mm."""
    z, y, x = np.ogrid[:size, :size, :size]
    r = np.sqrt((z - 40.0) ** 2 + (y - 40.0) ** 2 + (x - 40.0) ** 2)
    return np.where(r < inner, 1, np.where(r < outer, 5, 0)).astype(np.uint8)


@pytest.mark.parametrize(("inner", "outer"), [(20, 30), (15, 21), (20, 34)])
def test_the_wall_of_a_shell_is_as_thick_as_it_was_made(inner: int, outer: int) -> None:
    assert statistics.wall_thickness(shell(inner=inner, outer=outer)) == pytest.approx(outer - inner, abs=0.25)
    assert statistics.wall_thickness(shell(inner=inner, outer=outer), 0.8) == pytest.approx(
        0.8 * (outer - inner), abs=0.25
    )


def test_the_wall_near_the_atrium_is_not_measured_and_no_wall_has_no_thickness() -> None:
    labels = shell()
    thick = labels.copy()
    lump = np.s_[66:, 30:50, 30:50]
    thick[lump][shell(outer=38)[lump] == 5] = 5  # thicker by 8 mm at the position of the atrium
    assert statistics.wall_thickness(thick) > 10.3
    thick[72:, 28:52, 28:52] = 3
    assert statistics.wall_thickness(thick) == pytest.approx(10, abs=0.25)
    assert statistics.wall_thickness(np.where(labels == 5, 0, labels)) is None
    assert statistics.wall_thickness(np.zeros((5, 5, 5), np.uint8)) is None


def test_a_heart_s_volumes_mass_and_aorta_are_measured() -> None:
    labels = shell()
    labels[64:, 28:52, 28:52] = 0
    y, x = np.ogrid[:80, :80]
    labels[64:, ((y - 40) ** 2 + (x - 40) ** 2) < 10.5**2] = 6
    found = statistics.measure_heart(Heart(labels, labels, labels))
    assert found["LV_mL"] == pytest.approx(4 / 3 * np.pi * 8, rel=0.02)
    assert found["MYO_g"] == pytest.approx(found["MYO_mL"] * 1.05)
    assert found["AO_mm"] == pytest.approx(21, abs=1)
    assert found["RV_mL"] == 0


def rows() -> list:
    rng = np.random.default_rng(0)
    made = [{q.key: float(rng.normal(100, 10)) for q in statistics.QUANTITIES} for _ in range(20)]
    made[3]["AO_mm"] = None
    return made


def test_shares_count_both_bounds_and_missing_values_are_left_out() -> None:
    assert statistics.share_inside(np.array([1.0, 2.0, 3.0, 4.0]), (2, 3)) == 0.5
    assert statistics.share_inside(np.array([1.0]), None) is None
    assert len(statistics.column(rows(), "AO_mm")) == 19


def test_table_csv_and_figure_hold_every_measure(tmp_path: Path) -> None:
    text = statistics.format_table(rows())
    assert text.splitlines()[0].startswith("| 20 hearts | mean | SD |")
    assert "| LV (mL) |" in text
    assert "| 56–165 | 100% | 40–350 | 100% |" in text
    statistics.write_csv(rows(), tmp_path / "values.csv")
    with (tmp_path / "values.csv").open() as file:
        read = list(csv.DictReader(file))
    assert len(read) == 20
    assert read[3]["AO_mm"] == ""
    assert float(read[4]["LV_mL"]) == pytest.approx(rows()[4]["LV_mL"], abs=0.05)
    statistics.write_figure(rows(), tmp_path / "figure.png")
    assert 5_000 < (tmp_path / "figure.png").stat().st_size < 150_000


def test_a_single_heart_is_refused_with_the_way_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        statistics.main([str(tmp_path), "--n", "1", "--out", str(tmp_path / "a.png")])
    assert "--n is 1" in capsys.readouterr().err
