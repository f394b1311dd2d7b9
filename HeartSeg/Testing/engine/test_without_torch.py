"""Where torch cannot be imported, the program segments through ONNX Runtime, with the labels of torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

from command_lines import LOGIC, PATIENCE
from heartseg import Result
from heartseg.anatomy import STRUCTURES


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of processes, and of their children, in which torch cannot be imported."""
    blocked = tmp_path_factory.mktemp("blocked")
    (blocked / "torch.py").write_text("raise ImportError('torch is not there')\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked), str(LOGIC)])}


def heartseg(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "heartseg.cli.main", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def segmented(
    without_torch: dict[str, str], sample_scan: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    """Folder and report of the sample, segmented by the command line."""
    out = tmp_path_factory.mktemp("light") / "out"
    options = ("--modality", "CT", "--format", "labels,csv,seg,confidence", "--json", "--backend", "onnx")
    run = heartseg(without_torch, "segment", sample_scan, "-o", out, *options)
    assert run.returncode == 0, run.stderr
    return out, json.loads(run.stdout)


def test_the_labels_are_those_of_torch(segmented: tuple[Path, dict], result: Result) -> None:
    out, report = segmented
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "labels.nii.gz")))
    for s in STRUCTURES:
        ours, torchs = labels == s.label, result.labels == s.label
        assert torchs.sum() > 100
        assert 2 * (ours & torchs).sum() / (ours.sum() + torchs.sum()) >= 0.999, s.key
    made = report["provenance"]
    run = made["run"]
    assert (run["backend"], run["precision"], run["mode"]) == ("onnx", "float32", "located")
    assert run["device"].startswith("cpu (")
    assert run["agreement"] == pytest.approx(result.provenance.run.agreement, abs=0.002)
    assert "onnxruntime" in made["packages"]
    assert made["confidence"] == pytest.approx(result.provenance.confidence, abs=0.001)
    assert (out / "confidence.nii.gz").is_file()


def test_the_other_commands_work(
    segmented: tuple[Path, dict], without_torch: dict[str, str], sample_scan: Path, tmp_path: Path
) -> None:
    out, _ = segmented
    assert heartseg(without_torch, "measure", out).returncode == 0
    run = heartseg(without_torch, "check", sample_scan, "--modality", "CT", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["ready"]
    run = heartseg(without_torch, "report", out, "-o", tmp_path / "report")
    assert run.returncode == 0, run.stderr


def test_what_needs_torch_says_so_in_one_line(without_torch: dict[str, str], sample_scan: Path, tmp_path: Path) -> None:
    run = heartseg(without_torch, "explain", sample_scan, "-o", tmp_path / "heat", "--modality", "CT")
    assert run.returncode == 2
    assert "a heat map needs PyTorch" in run.stderr.splitlines()[-1]
    run = heartseg(without_torch, "segment", sample_scan, "-o", tmp_path / "out", "--backend", "torch")
    assert run.returncode == 2
    assert "backend torch needs PyTorch" in run.stderr.splitlines()[-1]


CODE = """
import sys
import numpy as np
import heartseg
from heartseg.cli.main import build_parser
from heartseg.models.folder import ModelFolder
build_parser()
assert "torch" not in sys.modules, "on import"
axis = np.arange(40) - 19.5
z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
image = np.where(z**2 + y**2 + x**2 < 14**2, 300, 0) + np.random.default_rng(0).normal(0, 20, (40, 40, 40))
volume = heartseg.Volume(image.astype(np.int16), heartseg.Geometry((40, 40, 40), (6.0, 6.0, 6.0)), "ball", "CT")
for more in ({}, {"accurate": True}, {"heart_center": (100.0, 100.0, 100.0)}, {"locate": False}, {"reorient": False}):
    settings = heartseg.Settings(backend="onnx", confidence_map=True, **more)
    run = heartseg.segment(volume, sys.argv[1], settings).provenance.run
    assert run.backend == "onnx", run
    assert "torch" not in sys.modules, more
"""


def test_with_this_backend_torch_is_never_imported(tmp_path: Path) -> None:
    """In an environment that has torch: every way of running, on a tiny model with a finder."""
    import export_graph

    from heartseg.models.folder import ModelFolder
    from tiny_models import make_tiny_model_folder, write_card

    path = make_tiny_model_folder(
        tmp_path / "tiny", labels=("LV", "RV"), patch=(16,) * 3, spacing=(6.0,) * 3, full_checkpoint=False
    )
    make_tiny_model_folder(path / "finder", labels=("LV",), patch=(16,) * 3, spacing=(12.0,) * 3, full_checkpoint=False)
    write_card(path, ("LV", "RV"), finder="finder", margin_mm=6.0)
    export_graph.export(ModelFolder.open(path))
    environment = {**os.environ, "PYTHONPATH": str(LOGIC), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, str(path)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
