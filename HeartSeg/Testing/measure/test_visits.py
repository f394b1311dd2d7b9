"""Two visits: the alignment finds a known motion, differences carry intervals, limitations are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from heartseg.errors import InputError
from heartseg.measure import Circumstances, Patient
from heartseg.measure.study import Study
from heartseg.measure.visits import Alignment, align, differences, limitations
from heartseg.result import Measure
from heartseg.volume import Geometry
from phantoms import heart_phantom

STILL = Alignment(np.eye(3), np.zeros(3), 0.95)
GRIDS = (Geometry((9, 9, 9), (1.0, 1.0, 1.0)), Geometry((9, 9, 9), (1.0, 1.0, 1.0)))


def study(lv: float | None, modality: str = "CT", phase: str = "diastole", **more: Any) -> Study:
    low, high = (None, None) if lv is None else (lv - 3.0, lv + 3.0)
    volume = Measure("LV", "volume", lv, "mL", "" if lv else "not found", low, high)
    measures = (volume, Measure("LV", "mean_intensity", 1.0, "HU"))
    return Study(measures, None, None, Patient(), Circumstances(modality, phase), **more)


@pytest.mark.parametrize(
    ("turn", "shift"), [((0, 0, 0), (30, -20, 12)), ((12, -8, 15), (-40, 25, 8)), ((-20, 5, 10), (0, 60, 0))]
)
def test_a_known_motion_is_found(turn: tuple[float, ...], shift: tuple[float, ...]) -> None:
    labels, geometry, _ = heart_phantom((3.0, 3.0, 3.0))
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    direction = rotation @ geometry.direction_matrix
    origin = rotation @ np.array(geometry.origin) + shift
    moved = Geometry(geometry.shape, geometry.spacing, _floats(origin), _floats(direction.ravel()))
    found = align((labels, geometry), (labels, moved))
    points = geometry.index_to_world(np.argwhere(labels > 0)[::50])
    error = np.linalg.norm(found.apply(points) - (points @ rotation.T + shift), axis=1)
    assert error.max() < 2.0  # voxels of 3 mm, registered at 2.5 mm
    assert error.mean() < 1.0
    assert found.overlap > 0.93


def _floats(values: np.ndarray) -> Any:
    return tuple(float(v) for v in values)


def test_nothing_to_align_is_refused() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    with pytest.raises(InputError):
        align((labels, GRIDS[0]), (labels, GRIDS[1]))


def test_intervals_of_both_visits_are_combined() -> None:
    volume, intensity = differences(study(100.0), study(112.0))
    assert volume.difference == pytest.approx(12.0)
    assert volume.half_width == pytest.approx(np.hypot(3, 3))
    assert volume.is_clear
    assert (intensity.half_width, intensity.is_clear) == (None, False)
    assert not differences(study(100.0), study(103.0))[0].is_clear


def test_a_structure_that_is_cut_or_missing_has_no_difference() -> None:
    cut = study(112.0, incomplete={"LV": "cut off"})
    assert differences(study(100.0), cut)[0].difference is None
    assert differences(study(None), study(112.0))[0].difference is None


def test_an_interval_that_ends_at_zero_has_the_width_of_its_upper_half() -> None:
    small = replace(study(2.0), measures=(Measure("LV", "volume", 2.0, "mL", "", 0.0, 6.0),))
    (volume,) = differences(small, small)
    assert volume.half_width == pytest.approx(np.hypot(4, 4))


@pytest.mark.parametrize("cut", [({"AO"}, set()), (set(), {"AO"}), ({"AO"}, {"AO"})])
def test_an_artery_that_is_cut_above_is_named_and_its_visible_part_has_no_difference(cut: Any) -> None:
    rows = (Measure("AO", "volume", 40.0, "mL"), Measure("AO", "diameter", 30.0, "mm"))
    one, two = (replace(study(100.0, cut=frozenset(c)), measures=rows) for c in cut)
    volume, diameter = differences(one, two)
    assert (volume.difference, diameter.difference) == (None, 0.0)
    (finding,) = limitations(one, two, GRIDS, STILL)
    assert (finding.code, finding.structure) == ("field-of-view-differs", "AO")


@pytest.mark.parametrize(
    ("before", "after", "grids", "alignment", "codes"),
    [
        (study(100.0), study(100.0), GRIDS, STILL, set()),
        (study(100.0), study(100.0, "MR"), GRIDS, STILL, {"modality-differs"}),
        (study(100.0), study(100.0, phase=""), GRIDS, STILL, {"phase-differs"}),
        (study(100.0, phase=""), study(100.0, phase=""), GRIDS, STILL, {"phase-unknown"}),
        (study(100.0), study(100.0, incomplete={"RA": "cut off"}), GRIDS, STILL, {"field-of-view-differs"}),
        (study(100.0), study(100.0), (GRIDS[0], Geometry((3, 9, 9), (1.0, 1.0, 5.0))), STILL, {"resolution-differs"}),
        (study(100.0), study(100.0), GRIDS, replace(STILL, overlap=0.4), {"overlap-poor"}),
        (
            study(100.0),
            study(100.0),
            GRIDS,
            replace(STILL, rotation=Rotation.from_euler("x", 60, degrees=True).as_matrix()),
            {"turned"},
        ),
    ],
)
def test_limitations_of_a_comparison_are_named(
    before: Study, after: Study, grids: tuple[Geometry, Geometry], alignment: Alignment, codes: set[str]
) -> None:
    assert {f.code for f in limitations(before, after, grids, alignment)} == codes


def test_two_patients_are_an_error() -> None:
    one = replace(study(100.0), patient=Patient("M", 180.0))
    other = replace(study(100.0), patient=Patient("F", 180.0))
    assert {f.code for f in limitations(one, other, GRIDS, STILL)} == {"patient-differs"}
