"""Wall thickness in the plane of thick short-axis slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from heartseg.measure import Circumstances, Patient, Unknown, heart_measures, measure_heart
from measured_hearts import LeftVentricle, study_of_frames
from triples import triple


@dataclass(frozen=True)
class Tilted(LeftVentricle):
    """A left ventricle whose short axis is tilted against the slices."""

    tilt_deg: float = 0.0

    @property
    def rotation(self) -> np.ndarray:
        return Rotation.from_euler("x", self.tilt_deg, degrees=True).as_matrix() @ np.diag([1.0, -1.0, 1.0])


@pytest.mark.parametrize("step", [8.0, 10.0])
@pytest.mark.parametrize("wall", [6.0, 9.0, 13.0])
def test_basal_and_mid_segments_have_the_thickness_and_apical_ones_nearly(step: Any, wall: Any) -> None:
    heart = measure_heart(*Tilted(wall=wall).labels((1.4, 1.4, step)))
    for s in heart.segments[:12]:
        assert s.mean_mm == pytest.approx(wall, abs=0.35), s
    for s in heart.segments[12:16]:
        assert -0.3 < s.mean_mm - wall < wall / 8 + 0.2, s
    assert heart.segments[16].mean_mm is None
    assert isinstance(heart.axis, Unknown)


def test_a_thick_septum_is_found_in_the_septal_segments_of_either_storage_order() -> None:
    thick = Tilted(radius=25.0, wall=8.0, extra_septal_wall=6.0)
    labels, geometry = thick.labels((1.4, 1.4, 8.0))
    for order in (slice(None), slice(None, None, -1)):
        turned = labels[order]
        sign = 1.0 if order.step is None else -1.0
        origin = geometry.index_to_world(np.array([0 if sign > 0 else labels.shape[0] - 1, 0, 0]))
        direction = (1.0, 0, 0, 0, 1.0, 0, 0, 0, sign)
        grid = type(geometry)(turned.shape, geometry.spacing, triple(origin), direction)
        found = {s.segment: s.mean_mm for s in measure_heart(np.ascontiguousarray(turned), grid).segments}
        assert min(found[k] for k in (2, 3, 8, 9)) > 12.5
        assert max(found[k] for k in (5, 6, 11, 12)) < 9.0


def test_slices_in_another_direction_are_refused_with_the_way_out() -> None:
    heart = measure_heart(*Tilted(tilt_deg=40.0).labels((1.4, 1.4, 8.0)))
    assert isinstance(heart.wall, Unknown)
    assert "tilted by 40 degrees" in heart.wall.why or "tilted by 39 degrees" in heart.wall.why
    assert "3 mm" in heart.wall.why and "short-axis" in heart.wall.why


def test_a_stack_may_end_in_the_ventricle_but_its_slices_must_show_the_whole_ring() -> None:
    labels, geometry = Tilted().labels((1.4, 1.4, 8.0))
    ends = np.flatnonzero((labels == 1).any(axis=(1, 2)))
    part = (slice(int(ends[1]), int(ends[-2]) + 1), slice(None), slice(None))
    heart = measure_heart(np.ascontiguousarray(labels[part]), geometry.cropped(part))
    assert np.mean([s.mean_mm for s in heart.segments[6:12]]) == pytest.approx(9.0, abs=0.3)
    columns = np.flatnonzero((labels == 5).any(axis=(0, 1)))
    cut = (slice(None), slice(None), slice(int(columns[0]) + 4, None))
    heart = measure_heart(np.ascontiguousarray(labels[cut]), geometry.cropped(cut))
    assert isinstance(heart.wall, Unknown)


def test_the_rows_say_how_the_thickness_was_measured() -> None:
    rows = {m.quantity: m for m in heart_measures(measure_heart(*Tilted().labels((1.4, 1.4, 8.0))))}
    assert "8.0 mm" in rows["wall_thickness_mean_07"].note
    assert "8.0 mm" in rows["wall_thickness_mean"].note


def test_a_cine_stack_has_thickening() -> None:
    frames = [Tilted().shrunk(f).labels((1.4, 1.4, 8.0)) for f in (1.0, 0.85, 0.7, 0.85)]
    study = study_of_frames(frames, Patient(), Circumstances("MR", "cycle"))
    rows = {m.quantity: m.value for m in study.measures}
    assert rows["thickening_08"] == pytest.approx(80.0, abs=8.0)  # 9 to 16.2 mm
