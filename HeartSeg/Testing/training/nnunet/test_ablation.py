"""The ablation table: its values, and a comparison that runs, stops and resumes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.errors import SettingsError
from heartseg.networks.catalogue import NETWORKS
from heartseg.networks.csfbu_net import AttentionFusion
from heartseg.progress import Reporter
from heartseg.training.nnunet.ablate import (
    CONFIGURATIONS,
    _prediction,
    changed,
    configured,
    named_configurations,
    read_table,
    refuse_one_name_for_two,
    refuse_other_settings,
    refuse_without_translated,
    said,
    score,
)
from heartseg.training.nnunet.ablation_table import (
    REPORTED,
    Trial,
    as_csv,
    as_markdown,
    bootstrap_interval,
    case_values,
    differences,
    rows,
)
from heartseg.training.nnunet.convert import DATASET_NAME, write_json
from heartseg.training.nnunet.job import DataOptions, Training, fold_folder
from heartseg.training.nnunet.planning import SETTINGS_KEY, adapted_plans
from heartseg.training.nnunet.presets import CSFBU, NETWORK_NAMES, Preset
from heartseg.training.nnunet.run import left_out
from heartseg.training.nnunet.supervision import TrainingLoss
from heartseg.volume import Geometry, write_labels

from .conftest import base_plans, build_from


def trial(name: str, seed: int, **dice: dict[str, float]) -> Trial:
    return Trial(name, seed, dice, {}, 10.0, 5)


TRIALS = (
    trial("baseline", 0, a={"LV": 0.9, "AO": 0.7}, b={"LV": 0.8, "AO": 0.5}),
    trial("baseline", 1, a={"LV": 0.8, "AO": 0.7}, b={"LV": 0.6, "AO": 0.5}),
    trial("edge-m2", 0, a={"LV": 0.5, "AO": 0.5}, b={"LV": 0.5, "AO": 0.5}),
)


def test_cells_are_mean_and_sd_over_cases_after_averaging_over_seeds() -> None:
    baseline, edge = rows(TRIALS)
    per_case = [85.0, 70.0]
    assert baseline.cells["LV"] == pytest.approx((mean(per_case), stdev(per_case)))
    assert baseline.cells["mean"][0] == pytest.approx(mean([77.5, 60.0]))
    assert (baseline.n, baseline.seeds, baseline.seconds) == (2, 2, 20.0)
    assert baseline.seed_sd == pytest.approx(stdev([mean([80.0, 65.0]), mean([75.0, 55.0])]))
    assert edge.seed_sd is None


def test_the_table_has_columns_and_figures_of_the_original_document() -> None:
    lines = as_markdown(TRIALS).splitlines()
    assert lines[0].startswith("| Dice % | LV | AO | mean |")
    assert "| baseline | 77.5 ± 10.6 | 60.0 ± 14.1 | 68.8 ± 12.4 | 2 × 2 |" in lines[2]
    assert "| *reported, MM-WHS CT* | 93.1 | 83.1 | 87.9 |" in lines[3]
    assert "|  |  | 90.2 |" in lines[5]


def test_reported_means_are_those_of_the_reported_structures() -> None:
    """The document rounds, and reports the 88.0 of its baseline as 87.9."""
    for figures in REPORTED.values():
        assert figures[6] == pytest.approx(mean(figures[:6]), abs=0.11)


def test_the_csv_has_one_line_per_value() -> None:
    lines = list(csv.DictReader(as_csv(TRIALS).splitlines()))
    assert len(lines) == 12
    first = {"configuration": "baseline", "seed": "0", "case": "a", "structure": "LV", "dice": "0.900000"}
    assert lines[0] == first | {"hd95_mm": "", "assd_mm": ""}


def measured(name: str, seed: int, hd95: dict[str, tuple[float, ...]]) -> Trial:
    """Return a trial with Dice 0.9 everywhere and these HD95 of LV and AO; ASSD is a tenth of HD95."""
    keys = ("LV", "AO")
    dice = {case: dict.fromkeys(keys, 0.9) for case in hd95}
    metrics = {
        case: {k: {"hd95_mm": v, "assd_mm": None if v is None else v / 10} for k, v in zip(keys, values, strict=True)}
        for case, values in hd95.items()
    }
    return Trial(name, seed, dice, metrics, 1.0, 1)


def test_distances_are_averaged_over_structures_then_seeds_without_absent_structures() -> None:
    trials = [
        measured("baseline", 0, {"a": (2.0, 4.0), "b": (5.0, None)}),
        measured("baseline", 1, {"a": (4.0, 6.0), "b": (None, None)}),
    ]
    assert case_values(trials, "hd95_mm") == {"a": 4.0, "b": 5.0}
    assert case_values(trials, "assd_mm") == pytest.approx({"a": 0.4, "b": 0.5})
    assert case_values(trials, "dice") == pytest.approx({"a": 90.0, "b": 90.0})
    assert "| baseline | 4.50 ± 0.71 | 0.45 ± 0.07 | 2 |" in as_markdown(trials)
    line = next(iter(csv.DictReader(as_csv(trials).splitlines())))
    assert (line["hd95_mm"], line["assd_mm"]) == ("2.0000", "0.2000")


def test_differences_are_paired_by_case_and_the_interval_is_of_the_mean() -> None:
    before = {"a": 2.0, "b": 8.0, "c": 5.0, "d": 9.0, "e": 4.0, "f": 3.0, "only here": 7.0}
    change = {"a": -1.0, "b": -0.5, "c": -1.5, "d": -1.0, "e": -0.5, "f": -1.5}
    trials = [
        measured("baseline", 0, {c: (v, v) for c, v in before.items()}),
        measured("edge", 0, {c: (before[c] + d,) * 2 for c, d in change.items()}),
    ]
    dice, hd95, assd = differences(trials)
    assert (hd95.configuration, hd95.against, hd95.metric, hd95.n) == ("edge", "baseline", "hd95_mm", 6)
    assert hd95.mean == pytest.approx(-1.0)
    # of 729 equally likely sums of six, 7 are 2.5 or more from the mean, and 28 are 2 or more: 1.0 and 3.8 %
    assert (hd95.low, hd95.high) == pytest.approx((-1 - 2 / 6, -1 + 2 / 6))
    assert hd95.says_something
    assert assd.mean == pytest.approx(-0.1)
    assert (dice.mean, dice.says_something) == (pytest.approx(0), False)


def test_a_bootstrap_interval_has_its_nominal_coverage() -> None:
    """For 400 samples of 30 normal numbers, 95 % of the intervals contain the mean, within 4 SE and a bias of -2 %."""
    rng = np.random.default_rng(0)
    held = [low < 0 < high for low, high in (bootstrap_interval(rng.normal(size=30), s) for s in range(400))]
    assert 0.93 - 4 * 0.011 < np.mean(held) < 0.95 + 4 * 0.011


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_cases_have_no_interval_and_no_clear_difference(count: int) -> None:
    """Five differences have the same sign by chance in 6 % of comparisons."""
    cases = "abcde"[:count]
    trials = [measured(name, 0, dict.fromkeys(cases, (v, v))) for name, v in (("baseline", 5.0), ("edge", 1.0))]
    _, hd95, _ = differences(trials)
    assert (hd95.mean, hd95.low, hd95.high, hd95.n) == (-4.0, None, None, count)
    assert not hd95.says_something


def test_pictures_show_every_configuration(tmp_path: Path) -> None:
    import SimpleITK as sitk

    from heartseg.evaluation.slices import Shown, choose_slice, colored, write_comparison
    from heartseg.training.nnunet.ablation_figure import write_box_plot

    labels = np.zeros((5, 40, 40), np.uint8)
    labels[1:4, 10:30, 10:20] = 1
    labels[2:4, 5:9, 5:9] = 6
    labels[3, 30:34, 30:34] = 2
    assert choose_slice(labels) == ("AO", 3)
    assert choose_slice(np.where(labels == 6, 0, labels)) == ("LV", 3)
    with pytest.raises(ValueError, match="holds no structure"):
        choose_slice(labels * 0)
    assert colored(labels[0]).max() == 0
    image = np.random.default_rng(0).normal(size=(40, 40))
    widths = []
    for n in (1, 3):
        heat = np.where(labels[3] == 6, 1.0, 0.0)
        shown = [Shown(f"c{i}", labels[3], heat if i else None) for i in range(n)]
        write_comparison(image, labels[3], shown, "AO", tmp_path / "c.png")
        widths.append(sitk.ReadImage(str(tmp_path / "c.png")).GetSize()[0])
    assert widths == [3 * 330, 5 * 330]
    write_box_plot([measured("baseline", 0, {"a": (1.0, 2.0)}), measured("edge", 0, {})], tmp_path / "b.png")
    assert sitk.ReadImage(str(tmp_path / "b.png")).GetSize() == (1800, 675)


def test_a_configuration_is_a_known_name_a_network_or_a_table_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"wide": {"network": "csfbu", "alpha": 2.0}}))
    found = named_configurations(["baseline", "attention", "wide"], read_table(tmp_path / "t.json"))
    assert found["attention"] == {"network": "attention"}
    assert changed(CSFBU, found["wide"], "wide").alpha == 2.0
    assert changed(CSFBU, found["baseline"], "baseline").edges == "none"


BUILT = {
    # name: edge channels, fusion, erosion, translated cases, scans without references
    "baseline": ("none", False, 1, False, False),
    "edge": ("inner", False, 1, False, False),
    "fusion": ("none", True, 1, False, False),
    "edge+fusion": ("inner", True, 1, False, False),
    "edge-head": ("head", False, 1, False, False),
    "edge-m2": ("inner", False, 2, False, False),
    "edge-m3": ("inner", False, 3, False, False),
    "translated": ("none", False, 1, True, False),
    "all": ("inner", True, 1, True, False),
    "unlabelled": ("none", False, 1, False, True),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_builds_the_network_of_its_name(name: str) -> None:
    """Check the parts of the network that nnU-Net builds from the configuration's plans."""
    pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")
    preset = configured(CSFBU, CONFIGURATIONS[name], name)
    network: Any = build_from(adapted_plans(base_plans(), preset, "x", 0), structures=7)
    edge, fusion, erosion, translated, unlabelled = BUILT[name]
    assert {h.out_channels for h in network.decoder.seg_layers} == {8 if edge == "none" else 15}
    assert getattr(network, "edge", "none") == edge
    fused = [m for m in network.modules() if isinstance(m, AttentionFusion)]
    assert len(fused) == (len(network.decoder.stages) if fusion else 0)
    assert (preset.erosion, preset.translated, preset.unlabelled) == (erosion, translated, unlabelled)
    loss = TrainingLoss(preset, 7, (1.0, 1.0)).at_one_resolution
    if edge != "none":
        assert (loss.edge, loss.n_classes, loss.alpha) == (edge, 7, 1.0)
    unchanged = {"network", "erosion", "translated", "unlabelled"}
    same = {k: v for k, v in preset.to_dict().items() if k not in unchanged}
    assert same == {k: v for k, v in CSFBU.to_dict().items() if k not in unchanged}


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_every_network_is_a_configuration(name: str) -> None:
    pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")
    preset = configured(CSFBU, named_configurations([name])[name], name)
    plans = adapted_plans(base_plans(), preset, "x", 0)
    network = build_from(plans, structures=7)
    entry = NETWORKS[name]
    assert f"{type(network).__module__}.{type(network).__name__}" == (entry.stock_class or entry.class_path)
    assert preset.network == name
    for key, value in entry.extra.items():
        assert getattr(network, key) == value


def test_unknown_names_and_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="configuration edgy is unknown: choose from"):
        named_configurations(["edgy"])
    with pytest.raises(SettingsError, match="changes colour, which are not settings"):
        changed(CSFBU, {"colour": 1}, "x")
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(SettingsError, match="not a table of configurations"):
        read_table(tmp_path / "t.json")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_table(tmp_path / "nowhere.json")


def test_translated_cases_are_used_only_by_configurations_that_ask_for_them(tmp_path: Path) -> None:
    found = named_configurations(["baseline", "edge+fusion", "translated", "all"])
    presets = {n: configured(CSFBU, c, n) for n, c in found.items()}
    assert [n for n, p in presets.items() if p.translated] == ["translated", "all"]
    training = Training(DataOptions(tmp_path / "scans"), tmp_path)
    (tmp_path / "cases.json").write_text('{"translated": []}')
    refuse_without_translated(training, {"baseline": presets["baseline"]})
    with pytest.raises(SettingsError, match=r"'all' requires translated scans, but '.*scans'"):
        refuse_without_translated(training, {"all": presets["all"]})
    (tmp_path / "cases.json").write_text('{"translated": ["mr2ct_a"]}')
    refuse_without_translated(training, presets)
    assert left_out(training, presets["edge+fusion"]) == ["mr2ct_a"]
    assert left_out(training, presets["all"]) == []


def test_two_configurations_under_one_name_of_plans_are_refused() -> None:
    refuse_one_name_for_two(["edge", "edge+fusion"])
    with pytest.raises(SettingsError, match=r"'edge\+m2' and 'Edge-m2'"):
        refuse_one_name_for_two(["baseline", "edge+m2", "Edge-m2"])


def test_a_configuration_that_was_trained_with_other_settings_is_refused(tmp_path: Path) -> None:
    training = Training(DataOptions(tmp_path), tmp_path)

    def plans(preset: Preset, seed: int = 0, **more: Any) -> dict[str, Any]:
        settings = {"preset": preset.to_dict(), "seed": seed, "start_from": None, "left_out": [], **more}
        return {"plans_name": "wide-seed0", "configurations": {preset.configuration: {}}, SETTINGS_KEY: settings}

    first = plans(CSFBU)
    path = tmp_path / "preprocessed" / DATASET_NAME / "wide-seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(first))
    refuse_other_settings(training, "wide", plans(CSFBU.with_changes(alpha=2.0)))  # no checkpoint yet
    fold = fold_folder(training, first, 0)
    fold.mkdir(parents=True)
    (fold / "checkpoint_latest.pth").touch()
    refuse_other_settings(training, "wide", first)
    for other, words in (
        (plans(CSFBU.with_changes(alpha=2.0)), r"'wide' was trained in .* with alpha 1\.0, not 2\.0: give it"),
        (plans(CSFBU.with_changes(dimension="3d")), r"with dimension '2d', not '3d'"),
        (plans(CSFBU, left_out=["a"]), r"with left_out \[\], not \['a'\]"),
        (plans(CSFBU, seed=1), "with seed 0, not 1"),
        (plans(CSFBU, unlabelled=["a"]), r"with unlabelled None, not \['a'\]"),
    ):
        with pytest.raises(SettingsError, match=words):
            refuse_other_settings(training, "wide", other)
    del first[SETTINGS_KEY]["left_out"], first[SETTINGS_KEY]["preset"]["translated"]  # as written by an older version
    path.write_text(json.dumps(first))
    refuse_other_settings(training, "wide", plans(CSFBU))
    del first[SETTINGS_KEY]["preset"]["unlabelled"]  # still older: without unlabelled scans
    path.write_text(json.dumps(first))
    refuse_other_settings(training, "wide", plans(CSFBU.with_changes(unlabelled=False)))


def test_a_trial_is_scored_case_by_case_from_the_held_out_predictions(tmp_path: Path) -> None:
    """Two folds with one case each: one prediction lacks a voxel; seconds and steps are those of the training."""
    pytest.importorskip("monai", reason="pip install 'heartseg[evaluate]'")
    training = Training(DataOptions(tmp_path / "scans", folds=2), tmp_path)
    plans = adapted_plans(base_plans(), CSFBU.with_changes(epochs=2, iterations=7), "baseline-seed4", 4)
    write_json(tmp_path / "cases.json", {"structures": ["LV", "AO"]})
    references = tmp_path / "raw" / DATASET_NAME / "labelsTr"
    references.mkdir(parents=True)
    geometry = Geometry((8, 8, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    for fold, case in enumerate(("a", "b")):
        folder = fold_folder(training, plans, fold)
        (folder / "validation").mkdir(parents=True)
        labels = np.zeros((8, 8, 8), np.uint8)
        labels[2:4, 2:4, 2:4], labels[5, 5, 5:7] = 1, 2
        write_labels(labels, geometry, references / f"{case}.nii.gz")
        labels[5, 5, 5] *= fold
        write_labels(labels, geometry, folder / "validation" / f"{case}.nii.gz")
        logging = {"epoch_start_timestamps": [10.0, 20.0], "epoch_end_timestamps": [13.0 + fold, 21.0]}
        torch.save({"logging": logging}, folder / "checkpoint_final.pth")
    seen: list[int] = []
    found = score(training, plans, "baseline", 4, Reporter(lambda event: seen.append(event.done)))
    assert found.dice == {"a": {"LV": 1.0, "AO": pytest.approx(2 / 3)}, "b": {"LV": 1.0, "AO": 1.0}}
    assert (found.configuration, found.seed, found.seconds, found.steps) == ("baseline", 4, 9.0, 2 * 2 * 7)
    assert found.metrics["a"]["AO"]["hd95_mm"] == pytest.approx(1.0)
    assert found.metrics["b"]["AO"]["volume_ml"] == pytest.approx(0.002)
    assert 0 in seen

    reader = _prediction(training, found, "a")
    assert (reader == 6).sum() == 1 and (reader == 1).sum() == 8
    assert _prediction(training, found, "c") is None


def test_null_in_a_table_keeps_a_setting() -> None:
    assert said({"alpha": None, "network": "csfbu", "unlabelled": False}) == {"network": "csfbu", "unlabelled": False}


@pytest.mark.slow
def test_an_ablation_uses_the_same_folds_and_resumes_after_an_interruption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nnunetv2", reason="pip install 'heartseg[train]'")
    from heartseg.cli.main import main
    from labelled_scans import make_folder_pair

    data, out = make_folder_pair(tmp_path / "data", 3, (7.0, 7.0, 9.0)), tmp_path / "out"
    command = [
        "ablate",
        str(data),
        "-o",
        str(out),
        "--folds",
        "3",
        "--only-folds",
        "0",
        "--epochs",
        "1",
        "--batch",
        "2",
        "--iterations-per-epoch",
        "2",
        "--validation-iterations",
        "1",
        "--device",
        "cpu",
        "--configurations",
    ]
    assert main([*command, "baseline"]) == 0
    first = json.loads((out / "ablation.json").read_text())["trials"][0]
    assert main([*command, "baseline,edge"]) == 0
    content = json.loads((out / "ablation.json").read_text())
    assert [t["configuration"] for t in content["trials"]] == ["baseline", "edge"]
    assert content["trials"][0] == first, "what was trained is kept"
    assert {frozenset(t["metrics"]) for t in content["trials"]} == {frozenset(first["metrics"])}
    assert content["n"] == 1
    printed = capsys.readouterr().out
    assert "| edge |" in printed and "| minus baseline |" in printed
    assert {d["configuration"] for d in content["differences"]} == {"edge"}
    for name in ("baseline", "edge"):
        assert main(["models", "check", str(out / "models" / f"{name}-seed0")]) == 0
        assert (out / "models" / f"{name}-seed0-progress_fold_0.png").is_file()
    for picture in ("ablation.png", "comparison.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    checkpoints = list((out / "results").rglob("checkpoint_final.pth"))
    assert len(checkpoints) == 2
    assert all(torch.load(c, weights_only=True)["trainer_name"] == "HeartSegTrainer" for c in checkpoints)
