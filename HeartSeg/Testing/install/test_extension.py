"""The Slicer extension: configured and installed by CMake, and loaded from its installation."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from install.conftest import MADE_UP_MODEL, run_isolated, segment_far_from_the_clone

STANDIN = Path(__file__).parent / "slicer-standin"
MODULE_FOLDER = Path("lib/Slicer-5.12/qt-scripted-modules")


def listing(repository: Path) -> ModuleType:
    """Import the tool that writes the list."""
    spec = importlib.util.spec_from_file_location("list_package_files", repository / "tools" / "list_package_files.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def configure(tree: Path, build: Path) -> subprocess.CompletedProcess[str]:
    command = ["cmake", "-S", str(tree), "-B", str(build), f"-DSlicer_DIR={STANDIN}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def build(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder = tmp_path_factory.mktemp("build")
    run = configure(tree, folder)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture(scope="module")
def installed(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the installed module."""
    prefix = tmp_path_factory.mktemp("Slicer")
    subprocess.run(["cmake", "--install", str(build), "--prefix", str(prefix)], check=True, capture_output=True)
    return prefix / MODULE_FOLDER


def test_every_file_of_the_package_is_listed(repository: Path) -> None:
    tool = listing(repository)
    listed, there = tool.LIST.read_text(encoding="utf-8").splitlines(), tool.text().splitlines()
    wrong = [f"not listed: {line.strip()}" for line in there if line not in listed]
    wrong += [f"listed but not there: {line.strip()}" for line in listed if line not in there]
    if listed != there:
        pytest.fail(
            f"HeartSeg/PackageFiles.cmake, the list of what the Slicer extension packages, does not fit the tree "
            f"({'; '.join(wrong[:5]) or 'other order'}). Write it anew and commit it:\n"
            "    python tools/list_package_files.py",
            pytrace=False,
        )


def test_the_main_file_is_the_only_python_file_at_the_modules_top(repository: Path) -> None:
    assert [p.name for p in (repository / "HeartSeg").glob("*.py")] == ["HeartSeg.py"]


def test_the_extension_manager_finds_what_it_reads(repository: Path, build: Path) -> None:
    text = (repository / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"project\s*\(\s*([^\s\)\n\r]+)", text).group(1) == "HeartSeg"
    assert re.search(r'set\(EXTENSION_ICONURL "https://[^"$]+\.png"\)', text)
    said = dict(line.split("=", 1) for line in (build / "extension.txt").read_text(encoding="utf-8").splitlines())
    assert (said["CATEGORY"], said["DEPENDS"]) == ("Cardiac", "PyTorch")
    assert all(url.endswith(".png") for url in said["SCREENSHOTURLS"].split(" "))
    assert (repository / "LICENSE.txt").is_file()


def test_a_listed_file_that_is_missing_stops_the_build(tree: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    broken = tmp_path / "HeartSeg"
    shutil.copytree(tree, broken)
    (broken / "HeartSeg" / "Logic" / "heartseg" / "anatomy.py").unlink()
    run = configure(broken, tmp_path / "build")
    assert run.returncode != 0
    assert "'Logic/heartseg/anatomy.py', which does not exist" in " ".join(run.stderr.split())


def test_installed_files_are_the_listed_ones_and_the_models(repository: Path, installed: Path) -> None:
    tool = listing(repository)
    there = {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}
    models = {path for path in there if path.startswith("Models/")}
    assert there - models == {*tool.scripts(), *tool.resources()}
    assert MADE_UP_MODEL in models


def test_the_installed_module_loads_and_works_far_from_the_clone(
    repository: Path, installed: Path, tmp_path: Path
) -> None:
    pytest.importorskip("slicer", reason="needs slicer-core (extra dev)")
    shutil.copytree(repository / "HeartSeg" / "Testing" / "slicer_host", tmp_path / "host" / "slicer_host")
    code = f"""
from pathlib import Path
root = Path({str(installed)!r})
sys.path[:0] = [str(root / "Logic"), {str(tmp_path / "host")!r}]
from slicer_host import host
module = host.load_module(root / "HeartSeg.py")
import slicer, heartseg
slicer.selfTests["HeartSeg"](msec=0)
for used in (module, heartseg, sys.modules["heartseg.scene.segmentation"]):
    assert Path(used.__file__).is_relative_to(root), used.__file__
assert not [p for p in sys.path if p.startswith({str(repository)!r} + "/HeartSeg")], sys.path
package = Path(heartseg.__file__).parent
assert (package.parents[1] / "Models").is_dir()  # the second of the places where models are looked for
print(slicer.modules.heartseg.title)
"""
    run = run_isolated(code, installed, tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "HeartSeg"


def test_the_installed_module_segments_the_sample_with_the_model_beside_it(
    repository: Path, installed: Path, tmp_path: Path
) -> None:
    segment_far_from_the_clone(repository, installed / "Logic", installed / "Models", tmp_path)
