"""Rows of the table of measures for the function of the heart and for values relative to body surface area."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML
from ..result import Measure, joined_notes
from ..volume.patient import Patient
from ..wording import _
from .function import AtrialFunction, CardiacFunction, VentricularFunction

_NO_BSA = _("height and weight unknown")
_NO_RATE = _("heart rate unknown")
_SIZES = {("volume", key) for key in ("LV", "RV", "LA", "RA")} | {("mass", "MYO")}


def function_measures(function: CardiacFunction, patient: Patient) -> tuple[Measure, ...]:
    """Return rows for ventricles, atria and mass, each followed by its index; an unknown value has the reason as note.

    Each row ends with the notes on the curve of its structure, such as frames that were left out.
    """
    return with_indices(function_rows(function, patient), patient)


def function_rows(function: CardiacFunction, patient: Patient) -> tuple[Measure, ...]:
    """Return the rows of :func:`function_measures` without the indices."""
    rows = (
        *_ventricle("LV", function.left, function),
        _output(function, patient),
        *_ventricle("RV", function.right, function),
        *_atrium("LA", function.left_atrium),
        *_atrium("RA", function.right_atrium),
        *_mass(function),
    )
    curves = function.curves
    return tuple(
        replace(m, note=joined_notes(m.note, *curves[m.structure].notes)) if m.structure in curves else m for m in rows
    )


def with_indices(rows: Iterable[Measure], patient: Patient) -> tuple[Measure, ...]:
    """Return rows of the function, each but the fractions followed by its index."""
    return tuple(m for row in rows for m in ((row,) if row.unit == "%" else (row, _index(row, patient))))


def index_measures(
    measures: Iterable[Measure], patient: Patient, incomplete: Collection[str] = ()
) -> tuple[Measure, ...]:
    """Return ``volume_index`` (mL/m²) of the chambers and ``mass_index`` (g/m²); no rows if body size is unknown.

    Structures that are ``incomplete`` (keys) have no index.
    """
    wanted = (m for m in measures if (m.quantity, m.structure) in _SIZES and m.structure not in incomplete)
    return tuple(_index(m, patient) for m in wanted if m.value is not None and patient.bsa_m2 is not None)


def _index(measure: Measure, patient: Patient) -> Measure:
    """Return a measure and its interval per body surface area; without body size, the reason."""
    quantity = "cardiac_index" if measure.quantity == "cardiac_output" else f"{measure.quantity}_index"
    bsa, unit = patient.bsa_m2, f"{measure.unit}/m²"
    if measure.value is None or bsa is None:
        return Measure(measure.structure, quantity, None, unit, measure.note if measure.value is None else _NO_BSA)
    note = joined_notes(measure.note, _("per body surface area of {bsa:.2f} m² (Mosteller)").format(bsa=bsa))
    low, high = (None if limit is None else limit / bsa for limit in (measure.low, measure.high))
    return Measure(measure.structure, quantity, measure.value / bsa, unit, note, low, high)


def _ventricle(key: str, ventricle: VentricularFunction, function: CardiacFunction) -> Iterator[Measure]:
    ed = _("end-diastole of the left ventricle, frame {frame}").format(frame=function.end_diastole)
    es = _("end-systole of the left ventricle, frame {frame}").format(frame=function.end_systole)
    missing = _("{key} not known at end-diastole or end-systole").format(key=key)
    for quantity, value, when in (("edv", ventricle.edv_ml, ed), ("esv", ventricle.esv_ml, es)):
        yield Measure(
            key,
            quantity,
            value,
            "mL",
            when if value is not None else _("{key} not known: {when}").format(key=key, when=when),
        )
    stroke, fraction = ventricle.stroke_volume_ml, ventricle.ejection_fraction_percent
    yield Measure(key, "stroke_volume", stroke, "mL", "" if stroke is not None else missing)
    yield Measure(key, "ejection_fraction", fraction, "%", "" if fraction is not None else missing)


def _output(function: CardiacFunction, patient: Patient) -> Measure:
    known = patient.heart_rate_text
    rate = _("heart rate {rate}").format(rate=known) if known else _NO_RATE
    return Measure("LV", "cardiac_output", function.cardiac_output_l_min, "L/min", rate)


def _atrium(key: str, atrium: AtrialFunction) -> Iterator[Measure]:
    why = "" if atrium.max_ml is not None else _("{key} known in fewer than two frames").format(key=key)
    yield Measure(key, "max_volume", atrium.max_ml, "mL", why)
    yield Measure(key, "min_volume", atrium.min_ml, "mL", why)
    yield Measure(key, "emptying_fraction", atrium.emptying_fraction_percent, "%", why)


def _mass(function: CardiacFunction) -> Iterator[Measure]:
    for phase, volume in (("ed", function.myocardium_ed_ml), ("es", function.myocardium_es_ml)):
        mass = None if volume is None else volume * MYOCARDIAL_DENSITY_G_PER_ML
        why = (
            _("volume times {density} g/mL").format(density=MYOCARDIAL_DENSITY_G_PER_ML)
            if mass is not None
            else _("MYO not known in that frame")
        )
        yield Measure("MYO", f"mass_{phase}", mass, "g", why)
