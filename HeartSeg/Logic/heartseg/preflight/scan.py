"""Checks of the chosen image before a run: dimensions, geometry, voxels, modality, field of view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..findings import Finding, Severity, borders_text
from ..volume.checks import SHEAR_LIMIT_DEG, check_scale, check_spacing, check_volume, shear_degrees
from ..volume.geometry import is_singular
from ..volume.types import Volume
from ..volume.values import ValueScale, evident_modality, is_picture
from ..wording import _, listed
from .fixes import AS_CT, AS_MR, HARDEN, PICK_FRAME, RESAMPLE, STATE_MODALITY

if TYPE_CHECKING:
    from ..inference.locate import HeartBox
    from ..models.folder import ModelFolder

SMALL_FIELD_MM = 110.0
"""Field of view below which part of an adult heart is likely to lie outside: it is about 120 mm long and 80 to 100 mm
wide with its great vessels (the plausible volumes of :mod:`heartseg.anatomy` in one ellipsoid)."""

ANISOTROPIC = 6.0
"""Ratio of the largest to the smallest voxel edge from which the surfaces between slices are guesses; short-axis cine
has 5 to 12."""

BORDER_MM = 5.0
"""Distance of the coarse heart to the scan's border below which it counts as cut: less than one voxel (6 mm) of the
default finder."""


@dataclass(frozen=True)
class Chosen:
    """What is known of the chosen image besides its voxels.

    Attributes:
        name: for people.
        size: voxels along x, y, z (and further axes); empty where a :class:`Volume` says it.
        components: values per voxel.
        frames: of a time series; 1 for a single volume, or when a frame is chosen.
        transform: kind of the transform above it in the scene: ``""``, ``"rigid"``, ``"scaling"`` (any linear one that
            changes lengths or angles), ``"nonlinear"``.
    """

    name: str = "scan"
    size: tuple[int, ...] = ()
    components: int = 1
    frames: int = 1
    transform: str = ""


def check_chosen(chosen: Chosen) -> tuple[Finding, ...]:
    """Dimensions, colour, time and the transform above."""
    checks = []
    if chosen.size and (len(chosen.size) < 3 or min(chosen.size[:3]) == 1):
        size = "x".join(map(str, chosen.size))
        text = _("'{name}' is a 2D image ({size}): choose a volume").format(name=chosen.name, size=size)
        checks.append(Finding("image-2d", Severity.ERROR, text))
    if chosen.frames > 1:
        text = _("'{name}' is a time series of {frames} frames: choose one of them, or all").format(
            name=chosen.name, frames=chosen.frames
        )
        checks.append(Finding("time-series", Severity.ERROR, text, None, {"frames": chosen.frames}, PICK_FRAME))
    elif chosen.components > 1:
        many = chosen.components > 4
        text = (
            _("'{name}' has {count} values per voxel: frames of a time series, most likely; take one")
            if many
            else _("'{name}' has {count} values per voxel: a colour picture; export the grey values")
        ).format(name=chosen.name, count=chosen.components)
        values = {"components": chosen.components}
        if many:
            checks.append(Finding("time-series", Severity.ERROR, text, None, values, PICK_FRAME))
        else:
            checks.append(Finding("colour", Severity.ERROR, text, values=values))
    return (*checks, *_check_transform(chosen))


def _check_transform(chosen: Chosen) -> tuple[Finding, ...]:
    if chosen.transform == "rigid":
        text = _("'{name}' lies under a transform: the segmentation is put under the same one").format(name=chosen.name)
        return (Finding("transform-rigid", Severity.INFO, text),)
    if chosen.transform:
        what = _("bends it") if chosen.transform == "nonlinear" else _("changes its size or angles")
        text = _(
            "'{name}' lies under a transform that {what}: volumes and diameters would be those before "
            "it; apply it to a copy first"
        ).format(name=chosen.name, what=what)
        if chosen.transform == "nonlinear":
            return (Finding("transform-nonlinear", Severity.WARNING, text, fix=HARDEN),)
        return (Finding("transform-scaling", Severity.WARNING, text, fix=HARDEN),)
    return ()


def check_scan(volume: Volume, model: ModelFolder | None = None) -> tuple[Finding, ...]:
    """Geometry, voxels, and whether they are what the model knows."""
    try:
        checked = check_volume(volume)
    except InputError as error:
        return (Finding("scan-refused", Severity.ERROR, str(error), fix=_fix_for_refusal(volume)),)
    fixes = {"memory-tight": RESAMPLE, "direction-sheared": RESAMPLE}
    checks = [replace(f, fix=fixes.get(f.code, "")) for f in checked.findings]
    checks += _check_anisotropy(checked)
    checks += _check_modality(checked, model)
    return tuple(checks)


def _fix_for_refusal(volume: Volume) -> str:
    """Resampling mends a tilted grid, and nothing else that is refused."""
    matrix = volume.geometry.direction_matrix
    try:
        check_spacing(volume.geometry.spacing, volume.name)
    except InputError:
        return ""
    return RESAMPLE if not is_singular(matrix) and shear_degrees(matrix) > SHEAR_LIMIT_DEG else ""


def _check_anisotropy(volume: Volume) -> tuple[Finding, ...]:
    spacing = volume.geometry.spacing
    ratio = max(spacing) / min(spacing)
    if ratio < ANISOTROPIC:
        return ()
    edges = " x ".join(f"{s:.3g}" for s in spacing)
    text = _(
        "voxels of {edges} mm are {ratio:.0f} times as long as they are wide: between the slices the "
        "surfaces are guesses, and volumes depend on where the slices lie"
    ).format(edges=edges, ratio=ratio)
    return (Finding("spacing-anisotropic", Severity.INFO, text, values={"ratio": round(ratio, 1)}),)


def _check_modality(volume: Volume, model: ModelFolder | None) -> tuple[Finding, ...]:
    low, high = float(volume.array.min()), float(volume.array.max())
    values = {"lowest": low, "highest": high}
    span = _("values of {low:g} to {high:g}").format(low=low, high=high)
    modality = volume.modality
    known = model.card.modalities if model is not None and model.card is not None else ()
    checks = []
    if modality and known and modality not in known:
        text = _("the scan is {modality} and model '{model}' was made for {known}: choose another model").format(
            modality=modality, model=model.name if model else "", known=listed(known)
        )
        checks.append(Finding("modality-unknown-to-model", Severity.WARNING, text))
    for finding in check_scale(volume):
        if model is not None and "CTNormalization" in model.normalization_schemes:
            text = finding.message + " " + _("Model '{name}' needs Hounsfield units").format(name=model.name)
            checks.append(replace(finding, severity=Severity.ERROR, message=text))
        else:
            known_kind = is_picture(volume.array) or volume.value_scale is ValueScale.OFFSET  # a CT, though not in HU
            checks.append(replace(finding, fix="" if known_kind else AS_MR))
    looks_like_ct = evident_modality(volume.array) == "CT"
    if modality == "MR" and looks_like_ct:
        text = _("the scan is said to be MR, but {span} look like CT in Hounsfield units: check which it is").format(
            span=span
        )
        checks.append(Finding("looks-like-ct", Severity.WARNING, text, None, values, AS_CT))
    if not modality:
        guess, fix = _("no Hounsfield units (MR, or a CT with a window or an offset)"), STATE_MODALITY
        if looks_like_ct:
            guess, fix = _("CT in Hounsfield units"), AS_CT
        text = _("the scan does not say whether it is CT or MR; {span} look like {guess}: state the modality").format(
            span=span, guess=guess
        )
        checks.append(Finding("modality-not-said", Severity.INFO, text, None, values, fix))
    return tuple(checks)


def check_field_of_view(volume: Volume, heart: HeartBox | bool | None = None) -> tuple[Finding, ...]:
    """Whether the scan is large enough for a heart, and whether the coarse heart reaches its border."""
    if heart is False:
        text = _("the finder sees no heart in this scan: it may be another body part, cut off, or unlike what it knows")
        return (Finding("no-heart-seen", Severity.WARNING, text),)
    if heart is not None and heart is not True:
        return _check_cut(volume, heart)
    extent = volume.geometry.extent_mm
    if min(extent) >= SMALL_FIELD_MM:
        return ()
    size = " x ".join(f"{e:.0f}" for e in extent)
    text = _(
        "the scan covers {size} mm, less than {limit:g} mm along one axis: part of the "
        "heart may lie outside, and its measures are then too small"
    ).format(size=size, limit=SMALL_FIELD_MM)
    values = {"extent_mm": [round(e, 1) for e in extent]}
    return (Finding("field-of-view-small", Severity.WARNING, text, values=values),)


def _check_cut(volume: Volume, heart: HeartBox) -> tuple[Finding, ...]:
    # The heart is about an ellipsoid in its box; this is its extent along the axes of the grid, which may be oblique.
    geometry = volume.geometry
    center = geometry.world_to_index(heart.center) + 0.5
    half = np.linalg.norm(((heart.high - heart.low) / 2)[:, None] * geometry.direction_matrix, axis=0)
    reach = (half / geometry.spacing)[::-1]
    sides = list(geometry.sides_reached(center - reach, center + reach, BORDER_MM))
    if not sides:
        return ()
    where = borders_text(sides)
    if sides == ["superior"]:
        text = _("the heart reaches the scan's {border}, as in many cardiac scans: the great vessels end there").format(
            border=where
        )
        return (Finding("heart-cut", Severity.INFO, text, values={"sides": sides}),)
    text = _("the heart reaches the scan's {border}: what lies outside is missing from volumes and diameters").format(
        border=where
    )
    return (Finding("heart-cut", Severity.WARNING, text, values={"sides": sides}),)
