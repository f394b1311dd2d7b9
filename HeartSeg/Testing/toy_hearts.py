"""A made-up heart label map of nested ellipsoids, for tests of the generator that need no data."""

from __future__ import annotations

import numpy as np


def toy_subject(spacing: float = 0.8) -> np.ndarray:
    """Labels 0-12 as in the shape model's maps (z, y, x), 0.8 mm, LPS: about the size of a small adult's heart."""
    labels = np.zeros((176, 150, 170), np.uint8)
    z, y, x = np.ogrid[tuple(slice(n) for n in labels.shape)]

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        d = sum(((g * spacing - c) / r) ** 2 for g, c, r in zip((z, y, x), centre, radii, strict=True))
        return d < 1

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
