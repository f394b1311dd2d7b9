"""``heartseg translate``: the commands in the order of a user, and messages for bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_lines import environment, tree
from heartseg.cli.main import main
from heartseg.errors import Cancelled
from heartseg.progress import Reporter
from heartseg.translation.apply import Translator
from heartseg.volume import Volume, read_volume

SMALL = [
    "--blocks=1",
    "--filters=4",
    "--critic-filters=4",
    "--patch=32",
    "--spacing=5",
    "--epochs=1",
    "--constant-epochs=0",
    "--device=cpu",
    "--sheet-every=20",
    "--threads=1",
]


def test_train_apply_and_join_in_three_commands(
    scans: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = scans["MR"][0].parent.parent / "labels"
    mr, ct, out = tmp_path / "mr", scans["CT"][0].parent, tmp_path / "run"
    shutil.copytree(scans["MR"][0].parent, mr)
    shutil.copytree(labels, mr, dirs_exist_ok=True)  # label maps next to the scans, as in MM-WHS, are not scans
    assert main(["translate", "train", str(mr), str(ct), "-o", str(out), *SMALL]) == 0
    card = json.loads((out / "model" / "translation.json").read_text())
    assert card["step"] == card["steps"] == max(card["slices"].values())
    assert list((out / "sheets").glob("*.png"))

    made = tmp_path / "one.nii.gz"
    assert main(["translate", "apply", str(out), str(scans["MR"][0]), "-o", str(made), "--device", "cpu"]) == 0
    assert read_volume(made).geometry == read_volume(scans["MR"][0]).geometry
    many = tmp_path / "many"
    assert (
        main(["translate", "apply", str(out), str(ct), "-o", str(many), "--direction", "ct2mr", "--device", "cpu"]) == 0
    )
    assert tree(many) == {f"ct{n}_image.nii.gz" for n in (10, 11, 12)}

    assert main(["translate", "join", str(out), str(mr), str(labels), str(tmp_path / "set"), "--device", "cpu"]) == 0
    wanted = {f"{k}/mr2ct_mr{n}.nii.gz" for k in ("images", "labels") for n in range(3)}
    assert tree(tmp_path / "set") == wanted | {"images", "labels", "translated.json"}
    assert "3 cases in" in capsys.readouterr().out


def test_existing_files_are_kept_unless_asked(
    scans: dict[str, list[Path]], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made.nii.gz"
    made.write_bytes(b"mine")
    command = ["translate", "apply", str(trained), str(scans["MR"][0]), "-o", str(made), "--device", "cpu"]
    assert main(command) == 2
    assert "exists: give --overwrite" in capsys.readouterr().err
    assert made.read_bytes() == b"mine"
    assert main([*command, "--overwrite"]) == 0
    assert read_volume(made).array.dtype == np.int16


def test_scans_that_were_translated_before_a_stop_are_kept_and_named(
    scans: dict[str, list[Path]],
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def translated(_: Translator, volume: Volume, __: Reporter) -> Volume:
        if list(tmp_path.glob("*.nii.gz")):
            raise Cancelled
        return volume

    monkeypatch.setattr(Translator, "__call__", translated)
    folder = scans["MR"][0].parent
    assert main(["translate", "apply", str(trained), str(folder), "-o", str(tmp_path), "--device", "cpu"]) == 130
    assert len(list(tmp_path.glob("*.nii.gz"))) == 1
    assert "scans are kept" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("a.png", "its name must end in"), ("no/a.nii.gz", "does not exist")])
def test_a_file_that_cannot_be_written_is_refused_before_translating(
    scans: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    command = ["translate", "apply", "no-model", str(scans["MR"][0]), "-o", str(tmp_path / name)]
    assert main(command) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mr", "ct", "said"),
    [
        ("CT", "MR", "give MR scans first"),
        ("empty", "CT", "is empty"),
        ("flat", "CT", "is a 2D image"),
        ("MR", "empty", "is empty"),
        ("nothing", "CT", "does not exist"),
        ("single", "CT", "number of MR scans is 1"),
    ],
)
def test_bad_folders_are_refused_in_one_line(
    scans: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str], mr: str, ct: str, said: str
) -> None:
    import shutil

    import SimpleITK as sitk

    for name in ("empty", "flat", "single"):
        (tmp_path / name).mkdir()
    shutil.copy(scans["MR"][0], tmp_path / "single")
    for n in (1, 2):
        sitk.WriteImage(sitk.Image(20, 20, sitk.sitkInt16), str(tmp_path / "flat" / f"{n}.nii.gz"))
    folders = [scans[m][0].parent if m in scans else tmp_path / m for m in (mr, ct)]
    out = tmp_path / "out"
    assert main(["translate", "train", str(folders[0]), str(folders[1]), "-o", str(out), *SMALL]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert not list(out.rglob("state-*"))


def test_bad_settings_are_refused_before_anything_is_read(
    scans: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(scans[m][0].parent) for m in ("MR", "CT")]
    for option, said in (
        (["--patch", "33"], "patch is 33 pixels"),
        (["--batch", "0"], "batch is 0"),
        (["--ct-window", "5", "1"], "ct_window is 5 to 1 HU"),
        (["--threads", "0"], "--threads is 0"),
        (["--sheet-every", "0"], "--sheet-every is 0"),
        (["--device", "cuda:99"], "device 'cuda:99'"),
    ):
        assert main(["translate", "train", *folders, "-o", str(tmp_path / "out"), *SMALL, *option]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_line_knows_what_the_room_offers() -> None:
    from heartseg.translation import model, presets
    from heartseg.workshop import translate

    assert set(translate.PRESETS) == set(presets.PRESETS)
    assert set(translate.DIRECTIONS) == set(model.DIRECTIONS)


def test_the_command_line_loads_neither_torch_nor_the_room_until_it_is_used() -> None:
    code = (
        "import sys; from heartseg.cli.main import build_parser; build_parser(); import heartseg.pipeline; "
        "print([m for m in sys.modules if m == 'torch' or m.startswith('heartseg.translation')])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert said.stdout.strip() == "[]"


def test_every_setting_has_an_option() -> None:
    """Each option changes only its own setting."""
    from dataclasses import fields

    from heartseg.cli.main import build_parser
    from heartseg.translation.presets import REFERENCE, Settings
    from heartseg.workshop.translate import _settings

    other = {
        "blocks": 6,
        "filters": 32,
        "critic_filters": 16,
        "loss": "log",
        "cycle": 5.0,
        "identity": 0.25,
        "edges": 2.0,
        "pool": 7,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "momentum": 0.25,
        "constant_epochs": 3,
        "steps": 11,
        "batch": 4,
        "patch": 64,
        "spacing": 2.0,
        "ct_window": (-100.0, 500.0),
        "mr_percentiles": (2.0, 98.0),
        "ema": 0.9,
        "seed": 5,
    }
    assert set(other) == {f.name for f in fields(Settings)} - {"epochs"}
    for name, value in other.items():
        changed: dict[str, Any] = {name: value}
        words = [f"{v:g}" for v in value] if isinstance(value, tuple) else [str(value)]
        option = name.replace("_", "-")
        args = build_parser().parse_args(["translate", "train", "a", "b", "-o", "c", f"--{option}", *words])
        assert _settings(args) == replace(REFERENCE, **changed)
    args = build_parser().parse_args(["translate", "train", "a", "b", "-o", "c", "--epochs", "40"])
    assert _settings(args) == replace(REFERENCE, epochs=40, constant_epochs=20)


def test_padding_is_the_share_of_a_patch_that_no_slice_fills(tmp_path: Path) -> None:
    from heartseg.translation.slices import Domain, Scaling, padding_share

    files = []
    for k, shape in enumerate(((3, 32, 16), (2, 64, 64))):
        files.append(tmp_path / f"{k}.npy")
        np.save(files[-1], np.zeros(shape, np.float16))
    domain = Domain("CT", tuple(files), ((0, 0),), Scaling("window", -1.0, 1.0, (-1.0, 1.0)))
    assert padding_share(domain, 32) == 0.25  # half of the first slice, nothing of the second
