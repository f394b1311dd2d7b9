"""Random grey values without a physical model."""

from __future__ import annotations

import numpy as np

from ..regions import N_REGIONS, Region
from .tables import Appearance

_ALIKE = (
    (1, 31),
    (2, 32),
    (14, 47),
    (35, 6),
    (23, 35),
    (29, 7),
    (26, 4),
    (25, 4),
    (5, 31),
    (27, 3),
    (3, 1),
    (6, 1),
    (4, 2),
    (7, 2),
    (8, 5),
    (9, 8),
    (10, 8),
    (11, 8),
    (12, 8),
    (17, 13),
    (63, 6),
    (64, 25),
    (22, 0),
    (42, 0),
    (68, 5),
    (39, 4),
    (67, 17),
    (69, 11),
    (70, 5),
    (38, 18),
    (30, 6),
    (41, 23),
    (15, 29),
)


def draw_free(rng: np.random.Generator, max_slice_mm: float) -> Appearance:
    """Draw a random contrast; tissues that are similar in most scans usually get similar values."""
    u = rng.uniform
    m = u(-250, 750, N_REGIONS).astype(np.float32)
    for copy, source in _ALIKE:
        if rng.random() < 0.7:
            m[copy] = m[source] + u(-30, 30)
    if rng.random() < 0.7:  # dark air and lung, as in CT and MR
        m[[Region.AIR, Region.GAS, Region.AIRWAY]] = m.min() - u(0, 60)
        m[Region.LUNG] = m[Region.AIR] + u(0, 150)
    m[Region.UNSEEN] = m[Region.AIR]
    a = (u(0, 30, N_REGIONS) * (u(0, 1, N_REGIONS) < 0.4)).astype(np.float32)
    if rng.random() < 0.4:
        a[4] = a[2] = u(0, 120)
    f = (u(0, 40, N_REGIONS) * (u(0, 1, N_REGIONS) < 0.6)).astype(np.float32)
    sharp = u(0, 2.0)
    return Appearance(
        mean=m,
        mixing=a,
        texture=f,
        kind="free",
        protocol="free",
        noise=u(5, 60),
        noise_grain=u(0.5, 3.0),
        blur=(sharp * u(0.6, 1.6), sharp, sharp),
        slice_mm=u(4, max_slice_mm) if rng.random() < 0.25 else 0.0,
        slice_axis=int(rng.choice([0, 0, 1, 2])),
        motion=u(1, 4) if rng.random() < 0.2 else 0.0,
        bias=u(0, 40) if rng.random() < 0.3 else 0.0,
        gain=u(0, 0.3) if rng.random() < 0.6 else 0.0,
        gamma=float(np.exp(u(-0.4, 0.4))) if rng.random() < 0.3 else 1.0,
    )
