"""Two visits of a patient: rigid alignment of the hearts, differences of measures, and limitations of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy import structure
from ..errors import InputError
from ..findings import Finding, Severity
from ..result import Measure
from ..volume.geometry import Geometry
from ..wording import _
from .boxes import crop_labels
from .grid import CUT_OFF
from .study import Labels, Study

STEP_MM = 2.5
_MARGIN_MM = 20.0
_LEFT, _RIGHT = ("LV", "MYO", "LA"), ("RV", "RA")
_HALVES = 0.25
"""Weight of the halves of the heart beside the whole."""
MOST_TURNED_DEG = 40.0
LEAST_OVERLAP = 0.7
"""Dice of the aligned hearts below which they may not be of the same patient, or one of them is wrong."""
_OF_VISIBLE_PART = ("volume", "maximum_diameter", "extent_x", "extent_y", "extent_z")
"""Measures that depend on where the border of the scan cuts a structure."""
COARSER = 1.5
"""Ratio of voxel sizes (cube roots of their volumes) from which differences are also those of the resolution."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Rigid transform from world LPS of the earlier visit to that of the later one: ``point @ rotation.T + shift``.

    Attributes:
        rotation: ``(3, 3)``.
        shift: ``(3,)``, mm.
        overlap: Dice of the aligned hearts.
    """

    rotation: np.ndarray
    shift: np.ndarray
    overlap: float

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Return points ``(…, 3)`` of the earlier visit in the world of the later one."""
        return points @ self.rotation.T + self.shift

    @property
    def angle_deg(self) -> float:
        """Angle of the rotation."""
        return math.degrees(math.acos(float(np.clip((np.trace(self.rotation) - 1) / 2, -1, 1))))


@dataclass(frozen=True)
class Difference:
    """One measure at two visits.

    Attributes:
        structure, quantity, unit: as in :class:`~heartseg.result.Measure`.
        before, after: the values; ``None`` if not known.
        half_width: half of the interval of the difference; ``None`` if it is not known.
        why: why there is no difference; empty if there is one.
    """

    structure: str
    quantity: str
    unit: str
    before: float | None
    after: float | None
    half_width: float | None
    why: str = ""

    @property
    def difference(self) -> float | None:
        """Later minus earlier."""
        return None if self.before is None or self.after is None or self.why else self.after - self.before

    @property
    def is_clear(self) -> bool:
        """Whether the difference is larger than its interval."""
        change = self.difference
        return change is not None and self.half_width is not None and abs(change) > self.half_width


def align(before: Labels, after: Labels) -> Alignment:
    """Align two hearts rigidly by their labels.

    The image that is registered is the signed distance to the heart, plus the difference of the distances to its left
    and right half, which tells left from right (Euler transform, mean squares, two resolutions).

    Raises:
        InputError: one of the label maps is empty.
    """
    fixed, moving = (_distances(*visit) for visit in (before, after))
    start = sitk.Euler3DTransform()
    start.SetCenter(fixed.center.tolist())
    start.SetTranslation((moving.center - fixed.center).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 200, gradientMagnitudeTolerance=1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1, 0])
    method.SetInitialTransform(start, inPlace=True)
    found = sitk.Euler3DTransform(method.Execute(fixed.field, moving.field))
    rotation = np.array(found.GetMatrix()).reshape(3, 3)
    center = np.array(found.GetCenter())
    shift = np.array(found.GetTranslation()) + center - rotation @ center
    moved = sitk.GetArrayFromImage(sitk.Resample(moving.mask, fixed.mask, found, sitk.sitkNearestNeighbor)) > 0
    own = sitk.GetArrayFromImage(fixed.mask) > 0
    overlap = 2.0 * np.count_nonzero(moved & own) / max(1, np.count_nonzero(moved) + np.count_nonzero(own))
    return Alignment(rotation, shift, float(overlap))


@dataclass(frozen=True, eq=False)
class _Distances:
    """The field that is registered (float32, isotropic voxels), the mask of the heart, and its centre in world LPS."""

    field: sitk.Image
    mask: sitk.Image
    center: np.ndarray


def _distances(labels: np.ndarray, geometry: Geometry) -> _Distances:
    crop = crop_labels(labels, geometry)
    if crop is None:
        raise InputError(_("one of the results has no heart: there is nothing to compare"))
    extent = np.array(crop.geometry.extent_mm)[::-1]
    shape = tuple(int(n) for n in np.ceil((extent + 2 * _MARGIN_MM) / STEP_MM))
    steps = STEP_MM / np.array(crop.geometry.spacing[::-1])
    start = (np.array(crop.labels.shape) - 1) / 2 - steps * (np.array(shape) - 1) / 2
    seen = ndimage.affine_transform(crop.labels, steps, start, shape, order=0, mode="constant")
    left, right = (_signed_distance(np.isin(seen, [structure(k).label for k in keys])) for keys in (_LEFT, _RIGHT))
    field = _signed_distance(seen > 0) + _HALVES * (left - right)
    images = [sitk.GetImageFromArray(a) for a in (field.astype(np.float32), (seen > 0).astype(np.uint8))]
    for image in images:
        image.SetSpacing((STEP_MM,) * 3)
        image.SetOrigin([float(v) for v in crop.geometry.index_to_world(start)])
        image.SetDirection(crop.geometry.direction)
    center = crop.geometry.index_to_world(np.array(ndimage.center_of_mass(crop.labels > 0)))
    return _Distances(images[0], images[1], center)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance to the border of a mask, mm, negative inside, cut at the margin; zero for an empty mask."""
    if not mask.any():
        return np.zeros(mask.shape)
    outside = ndimage.distance_transform_edt(~mask, STEP_MM)
    inside = ndimage.distance_transform_edt(mask, STEP_MM)
    return np.asarray(np.clip(outside - inside, -_MARGIN_MM, _MARGIN_MM))


def differences(before: Study, after: Study) -> tuple[Difference, ...]:
    """Return the measures that both visits have, later minus earlier, in the order of the later one.

    The interval of a difference combines those of both values as independent: the root of the sum of their squares.
    """
    old = {(m.structure, m.quantity): m for m in before.measures}
    found = []
    for m in after.measures:
        key = (m.structure, m.quantity)
        if key not in old or old[key].unit != m.unit:
            continue
        cut = after.incomplete.get(m.structure) or before.incomplete.get(m.structure, "")
        if m.structure in before.cut | after.cut and m.quantity in _OF_VISIBLE_PART:
            cut = CUT_OFF
        why = _("not compared: {reason}").format(reason=cut) if cut and m.unit != "%" else ""
        missing = next((x.note or _("not measured") for x in (old[key], m) if x.value is None), "")
        widths = [_half_width(x) for x in (old[key], m)]
        width = None if widths[0] is None or widths[1] is None else math.hypot(widths[0], widths[1])
        found.append(Difference(*key, m.unit, old[key].value, m.value, width, missing or why))
    return tuple(found)


def _half_width(measure: Measure) -> float | None:
    """Return half of the interval of a measure; the lower half may end at zero."""
    return None if measure.value is None or measure.high is None else measure.high - measure.value


def limitations(
    before: Study, after: Study, grids: tuple[Geometry, Geometry], alignment: Alignment
) -> tuple[Finding, ...]:
    """Return limitations of the comparison: what may explain differences between two visits other than the heart."""
    return (*_of_scans(before, after, grids), *_of_patients(before, after, alignment))


def _of_scans(before: Study, after: Study, grids: tuple[Geometry, Geometry]) -> Iterator[Finding]:
    one, two = before.circumstances, after.circumstances
    if one.modality != two.modality or not one.modality:
        names = [c.modality or _("unknown") for c in (one, two)]
        text = _("The modality is {earlier} at the earlier visit and {later} at the later.").format(
            earlier=names[0], later=names[1]
        )
        yield Finding("modality-differs", Severity.WARNING, text + _(" Volumes of CT and MR differ by their method."))
    phases = [c.phase for c in (one, two)]
    if (before.function is None) != (after.function is None):
        yield Finding("phase-differs", Severity.WARNING, _("One visit is a time series, the other a single scan."))
    elif phases[0] != phases[1]:
        names = [p or _("unknown") for p in phases]
        text = _("The phase of the heart is {earlier} and {later}.").format(earlier=names[0], later=names[1])
        yield Finding("phase-differs", Severity.WARNING, text)
    elif not phases[0]:
        text = _("The phase is unknown at both visits: a ventricle changes by half of its volume in a heart beat.")
        yield Finding("phase-unknown", Severity.WARNING, text)
    parts = [before.cut | {*before.incomplete}, after.cut | {*after.incomplete}]
    for key in sorted(parts[0] ^ parts[1]):
        text = (
            _("The {structure} is not complete in the earlier scan: the fields of view differ.")
            if key in parts[0]
            else _("The {structure} is not complete in the later scan: the fields of view differ.")
        ).format(structure=structure(key).name)
        yield Finding("field-of-view-differs", Severity.WARNING, text, key)
    for key in sorted(parts[0] & parts[1] - {*before.incomplete} - {*after.incomplete}):
        text = _("The {structure} is cut off in both scans: its diameters may be those of different sections.").format(
            structure=structure(key).name
        )
        yield Finding("field-of-view-differs", Severity.WARNING, text, key)
    sizes = [float(np.prod(g.spacing)) ** (1 / 3) for g in grids]
    if max(sizes) > COARSER * min(sizes):
        text = _("Voxels are {earlier:.1f} mm wide at the earlier visit and {later:.1f} mm at the later.").format(
            earlier=sizes[0], later=sizes[1]
        )
        yield Finding("resolution-differs", Severity.WARNING, text, values={"voxel_mm": sizes})


def _of_patients(before: Study, after: Study, alignment: Alignment) -> Iterator[Finding]:
    sexes = {before.patient.sex, after.patient.sex} - {None}
    heights = [p.height_cm for p in (before.patient, after.patient) if p.height_cm is not None]
    if len(sexes) > 1 or (len(heights) == 2 and abs(heights[0] - heights[1]) > 10):
        text = _("Sex or height differ between the visits: these may be two patients.")
        yield Finding("patient-differs", Severity.ERROR, text)
    if alignment.overlap < LEAST_OVERLAP:
        text = _("The aligned hearts overlap poorly (Dice {dice:.2f}): check that both are of one patient.").format(
            dice=alignment.overlap
        )
        yield Finding("overlap-poor", Severity.WARNING, text, values={"dice": alignment.overlap})
    if alignment.angle_deg > MOST_TURNED_DEG:
        text = _("The later heart is turned by {angle:.0f} degrees: check the alignment in the pictures.").format(
            angle=alignment.angle_deg
        )
        yield Finding("turned", Severity.WARNING, text, values={"angle_deg": alignment.angle_deg})
