"""``heartseg train-default``: from a packed source to a model folder that segments, stopped and resumed in between."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heartseg.cli.main import main
from heartseg.models.folder import ModelFolder
from heartseg.synthesis.regions import Region
from heartseg.synthesis.scenes import Scene, save_scene
from heartseg.synthesis.source import pack_source
from heartseg.training import default
from heartseg.training.options import add_arguments
from heartseg.training.stages import FINDER, FINE
from toy_hearts import toy_source

LOGIC = Path(default.__file__).parents[2]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "data.npz"
    pack_source(toy_source(), path)
    return path


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return the same command with networks of a few channels on small patches."""
    stages = replace(FINDER, patch=32, features=(4, 4, 8, 8, 8)), replace(FINE, patch=32, features=(4, 4, 8, 8, 8))
    monkeypatch.setattr(default, "SIZES", {"small": stages, "full": stages})
    monkeypatch.setattr(default, "N_VALIDATION", 1)


def test_one_command_makes_a_model_folder_and_goes_on_after_a_stop(
    packed: Path, tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = [
        "train-default",
        str(packed),
        "-o",
        str(out),
        "--device",
        "cpu",
        "--scenes",
        "1",
        "--generator",
        "0.5",  # the toy shape model does not produce sound patients
        "--heartless",
        "1",
        "--workers",
        "0",
        "--finder-steps",
        "2",
        "--fine-steps",
        "3",
    ]
    assert main([*command, "--run-minutes", "0"]) == 1
    assert not (out / "model").exists()
    assert main([*command, "--only", "fine"]) == 1
    assert (out / "fine" / "snapshot.pt").is_file()
    assert not (out / "finder").exists()
    assert main(command) == 0
    card = json.loads((out / "model" / "heartseg.json").read_text())
    assert card["trained_on"]["fine"]["steps"] == 3
    assert card["trained_on"]["scenes_by_kind"] == {"heartless": 1, "trunk": 1}
    assert "research use only" in card["intended_use"]
    assert {row["data"].split()[1] for row in card["tested_on"]} == {"CT", "MR"}
    assert tuple(ModelFolder.open(out / "model").spacing) == pytest.approx((2.0, 2.0, 2.0))
    before = (out / "fine" / "snapshot.pt").stat().st_mtime_ns
    assert main(command) == 0  # everything is already trained
    assert (out / "fine" / "snapshot.pt").stat().st_mtime_ns == before
    for card in (out / "fine").glob("state-*/state.json"):
        card.write_text("{}")
    capsys.readouterr()
    assert main(command) == 2
    assert "fine' cannot resume" in capsys.readouterr().err.splitlines()[-1]


def test_training_begins_with_some_scenes_and_takes_up_the_others(packed: Path, tiny: None, tmp_path: Path) -> None:
    """Two processes make scenes during the training, controlled by time."""
    out = tmp_path / "run"
    command = [
        "train-default",
        str(packed),
        "-o",
        str(out),
        "--device",
        "cpu",
        "--scenes",
        "3",
        "--generator",
        "0.5",
        "--heartless",
        "1",
        "--workers",
        "2",
        "--only",
        "fine",
        "--fine-minutes",
        "0.02",
        "--begin-with",
        "1",
    ]
    assert main(command) == 1  # one network alone is not a complete model
    made = len(list((out / "scenes").glob("*.json")))
    assert 1 <= made <= 4
    assert len(list((out / "validation").glob("*.json"))) == 1
    snapshot = torch.load(out / "fine" / "snapshot.pt", weights_only=True)
    assert snapshot["step"] >= 1 and snapshot["seconds"] >= 1.2


def test_a_scene_whose_patients_are_not_sound_gets_another_heart(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def make(source: object, out: object, numbers: object, *, recipe: object, **_: object) -> None:
        asked.append(recipe is not None)
        if recipe is not None:
            raise RuntimeError("8 hearts in a row had holes")

    monkeypatch.setattr(default, "make_scenes", make)
    default._make_one(str(packed), default.SceneJob(tmp_path, 3, patients=True))
    assert asked == [True, False]


def test_three_in_four_hearts_of_the_newest_generator_are_patients() -> None:
    def patients(generator: str) -> float:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        args = parser.parse_args(["DATA", "-o", "OUT", "--scenes", "100", "--generator", generator])
        jobs = [job for job in default.SceneMakers(args, 1).jobs if job.folder.name == "scenes" and not job.heartless]
        return sum(job.patients for job in jobs) / len(jobs)

    assert patients("0.6") == 0.75
    assert patients("0.5") == 0


def block_scene(kind: str) -> Scene:
    """Return a cube of muscle that contains a heart of two labels."""
    regions, target = np.full((60, 60, 60), Region.MUSCLE, np.uint8), np.ones((20, 20, 20), np.uint8)
    target[10:] = 5
    regions[20:40, 20:40, 20:40] = target
    return Scene(regions, target, (20, 20, 20), 1.5, (45.0, 45.0, 45.0), kind, None, 0)


def test_scenes_travel_in_one_file(
    packed: Path, tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "scenes.zip"
    count = ["--scenes", "1", "--heartless", "1", "--workers", "0", "--device", "cpu"]
    assert main(["train-default", str(packed), "-o", str(here), "--pack-scenes", str(file)]) == 2
    assert str(here) in capsys.readouterr().err
    for folder, name, kind in (
        ("scenes", "scene00000", "trunk"),
        ("scenes", "heartless00000", "heartless"),
        ("validation", "scene50000", "trunk"),
    ):
        save_scene(block_scene(kind), here / folder, name)
    assert main(["train-default", str(packed), "-o", str(here), "--only", "scenes", *count]) == 0
    assert not (here / "fine").exists()
    assert main(["train-default", str(packed), "-o", str(here), "--pack-scenes", str(file)]) == 0
    options = [*count, "--unpack", str(file), "--only", "fine", "--fine-steps", "1", "--crop", "32"]
    assert main(["train-default", str(packed), "-o", str(there), *options]) == 1  # one network alone is no model
    for folder in ("scenes", "validation"):
        names = sorted(p.name for p in (here / folder).iterdir())
        assert names == sorted(p.name for p in (there / folder).iterdir()) and names
        assert all((here / folder / n).read_bytes() == (there / folder / n).read_bytes() for n in names)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../elsewhere.json", "{}")
    assert main(["train-default", str(packed), "-o", str(there), *options]) == 2
    assert "elsewhere.json" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere.json").exists()


def test_the_data_can_be_packed_into_one_file(packed: Path, tmp_path: Path) -> None:
    assert main(["train-default", str(packed), "--pack", str(tmp_path / "one.npz")]) == 0
    assert (tmp_path / "one.npz").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere", "-o", "x"], "nowhere"),
        (["{packed}"], "-o is missing"),
        (["{packed}", "-o", "x", "--device", "tpu"], "'tpu'"),
        (["{packed}", "-o", "x", "--crop", "50"], "--crop is 50"),
        (["{packed}", "-o", "x", "--without", "gravity"], "'gravity'"),
    ],
)
def test_wrong_options_are_named(
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train-default", *(o.format(packed=packed) for o in options)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-default", str(packed), "-o", str(tmp_path / "x"), "--device", "cuda"]) == 2
    assert "'cuda' is not available" in capsys.readouterr().err


def test_generator_and_training_need_only_torch_numpy_and_scipy() -> None:
    """Runs in a process where every other third-party package is missing, as on a bare GPU machine."""
    blocked = "SimpleITK", "nnunetv2", "dynamic_network_architectures", "monai", "vtk", "matplotlib", "slicer", "pandas"
    program = (
        "import sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        "import heartseg.training.default, heartseg.training.evaluate, heartseg.training.export\n"
        "import heartseg.synthesis.statistics\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(LOGIC)}
    )
    assert done.returncode == 0, done.stderr
