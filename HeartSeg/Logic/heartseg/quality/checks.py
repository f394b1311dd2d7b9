"""Quality checks of a result. They report findings and never change the labels.

The limits were chosen such that 19 normal hearts (Rodero et al. 2021) and a labelled contrast-enhanced CT raise no
error while corrupted versions of them do. Each limit is at least a factor of two from the values in correct maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML, Structure
from ..anatomy import structure as by_key
from ..findings import SIDE_NAMES, Finding, Severity, borders_text
from ..measure import implausible
from ..measure.boxes import Box, LabelCrop, crop_labels, only_open_above
from ..measure.grid import SMALLEST_ML
from ..measure.wall import COARSE_VOXEL_MM
from ..postprocess import HOLE_FILLED, TOO_DARK
from ..result import Measure, Removal
from ..volume.checks import check_scale
from ..volume.types import Volume
from ..volume.values import ValueScale
from ..wording import _
from .contacts import Contacts, find_contacts, gap_mm
from .shapes import check_shapes

INFO, WARNING, ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR

HEART_SHARE = 0.3
"""Minimum volume of a heart relative to the smallest plausible heart (sum of the lower limits of chambers and
myocardium, 198 mL for all structures), i.e. 59 mL. Less is a fragment or a different organ."""

REMOVED_WARNING_SHARE, REMOVED_WARNING_ML = 0.15, 10.0
"""Larger removals, relative to the structure or in mL, mean that the network mistook other tissue for it. Of 31 right
results of unseen synthetic scans, three lost up to 14 % or 5 mL, all distant parts of an artery."""

OPEN_LV_WARNING, OPEN_LV_ERROR = 0.10, 0.18
"""Share of the LV surface that does not touch myocardium, LA or aorta. Correct maps: 0.5-1.1 %; the semi-automatic
reference of an ungated CT: 4.3 %. A ventricle cut in half is open over at least a fifth of its surface."""

FORBIDDEN_WARNING, FORBIDDEN_ERROR = 0.02, 0.08
"""Contact of structures that are anatomically separated, relative to the smaller surface. Correct maps: 0. The
membranous septum between LV and RA has about 1 cm², 1 % of the LV surface."""

FORBIDDEN_PAIRS = (("LV", "RV"), ("LV", "RA"), ("RV", "LA"), ("LV", "PA"), ("RA", "PA"))
"""Blood pools that are separated by muscle or another chamber."""

REQUIRED_PAIRS = (("LA", "LV"), ("RA", "RV"), ("AO", "LV"), ("PA", "RV"))
"""Structures connected by a valve."""

SEPTUM_SHARE = 0.08
"""Minimum share of the RV surface that touches the LV myocardium (the septum). Correct maps: 19-24 %."""

REQUIRED_GAP_MM = 5.0
"""Maximum gap between structures connected by a valve: its leaflets and one voxel of a scan with thick slices."""

ORDER_MARGIN_MM = 5.0
"""Tolerance for the order of centroids, e.g. in truncated or rotated hearts. In normal hearts, the distances are at
least 25 mm."""

ORDERED_PAIRS = (
    ("RA", "LA", 0, "right", "left"),
    ("RV", "LV", 0, "right", "left"),
    ("RV", "LA", 1, "anterior", "posterior"),
    ("LV", "AO", 2, "inferior", "superior"),
)
"""(first, second, LPS axis, side of the first, side of the second); the first has the smaller coordinate."""


CONTRAST_NONE_HU, CONTRAST_WEAK_HU = 20.0, 60.0
"""Mean of blood minus myocardium in CT. Without contrast medium, both have 30-65 HU; in coronary CTA, the difference is
at least 200 HU. A difference of 60 HU is two to three times the noise of a thin slice (21-26 HU), too little for a
sharp border."""

CONTRAST_WEAK_SD = 1.0
"""The limit for values other than HU: difference divided by the larger standard deviation of the two."""

CHECKED_QUANTITIES = {
    "volume": _("volume"),
    "mass": _("mass"),
    "diameter": _("diameter"),
    "wall_thickness_mean": _("wall thickness mean"),
    "wall_thickness_largest_segment": _("wall thickness largest segment"),
}
"""Quantity -> its name in a finding."""

LIMITS = _(
    "The model that ships knows adult hearts in their usual place: it may miss a child's heart, which is far smaller, "
    "and a mirrored one (dextrocardia)."
)
"""What a heart that is not found may be."""


CODES = frozenset(
    {
        "no-heart",
        "structure-missing",
        "several-components",
        "holes-filled",
        "dark-removed",
        "cut-by-border",
        "volume-implausible",
        "shape-implausible",
        "not-enclosed",
        "wrong-neighbours",
        "sides-swapped",
        "contrast-doubtful",
        "low-resolution",
        "not-hounsfield",
    }
)
"""Codes of the findings of :func:`check_result`."""
SCAN_CODES = frozenset({"contrast-doubtful", "not-hounsfield"})
"""Those of them that need the grey values of the scan."""
CLEAN_UP_CODES = frozenset({"several-components", "holes-filled", "dark-removed"})
"""Those of them that need what clean-up removed."""


def check_result(
    volume: Volume,
    labels: np.ndarray,
    measures: Sequence[Measure],
    removals: Sequence[Removal],
    structures: Sequence[Structure],
) -> tuple[Finding, ...]:
    """Check a cleaned label map for missing, truncated, implausible or misplaced structures.

    The codes are :data:`CODES`. With ``no-heart``, the labels are not checked any further.

    Args:
        volume: the scan.
        labels: uint8 ``(z, y, x)`` on the same grid, after clean-up.
        measures: from :func:`heartseg.measure.measure_structures` on the same labels.
        removals: from :func:`heartseg.postprocess.clean_labels`.
        structures: structures that the model segments; only these can be missing.

    Returns:
        Findings in the order of the checks; the pipeline sorts them by severity.
    """
    return check_crop(volume, crop_labels(labels, volume.geometry), measures, removals, structures)


def check_crop(
    volume: Volume,
    crop: LabelCrop | None,
    measures: Sequence[Measure],
    removals: Sequence[Removal],
    structures: Sequence[Structure],
) -> tuple[Finding, ...]:
    """Check the labelled part of a scan as :func:`check_result`; ``None`` without labels."""
    heart = _no_heart(crop, structures)
    if crop is None or heart:
        return (*heart, *check_scale(volume))
    values = {(m.structure, m.quantity): m.value for m in measures}
    boxes = crop.boxes
    contacts = find_contacts(crop)
    present = [s for s in structures if s.label in boxes and _ml(crop, boxes, s) >= SMALLEST_ML]
    keys = {s.key for s in present}
    return (
        *_missing(crop, boxes, structures, present),
        *_sides_swapped(crop, boxes, keys),
        *_not_enclosed(contacts, keys),
        *_wrong_neighbours(crop, boxes, contacts, keys),
        *_cut_by_border(crop, present),
        *_implausible(measures, present),
        *check_shapes(crop),
        *_components(values, removals),
        *_contrast(volume, measures, keys),
        *_resolution(volume),
        *check_scale(volume),
    )


def _mask_ml(crop: LabelCrop, boxes: Mapping[int, Box], label: int) -> float:
    return int(np.count_nonzero(crop.labels[boxes[label]] == label)) * crop.geometry.voxel_volume_ml


def _ml(crop: LabelCrop, boxes: Mapping[int, Box], structure: Structure) -> float:
    return _mask_ml(crop, boxes, structure.label) if structure.label in boxes else 0.0


def _no_heart(crop: LabelCrop | None, structures: Sequence[Structure]) -> list[Finding]:
    if crop is None:
        text = _("No heart was found in this scan. {limits}").format(limits=LIMITS)
        return [Finding("no-heart", ERROR, text, values={"volume_ml": 0.0})]
    lower = {"mL": 1.0, "g": 1 / MYOCARDIAL_DENSITY_G_PER_ML}
    limit = HEART_SHARE * sum(s.plausible[0] * lower.get(s.plausible_unit, 0.0) for s in structures)
    total = int(np.count_nonzero(crop.labels)) * crop.geometry.voxel_volume_ml
    if total >= limit:
        return []
    text = _(
        "No heart was found in this scan: {volume} mL were labelled, but a heart has at least {least:.1f} mL. {limits}"
    ).format(volume=_outside(total, limit), least=limit, limits=LIMITS)
    return [Finding("no-heart", ERROR, text, values={"volume_ml": total, "limit_ml": limit})]


def _missing(
    crop: LabelCrop, boxes: Mapping[int, Box], structures: Sequence[Structure], present: Sequence[Structure]
) -> list[Finding]:
    findings = []
    for s in structures:
        if s in present:
            continue
        ml = _ml(crop, boxes, s)
        remnant = _("The {structure} was not found (a remnant of {volume:.2f} mL).")
        text = (remnant if ml else _("The {structure} was not found.")).format(structure=s.name, volume=ml)
        findings.append(Finding("structure-missing", ERROR, text, s.key, {"volume_ml": ml}))
    return findings


def _sides_swapped(crop: LabelCrop, boxes: Mapping[int, Box], keys: set[str]) -> list[Finding]:
    centers = {key: _centroid(crop, boxes, by_key(key).label) for key in keys}
    findings = []
    for first, second, axis, side, other_side in ORDERED_PAIRS:
        if first not in centers or second not in centers:
            continue
        order = float(centers[second][axis] - centers[first][axis])
        if order < -ORDER_MARGIN_MM:
            text = _(
                "The {first} is {distance:.0f} mm {wrong_side} of the {second} instead of {side}: the "
                "labels are swapped, or the orientation of the scan is wrong."
            ).format(
                first=by_key(first).name,
                distance=-order,
                wrong_side=SIDE_NAMES[other_side],
                second=by_key(second).name,
                side=SIDE_NAMES[side],
            )
            values = {"distance_mm": order, "other": second}
            findings.append(Finding("sides-swapped", ERROR, text, first, values))
    return findings


def _centroid(crop: LabelCrop, boxes: Mapping[int, Box], label: int) -> np.ndarray:
    """Centroid ``(3,)`` of a label, LPS, mm."""
    mask = crop.labels[boxes[label]] == label
    index = []
    for axis in range(3):
        counts = np.count_nonzero(mask, axis=tuple(k for k in range(3) if k != axis))
        index.append(float(counts @ np.arange(len(counts))) / counts.sum() + boxes[label][axis].start)
    return crop.geometry.index_to_world(np.array(index))


def _not_enclosed(contacts: Contacts, keys: set[str]) -> list[Finding]:
    if not {"LV", "MYO"} <= keys:
        return []
    open_share = contacts.open_share("LV", "MYO", "LA", "AO")
    if open_share <= OPEN_LV_WARNING:
        return []
    severity = ERROR if open_share > OPEN_LV_ERROR else WARNING
    text = _(
        "{share} % of the surface of the left ventricle does not touch the myocardium, the left "
        "atrium or the aorta (expected: at most {limit})."
    ).format(share=_outside(100 * open_share, high=100 * OPEN_LV_WARNING), limit=_percent(OPEN_LV_WARNING))
    return [Finding("not-enclosed", severity, text, "LV", {"open_share": open_share, "limit": OPEN_LV_WARNING})]


def _wrong_neighbours(crop: LabelCrop, boxes: Mapping[int, Box], contacts: Contacts, keys: set[str]) -> list[Finding]:
    findings = []
    for a, b in FORBIDDEN_PAIRS:
        if not {a, b} <= keys:
            continue
        share = max(contacts.share(a, b), contacts.share(b, a))
        if share > FORBIDDEN_WARNING:
            severity = ERROR if share > FORBIDDEN_ERROR else WARNING
            text = _(
                "The {first} and the {second} touch over {share} of the smaller surface ({area:.1f} "
                "cm²), but should be separated."
            ).format(first=by_key(a).name, second=by_key(b).name, share=_percent(share), area=contacts.area(a, b) / 100)
            values = {"other": b, "share": share, "area_cm2": contacts.area(a, b) / 100}
            findings.append(Finding("wrong-neighbours", severity, text, a, values))
    for a, b in REQUIRED_PAIRS:
        if not {a, b} <= keys or contacts.area(a, b) > 0:
            continue
        gap = gap_mm(crop, boxes, a, b)
        limit = REQUIRED_GAP_MM + max(crop.geometry.spacing)
        if gap > limit:
            text = _("The {first} and the {second} should be adjacent, but are {gap:.0f} mm apart.").format(
                first=by_key(a).name, second=by_key(b).name, gap=gap
            )
            findings.append(Finding("wrong-neighbours", ERROR, text, a, {"other": b, "gap_mm": gap, "limit_mm": limit}))
    if {"RV", "MYO"} <= keys and (share := contacts.share("RV", "MYO")) < SEPTUM_SHARE:
        text = _(
            "Only {share} % of the surface of the right ventricle touches the left ventricular "
            "myocardium (expected: at least {limit}): the septum is missing."
        ).format(share=_outside(100 * share, 100 * SEPTUM_SHARE), limit=_percent(SEPTUM_SHARE))
        values = {"other": "MYO", "share": share, "limit": SEPTUM_SHARE}
        findings.append(Finding("wrong-neighbours", ERROR, text, "RV", values))
    return findings


def _cut_by_border(crop: LabelCrop, present: Sequence[Structure]) -> list[Finding]:
    findings = []
    for s in present:
        sides = crop.border_contacts.get(s.key)
        if not sides:
            continue
        harmless = only_open_above(s.key, sides)
        text = (
            _("The {structure} reaches the {border} of the scan: its upper part is outside, as in many cardiac scans.")
            if harmless
            else _(
                "The {structure} reaches the {border} of the scan: part of it may be outside, so its measures may be "
                "too small."
            )
        ).format(structure=s.name, border=borders_text(sides))
        findings.append(Finding("cut-by-border", INFO if harmless else WARNING, text, s.key, {"sides": list(sides)}))
    return findings


def _implausible(measures: Sequence[Measure], present: Sequence[Structure]) -> list[Finding]:
    keys = {s.key for s in present}
    findings = []
    for m in measures:
        limits = implausible(m) if m.structure in keys and m.quantity in CHECKED_QUANTITIES else None
        if limits is None or m.value is None:
            continue
        text = (
            _(
                "The {quantity} of the {structure} is {value} {unit}, below the plausible range for adults "
                "({low:g}–{high:g} {unit})."
            )
            if m.value < limits.low
            else _(
                "The {quantity} of the {structure} is {value} {unit}, above the plausible range for adults "
                "({low:g}–{high:g} {unit})."
            )
        ).format(
            quantity=CHECKED_QUANTITIES[m.quantity],
            structure=by_key(m.structure).name,
            value=_outside(m.value, limits.low, limits.high),
            unit=m.unit,
            low=limits.low,
            high=limits.high,
        )
        numbers = {"quantity": m.quantity, f"value_{m.unit.lower()}": m.value, "low": limits.low, "high": limits.high}
        findings.append(Finding("volume-implausible", WARNING, text, m.structure, numbers))
    return findings


def _components(values: dict[tuple[str, str], float | None], removals: Sequence[Removal]) -> list[Finding]:
    findings = []
    removed = [r for r in removals if not r.reason.startswith((HOLE_FILLED, TOO_DARK))]
    filled = [r for r in removals if r.reason.startswith(HOLE_FILLED)]
    for key in dict.fromkeys(r.structure for r in removed):
        kept = values.get((key, "volume")) or 0.0
        ml = sum(r.volume_ml for r in removed if r.structure == key)
        share = ml / (kept + ml) if kept + ml else 0.0
        severity = WARNING if share > REMOVED_WARNING_SHARE or ml > REMOVED_WARNING_ML else INFO
        name = by_key(key).name
        text = _(
            "{volume} of the label {structure} were separate from the rest ({kept:.0f} mL) and were removed."
        ).format(volume=_small_ml(ml), structure=name, kept=kept)
        numbers = {"removed_ml": ml, "kept_ml": kept, "share": share}
        findings.append(Finding("several-components", severity, text, key, numbers))
    if filled:
        ml = sum(r.volume_ml for r in filled)
        names = sorted({r.structure for r in filled}, key=lambda key: by_key(key).label)
        text = _("Holes of {volume} in the blood were filled ({names}).").format(volume=_small_ml(ml), names=names)
        findings.append(Finding("holes-filled", INFO, text, None, {"filled_ml": ml}))
    dark = [r for r in removals if r.reason.startswith(TOO_DARK)]
    if dark:
        ml = sum(r.volume_ml for r in dark)
        names = sorted({r.structure for r in dark}, key=lambda key: by_key(key).label)
        text = _("{volume} as dark as fat, lung or air were removed ({names}).").format(
            volume=_small_ml(ml), names=names
        )
        findings.append(Finding("dark-removed", INFO, text, None, {"removed_ml": ml}))
    return findings


def _contrast(volume: Volume, measures: Sequence[Measure], keys: set[str]) -> list[Finding]:
    """Contrast between blood and myocardium, in CT only."""
    hu = volume.value_scale is ValueScale.HOUNSFIELD
    if "MYO" not in keys or not (volume.modality == "CT" or hu):
        return []
    by_name = {(m.structure, m.quantity): m for m in measures}
    wall, wall_sd = (by_name.get(("MYO", f"{q}_intensity")) for q in ("mean", "sd"))
    if wall is None or wall.value is None or wall_sd is None or wall_sd.value is None:
        return []
    steps, weak = {}, []
    for key in ("LV", "LA", "RV", "RA"):
        mean, sd = (by_name.get((key, f"{q}_intensity")) for q in ("mean", "sd"))
        if key not in keys or mean is None or mean.value is None or sd is None or sd.value is None:
            continue
        steps[key] = mean.value - wall.value
        limit = CONTRAST_WEAK_HU if hu else CONTRAST_WEAK_SD * max(sd.value, wall_sd.value, 1e-9)
        if steps[key] < limit:
            weak.append(key)
    if not weak:
        return []
    unit = " HU" if hu else ""
    listed = [f"{key} {round(float(steps[key])):+d}{unit}" for key in weak]
    values = {f"step_{key}{'_hu' if hu else ''}": step for key, step in steps.items()}
    if hu and all(abs(step) < CONTRAST_NONE_HU for step in steps.values()):
        text = _(
            "No contrast medium: blood is as bright as the myocardium ({listed}), so the inner borders are unreliable."
        ).format(listed=listed)
        return [Finding("contrast-doubtful", WARNING, text, None, values)]
    left = {"LV", "LA"} & set(weak)
    text = _(
        "Blood is hardly brighter than the myocardium ({listed}), so the inner borders there are unreliable."
    ).format(listed=listed)
    return [Finding("contrast-doubtful", WARNING if left else INFO, text, None, values)]


def _resolution(volume: Volume) -> list[Finding]:
    largest = max(volume.geometry.spacing)
    if largest <= COARSE_VOXEL_MM or any(f.code == "slices-thick" for f in volume.findings):
        return []  # already reported when the scan was read
    text = _(
        "The largest voxel edge is {edge} mm (over {limit:g} mm): wall thickness and "
        "small structures are not resolved, and volumes vary with the position of the slices."
    ).format(edge=_outside(largest, high=COARSE_VOXEL_MM), limit=COARSE_VOXEL_MM)
    return [Finding("low-resolution", INFO, text, None, {"spacing_mm": largest, "limit_mm": COARSE_VOXEL_MM})]


def _outside(value: float, low: float = -math.inf, high: float = math.inf) -> str:
    """Format a value outside limits with as few decimals as show that it is outside."""
    texts = (f"{value:.{decimals}f}" for decimals in range(4))
    return next((text for text in texts if not low <= float(text) <= high), str(value))


def _small_ml(ml: float) -> str:
    return f"{ml:.2f} mL" if ml >= 0.005 else _("less than 0.01 mL")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
