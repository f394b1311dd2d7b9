"""Rows of the table of measures for the function of the heart and for values relative to body surface area."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from ..anatomy import MYOCARDIAL_DENSITY_G_PER_ML
from ..result import Measure
from ..volume.patient import Patient
from .function import AtrialFunction, CardiacFunction, VentricularFunction

_NO_BSA = "height and weight unknown"
_NO_RATE = "heart rate unknown"


def function_measures(function: CardiacFunction, patient: Patient) -> tuple[Measure, ...]:
    """Return rows for ventricles, atria and mass; an unknown value has the reason as note.

    Each row ends with the notes on the curve of its structure, such as frames that were left out.
    """
    rows = (
        *_ventricle("LV", function.left, function, patient),
        *_output(function, patient),
        *_ventricle("RV", function.right, function, patient),
        *_atrium("LA", function.left_atrium, patient),
        *_atrium("RA", function.right_atrium, patient),
        *_mass(function, patient),
    )
    curves = function.curves
    return tuple(
        replace(m, note="; ".join(n for n in (m.note, *curves[m.structure].notes) if n)) if m.structure in curves else m
        for m in rows
    )


def index_measures(
    measures: Iterable[Measure], patient: Patient, incomplete: Collection[str] = ()
) -> tuple[Measure, ...]:
    """Return ``volume_index`` (mL/m²) of the chambers and ``mass_index`` (g/m²); no rows if body size is unknown.

    Structures that are ``incomplete`` (keys) have no index.
    """
    bsa = patient.bsa_m2
    if bsa is None:
        return ()
    wanted = {("volume", k): "mL/m²" for k in ("LV", "RV", "LA", "RA")} | {("mass", "MYO"): "g/m²"}
    return tuple(
        Measure(
            m.structure,
            f"{m.quantity}_index",
            m.value / bsa,
            wanted[m.quantity, m.structure],
            _bsa_note(bsa),
            None if m.low is None else m.low / bsa,
            None if m.high is None else m.high / bsa,
        )
        for m in measures
        if (m.quantity, m.structure) in wanted and m.value is not None and m.structure not in incomplete
    )


def _bsa_note(bsa_m2: float) -> str:
    return f"per body surface area of {bsa_m2:.2f} m² (Mosteller)"


def _with_index(key: str, quantity: str, value: float | None, unit: str, why: str, patient: Patient) -> list[Measure]:
    """Return a value and its index (per body surface area); ``why`` explains a missing or describes a known value."""
    bsa = patient.bsa_m2
    index = None if value is None or bsa is None else value / bsa
    note = why if value is None else _NO_BSA if bsa is None else _bsa_note(bsa)
    return [Measure(key, quantity, value, unit, why), Measure(key, f"{quantity}_index", index, f"{unit}/m²", note)]


def _ventricle(
    key: str, ventricle: VentricularFunction, function: CardiacFunction, patient: Patient
) -> Iterator[Measure]:
    ed = f"end-diastole of the left ventricle, frame {function.end_diastole}"
    es = f"end-systole of the left ventricle, frame {function.end_systole}"
    missing = f"{key} not known at end-diastole or end-systole"
    for quantity, value, when in (("edv", ventricle.edv_ml, ed), ("esv", ventricle.esv_ml, es)):
        note = when if value is not None else f"{key} not known: {when}"
        yield from _with_index(key, quantity, value, "mL", note, patient)
    stroke = ventricle.stroke_volume_ml
    yield from _with_index(key, "stroke_volume", stroke, "mL", "" if stroke is not None else missing, patient)
    fraction = ventricle.ejection_fraction_percent
    yield Measure(key, "ejection_fraction", fraction, "%", "" if fraction is not None else missing)


def _output(function: CardiacFunction, patient: Patient) -> Iterator[Measure]:
    output, bsa = function.cardiac_output_l_min, patient.bsa_m2
    rate = _NO_RATE if patient.heart_rate_bpm is None else f"heart rate {patient.heart_rate_bpm:.0f}/min"
    yield Measure("LV", "cardiac_output", output, "L/min", rate)
    index = None if output is None or bsa is None else output / bsa
    note = rate if output is None else _NO_BSA if bsa is None else _bsa_note(bsa)
    yield Measure("LV", "cardiac_index", index, "L/min/m²", note)


def _atrium(key: str, atrium: AtrialFunction, patient: Patient) -> Iterator[Measure]:
    why = "" if atrium.max_ml is not None else f"{key} known in fewer than two frames"
    yield from _with_index(key, "max_volume", atrium.max_ml, "mL", why, patient)
    yield from _with_index(key, "min_volume", atrium.min_ml, "mL", why, patient)
    yield Measure(key, "emptying_fraction", atrium.emptying_fraction_percent, "%", why)


def _mass(function: CardiacFunction, patient: Patient) -> Iterator[Measure]:
    for phase, volume in (("ed", function.myocardium_ed_ml), ("es", function.myocardium_es_ml)):
        mass = None if volume is None else volume * MYOCARDIAL_DENSITY_G_PER_ML
        why = f"volume times {MYOCARDIAL_DENSITY_G_PER_ML} g/mL" if mass is not None else "MYO not known in that frame"
        yield from _with_index("MYO", f"mass_{phase}", mass, "g", why, patient)
