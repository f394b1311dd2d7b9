"""Devices and disease in and around a heart: leads, valves, stents, clips, wires, calcium, thrombus, scar.

They are drawn into ``heart.regions`` only. The labels stay: a lead in the right ventricle keeps the label of the
ventricle.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi

from .fields import smooth_noise
from .hearts import Heart
from .regions import Region
from .vessels import Landmarks, lower_back, paint_tube, upper_back

BLOOD = (*range(1, 8), Region.PAPILLARY, Region.TRABECULA, Region.LEFT_VALVE, Region.RIGHT_VALVE)


def add_devices(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Draw random devices and disease into a heart, in place, and list them in ``heart.facts["devices"]``."""
    found = []
    for name, share, draw in (
        ("lead", 0.12, _lead),
        ("valve", 0.07, _valve_ring),
        ("stent", 0.05, _stent),
        ("calcium", 0.25, _calcium),
        ("scar", 0.2, _scar),
        ("thrombus", 0.05, _thrombus),
        ("clips", 0.06, _clips),
    ):
        if rng.random() < share:
            draw(rng, heart, marks)
            found.append(name)
    heart.facts["devices"] = found


def _lead(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Draw a lead from the superior vena cava through the right atrium to the RV apex (or to the atrial wall)."""
    ra, rv, u = marks.pools[4], marks.pools[2], rng.uniform
    roof, floor = upper_back(ra, 24).mean(0), lower_back(ra, 30).mean(0)
    path = [roof + np.array([90, u(-6, 6), u(-6, 6)]), roof, ra.mean(0)]
    if rng.random() < 0.8 and len(rv):
        path += [(floor + rv.mean(0)) / 2, rv[rv[:, 0] < np.percentile(rv[:, 0], 10)].mean(0)]
    else:
        path.append(ra[ra[:, 1] < np.percentile(ra[:, 1], 10)].mean(0))
    over = (0, Region.SVC, Region.RA_WALL, Region.RV_WALL, *BLOOD)
    paint_tube(heart.regions, path, [u(0.8, 1.6)], Region.METAL, over=over)


def _valve_ring(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Draw a ring in the mitral or aortic plane, where two pools of the left heart meet."""
    pair = [(1, 3), (1, 6)][rng.integers(2)]
    near = [ndi.binary_dilation(heart.labels == k, iterations=2) for k in pair]
    plane = near[0] & near[1]
    rim = plane & ~ndi.binary_erosion(plane, iterations=2)
    heart.regions[rim] = Region.METAL if rng.random() < 0.6 else Region.CALCIUM


def _stent(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Draw a mesh on the luminal wall of the ascending aorta or the arch."""
    lumen = heart.regions == (Region.ARCH if rng.random() < 0.5 else Region.AO_BLOOD)
    shell = lumen & ~ndi.binary_erosion(lumen, iterations=1)
    heart.regions[shell & (smooth_noise(rng, lumen.shape, 4) > rng.uniform(-0.8, 0.8))] = Region.METAL


def _calcium(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Draw patches of calcium on the aortic wall, the left heart's valves and the mitral annulus."""
    noise, level = smooth_noise(rng, heart.labels.shape, rng.uniform(4, 7)), rng.uniform(1.4, 2.4)
    wall = np.isin(heart.regions, (Region.AO_WALL, Region.VESSEL_WALL, Region.LEFT_VALVE))
    near = [ndi.binary_dilation(heart.labels == k, iterations=2) for k in (1, 3)]
    annulus = near[0] & near[1] & (heart.labels == 5)
    heart.regions[(wall | annulus) & (noise > level)] = Region.CALCIUM


def _scar(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Draw patches of scar in the LV myocardium."""
    noise = smooth_noise(rng, heart.labels.shape, rng.uniform(18, 40))
    heart.regions[(heart.regions == Region.LV_MYO) & (noise > rng.uniform(0.8, 1.8))] = Region.SCAR


def _thrombus(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Draw a thrombus in the LV apex or the left atrium; it keeps the label of the chamber."""
    label = int(rng.choice([1, 3]))
    pool = marks.pools[label]
    centre = pool[pool[:, 0] < np.percentile(pool[:, 0], 12)].mean(0) if label == 1 else pool[rng.integers(len(pool))]
    z, y, x = (np.arange(n) - c for n, c in zip(heart.labels.shape, centre, strict=True))
    ball = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2 < rng.uniform(6, 14) ** 2
    heart.regions[ball & (heart.labels == label)] = Region.THROMBUS


def _clips(rng: np.random.Generator, heart: Heart, marks: Landmarks) -> None:
    """Draw surgical clips and sternal wires: small pieces of metal in front of the heart."""
    front = min(p[:, 1].min() for p in marks.pools.values() if len(p)) - rng.uniform(8, 20)
    for _ in range(rng.integers(3, 12)):
        start = np.array([rng.uniform(50, 180), front + rng.uniform(-4, 4), marks.la_centre[2] + rng.uniform(-15, 35)])
        end = start + rng.normal(0, 6, 3)
        paint_tube(heart.regions, [start, end], [rng.uniform(0.7, 1.3)], Region.METAL)
