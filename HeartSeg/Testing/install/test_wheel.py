"""The Python package: a wheel built from a source distribution, installed and used outside the clone."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from install.conftest import run_isolated, segment_far_from_the_clone

pytest.importorskip("build", reason="needs the package `build`")


@pytest.fixture(scope="module")
def dist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the source distribution, and the wheel that was built from it (not from the tree)."""
    folder = tmp_path_factory.mktemp("dist")
    before = {p.relative_to(tree) for p in tree.rglob("*")}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    made = {p.relative_to(tree) for p in tree.rglob("*")} - before
    assert all(".egg-info" in str(p) for p in made), made
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    (wheel,) = dist.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return target


def test_the_wheel_holds_the_package_the_models_and_nothing_else(repository: Path, dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    logic = repository / "HeartSeg" / "Logic"
    modules = {p.relative_to(logic).as_posix() for p in (logic / "heartseg").rglob("*.py")}
    models = {n for n in names if n.startswith("heartseg/model_store/")}
    assert modules <= names
    assert {
        f"heartseg/report/{n}" for n in ("vendor/niivue.umd.js.gz", "vendor/niivue-LICENSE.txt", "assets/page.css")
    } <= names
    assert "heartseg/model_store/Made-Up/fold_0/checkpoint_final.pth" in models
    assert {n for n in names - models if n.endswith(".py")} == modules
    assert all(n.startswith("heartseg/") for n in names)


def test_the_source_distribution_holds_the_models_and_no_tests(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = [n.split("/", 1)[-1] for n in tar.getnames()]
    assert "Models/Made-Up/fold_0/checkpoint_final.pth" in names
    assert "LICENSE.txt" in names
    assert not [n for n in names if n.startswith("HeartSeg/Testing/")]


def test_the_installed_package_imports_far_from_the_clone(repository: Path, installed: Path, tmp_path: Path) -> None:
    code = f"""
import importlib, pkgutil
from pathlib import Path
import heartseg
assert Path(heartseg.__file__).is_relative_to({str(installed)!r})
assert not [p for p in sys.path if p.startswith({str(repository)!r} + "/HeartSeg")], sys.path
assert (Path(heartseg.__file__).parent / "model_store").is_dir()  # the first place where models are looked for
for name in ("anatomy", "result", "volume", "scene.segmentation", "export.surfaces"):
    importlib.import_module("heartseg." + name)
assert "slicer" not in sys.modules
print(heartseg.__version__)
"""
    run = run_isolated(code, installed, tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_the_installed_package_segments_the_sample_with_the_model_it_brings(
    repository: Path, installed: Path, tmp_path: Path
) -> None:
    segment_far_from_the_clone(repository, installed, installed / "heartseg" / "model_store", tmp_path)


def test_every_extra_of_a_user_is_tried_in_an_empty_environment(repository: Path) -> None:
    """The sessions of ``noxfile.py`` cover the extras of ``pyproject.toml``, except those for development."""
    pytest.importorskip("nox", reason="needs nox (extra dev)")
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    spec = importlib.util.spec_from_file_location("noxfile", repository / "noxfile.py")
    assert spec is not None and spec.loader is not None
    noxfile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(noxfile)
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tried = {extra for extras in noxfile.COMMANDS for extra in extras.split(",")}
    assert tried - {"none"} == set(project["optional-dependencies"]) - {"dev", "docs", "outputs"}
    assert all("outputs" in project["optional-dependencies"][extra][0] for extra in ("app", "light"))
    programs = {shlex.split(command)[0] for commands in noxfile.COMMANDS.values() for command in commands}
    assert programs == {"heartseg", "python", "register-python-argcomplete"}
