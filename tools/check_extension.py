"""Check what Slicer's ExtensionsIndex will see, as far as the index's own checker does not.

::

    python tools/check_extension.py            # this clone
    python tools/check_extension.py FOLDER     # another

The index checks schema, category, names, addresses, screenshots, licence and size online
(``scripts/check_description_files.py`` in Slicer/ExtensionsIndex, commit 07f1d1b). Here, offline: that entry and CMake
agree, that the pictures they name are in this tree, that no scan of a patient is, what a reviewer looks for in
README.md, and the size of the clone that ``publish_clone.py`` makes. One line per rule; exit status 1 when one fails.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import publish_clone

SCANS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".ima", ".mrb", ".gipl", ".vtk", ".vtp", ".stl")
SAMPLES = "HeartSeg/Resources/SampleData/"
NOT_IN_QT6 = ("QTextCodec", "currentIndexChanged(QString)", "currentIndexChanged(const QString", "buttonClicked(int)")
SHOWN = ("text", "title", "toolTip", "windowTitle", "placeholderText", "whatsThis")
NOTICE = "research use only, not a medical device"


@dataclass(frozen=True)
class Tree:
    """Root of a clone and its files that git does not ignore: paths relative to the root."""

    root: Path
    files: tuple[str, ...]

    @classmethod
    def read(cls, root: Path) -> Tree:
        listed = publish_clone.git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        return cls(root, tuple(sorted({f for f in listed.split("\0") if f and (root / f).is_file()})))

    def text(self, path: str) -> str:
        """Text of a file, empty where it is missing."""
        return (self.root / path).read_text(encoding="utf-8", errors="replace") if path in self.files else ""

    def cmake(self, variable: str) -> str:
        """The quoted value of a variable of the top-level CMakeLists.txt, empty where it is not set."""
        found = re.search(rf'^\s*set\(EXTENSION_{variable} "([^"]*)"', self.text("CMakeLists.txt"), re.MULTILINE)
        return found.group(1) if found else ""


def entry_and_cmake_agree(tree: Tree) -> list[str]:
    """Differences between HeartSeg.json and CMakeLists.txt."""
    entry = json.loads(tree.text("HeartSeg.json") or "{}")
    pairs = (
        ("scm_url", str(entry.get("scm_url", "")).removesuffix(".git"), "HOMEPAGE"),
        ("category", str(entry.get("category", "")), "CATEGORY"),
        ("build_dependencies", " ".join(entry.get("build_dependencies", ())), "DEPENDS"),
    )
    return [
        f"{key} of HeartSeg.json is '{value}', EXTENSION_{variable} is '{tree.cmake(variable)}': make them the same"
        for key, value, variable in pairs
        if value != tree.cmake(variable)
    ]


def pictures_are_here(tree: Tree) -> list[str]:
    """Icon and screenshots that are not in this tree, or of the wrong size."""
    icon = tree.cmake("ICONURL")
    paths = ["/".join(url.split("/")[6:]) for url in (icon, *tree.cmake("SCREENSHOTURLS").split())]
    missing = [f"CMakeLists.txt names the picture '{path}': commit it" for path in paths if path not in tree.files]
    if missing:
        return missing
    head = (tree.root / paths[0]).read_bytes()[:24]
    size = struct.unpack(">II", head[16:24]) if head.startswith(b"\x89PNG") and len(head) == 24 else None
    return [] if size == (128, 128) else [f"the icon {paths[0]} is no PNG of 128 x 128 pixels: draw it so"]


def no_scans(tree: Tree) -> list[str]:
    """Scans and surfaces beside the synthetic sample, by name or as DICOM by content."""

    def is_scan(path: str) -> bool:
        if path.lower().endswith(SCANS):
            return True
        with (tree.root / path).open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"

    return [f"{f} is a scan or a surface: take it out" for f in tree.files if not f.startswith(SAMPLES) and is_scan(f)]


def readme_shows(tree: Tree) -> list[str]:
    """What a reviewer looks for: a picture, the tutorial, how to cite, and the notice."""
    text = " ".join(tree.text("README.md").split())
    shown = [path for path in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", text) if path in tree.files]
    wanted = {
        "shows no picture of this tree": bool(shown),
        "links no tutorial": "](docs/tutorial/in-slicer.md)" in text,
        "does not tell how to cite": "CITATION.cff" in text,
        f"does not say '{NOTICE}'": NOTICE in text.lower(),
    }
    return [f"README.md {lack}: add it" for lack, there in wanted.items() if not there]


def runs_with_qt6(tree: Tree) -> list[str]:
    """Names that Qt 6 no longer has, and texts of the panel that are kept from translation."""
    module = [f for f in tree.files if f.startswith("HeartSeg/") and not f.startswith("HeartSeg/Testing/")]
    found = [
        f"{f} uses {word}, which Qt 6 lacks: use what Qt 5 has too"
        for f in module
        if f.endswith((".py", ".ui"))
        for word in NOT_IN_QT6
        if word in tree.text(f)
    ]
    for f in (f for f in module if f.endswith(".ui")):
        shown = [p for p in ElementTree.fromstring(tree.text(f)).iter("property") if p.get("name") in SHOWN]
        kept = [s.text for p in shown for s in p.iter("string") if s.get("notr") == "true"]
        found += [f"{f} keeps '{t}' from translation: remove notr" for t in kept if re.search(r"[a-z]", t or "")]
    return found


def clone_is_small(tree: Tree) -> list[str]:
    """The clone to be published, HEAD with its filtered history; the margin is printed."""
    with tempfile.TemporaryDirectory() as folder:
        size = publish_clone.size_mb(publish_clone.publish(tree.root, Path(folder) / "clone"))
    margin = publish_clone.LARGEST_MB - size
    print(f"       the published clone has {size:.1f} MB: {margin:.1f} MB below {publish_clone.LARGEST_MB}")
    return [] if margin >= 0 else [f"the published clone has {size:.1f} MB: use smaller weights or pictures"]


RULES: dict[str, Callable[[Tree], list[str]]] = {
    "HeartSeg.json and CMakeLists.txt agree": entry_and_cmake_agree,
    "icon and screenshots are in this tree": pictures_are_here,
    "no scans but the synthetic sample": no_scans,
    "README.md has picture, tutorial, citation and notice": readme_shows,
    "module and panel suit Qt 6 and translators": runs_with_qt6,
    f"the published clone is below {publish_clone.LARGEST_MB} MB": clone_is_small,
}


def main(arguments: list[str] | None = None) -> int:
    """Check a folder; 0 when every rule holds, else 1."""
    parser = argparse.ArgumentParser(prog="python tools/check_extension.py", description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    tree, failed = Tree.read(parser.parse_args(arguments).folder), 0
    for name, rule in RULES.items():
        problems = rule(tree)
        failed += bool(problems)
        print(f"{'wrong' if problems else 'ok':5}  {name}", *(f"\n       {p}" for p in problems), sep="")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
