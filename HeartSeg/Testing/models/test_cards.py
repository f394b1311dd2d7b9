"""Reading, writing and validating the model card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heartseg.errors import ModelError
from heartseg.models.card import SCHEMA, ModelCard

GOOD = {"schema": SCHEMA, "name": "Heart", "version": "1", "labels": {"1": "LV", "2": "myo"}, "orientation": "LPS"}


def test_reading_restores_a_written_card(tmp_path: Path) -> None:
    card = ModelCard(
        name="Heart",
        version="1.2",
        description="Whole heart – CT",
        modalities=("CT", "MR"),
        labels={1: "LV", 5: "MYO"},
        orientation="LPS",
        finder="finder",
        margin_mm=12.5,
        normalization_extent="crop",
        upper_percentile=98.5,
        doubtful_below={"LV": 0.9},
        trained_on={"cases": 20},
        tested_on=({"set": "a", "dice": 0.9},),
        citation=("Someone 2024",),
        files={"plans.json": "a" * 64},
        known_failures=("pacemakers",),
        extra={"color": "blue"},
    )
    assert ModelCard.read(card.write(tmp_path)) == card
    assert ModelCard.read(tmp_path) == card


def test_unknown_keys_are_preserved() -> None:
    card = ModelCard.from_dict({**GOOD, "new_key": "a later version"})
    assert card.to_dict()["new_key"] == "a later version"


def test_label_values_become_integers_and_keys_upper_case() -> None:
    assert ModelCard.from_dict(GOOD).labels == {1: "LV", 2: "MYO"}


@pytest.mark.parametrize("key", ["schema", "name", "version", "labels", "orientation"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ModelError, match=f"'x.json'.*'{key}'"):
        ModelCard.from_dict({k: v for k, v in GOOD.items() if k != key}, "x.json")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("schema", "heartseg-model-9", "heartseg-model-1"),
        ("name", "", "string"),
        ("name", 3, "string"),
        ("labels", {"1": "SPLEEN"}, "LV, RV"),
        ("labels", {"0": "LV"}, "LV, RV"),
        ("labels", ["LV"], "object"),
        ("orientation", "RAS", "'LPS' or null"),
        ("modalities", ["CT", "PET"], "'CT' and 'MR'"),
        ("modalities", "CT", "list"),
        ("finder", "../other", "'finder'"),
        ("finder", "/etc", "'finder'"),
        ("margin_mm", -1, "0 to 1000"),
        ("margin_mm", "wide", "0 to 1000"),
        ("margin_mm", float("nan"), "0 to 1000"),
        ("margin_mm", True, "0 to 1000"),
        ("normalization_extent", "window", "'scan' or 'crop'"),
        ("upper_percentile", 0.985, "50 to 100"),
        ("doubtful_below", {"LV": 95}, "0 to 1"),
        ("doubtful_below", {"SPLEEN": 0.9}, "LV, RV"),
        ("trained_on", [], "object"),
        ("tested_on", {}, "list"),
        ("citation", "me", "list"),
        ("files", {"plans.json": "abc"}, "SHA-256"),
        ("files", {"../plans.json": "a" * 64}, "SHA-256"),
        ("files", {"C:\\plans.json": "a" * 64}, "SHA-256"),
    ],
)
def test_a_wrong_value_is_reported_with_the_allowed_values(key: str, value: object, allowed: str) -> None:
    with pytest.raises(ModelError) as error:
        ModelCard.from_dict({**GOOD, key: value}, "model/heartseg.json")
    message = str(error.value)
    assert f"'{key}' in 'model/heartseg.json' is {value!r}"[:60] in message
    assert allowed in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "detail"), [("{", "line 1"), ("[1]", "list"), ("[" * 100_000, "JSON"), ("\udcff", "JSON")]
)
def test_a_broken_file_is_reported(tmp_path: Path, text: str, detail: str) -> None:
    (tmp_path / "heartseg.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=rf"heartseg\.json'.*{detail}"):
        ModelCard.read(tmp_path)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "heartseg.json").write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert ModelCard.read(tmp_path).name == "Heart"
