"""Texts that can be shown in another language: literals, values, lists, plurals, stored texts."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.errors import InputError, one_line
from heartseg.findings import Finding
from heartseg.measure.names import name_of
from heartseg.preflight import Machine
from heartseg.preflight.machine import _check_time
from heartseg.quality import check_result
from heartseg.result import Removal
from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume
from heartseg.wording import Wording, _, as_phrase, as_sentence, joined, listed, read_wordings, with_wordings

GERMAN = {
    (
        "quality.checks",
        "Holes of {volume} in the blood were filled ({names}).",
    ): "{names}: {volume} gefüllt.",
    ("quality.checks", "less than 0.01 mL"): "unter 0,01 ml",
    ("quality.checks", "The {structure} was not found."): "Nicht gefunden: {structure}",
    ("heartseg.anatomy", "left ventricle"): "linker Ventrikel",
    (
        "quality.checks",
        "The {structure} reaches the {border} of the scan: part of it may be outside, so its measures may be too "
        "small.",
    ): "{structure} berührt {border}.",
    ("heartseg.findings", "{sides} borders"): "Ränder {sides}",
    ("heartseg.wording", "{first} and {last}"): "{first} und {last}",
    ("heartseg.findings", "right"): "rechts",
    ("heartseg.findings", "left"): "links",
    ("heartseg.findings", "anterior"): "vorn",
    ("preflight.machine", "1 core"): "1 Kern",
    ("preflight.machine", "{count} cores"): "{count} Kerne",
    (
        "preflight.machine",
        "on the processor ({cores}) this takes about {about}, give or take a factor of two",
    ): "auf {cores} dauert das {about}",
    ("preflight.machine", "{count:.0f} minutes"): "{count:.0f} Minuten",
    ("measure.names", "wall thickness, mean"): "mittlere Wanddicke",
    ("measure.names", "LV myocardium"): "LV-Myokard",
}


def german(context: str, literal: str) -> str:
    return GERMAN.get((context, literal), literal)


def in_german(text: str) -> str:
    assert isinstance(text, Wording), text
    return text.translated(german)


def findings_of_box(removals: tuple[Removal, ...] = ()) -> dict[str, Finding]:
    """Findings of a map whose only structure, LV, touches three borders."""
    geometry = Geometry((40, 40, 40), (2.0, 2.0, 2.0))
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[5:30, 0:25, :] = 1
    volume = Volume(np.zeros((40, 40, 40), np.float32), geometry, modality="MR")
    return {f"{f.code} {f.structure}": f for f in check_result(volume, labels, (), removals, STRUCTURES)}


def test_a_finding_in_another_language_with_its_clauses_lists_and_names() -> None:
    filled = [Removal(key, 1, 0.001, (0, 0, 0), "hole inside the structure, filled") for key in ("LA", "LV")]
    found = findings_of_box(tuple(filled))
    assert found["holes-filled None"].message == "Holes of less than 0.01 mL in the blood were filled (LV, LA)."
    assert in_german(found["holes-filled None"].message) == "LV, LA: unter 0,01 ml gefüllt."
    cut = in_german(found["cut-by-border LV"].message)
    assert cut == "Linker Ventrikel berührt Ränder rechts, links und vorn."
    assert in_german(found["structure-missing MYO"].message) == "Nicht gefunden: left ventricular myocardium."
    assert all(isinstance(f.message, Wording) for f in found.values())


@pytest.mark.parametrize(
    ("cores", "text"), [(1, "Auf 1 Kern dauert das 2 Minuten."), (4, "Auf 4 Kerne dauert das 2 Minuten.")]
)
def test_singular_and_plural_are_two_literals(cores: int, text: str) -> None:
    (finding,) = _check_time(120.0, Machine("cpu", None, None, cores))
    assert in_german(finding.message) == text


def test_names_of_measures_are_translated_part_by_part() -> None:
    name, _decimals = name_of("MYO", "wall_thickness_mean")
    assert (name, in_german(name)) == ("LV myocardium wall thickness, mean", "LV-Myokard mittlere Wanddicke")


def test_an_error_keeps_its_wording() -> None:
    error = InputError(_("{name} is missing").format(name=_("scan")))
    for text in (str(error), one_line(error), as_sentence(str(error)), "see: " + str(error)):
        assert isinstance(text, Wording)
    german = {"scan": "Bild", "{name} is missing": "es fehlt: {name}"}
    text = str(error)
    assert isinstance(text, Wording)
    assert text.translated(lambda context, literal: german[literal]) == "es fehlt: Bild"


def test_a_translation_with_other_fields_is_not_used() -> None:
    text = _("{count} slices").format(count=3)
    for wrong in ("{number} Schichten", "{count", "{count.missing}", "{0} Schichten"):
        assert text.translated(lambda context, literal, wrong=wrong: wrong) == "3 slices"  # type: ignore[misc]


def test_a_stored_text_is_the_same_text_and_can_be_translated() -> None:
    text = as_sentence(_("{n:.1f} of {names} ({why})").format(n=np.float32(2.25), names=["a", _("b")], why=None))
    content = {"texts": [text], "plain": ["c", 1, None]}
    back = read_wordings(json.loads(json.dumps(with_wordings(content))))
    assert back == content
    upper = [
        t.translated(lambda context, literal: literal.replace("of", "von").replace("b", "B"))
        for t in (text, *back["texts"])
    ]
    assert upper == ["2.2 von a, B (None)."] * 2
    for copied in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert vars(copied) == vars(text) and copied == text


@pytest.mark.parametrize("template", ["{a.__class__}", "{a[0]}", "{}", "{a:>99999999}"])
def test_a_stored_text_with_other_fields_than_we_write_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        read_wordings({"wording": ["x", template, {"a": "b"}, ""]})


def test_forms_and_enumerations() -> None:
    assert (as_sentence("a b"), as_phrase("A b."), listed(["a", "b", "c"]), listed(["a"])) == (
        "A b.",
        "a b",
        "a, b and c",
        "a",
    )
    assert joined("; ", ["a", _("b")]).translated(lambda context, literal: literal.upper()) == "a; B"  # type: ignore[attr-defined]
    assert joined("; ", []) == ""
