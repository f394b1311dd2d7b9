"""Wall thickness and the 17 segments of shells with known thickness."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.anatomy import MYOCARDIAL_DENSITY_G_PER_ML
from heartseg.measure.axes import HeartFrame, heart_frame, long_axis, septum_surface
from heartseg.measure.grid import Unknown
from heartseg.measure.segments17 import NAMES, SegmentWall, segment_walls, segments, thickening_percent
from heartseg.measure.valves import valve_plane
from heartseg.measure.wall import WallThickness, wall_thickness
from measured_hearts import LeftVentricle, heart_grid

SPHERE = LeftVentricle(radius=25.0, half_length=25.0, base=-15.0, wall=9.0)
"""A spherical shell of uniform thickness: 9 mm."""
SEPTAL = {2, 3, 8, 9, 14}


def measured(
    heart: LeftVentricle, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> tuple[WallThickness | Unknown, tuple[SegmentWall, ...]]:
    grid = heart_grid(*heart.labels(spacing))
    frame = heart_frame(long_axis(grid, valve_plane(grid, "mitral")), septum_surface(grid))
    assert isinstance(frame, HeartFrame)
    wall = wall_thickness(grid, frame)
    return wall, segment_walls(grid, frame, wall)


@pytest.mark.parametrize(
    ("thickness", "seed", "spacing"),
    [
        (9.0, 0, (1.0, 1.0, 1.0)),
        (5.0, 1, (0.7, 0.7, 1.25)),
        (14.0, 2, (1.5, 1.5, 1.5)),
        (3.0, 3, (1.0, 1.0, 1.0)),
    ],
)
def test_a_spherical_shell_has_its_thickness_in_every_segment(
    thickness: float, seed: int, spacing: tuple[float, float, float]
) -> None:
    heart = LeftVentricle(radius=25.0, half_length=25.0, base=-15.0, wall=thickness, rotation_seed=seed)
    wall, by_segment = measured(heart, spacing)
    assert wall.thickness_mm.mean() == pytest.approx(thickness, abs=0.15)
    assert np.quantile(np.abs(wall.thickness_mm - thickness), 0.95) < 0.5 * max(spacing)
    for s in by_segment:
        assert s.mean_mm == pytest.approx(thickness, abs=0.15), s


def test_points_lie_on_the_endocardium() -> None:
    wall, _ = measured(SPHERE)
    assert np.abs(np.linalg.norm(wall.points_lps_mm, axis=1) - 25.0).mean() < 0.2


def test_a_thick_septum_is_found_in_the_septal_segments() -> None:
    wall, by_segment = measured(
        LeftVentricle(radius=25.0, half_length=40.0, base=-25.0, wall=8.0, extra_septal_wall=6.0, rotation_seed=3)
    )
    for s in by_segment[6:12]:
        assert s.mean_mm == pytest.approx(13.9 if s.segment in SEPTAL else 7.9, abs=0.8), s  # steps at the insertions
    assert np.quantile(wall.thickness_mm, 0.9) == pytest.approx(14.0, abs=0.8)


def test_the_masses_of_the_segments_are_those_of_their_sectors() -> None:
    """In a rotationally symmetric ventricle, the six segments of a third have equal masses, which add up."""
    _, by_segment = measured(LeftVentricle(rotation_seed=2))
    share = {s.segment: s.mass_share for s in by_segment}
    assert sum(share.values()) == pytest.approx(1.0)
    for ring in (range(1, 7), range(7, 13), range(13, 17)):
        masses = [share[k] for k in ring]
        assert max(masses) / min(masses) < 1.08
    assert 0.02 < share[17] < 0.12
    assert MYOCARDIAL_DENSITY_G_PER_ML == 1.05


@pytest.mark.parametrize(
    ("height", "angle", "segment"),
    [
        (0.1, 30, 2), (0.1, -30, 3), (0.1, 90, 1), (0.1, -90, 4), (0.1, 150, 6), (0.1, -150, 5),
        (0.5, 30, 8), (0.5, -90, 10), (0.9, 0, 14), (0.9, 90, 13), (0.9, 180, 16), (0.9, -90, 15),
        (1.05, 0, 17), (-0.1, 90, 1),
    ],
)  # fmt: off
def test_segments_are_numbered_as_in_cerqueira_2002(height: float, angle: int, segment: int) -> None:
    assert segments(np.array([height]), np.array([angle]))[0] == segment
    assert segment in NAMES


def test_thickening_between_two_phases() -> None:
    """A wall of 8 mm that thickens inwards to 12 mm: 50 %."""
    diastole = LeftVentricle(radius=26.0, half_length=26.0, base=-15.0, wall=8.0)
    systole = LeftVentricle(radius=22.0, half_length=22.0, base=-13.0, wall=12.0)
    for before, after in zip(measured(diastole)[1], measured(systole)[1], strict=True):
        assert thickening_percent(before, after) == pytest.approx(50.0, abs=2.0)


def test_without_a_thickness_no_number_is_given() -> None:
    heart = LeftVentricle(rotation_seed=1)
    wall, by_segment = measured(heart, (1.5, 1.5, 4.0))
    assert wall == Unknown("slices of 4.0 mm do not resolve the wall")
    assert all(s.mean_mm is None and s.mass_share > 0 for s in by_segment)
    assert thickening_percent(by_segment[0], by_segment[0]) is None
    labels, geometry = heart.labels((2.0, 2.0, 2.0))
    labels[labels == 5] = 0
    grid = heart_grid(labels, geometry)
    assert wall_thickness(grid, Unknown("no frame")) == Unknown("left ventricular myocardium not found")
