"""Suggested structures for labels, changing the label map of an installed model, and model summaries."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from heartseg.cli.models import add_parser
from heartseg.errors import ModelError, OutputError
from heartseg.models.card import ModelCard
from heartseg.models.folder import ModelFolder
from heartseg.models.install import install_model, set_labels
from heartseg.models.labels import OutputHeads, build_lut, map_text, parse_label_map, suggest_labels, suggested_map
from heartseg.models.store import find_model, list_models
from heartseg.models.summary import ModelSummary, figures_of, size_on_disk, size_text
from tiny_models import MODEL_FOLDER_NAME, make_tiny_model_folder


def heads(*names: str, values: tuple[int, ...] | None = None) -> OutputHeads:
    labels = dict(zip(names, values or range(1, len(names) + 1), strict=True))
    return OutputHeads.of({"labels": {"background": 0, **labels}}, "dataset.json")


@pytest.fixture
def heartseg_models(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        parser = argparse.ArgumentParser("heartseg")
        add_parser(parser.add_subparsers())
        args = parser.parse_args(["models", *map(str, arguments)])
        assert args.run(args) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("left ventricle", "LV"),
        ("LeftVentricle", "LV"),
        ("heart_ventricle_left_blood", "LV"),
        ("Right-Atrium-Cavity", "RA"),
        ("label_500", "LV"),
        ("550", "RA"),
        ("myocardium_of_lv", "MYO"),
        ("rv myocardium", None),
        ("right ventricular myocardium", None),
        ("left atrial appendage", None),
        ("pulmonary_vein", None),
        ("pulmonary trunk", "PA"),
        ("descending aorta", None),
        ("ascending_aorta_root", "AO"),
        ("aortic valve", None),
        ("liver", None),
        ("lv scar", None),
    ],
)
def test_a_structure_is_suggested_from_a_label_name(name: str, key: str | None) -> None:
    (suggestion,) = suggest_labels(heads(name))
    assert suggestion.key == key


def test_structures_are_suggested_from_mmwhs_values() -> None:
    values = (500, 600, 420, 550, 205, 820, 850)
    found = suggested_map(heads(*"abcdefg", values=values))
    assert found == {500: "LV", 600: "RV", 420: "LA", 550: "RA", 205: "MYO", 820: "AO", 850: "PA"}


def test_each_structure_is_suggested_once_for_the_most_reliable_match() -> None:
    found = suggest_labels(heads("lv blood pool of the heart", "LV"))
    assert [(s.key, s.why) for s in found] == [(None, ""), ("LV", "name")]


def test_a_model_without_known_labels_is_refused_with_a_suggested_label_map(tmp_path: Path) -> None:
    folder = make_tiny_model_folder(tmp_path / MODEL_FOLDER_NAME, labels=("label_500", "label_600", "bone"))
    with pytest.raises(ModelError, match='--labels "1=LV,2=RV"'):
        install_model(folder)
    model = install_model(folder, "Mapped", label_map=suggested_map(ModelFolder.open(folder).heads))
    assert model.structure_lut().tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(("count", "shown", "omitted"), [(1, 1, None), (30, 30, None), (31, 30, 1), (35, 30, 5)])
def test_an_error_lists_thirty_labels_and_the_number_of_the_others(count: int, shown: int, omitted: int | None) -> None:
    known = heads(*(f"bone{k}" for k in range(1, count + 1)))
    with pytest.raises(ModelError) as caught:
        build_lut(known, {}, "model")
    assert re.findall(r"(\d+)=bone\1\b", str(caught.value)) == [str(k) for k in range(1, shown + 1)]
    more = re.search(r"and (\d+) more", str(caught.value))
    assert (more and int(more[1])) == omitted


def test_the_label_map_of_an_installed_model_can_be_changed(carded: Path, user_models: Path) -> None:
    install_model(carded)
    hashes = ModelCard.read(user_models / "Tiny").files
    model = set_labels("Tiny", {1: "RV", 2: "LV"})
    assert find_model("Tiny").structure_lut().tolist() == [0, 2, 1, 0]
    assert model.card.files == hashes
    assert {p.name for p in model.path.iterdir()} == {"plans.json", "dataset.json", "heartseg.json", "fold_0"}


@pytest.mark.parametrize(("labels", "named"), [({9: "LV"}, "label 9"), ({1: "XY"}, "'XY'")])
def test_an_invalid_label_map_leaves_the_card_unchanged(
    carded: Path, user_models: Path, labels: dict[int, str], named: str
) -> None:
    install_model(carded)
    before = (user_models / "Tiny" / "heartseg.json").read_bytes()
    with pytest.raises(ModelError, match=named):
        set_labels("Tiny", labels)
    assert (user_models / "Tiny" / "heartseg.json").read_bytes() == before


def test_the_label_map_of_a_shipped_model_cannot_be_changed(carded: Path, tmp_path: Path, user_models: Path) -> None:
    shipped = tmp_path / "module" / "Models" / "Shipped"
    shutil.copytree(carded, shipped)
    with pytest.raises(ModelError, match="'Shipped'"):
        set_labels("Shipped", {1: "LV"})
    with pytest.raises(ModelError, match="'Nothing'"):
        set_labels("Nothing", {1: "LV"})


def test_a_failed_write_leaves_the_card_unchanged(
    carded: Path, user_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_model(carded)
    before = (user_models / "Tiny" / "heartseg.json").read_bytes()

    def full(self: object, path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ModelCard, "write", full)
    with pytest.raises(OutputError, match=r"disk is full.*HEARTSEG_MODELS"):
        set_labels("Tiny", {1: "RV"})
    assert (user_models / "Tiny" / "heartseg.json").read_bytes() == before
    assert not list((user_models / "Tiny").glob(".*"))


def test_the_map_command_lists_suggestions_and_changes_labels(
    tmp_path: Path, heartseg_models: Callable[..., str]
) -> None:
    folder = make_tiny_model_folder(tmp_path / MODEL_FOLDER_NAME, labels=("LV", "label_600", "bone"))
    heartseg_models("install", folder, "--name", "Mine")
    out = heartseg_models("map", "Mine")
    assert "RV (MM-WHS value)" in out
    assert 'heartseg models map Mine --labels "1=LV,2=RV"' in out
    heartseg_models("map", "Mine", "--map", "1=LV,2=RV")
    rows = json.loads(heartseg_models("map", "Mine", "--json"))["labels"]
    assert [r["structure"] for r in rows] == ["LV", "RV", None]
    assert "--labels" not in heartseg_models("map", "Mine")


def test_the_folder_command_prints_the_model_folder(heartseg_models: Callable[..., str], user_models: Path) -> None:
    assert heartseg_models("folder").strip() == str(user_models)


def test_a_summary_lists_structures_figures_size_and_licence(carded: Path, user_models: Path, tmp_path: Path) -> None:
    card = ModelCard.read(carded)
    entry = {"data": "ten scans", "n": 10, "metric": "Dice, mean", "figures": {"mean": {"mean": 0.8126, "sd": 0.05}}}
    odd = ({"figures": {"LV": 1}}, "text", {"figures": {"mean": True}}, {"figures": None})
    changed = {**card.to_dict(), "licence": "CC BY 4.0", "tested_on": [entry, *odd]}
    ModelCard.from_dict(changed).write(carded)
    install_model(carded)
    summary = ModelSummary.of(list_models()[0])
    assert summary.figures == ("Dice 0.81 (SD 0.05, n = 10, ten scans)",)
    assert summary.size_bytes == size_on_disk(user_models / "Tiny") > 10_000
    assert summary.line == (
        f"LV, RV, MYO in CT and MR; Dice 0.81 (SD 0.05, n = 10, ten scans); {size_text(summary.size_bytes)}; CC BY 4.0"
    )


def test_the_summary_of_a_broken_model_states_its_problem(carded: Path, user_models: Path) -> None:
    install_model(carded)
    (user_models / "Tiny" / "plans.json").unlink()
    summary = ModelSummary.of(list_models()[0])
    assert "plans.json" in (summary.problem or "")
    assert (summary.problem or "") in summary.line


def test_the_figures_of_the_shipped_card_state_the_number_of_cases(default_model: Path) -> None:
    lines = figures_of(ModelCard.read(default_model))
    assert re.match(r"Dice 0\.\d\d \(n = \d", lines[0])
    assert all("n = " in line for line in lines)


def test_a_formatted_label_map_can_be_parsed() -> None:
    assert parse_label_map(map_text({1: "LV", 205: "MYO"})) == {1: "LV", 205: "MYO"}
