"""Tests and the wheel on other versions of Python: ``nox -s tests-3.13``, ``nox -s "wheel-3.13(extra='app')"``.

``WHEEL_TORCH``: site-packages of an environment of the same Python, whose torch the sessions ``wheel`` borrow instead
of downloading one each.
"""

from __future__ import annotations

import os
import shlex
from importlib.metadata import distributions
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
TORCH_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
INSTALL = ("--extra-index-url", TORCH_INDEX, "-c", "requirements/constraints.txt")
ROOT = Path(__file__).resolve().parent
SCAN = ROOT / "HeartSeg" / "Resources" / "SampleData" / "HeartSeg-synthetic-CTA.nii.gz"
TORCH = ("torch", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "typing-extensions")

SEGMENT = f"heartseg segment {SCAN} -o out --modality CT --device cpu"
PROGRAM = f"""
import sys
from pathlib import Path
sys.path.append({str(ROOT / "HeartSeg" / "Testing")!r})
from command_lines import write_dicom
from heartseg import read_volume
volume = read_volume({str(SCAN)!r})
write_dicom(Path("dicom"), volume.array.astype("int16"), volume.geometry.spacing[0])
"""
MAKE_DICOM_FOLDER = f"python -c {shlex.quote(PROGRAM)}"
COMMANDS = {
    "none": ["heartseg version", "heartseg models list"],
    "torch": [f"{SEGMENT} --format labels,csv"],
    "complete": ["register-python-argcomplete heartseg"],
    "app": [SEGMENT, "heartseg export out -o export --format stl,html"],
    "light": [SEGMENT, "heartseg export out -o export --format stl,html", "heartseg doctor"],
    "parquet,torch": [f"{SEGMENT} --format labels", "heartseg cohort ."],
    "cluster": ["python -m heartseg.cli.cluster"],  # its imports
    "dicom,light": [
        MAKE_DICOM_FOLDER,
        "heartseg check dicom",
        "heartseg segment dicom -o out --device cpu --format labels",
        "heartseg export out -o export --format dicom-seg",
    ],
    "report,light": [SEGMENT, "heartseg report out -o report --format html,pdf"],
    "evaluate,light": [f"{SEGMENT} --format labels", "heartseg evaluate out/labels.nii.gz out/labels.nii.gz -o scores"],
    "openvino": [f"{SEGMENT} --format labels --backend openvino"],
    "train": [
        "heartseg sample --labelled 3 --spacing 6 -o toy",
        "heartseg train toy -o run --modality CT --folds 3 --only-folds 0 --epochs 1 --iterations-per-epoch 2"
        " --validation-iterations 1 --batch 2 --patch 32x32 --device cpu",
    ],
}
"""What each extra must be able to do; ``none`` is the wheel alone."""


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Every test that is not slow, or those given after ``--``."""
    session.install(*INSTALL, "-e", ".[dev]")
    session.run("python", "-m", "pip", "check")
    session.run("pytest", "-q", "-m", "not slow", *session.posargs, env={"OMP_NUM_THREADS": "1"})


def borrow_torch(session: nox.Session, lender: Path, folder: Path) -> None:
    """Make torch and its own requirements of another environment visible: links in ``folder``, named by a .pth file."""
    folder.mkdir(exist_ok=True)
    wanted = {name.replace("-", "_") for name in TORCH}
    for found in distributions(path=[str(lender)]):
        if found.metadata["Name"].lower().replace("-", "_") in wanted:
            for top in {str(file).split("/")[0] for file in found.files or ()} - {"..", "__pycache__"}:
                link = folder / top
                if not link.exists():
                    link.symlink_to(lender / top)
    (site,) = Path(session.virtualenv.location).glob("lib/python*/site-packages")
    (site / "torch.pth").write_text(str(folder))


@nox.session(python=PYTHONS)
@nox.parametrize("extra", list(COMMANDS))
def wheel(session: nox.Session, extra: str) -> None:
    """The wheel with one extra in an empty environment: its size, and the commands that the extra is for."""
    folder = Path(session.create_tmp()).resolve()
    session.install("build")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT), silent=True)
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "build", "pyproject_hooks", "packaging")
    if lender := os.environ.get("WHEEL_TORCH"):
        borrow_torch(session, Path(lender), folder / "torch")
    (built,) = folder.glob("*.whl")
    session.install(*INSTALL, str(built) + ("" if extra == "none" else f"[{extra}]"))
    session.chdir(folder)
    environment = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    for command in COMMANDS[extra]:
        session.run(*shlex.split(command), env=environment)
    session.run("du", "-sh", session.virtualenv.location, external=True)  # borrowed packages are links: not counted
