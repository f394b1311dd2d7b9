"""``heartseg explain``: files, JSON, results, layers and refused input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cli.conftest import heartseg, refused, temporary  # noqa: F401
from command_lines import tree
from heartseg import read_volume
from heartseg.volume import Volume, write_volume

if TYPE_CHECKING:
    from cli.conftest import Outcome


@pytest.fixture(scope="module")
def scan_file(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume(volume, tmp_path_factory.mktemp("scans") / "scan.nii.gz")


@pytest.fixture
def explain(heartseg: Callable[..., Outcome], window_model: Path) -> Callable[..., Outcome]:  # noqa: F811
    def run(*arguments: object) -> Outcome:
        return heartseg("explain", *arguments, "--model", window_model, "--device", "cpu")

    return run


def test_it_writes_a_map_a_picture_and_how_it_was_made(
    explain: Callable[..., Outcome], scan_file: Path, tmp_path: Path
) -> None:
    from matplotlib.image import imread

    done = explain(scan_file, "-o", tmp_path / "heat", "--structure", "rv")
    assert done.code == 0, done.err
    assert tree(tmp_path / "heat") == {"heat_map.nii.gz", "heat_map.png", "explanation.json"}
    scan, heat = read_volume(scan_file), read_volume(tmp_path / "heat" / "heat_map.nii.gz")
    assert heat.geometry.same_grid(scan.geometry, 1e-4)
    assert heat.array.dtype == np.float32 and heat.array.min() >= 0 and 0.9 < heat.array.max() <= 1
    made = json.loads((tmp_path / "heat" / "explanation.json").read_text())
    assert made["structure"]["key"] == "RV" and made["layer"]["name"] == "decoder.stages.0"
    assert made["notice"].startswith("An illustration, not a validation.")
    assert made["input"]["sha256"] == scan.source.sha256
    picture = imread(tmp_path / "heat" / "heat_map.png")[..., :3]
    assert picture.shape == (800, 2000, 3)
    slices = picture[130:760, 30:1880]
    warm = (slices[..., 0] > 0.6) & (slices[..., 0] > slices[..., 2] + 0.3)
    grey = np.ptp(slices, axis=-1) < 0.02
    assert 0.005 < warm.mean() < 0.5 and grey.mean() > 0.3


def test_nrrd_keeps_the_grid_exactly(explain: Callable[..., Outcome], scan_file: Path, tmp_path: Path) -> None:
    assert explain(scan_file, "-o", tmp_path / "heat", "--structure", "LV", "--format", "nrrd").code == 0
    heat = read_volume(tmp_path / "heat" / "heat_map.nrrd")
    assert heat.geometry == read_volume(scan_file).geometry


def test_the_json_can_be_printed(explain: Callable[..., Outcome], scan_file: Path, tmp_path: Path) -> None:
    done = explain(scan_file, "-o", tmp_path / "heat", "--structure", "LV", "--layer", "bottleneck", "--json")
    assert json.loads(done.out)["layer"]["name"] == "encoder.stages.1"
    assert json.loads(done.out)["output"]["files"] == ["heat_map.nii.gz", "heat_map.png", "explanation.json"]


def test_a_results_labels_and_model_are_taken(
    heartseg: Callable[..., Outcome],  # noqa: F811
    scan_file: Path,
    window_model: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    assert heartseg("segment", scan_file, "-o", out, "--model", window_model, "--format", "labels").code == 0
    done = heartseg("explain", scan_file, "-o", tmp_path / "heat", "--result", out, "--structure", "RV")
    assert done.code == 0, done.err
    made = json.loads((tmp_path / "heat" / "explanation.json").read_text())
    assert made["model"]["name"] == "Tiny with a window"
    assert made["segmentation"] == "an earlier result"
    assert not {"locate", "predict"} & set(made["seconds"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ("report.json",)),
        (lambda folder: (folder / "report.json").write_text("[]"), ("report.json",)),
        (lambda folder: (folder / "labels.nii.gz").unlink(), ("--format labels",)),
        (lambda folder: move_labels(folder), ("grid of the scan",)),
        (lambda folder: other_values(folder), ("values other than",)),
        (lambda folder: lose_model(folder), ("'Gone'", "--model")),
    ],
    ids=["no folder", "no report", "no labels", "other grid", "no label map", "no model"],
)
def test_a_result_that_cannot_be_used_is_refused(
    heartseg: Callable[..., Outcome],  # noqa: F811
    scan_file: Path,
    window_model: Path,
    tmp_path: Path,
    spoil: Callable[..., Any],
    words: tuple[str, ...],
) -> None:
    out = tmp_path / "out"
    assert heartseg("segment", scan_file, "-o", out, "--model", window_model, "--format", "labels").code == 0
    spoil(out)
    refused(heartseg("explain", scan_file, "-o", tmp_path / "heat", "--result", out, "--structure", "RV"), *words)
    assert not (tmp_path / "heat").exists()


def move_labels(folder: Path) -> None:
    from dataclasses import replace

    labels = read_volume(folder / "labels.nii.gz")
    write_volume(replace(labels, geometry=replace(labels.geometry, origin=(0.0, 0.0, 0.0))), folder / "labels.nii.gz")


def other_values(folder: Path) -> None:
    from dataclasses import replace

    labels = read_volume(folder / "labels.nii.gz")
    write_volume(replace(labels, array=(labels.array * 100).astype(np.int16)), folder / "labels.nii.gz")


def lose_model(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    report["provenance"]["model"].update(name="Gone", path="/nowhere/gone")
    (folder / "report.json").write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("SCAN or -o is missing",)),
        (("SCAN",), ("SCAN or -o is missing",)),
        (("SCAN", "-o", "OUT", "--structure", "AO"), ("structure AO", "LV, RV, MYO")),
        (("SCAN", "-o", "OUT", "--structure", "LV", "--layer", "../\x1b[1m"), ("is unknown", "--list-layers")),
        (("missing.nii.gz", "-o", "OUT", "--structure", "LV"), ("missing.nii.gz",)),
        (("SCAN", "-o", "OUT", "--structure", "LV", "--frame", "x"), ("frame 'x'",)),
        (("SCAN", "-o", "OUT", "--threads", "0"), ("threads 0",)),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(
    explain: Callable[..., Outcome], scan_file: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    named = {"SCAN": scan_file, "OUT": tmp_path / "out"}
    refused(explain(*(named.get(a, a) for a in arguments)), *words)
    assert tree(tmp_path) == set()


def test_a_broken_model_is_refused(
    heartseg: Callable[..., Outcome],  # noqa: F811
    scan_file: Path,
    window_model: Path,
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(window_model, broken)
    checkpoint = broken / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    refused(
        heartseg("explain", scan_file, "-o", tmp_path / "heat", "--model", broken, "--structure", "LV"),
        "checkpoint_final.pth",
        "damaged",
    )
    assert not (tmp_path / "heat").exists()


def test_overwriting_spares_what_is_no_heat_map(
    explain: Callable[..., Outcome], scan_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "heat"
    assert explain(scan_file, "-o", out, "--structure", "LV").code == 0
    refused(explain(scan_file, "-o", out, "--structure", "LV"), "is not empty", "--overwrite")
    assert explain(scan_file, "-o", out, "--structure", "RV", "--format", "nrrd", "--overwrite").code == 0
    assert tree(out) == {"heat_map.nrrd", "heat_map.png", "explanation.json"}
    (out / "report.json").write_text("{}")
    refused(explain(scan_file, "-o", out, "--overwrite"), "report.json")


def test_layers_are_listed_without_a_scan(explain: Callable[..., Outcome]) -> None:
    listed = explain("--list-layers")
    assert listed.code == 0
    assert "'last' is decoder.stages.0, 'bottleneck' is encoder.stages.1" in listed.out
    assert "encoder.stages.1 " in listed.out and "12 x 12 x 12 voxels" in listed.out
