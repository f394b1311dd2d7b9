"""Files of the clone: what CMake packages, sizes, and what must not be committed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import PurePosixPath

from .tree import EXTENSION, MODULE_FILE, PACKAGE, Problem, Rule, Tree, cmake_list, uncommented

LIST = f"{EXTENSION}/PackageFiles.cmake"
MODULE_CMAKE = f"{EXTENSION}/CMakeLists.txt"
WRITE_LIST = "python tools/list_package_files.py"
MIB = 2**20
LARGEST_FILE = 16 * MIB
LARGEST_CLONE = 100 * 10**6
SAMPLE_FOLDER = f"{EXTENSION}/Resources/SampleData"
WEIGHTS_FOLDER = "Models"
SCANS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".ima", ".mrb", ".gipl", ".vtk", ".vtp", ".stl")
WEIGHTS = (".pth", ".pt", ".ckpt", ".onnx", ".safetensors", ".npz", ".npy", ".h5")
BUILT = (".pyc", ".pyo", ".so", ".pyd", ".dll", ".dylib", ".o", ".obj", ".exe", ".whl", ".egg", ".log")
BUILT_FOLDERS = {"__pycache__", "build", "dist", "CMakeFiles", "out", "node_modules", ".venv", ".ipynb_checkpoints"}
_DICOM_MARK = 128
"""Byte at which a DICOM file says DICM."""


def package_list(tree: Tree) -> list[Problem]:
    """What CMake lists is there, and what the package holds is listed."""
    listed = [
        name
        for variable in ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES")
        for name in cmake_list(tree.text(LIST), variable) or []
    ]
    holds = {MODULE_FILE, *tree.under(PACKAGE), *tree.under(f"{EXTENSION}/Resources")}
    holds = {f.removeprefix(f"{EXTENSION}/") for f in holds if not f.endswith(".pyc")}
    found = [Problem(f"{LIST} lists {n}, which is not there", f"run {WRITE_LIST}") for n in sorted(set(listed) - holds)]
    found += [Problem(f"{n} is not listed in {LIST}", f"run {WRITE_LIST}") for n in sorted(holds - set(listed))]
    twice = sorted({n for n in listed if listed.count(n) > 1})
    return found + [Problem(f"{LIST} lists {n} twice", f"run {WRITE_LIST}") for n in twice]


def module_build(tree: Tree) -> list[Problem]:
    """Slicer's macro with both lists and the generic tests, the self-test, and no list by wildcard."""
    text = uncommented(tree.text(MODULE_CMAKE))
    wanted = {
        r"slicerMacroBuildScriptedModule\s*\(": "build the module with slicerMacroBuildScriptedModule",
        r"SCRIPTS\s+\$\{MODULE_PYTHON_SCRIPTS\}": "pass SCRIPTS ${MODULE_PYTHON_SCRIPTS}",
        r"RESOURCES\s+\$\{MODULE_PYTHON_RESOURCES\}": "pass RESOURCES ${MODULE_PYTHON_RESOURCES}",
        r"WITH_GENERIC_TESTS": "pass WITH_GENERIC_TESTS",
        r"slicer_add_python_unittest\s*\(\s*SCRIPT": "register the self-test with slicer_add_python_unittest",
    }
    found = [
        Problem(f"{MODULE_CMAKE} lacks {mend.split()[-1]}", mend)
        for pattern, mend in wanted.items()
        if not re.search(pattern, text)
    ]
    every = (f for f in tree.files if f.endswith((".cmake", "CMakeLists.txt")) and "/Testing/" not in f)
    globbed = [f for f in every if re.search(r"\bfile\s*\(\s*GLOB", uncommented(tree.text(f)), re.IGNORECASE)]
    return found + [Problem(f"{f} lists files by a wildcard", "list them by name") for f in globbed]


def one_module(tree: Tree) -> list[Problem]:
    """Every .py at the top of the module's folder is taken for a module."""
    top = [f for f in tree.under(EXTENSION, ".py") if f.count("/") == 1 and f != MODULE_FILE]
    found = [Problem(f"{f} would be taken for a module", f"move it into {PACKAGE}") for f in top]
    if not tree.has(MODULE_FILE):
        found.append(Problem(f"there is no {MODULE_FILE}", "restore it"))
    return found


def importable_names(tree: Tree) -> list[Problem]:
    """All extensions' folders share one import path: a package called Logic or Testing would collide with others'."""
    taken = [f for f in tree.files if f in (f"{EXTENSION}/Logic/__init__.py", f"{EXTENSION}/Testing/__init__.py")]
    taken += [f for f in tree.under(f"{EXTENSION}/Logic", ".py") if not f.startswith(f"{PACKAGE}/") and f not in taken]
    return [
        Problem(f"{f} makes a name that collides with other extensions", f"keep Python in {PACKAGE}") for f in taken
    ]


def file_sizes(tree: Tree) -> list[Problem]:
    """No large file."""
    return [
        Problem(
            f"{f} has {tree.size(f) / MIB:.1f} MiB",
            f"keep it below {LARGEST_FILE // MIB} MiB, or out of the repository",
        )
        for f in tree.files
        if tree.size(f) > LARGEST_FILE
    ]


def clone_size(tree: Tree) -> list[Problem]:
    """Working files and git's history together."""
    size = clone_bytes(tree)
    if size <= LARGEST_CLONE:
        return []
    return [
        Problem(f"the clone has {size / 1e6:.0f} MB", f"keep it below {LARGEST_CLONE // 10**6} MB: smaller weights")
    ]


def clone_bytes(tree: Tree) -> int:
    """Bytes of the files and, where this is a repository, of the objects that a clone of it would get.

    Each object of the history of every branch and tag here counts once, as it is stored, whatever else lies in the
    folder: after some fetches the same object is in several packs, and a clone gets it once.
    """
    size = sum(tree.size(f) for f in tree.files)
    if (tree.root / ".git").exists():
        command = ["git", "-C", str(tree.root), "rev-list", "--objects", "--all", "--disk-usage"]
        size += int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return size


def no_scans(tree: Tree) -> list[Problem]:
    """No scans and surfaces but the synthetic sample that its README describes, and no weights but the models'."""
    described = tree.text(f"{SAMPLE_FOLDER}/README.md")
    found = []
    for f in tree.files:
        name, low = PurePosixPath(f).name, f.lower()
        sample = f.startswith(f"{SAMPLE_FOLDER}/") and name in described and "no patient" in described
        if (low.endswith(SCANS) or _is_dicom(tree, f)) and not sample:
            found.append(Problem(f"{f} is a scan or a surface", "take it out of the repository"))
        if low.endswith(WEIGHTS) and not f.startswith(f"{WEIGHTS_FOLDER}/"):
            found.append(Problem(f"{f} holds arrays or weights", f"take it out, or keep it in {WEIGHTS_FOLDER}"))
    return found


def no_output(tree: Tree) -> list[Problem]:
    """No build output, and notebooks without outputs."""
    found = []
    for f in tree.files:
        parts = PurePosixPath(f).parts
        if f.lower().endswith(BUILT) or BUILT_FOLDERS & set(parts[:-1]) or parts[0].endswith(".egg-info"):
            found.append(Problem(f"{f} is build output", "take it out and let .gitignore name it"))
        elif f.endswith(".ipynb") and _has_outputs(tree.text(f)):
            found.append(Problem(f"{f} has outputs", "clear them: jupyter nbconvert --clear-output --inplace"))
    return found


def _is_dicom(tree: Tree, path: str) -> bool:
    """DICM at byte 128, whatever the file is called."""
    if PurePosixPath(path).suffix in (".py", ".md", ".cmake", ".txt") or tree.size(path) < _DICOM_MARK + 4:
        return False
    with (tree.root / path).open("rb") as stream:
        return stream.read(_DICOM_MARK + 4)[_DICOM_MARK:] == b"DICM"


def _has_outputs(notebook: str) -> bool:
    try:
        cells = json.loads(notebook).get("cells", [])
    except (json.JSONDecodeError, AttributeError):
        return True
    return any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


RULES = (
    Rule("package-list", "CMake packages every file of the package and of Resources, and nothing else", package_list),
    Rule("module-build", "Slicer's macro builds the module from lists of names and registers its tests", module_build),
    Rule("one-module", f"{MODULE_FILE} is the only Python file at the top of its folder", one_module),
    Rule("importable-names", "the only importable package is heartseg", importable_names),
    Rule("file-size", f"no file above {LARGEST_FILE // MIB} MiB", file_sizes),
    Rule("clone-size", f"the clone with its history is below {LARGEST_CLONE // 10**6} MB", clone_size),
    Rule("no-scans", "no scans but the described synthetic sample, no weights but the models'", no_scans),
    Rule("no-output", "no build output, no outputs of notebooks", no_output),
)
