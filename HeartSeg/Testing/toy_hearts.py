"""A toy heart of nested ellipsoids, its shape model and a trunk of blocks, for tests without data."""

from __future__ import annotations

import numpy as np

from heartseg.synthesis.shape import N_SUBJECTS, ShapeModel
from heartseg.synthesis.source import Source


def toy_subject(spacing: float = 0.8) -> np.ndarray:
    """Return labels 0-12 as in the maps of the shape model, ``(z, y, x)``, LPS: the size of a small adult heart."""
    labels = np.zeros((176, 150, 170), np.uint8)
    z, y, x = np.ogrid[tuple(slice(n) for n in labels.shape)]

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        squares = [((g * spacing - c) / r) ** 2 for g, c, r in zip((z, y, x), centre, radii, strict=True)]
        return squares[0] + squares[1] + squares[2] < 1

    def put(mask: np.ndarray, label: int, over: tuple[int, ...] = (0,)) -> None:
        labels[mask & np.isin(labels, over)] = label

    ventricle, right, left_atrium, right_atrium = (48, 55, 92), (50, 32, 62), (78, 84, 66), (70, 52, 34)
    put(ball(ventricle, (33, 23, 23)), 1)
    put(ball(ventricle, (43, 33, 33)), 5)
    put(ball(right, (36, 22, 28)), 2)
    put(ball(right, (39, 25, 31)), 8)
    put(ball(left_atrium, (20, 18, 26)), 3)
    put(ball(left_atrium, (22, 20, 28)), 9)
    put(ball(right_atrium, (26, 22, 20)), 4)
    put(ball(right_atrium, (28, 24, 22)), 10)
    for centre, lumen, wall, height in (((52, 60), 6, 11, 60), ((30, 76), 7, 12, 72)):
        tube = ((y * spacing - centre[0]) ** 2 + (x * spacing - centre[1]) ** 2) * np.ones_like(z)
        tall = (z * spacing > height) & (z * spacing < 128)
        put((tube < 12**2) & tall, lumen)
        put((tube < 14**2) & tall, wall)
    return labels


def toy_shape_model(points_an_axis: int = 3, width: float = 40.0) -> ShapeModel:
    """Return a shape model of the toy heart with a few control points and 19 small, independent deformations.

    The momenta (SD 2 mm per control point and axis) move points by a few millimetres, like the variation of real
    subjects.
    """
    template, origin = toy_subject(), np.array([-70.0, -60.0, -68.0])
    extent = (np.array(template.shape) - 1) * 0.8
    lines = [np.linspace(o + 0.2 * e, o + 0.8 * e, points_an_axis) for o, e in zip(origin, extent, strict=True)]
    control = np.stack([g.ravel() for g in np.meshgrid(*lines, indexing="ij")], 1).astype(np.float32)
    momenta = np.random.default_rng(19).normal(0, 2, (N_SUBJECTS, *control.shape)).astype(np.float32)
    return ShapeModel(template, 0.8, origin, control, momenta, width, 10)


TOY_STRUCTURES = {
    1: "heart",
    2: "lung_upper_lobe_left",
    3: "lung_upper_lobe_right",
    4: "vertebrae_T8",
    5: "spinal_cord",
    6: "aorta",
    7: "liver",
    8: "inferior_vena_cava",
    9: "superior_vena_cava",
    10: "trachea",
    11: "stomach",
    12: "sternum",
}


def toy_source() -> Source:
    """Return the toy shape model and a trunk of blocks (330 x 195 x 285 mm) with a heart of similar size."""
    trunk = np.zeros((220, 130, 190), np.uint8)
    for (z0, z1), (y0, y1), (x0, x1), label in (
        ((80, 200), (25, 110), (110, 180), 2),
        ((80, 200), (25, 110), (10, 80), 3),
        ((90, 165), (30, 85), (62, 128), 1),
        ((0, 220), (100, 118), (85, 105), 4),
        ((0, 220), (119, 125), (92, 98), 5),
        ((0, 190), (88, 99), (100, 112), 6),
        ((20, 80), (25, 100), (15, 100), 7),
        ((10, 92), (85, 95), (75, 86), 8),
        ((160, 215), (60, 70), (70, 80), 9),
        ((165, 220), (80, 90), (90, 101), 10),
        ((30, 80), (25, 90), (105, 160), 11),
        ((100, 190), (12, 18), (85, 105), 12),
    ):
        trunk[z0:z1, y0:y1, x0:x1] = label
    return Source(toy_shape_model(), trunk, dict(TOY_STRUCTURES))
