"""Copies of the tree, installations made from them, and processes that can import only an installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "out", "*.egg-info", "__pycache__", ".*_cache", ".train", ".hypothesis"
)
MADE_UP_MODEL = "Models/Made-Up/fold_0/checkpoint_final.pth"

SAMPLE = Path("HeartSeg/Resources/SampleData/HeartSeg-synthetic-CTA.nii.gz")
EXPECTED_STRUCTURES = 5
"""Minimum number of the seven structures; a preliminary model (``"preliminary": true`` in its card) may find fewer."""

SEGMENT = """
from pathlib import Path
import numpy as np
import heartseg
from heartseg.models.store import find_model, list_models
installation, models, scan = Path({installation!r}), Path({models!r}), Path({scan!r})
clone = Path({clone!r})
assert Path(heartseg.__file__).is_relative_to(installation), heartseg.__file__
assert not [p for p in sys.path if Path(p).is_relative_to(clone / "HeartSeg")], sys.path
assert not Path.cwd().is_relative_to(clone), Path.cwd()
model = find_model()
assert model.path.is_relative_to(models), model.path
assert not [m.path for m in list_models() if m.path.is_relative_to(clone)]
result = heartseg.segment(heartseg.read_volume(scan), settings=heartseg.Settings(device="cpu"))
loaded = [m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] == "heartseg" and m.__file__]
assert all(Path(f).is_relative_to(installation) for f in loaded)
found = [s.key for s in result.structures if result.mask(s.key).any()]
print("found", *found)
"""
"""Code for :func:`run_isolated` from an installation, whose own package and model must be used."""


def segment_far_from_the_clone(repository: Path, installation: Path, models: Path, cwd: Path) -> None:
    """Segment a copy of the sample scan with an installation's package and model; it must find a heart."""
    scan = Path(shutil.copy(repository / SAMPLE, cwd))
    code = SEGMENT.format(installation=str(installation), models=str(models), scan=str(scan), clone=str(repository))
    run = run_isolated(code, installation, cwd)
    assert run.returncode == 0, run.stderr
    said = dict(line.partition(" ")[::2] for line in run.stdout.splitlines())
    assert len(said["found"].split()) >= EXPECTED_STRUCTURES, run.stdout


@pytest.fixture(scope="session")
def tree(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a copy of the clone, which building does not change. It always has a README and a folder of models."""
    copy = tmp_path_factory.mktemp("copy") / "HeartSeg"
    shutil.copytree(repository, copy, ignore=LEFT_OUT)
    (copy / "README.md").touch()
    made_up = copy / MADE_UP_MODEL
    made_up.parent.mkdir(parents=True, exist_ok=True)
    made_up.write_bytes(b"not a real model")
    return copy


def run_isolated(code: str, installation: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that sees the packages of this environment and the installation, but not the clone.

    ``-I`` excludes the current folder and ``PYTHONPATH``; paths added by an editable installation of the clone are
    removed; the user's own models are not accessible.
    """
    preamble = (
        "import sys\n"
        f"sys.path[:] = [p for p in sys.path if not p.startswith({str(ROOT / 'HeartSeg')!r})]\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in str(getattr(f, '__module__', ''))]\n"
        f"sys.path.insert(0, {str(installation)!r})\n"
    )
    environment = {**os.environ, "HEARTSEG_MODELS": str(cwd / "no-models")}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, "-I", "-c", preamble + code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
