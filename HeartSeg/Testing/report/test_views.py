"""Pictures of the standard views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heartseg.errors import InputError
from heartseg.measure import Unknown
from heartseg.measure.planes import StandardPlanes, ViewPlane
from heartseg.report.pictures import PIXEL_MM, Frame, plane_points
from heartseg.report.views import write_views
from heartseg.volume.geometry import Geometry

TILTED = ViewPlane((10.0, -20.0, 5.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0))


def test_the_pixels_of_a_view_lie_in_its_plane_with_up_above() -> None:
    points = plane_points(Frame("tilted", "", TILTED, (30.0, 45.0)))
    assert points.shape == (round(90 / PIXEL_MM), round(60 / PIXEL_MM), 3)
    assert points.mean(axis=(0, 1)) == pytest.approx(TILTED.center_lps_mm)
    assert points[0, 0, 2] - points[-1, 0, 2] == pytest.approx(90.0 - PIXEL_MM)
    assert points[0, 1] - points[0, 0] == pytest.approx([0.6 * PIXEL_MM, 0.8 * PIXEL_MM, 0.0])


def test_unknown_planes_are_refused_only_together(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    geometry = Geometry((20, 20, 20), (3.0, 3.0, 3.0), (-20.0, -50.0, -25.0))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[5:15, 5:15, 5:15] = 1
    none = Unknown("no mitral valve")
    with pytest.raises(InputError, match="no mitral valve"):
        write_views(None, labels, geometry, StandardPlanes(none, none, none, none), tmp_path / "views.png")
    write_views(None, labels, geometry, StandardPlanes(none, none, none, TILTED), tmp_path / "views.png")
    assert (tmp_path / "views.png").stat().st_size > 10_000
