"""Tests on other versions of Python: ``nox``, or ``nox -s "tests-3.13" -- HeartSeg/Testing/volume``."""

from __future__ import annotations

import os

import nox

nox.options.default_venv_backend = "venv"
TORCH_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
INSTALL = ("--extra-index-url", TORCH_INDEX, "-c", "requirements/constraints.txt")


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Every test that is not slow, or those given after ``--``."""
    session.install(*INSTALL, "-e", ".[dev]")
    session.run("python", "-m", "pip", "check")
    session.run("pytest", "-q", "-m", "not slow", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def wheel(session: nox.Session) -> None:
    """The wheel in an empty environment: its commands, and the sample scan segmented."""
    session.install("build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", folder, silent=True)
    (name,) = (n for n in os.listdir(folder) if n.endswith(".whl"))  # noqa: PTH208
    session.install(*INSTALL, os.path.join(folder, name) + "[complete]")  # noqa: PTH118
    scan = os.path.abspath("HeartSeg/Resources/SampleData/HeartSeg-synthetic-CTA.nii.gz")  # noqa: PTH100
    session.chdir(folder)
    session.run("heartseg", "version")
    session.run("heartseg", "models", "list")
    session.run("heartseg", "segment", scan, "-o", "out", "--overwrite", "--modality", "CT", "--format", "labels,csv")
