"""``tools/check_extension.py``: this tree holds every rule, and a tree in which one is broken fails that rule alone."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools"
sys.path.insert(0, str(TOOLS))
try:
    import check_extension
    from extension_rules import RULES, catalogue, files, read_tree
finally:
    sys.path.remove(str(TOOLS))

LEFT_OUT = (
    "HeartSeg/Testing/",
    "Models/",
    "benchmarks/",
    "docs/explanation/",
    "docs/how-to/",
    "docs/reference/",
    ".ci/",
)
"""What no rule looks into, beyond its name and size."""
MODULE = "HeartSeg/HeartSeg.py"
UI = "HeartSeg/Resources/UI/HeartSeg.ui"
ICON = "HeartSeg/Resources/Icons/HeartSeg.png"


@dataclass
class Copy:
    """A copy of the tree in which files are changed, and put back by :meth:`restore`."""

    root: Path
    before: dict[Path, bytes | None] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    """Rules that the untouched copy does not hold: a fault of the tree shall not make every test here fail."""

    def write(self, path: str, content: bytes | str, size: int | None = None) -> None:
        """Write a file; with ``size``, let it be so many bytes long without filling the disk."""
        target = self.root / path
        self.before.setdefault(target, target.read_bytes() if target.exists() else None)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        if size is not None:
            with target.open("ab") as stream:
                stream.truncate(size)

    def remove(self, path: str) -> None:
        target = self.root / path
        self.before.setdefault(target, target.read_bytes())
        target.unlink()

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace text that must be there."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} no longer holds {old!r}: the test must break it in another way"
        self.write(path, text.replace(old, new))

    def sub(self, path: str, pattern: str, new: str) -> None:
        """The same by a regular expression over lines, its first match."""
        text = (self.root / path).read_text(encoding="utf-8")
        changed, count = re.subn(pattern, lambda _: new, text, count=1, flags=re.MULTILINE)
        assert count, f"{path} no longer matches {pattern!r}: the test must break it in another way"
        self.write(path, changed)

    def add(self, path: str, text: str) -> None:
        self.write(path, (self.root / path).read_text(encoding="utf-8") + text)

    def entry(self, **changes: object) -> None:
        """Change keys of the catalogue entry; None takes one out."""
        entry = json.loads((self.root / "HeartSeg.json").read_text(encoding="utf-8")) | changes
        self.write("HeartSeg.json", json.dumps({k: v for k, v in entry.items() if v is not None}))

    def restore(self) -> None:
        for path, content in self.before.items():
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
        self.before.clear()

    def broken(self) -> dict[str, str]:
        """Rules that no longer hold, with what is said about each."""
        found = check_extension.check(read_tree(self.root))
        told = {name: check_extension.in_words(problems) for name, problems in found.items() if problems}
        return {name: words for name, words in told.items() if name not in self.known}


@pytest.fixture(scope="module")
def small_tree(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The files that the rules look into, without history, weights and tests."""
    root = tmp_path_factory.mktemp("small") / "clone"
    for name in read_tree(repository).files:
        if not name.startswith(LEFT_OUT) and not name.startswith("."):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, root / name)
    return Copy(root, known=frozenset(Copy(root).broken()))


@pytest.fixture
def copy(small_tree: Copy) -> Iterator[Copy]:
    yield small_tree
    small_tree.restore()


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height)
    return catalogue._SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def notebook(*outputs: str) -> str:
    return json.dumps({"cells": [{"cell_type": "code", "outputs": list(outputs), "execution_count": None}]})


def in_constructor(copy: Copy, code: str) -> None:
    copy.sub(MODULE, r"^        super\(\).__init__\(parent\)\n", f"        super().__init__(parent)\n        {code}\n")


BREAKS: dict[str, tuple[str, Callable[[Copy], None], str]] = {
    "no entry": ("catalogue-entry", lambda c: c.remove("HeartSeg.json"), "missing"),
    "entry is no JSON": ("catalogue-entry", lambda c: c.write("HeartSeg.json", "{tier: 1}"), "no JSON"),
    "unknown key": ("catalogue-entry", lambda c: c.entry(homepage="https://x"), "'homepage'"),
    "no schema": ("catalogue-entry", lambda c: c.entry(**{"$schema": None}), "$schema"),
    "another category": ("catalogue-entry", lambda c: c.entry(category="Heart"), "Cardiac"),
    "tier 5": ("catalogue-entry", lambda c: c.entry(tier=5), "tier"),
    "tier as text": ("catalogue-entry", lambda c: c.entry(scm_revision=1), "make it a str"),
    "repository without Slicer": (
        "repository-address",
        lambda c: (
            c.entry(scm_url="https://github.com/HeartSeg/Heart"),
            c.replace(
                "CMakeLists.txt",
                'HOMEPAGE "https://github.com/HeartSeg/SlicerHeartSeg"',
                'HOMEPAGE "https://github.com/HeartSeg/Heart"',
            ),
        ),
        "'scm_url'",
    ),
    "homepage elsewhere": (
        "repository-address",
        lambda c: c.sub("CMakeLists.txt", r"EXTENSION_HOMEPAGE .*", 'EXTENSION_HOMEPAGE "https://a.org/SlicerB")'),
        "EXTENSION_HOMEPAGE",
    ),
    "entry without PyTorch": ("dependencies", lambda c: c.entry(build_dependencies=[]), "build_dependencies"),
    "CMake without PyTorch": (
        "dependencies",
        lambda c: c.replace("CMakeLists.txt", 'DEPENDS "PyTorch"', 'DEPENDS "NA"'),
        "EXTENSION_DEPENDS",
    ),
    "a comment with another project": (
        "project-name",
        lambda c: c.replace("CMakeLists.txt", "project(HeartSeg)", "# project(Other)\nproject(HeartSeg)"),
        "'Other'",
    ),
    "CMake's category": ("category", lambda c: c.replace("CMakeLists.txt", '"Cardiac"', '"Segmentation"'), "CATEGORY"),
    "icon by a variable": (
        "icon-address",
        lambda c: c.sub("CMakeLists.txt", r'EXTENSION_ICONURL "https://', 'EXTENSION_ICONURL "https://${HOST}/'),
        "literal",
    ),
    "icon that is no PNG": (
        "icon-address",
        lambda c: c.replace("CMakeLists.txt", "Icons/HeartSeg.png", "Icons/HeartSeg.svg"),
        ".svg",
    ),
    "icon that is not there": (
        "icon-address",
        lambda c: c.replace("CMakeLists.txt", "Icons/HeartSeg.png", "Icons/Other.png"),
        "Other.png",
    ),
    "small icon": ("icon-file", lambda c: c.write(ICON, png(64, 64)), "64 x 64"),
    "icon cut off": ("icon-file", lambda c: c.write(ICON, png(128, 128)[:-20]), "cannot be read"),
    "icon with a wrong checksum": (
        "icon-file",
        lambda c: c.write(ICON, png(128, 128).replace(b"\x80", b"\x81", 1)[:60] + b"\0" * 40),
        "damaged",
    ),
    "screenshots with a semicolon": (
        "screenshots",
        lambda c: c.replace("CMakeLists.txt", 'preview.png")', 'preview.png;https://a.org/b.png")'),
        "blank",
    ),
    "no screenshot": (
        "screenshots",
        lambda c: c.sub("CMakeLists.txt", r"EXTENSION_SCREENSHOTURLS .*", 'EXTENSION_SCREENSHOTURLS "")'),
        "SCREENSHOTURLS",
    ),
    "no licence": ("licence", lambda c: c.remove("LICENSE.txt"), "LICENSE.txt"),
    "licence not named": ("licence", lambda c: c.replace("README.md", "Apache-2.0", "a licence"), "README.md"),
    "another title": ("readme-introduction", lambda c: c.sub("README.md", r"\A# HeartSeg", "# Hearts"), "# HeartSeg"),
    "a picture before the words": (
        "readme-introduction",
        lambda c: c.sub("README.md", r"\A# HeartSeg\n", "# HeartSeg\n\n![x](docs/images/preview.png)\n"),
        "what the extension is for",
    ),
    "no picture": ("readme-picture", lambda c: c.replace("README.md", "![", "["), "picture"),
    "no word on the module": ("readme-modules", lambda c: c.replace("README.md", "**HeartSeg**", "HeartSeg"), "module"),
    "tutorial not linked": (
        "readme-tutorial",
        lambda c: c.replace("README.md", "docs/tutorial/in-slicer.md", "docs/tutorial/other.md"),
        "link",
    ),
    "tutorial without sample data": (
        "readme-tutorial",
        lambda c: c.replace("docs/tutorial/in-slicer.md", "CTACardio", "a scan"),
        "CTACardio",
    ),
    "tutorial without pictures": (
        "readme-tutorial",
        lambda c: c.replace("docs/tutorial/in-slicer.md", "![", "["),
        "no picture",
    ),
    "no citation": ("readme-citation", lambda c: c.replace("README.md", "## Citation", "## Thanks"), "cite"),
    "no publications": ("readme-publications", lambda c: c.sub("README.md", r"(?s)^- Isensee.*", ""), "publication"),
    "no notice": (
        "readme-notice",
        lambda c: c.replace("README.md", "not a medical device", "a device"),
        "medical device",
    ),
    "nothing on privacy": (
        "readme-privacy",
        lambda c: c.replace("README.md", "no data leave", "data stay on"),
        "no data leave",
    ),
    "a listed file that is gone": (
        "package-list",
        lambda c: c.remove("HeartSeg/Logic/heartseg/report/shading.py"),
        "shading.py, which is not there",
    ),
    "a new file that is not listed": (
        "package-list",
        lambda c: c.write("HeartSeg/Logic/heartseg/report/new.py", ""),
        "new.py is not listed",
    ),
    "a .ui that is not listed": (
        "package-list",
        lambda c: c.sub("HeartSeg/PackageFiles.cmake", r'  "Resources/UI/HeartSeg.ui"\n', ""),
        "HeartSeg.ui",
    ),
    "a list by wildcard": (
        "module-build",
        lambda c: c.add("HeartSeg/CMakeLists.txt", "file(GLOB more *.py)\n"),
        "wildcard",
    ),
    "no generic tests": (
        "module-build",
        lambda c: c.replace("HeartSeg/CMakeLists.txt", "WITH_GENERIC_TESTS", ""),
        "WITH_GENERIC_TESTS",
    ),
    "a second module": ("one-module", lambda c: c.write("HeartSeg/helper.py", ""), "helper.py"),
    "a package called Logic": (
        "importable-names",
        lambda c: c.write("HeartSeg/Logic/__init__.py", ""),
        "Logic/__init__.py",
    ),
    "a large file": ("file-size", lambda c: c.write("docs/large.pdf", "", 17 * files.MIB), "17.0 MiB"),
    "a large clone": (
        "clone-size",
        lambda c: [c.write(f"docs/part{i}.pdf", "", 15 * files.MIB) for i in range(7)],
        "MB",
    ),
    "a scan": ("no-scans", lambda c: c.write("docs/scan.nii.gz", "x"), "scan.nii.gz"),
    "DICOM without a suffix": ("no-scans", lambda c: c.write("docs/IM0001", b"\0" * 128 + b"DICM"), "IM0001"),
    "a sample that nothing describes": (
        "no-scans",
        lambda c: c.replace("HeartSeg/Resources/SampleData/README.md", "HeartSeg-synthetic-CTA-labels.nii.gz", "x"),
        "labels.nii.gz",
    ),
    "weights beside the models": ("no-scans", lambda c: c.write("tools/w.pth", "x"), "w.pth"),
    "build output": ("no-output", lambda c: c.write("build/CMakeCache.txt", ""), "build output"),
    "compiled Python": ("no-output", lambda c: c.write("tools/x.pyc", ""), "x.pyc"),
    "a notebook with outputs": ("no-output", lambda c: c.write("docs/a.ipynb", notebook("1")), "has outputs"),
    "torch at file scope": (
        "imports",
        lambda c: c.replace(MODULE, "import vtk\n", "import vtk\nimport torch\n"),
        "torch",
    ),
    "torch in a branch": (
        "imports",
        lambda c: c.add(MODULE, "\ntry:\n    from torch import nn\nexcept ImportError:\n    nn = None\n"),
        "torch.nn",
    ),
    "torch by way of the package": (
        "imports",
        lambda c: c.replace(MODULE, "import vtk\n", "import vtk\nfrom heartseg.training import trainer\n"),
        "training/trainer.py",
    ),
    "installing at file scope": (
        "nothing-installed",
        lambda c: c.add(MODULE, '\nslicer.util.pip_install("--no-deps x")\n'),
        "pip_install",
    ),
    "installing in the constructor": (
        "nothing-installed",
        lambda c: in_constructor(c, 'slicer.util.pip_install("x")'),
        "before the user asked",
    ),
    "installing by way of a method": (
        "nothing-installed",
        lambda c: (
            in_constructor(c, "self.prepare()"),
            c.sub(
                MODULE,
                r"^    def load_terminology",
                '    def prepare(self):\n        slicer.util.pip_install("x")\n\n    def load_terminology',
            ),
        ),
        "pip_install",
    ),
    "a dialog in the constructor": (
        "few-pop-ups",
        lambda c: in_constructor(c, 'slicer.util.infoDisplay(_("Hello"))'),
        "infoDisplay",
    ),
    "torch by pip": (
        "slicer-packages",
        lambda c: c.add(MODULE, '\ndef install():\n    slicer.util.pip_install("torch>=2")\n'),
        "torch>=2",
    ),
    "SimpleITK by pip": (
        "slicer-packages",
        lambda c: c.add(MODULE, '\ndef install():\n    slicer.packaging.pip_ensure(["SimpleITK"])\n'),
        "SimpleITK",
    ),
    "no way back from a closed scene": (
        "module-shape",
        lambda c: c.replace(MODULE, "def onSceneEndClose", "def sceneEndClose"),
        "onSceneEndClose",
    ),
    "no wrapped parameters": (
        "module-shape",
        lambda c: c.replace(MODULE, "@parameterNodeWrapper\n", ""),
        "@parameterNodeWrapper",
    ),
    "a signal that Qt 6 has not": (
        "both-qts",
        lambda c: c.add(MODULE, '\nSIGNAL = "currentIndexChanged(QString)"\n'),
        "currentIndexChanged",
    ),
    "a label kept from translation": (
        "ui-translatable",
        lambda c: c.replace(UI, "<string>Scan:</string>", '<string notr="true">Scan:</string>'),
        "Scan:",
    ),
    "a panel that is no XML": ("ui-translatable", lambda c: c.replace(UI, "</ui>", ""), "XML"),
    "a text that is not translated": (
        "strings-translatable",
        lambda c: in_constructor(c, 'self.parent.title = "Hearts"'),
        "Hearts",
    ),
    "a sentence made of parts": (
        "strings-translatable",
        lambda c: in_constructor(c, 'self.parent.title = _(f"Hearts {1}")'),
        "one literal",
    ),
    "a node selector without a scene": (
        "scene-connections",
        lambda c: c.replace(UI, "<receiver>outputSelector</receiver>", "<receiver>x</receiver>"),
        "outputSelector",
    ),
    "no notice in the panel": (
        "panel-notice",
        lambda c: c.replace(UI, "not a medical device", "a device"),
        "not a medical device",
    ),
    "another colour in the terminology": (
        "terminology",
        lambda c: c.sub("HeartSeg/Resources/HeartSeg.term.json", r"^\s+200,$", "201,"),
        "201",
    ),
    "no terminology": (
        "terminology",
        lambda c: c.write("HeartSeg/Resources/HeartSeg.term.json", "{}"),
        "HeartSeg.term.json",
    ),
}
"""The rule that each breaks, how, and a word of what is then said."""


def test_this_tree_holds_every_rule(repository: Path) -> None:
    found = check_extension.check(read_tree(repository))
    wrong = {name: check_extension.in_words(problems) for name, problems in found.items() if problems}
    assert not wrong


@pytest.mark.parametrize("name", BREAKS)
def test_one_broken_rule_is_told_and_no_other(copy: Copy, name: str) -> None:
    rule, break_it, word = BREAKS[name]
    if rule in copy.known:
        pytest.skip(f"the tree itself breaks {rule}, as test_this_tree_holds_every_rule tells")
    break_it(copy)
    broken = copy.broken()
    assert list(broken) == [rule], broken
    assert word in broken[rule]


def test_every_rule_is_broken_by_a_test() -> None:
    # sample-data is broken below: its files are packaged, so that package-list fails with it
    assert {rule.name for rule in RULES} - {rule for rule, _, _ in BREAKS.values()} == {"sample-data"}


def test_a_missing_thumbnail_is_told(copy: Copy) -> None:
    copy.remove("HeartSeg/Resources/Icons/HeartSegSyntheticCTA.png")
    assert set(copy.broken()) == {"sample-data", "package-list"}


def test_what_is_allowed_is_not_told(copy: Copy) -> None:
    copy.write("docs/clean.ipynb", notebook())
    copy.add(
        MODULE,
        "\nif TYPE_CHECKING:\n    import torch\n\n\ndef on_click():\n    import torch\n\n"
        '    slicer.packaging.pip_ensure(["x"], skip_packages=["torch", "SimpleITK"])\n'
        '    slicer.util.infoDisplay(_("Done in {time}.").format(time=1))\n',
    )
    in_constructor(copy, 'slicer.app.connect("startupCompleted()", lambda: slicer.util.pip_install("x"))')
    assert copy.broken() == {}


def test_it_prints_a_line_a_rule_and_fails_by_its_exit_status(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    if copy.known:
        pytest.skip("the tree itself breaks a rule, as test_this_tree_holds_every_rule tells")
    assert check_extension.main([str(copy.root)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(RULES) + 1
    assert said[-1] == f"{len(RULES)} of {len(RULES)} rules hold"
    copy.remove("LICENSE.txt")
    assert check_extension.main([str(copy.root)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(RULES) + 1
    (wrong,) = (line for line in said if line.startswith("wrong"))
    assert wrong.startswith("wrong  licence: LICENSE.txt is missing")
    assert "to mend: put the licence's text there" in wrong
    assert said[-1].endswith("; not licence")


def test_ignored_files_do_not_count_and_history_does(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "x.o").write_bytes(b"0" * 1000)
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 40)
    tree = read_tree(tmp_path)
    assert tree.files == (".gitignore", "big.bin")
    working = 7 + 256 * 40
    assert files.clone_bytes(tree) == working
    git("add", ".")
    git("commit", "-q", "-m", "x")
    with_history = files.clone_bytes(read_tree(tmp_path))
    assert with_history > working
    # the same objects once more, in a pack that is kept beside the loose ones: a clone gets them once
    git("repack", "-q")
    git("hash-object", "-w", ".gitignore")
    assert files.clone_bytes(read_tree(tmp_path)) <= with_history
    # and what no branch holds, it does not get
    (tmp_path / "build" / "x.o").write_bytes(bytes(range(256)) * 400)
    git("hash-object", "-w", "build/x.o")
    assert files.clone_bytes(read_tree(tmp_path)) <= with_history
    (tmp_path / "big.bin").unlink()
    assert read_tree(tmp_path).files == (".gitignore",)


def test_the_schema_of_the_entry_is_the_one_that_slicer_published() -> None:
    """Keys of ``slicer-extension-catalog-entry-schema-v1.0.1.json``; additional ones are refused there."""
    assert set(catalogue.KEYS) == {
        "$schema",
        "category",
        "scm_url",
        "scm_revision",
        "scm_type",
        "build_dependencies",
        "build_subdirectory",
        "enabled",
        "tier",
    }


def test_an_icon_of_the_right_size_decodes() -> None:
    assert catalogue.png_size(png(128, 128)) == (128, 128)
