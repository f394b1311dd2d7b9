"""Pages on training and on cohorts, walked through as a user does: every shell block is run as it is printed.

``heartseg`` on the PATH is the program of this tree. Except in the tutorial, which is small by itself, it appends
options that make trainings as small as possible.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from command_lines import write_time_series
from heartseg.training.toy import make_toy_data
from heartseg.volume import read_volume, write_volume
from labelled_scans import as_mmwhs, make_mmwhs
from volume.dicom_files import phantom, planes, write_classic

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
SMALL = {
    "train": "--folds 2 --only-folds 0 --optimizer adam --epochs 1 --iterations-per-epoch 1 --validation-iterations 1 "
    "--batch 2 --device cpu --threads 1",
    "translate train": "--blocks 1 --filters 4 --critic-filters 4 --patch 32 --spacing 6 --steps 20 --device cpu",
}
SMALL["ablate"] = SMALL["train"]
SCRIPT = """#!/bin/sh
case "$1 $2" in
  "translate train") set -- "$@" {translate train} ;;
  "train "*) set -- "$@" {train} ;;
  "ablate "*) set -- "$@" {ablate} ;;
esac
case "$*" in *256x256*|*config.yaml*) test -z "{train}" || set -- "$@" --patch 64x64 ;; esac
export PYTHONPATH="{logic}:$PYTHONPATH"
exec "{python}" -m heartseg.cli.main "$@"
"""
NEEDS_MORE = ("--start-from", "nnUNetv2_train")
"""Blocks with these need minutes a step, or a graphics card; tests of their own run them."""


def toy(home: Path, count: int = 4, modality: str = "CT", seed: int = 0) -> Path:
    return make_toy_data(home, count, modality, 6.0, seed)


def before_train_your_own(home: Path) -> None:
    toy(home / "scans")
    toy(home / "test_scans", seed=1)
    (toy(home / "more", seed=2) / "images").rename(home / "more_scans")
    shutil.copy(home / "more_scans" / "ct_00.nii.gz", home / "scan.nii.gz")
    (code,) = (c for c in blocks("how-to/train-your-own.md", "python") if "class Net" in c)
    (home / "my_methods.py").write_text(code, encoding="utf-8")


def before_translation(home: Path) -> None:
    toy(home / "trainset")
    toy(home / "mr_labelled", modality="MR")
    for name, modality in (("mr", "MR"), ("ct", "CT")):
        (toy(home / f"for_{name}", modality=modality, seed=1) / "images").rename(home / name)
    (home / "mr" / "mr_00.nii.gz").rename(home / "mr" / "case_01.nii.gz")


def before_mmwhs(home: Path) -> None:
    make_mmwhs(home / "ct_train", 4, (6.0, 6.0, 8.0))
    for name in ("ct_test", "mr_test", "mr_train"):
        (home / name).mkdir()
    (home / "ct_train" / "ct_test_2001_image.nii.gz").unlink()
    for k, (folder, labelled) in enumerate((("mr_test", False), ("ct_test", False), ("mr_train", True))):
        kind, part = folder.split("_")
        made = toy(home / f"for_{folder}", modality=kind.upper(), seed=k)
        for number in range(4):
            for name in ("image", "label")[: 1 + labelled]:
                volume = read_volume(made / f"{name}s" / f"{kind}_{number:02}.nii.gz")
                if name == "label":
                    volume = replace(volume, array=as_mmwhs(volume.array))
                write_volume(volume, home / folder / f"{kind}_{part}_{1001 + number}_{name}.nii.gz")
    (code,) = blocks("how-to/train-on-mm-whs.md", "python")
    subprocess.run([sys.executable, "-c", code], cwd=home, check=True)


def before_many_scans(home: Path) -> None:
    (toy(home / "toy", 2) / "images").rename(home / "scans")
    (home / "a").mkdir()
    shutil.copy(home / "scans" / "ct_00.nii.gz", home / "a" / "scan.nii.gz")
    write_classic(home / "b" / "dicom", planes(phantom()))
    (listed,) = blocks("how-to/segment-many-scans.md", "text")
    (home / "list.csv").write_text(listed, encoding="utf-8")
    import SimpleITK as sitk

    write_time_series(home / "cine.nii.gz", 2 * [sitk.ReadImage(str(home / "a" / "scan.nii.gz"))])


WALKS: dict[str, Callable[[Path], None]] = {
    "tutorial/train-a-model.md": lambda _: None,
    "how-to/train-your-own.md": before_train_your_own,
    "how-to/translate-mr-to-ct.md": before_translation,
    "how-to/train-on-mm-whs.md": before_mmwhs,
    "how-to/segment-many-scans.md": before_many_scans,
}


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def named_files(page: str) -> set[str]:
    """Paths in the prose that name what a command has written."""
    prose = re.sub(r"^```.*?^```$", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    roots = "toy|own|tested|cyclegan|out|comparison|ablation|trainset|ct"
    return {name for name in re.findall(rf"`((?:{roots})[\w-]*/[\w./-]+)`", prose) if "NAME" not in name}


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKS)
def test_every_command_of_the_page_works_and_writes_the_files_that_it_names(page: str, tmp_path: Path) -> None:
    home, tools = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    tools.mkdir()
    small = dict.fromkeys(SMALL, "") if page.startswith("tutorial") else SMALL
    script = tools / "heartseg"
    values = {**small, "python": sys.executable, "logic": str(ROOT / "HeartSeg" / "Logic")}
    script.write_text(re.sub(r"\{([a-z ]+)\}", lambda found: values[found[1]], SCRIPT), encoding="utf-8")
    script.chmod(0o755)
    WALKS[page](home)
    path = os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path, "HEARTSEG_MODELS": str(tmp_path / "models"), "OMP_NUM_THREADS": "1"}
    missing = named_files(page)
    for block in blocks(page, "sh"):
        if any(word in block for word in NEEDS_MORE) or "heartseg" not in block:
            continue
        done = subprocess.run(
            ["sh", "-e"],
            input=block,
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        missing = {name for name in missing if not (home / name).exists()}
    assert not missing
