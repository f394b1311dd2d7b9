"""Template of the shape model with walls of a given thickness and a marked patch of myocardium.

The walls of the template are thicker than in real hearts: right ventricle 3.0-4.8 mm (median 3.8), left atrium 2.9,
right atrium 2.5, aorta 3.0, pulmonary artery 3.6 mm. The free wall of a real right ventricle measures 2-5 mm, that of
the atria 1-3 mm. Thinning keeps the outer surface of a wall and turns its inner layers into blood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy.ndimage as ndi

from .flow import LV, MYO, PATCH, Frame
from .hearts import WALL_OF, septum_to_myocardium
from .shape import ShapeModel

SEAL_MM = 1.6
"""Distance (mm) from the blood of the left ventricle within which background becomes myocardium."""


@dataclass(frozen=True)
class Patch:
    """A diseased part of the left ventricular wall, in the axes of the ventricle.

    Attributes:
        height: height of its centre, 0 at the apex, 1 at the mitral plane.
        angle: angle of its centre about the long axis, radians; 0 faces the right ventricle.
        half_height: half its height, same unit as ``height``.
        half_angle: half its angular width, radians; pi or more covers the whole circumference.
    """

    height: float
    angle: float
    half_height: float
    half_angle: float

    def contains(self, frame: Frame, points: np.ndarray) -> np.ndarray:
        """Return which points (3, n) in mm lie inside the patch, bool (n,)."""
        along, across, beside = frame.axes @ (points - frame.apex[:, None])
        turn = np.angle(np.exp(1j * (np.arctan2(beside, across) - self.angle)))
        up = (along / frame.length - self.height) / self.half_height
        if self.half_angle >= np.pi:
            return np.abs(up) < 1
        return up**2 + (turn / self.half_angle) ** 2 < 1


@lru_cache(maxsize=4)
def clean_template(model: ShapeModel) -> np.ndarray:
    """Clean the template: one component per structure, a closed left ventricle, the whole septum as myocardium."""
    labels = septum_to_myocardium(model.template)
    stray = np.zeros(labels.shape, bool)
    for label in range(1, 13):
        pieces, n = ndi.label(labels == label)
        if n > 1:
            largest = np.argmax(np.bincount(pieces.ravel())[1:]) + 1
            stray |= (pieces > 0) & (pieces != largest)
    if stray.any():
        nearest = ndi.distance_transform_edt(stray, return_distances=False, return_indices=True)
        labels = labels[tuple(nearest)]
    near = ndi.distance_transform_edt(labels != LV, sampling=model.spacing) <= SEAL_MM
    labels[near & (labels == 0)] = MYO
    return labels


@lru_cache(maxsize=4)
def _depths(model: ShapeModel) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """For each blood label, return flat indices of its wall voxels and their depth (mm) below the outer surface."""
    labels, found = clean_template(model), {}
    for blood, wall in WALL_OF.items():
        index = np.flatnonzero(labels == wall)
        both = (labels == blood) | (labels == wall)
        depth = ndi.distance_transform_edt(both, sampling=model.spacing).astype(np.float32)
        found[blood] = index, depth.reshape(-1)[index]
    return found


def with_walls(model: ShapeModel, thickness: Mapping[int, float]) -> ShapeModel:
    """Thin the walls of a model.

    Args:
        model: the shape model.
        thickness: requested wall thickness in mm, by label of the blood (2 RV, 3 LA, 4 RA, 6 AO, 7 PA). Walls that are
            already thinner do not change.
    """
    labels = clean_template(model).copy()
    flat = labels.reshape(-1)
    for blood, wanted in thickness.items():
        index, depth = _depths(model)[blood]
        flat[index[depth > wanted + model.spacing / 2]] = blood
    return replace(model, template=labels)


def with_patch(model: ShapeModel, patch: Patch, frame: Frame) -> ShapeModel:
    """Mark a part of the myocardium of a model as :data:`~heartseg.synthesis.flow.PATCH`."""
    labels = model.template.copy()
    index = np.argwhere(labels == MYO)
    inside = patch.contains(frame, index.T * model.spacing + model.origin[:, None])
    labels[tuple(index[inside].T)] = PATCH
    return replace(model, template=labels)
