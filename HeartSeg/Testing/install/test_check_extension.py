"""``tools/check_extension.py`` and ``tools/publish_clone.py``: violations are reported, history is filtered."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("git_filter_repo", reason="pip install git-filter-repo")
TOOLS = Path(__file__).resolve().parents[3] / "tools"
sys.path.insert(0, str(TOOLS))
try:
    import check_extension
    import publish_clone
finally:
    sys.path.remove(str(TOOLS))

COPIED = ("HeartSeg.json", "CMakeLists.txt", "README.md", "HeartSeg/HeartSeg.py", "HeartSeg/Resources/UI/HeartSeg.ui")
CLONE_RULE = list(check_extension.RULES)[-1]


@pytest.fixture
def tree(repository: Path, tmp_path: Path) -> Path:
    """Make a small repository of the files that the rules check."""
    icon = "HeartSeg/Resources/Icons/HeartSeg.png"
    for name in (*COPIED, icon, "docs/images/preview.png", "docs/tutorial/in-slicer.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)
    publish_clone.git(tmp_path, "init", "-q")
    return tmp_path


def broken(root: Path) -> list[str]:
    """Return problems of all rules except the one for the clone."""
    read = check_extension.Tree.read(root)
    return [p for name, rule in check_extension.RULES.items() if name != CLONE_RULE for p in rule(read)]


def replace(root: Path, path: str, old: str, new: str) -> None:
    text = (root / path).read_text(encoding="utf-8")
    assert old in text, f"{path} holds no {old!r}: break it in another way"
    (root / path).write_text(text.replace(old, new), encoding="utf-8")


def entry(root: Path, **changes: object) -> None:
    content = json.loads((root / "HeartSeg.json").read_text(encoding="utf-8"))
    (root / "HeartSeg.json").write_text(json.dumps({**content, **changes}), encoding="utf-8")


UI = "HeartSeg/Resources/UI/HeartSeg.ui"
BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another category": (lambda r: entry(r, category="Heart"), "EXTENSION_CATEGORY"),
    "no PyTorch": (lambda r: entry(r, build_dependencies=[]), "EXTENSION_DEPENDS"),
    "another home": (lambda r: entry(r, scm_url="https://a.org/SlicerB"), "EXTENSION_HOMEPAGE"),
    "a screenshot that is not here": (lambda r: (r / "docs/images/preview.png").unlink(), "preview.png"),
    "an icon cut off": (lambda r: (r / "HeartSeg/Resources/Icons/HeartSeg.png").write_bytes(b"\x89PNG"), "128 x 128"),
    "a scan by name": (lambda r: (r / "docs/scan.NII.gz").touch(), "scan.NII.gz"),
    "a scan by content": (lambda r: (r / "IM0001").write_bytes(bytes(128) + b"DICM"), "IM0001"),
    "no notice": (lambda r: replace(r, "README.md", "not a medical device", "a device"), "medical device"),
    "no citation": (lambda r: replace(r, "README.md", "CITATION.cff", "it"), "cite"),
    "no tutorial": (lambda r: replace(r, "README.md", "docs/tutorial/in-slicer.md", "x.md"), "tutorial"),
    "Qt 5 only": (lambda r: replace(r, "HeartSeg/HeartSeg.py", "import vtk\n", "import vtk  # QTextCodec\n"), "Qt 6"),
    "kept from translation": (lambda r: replace(r, UI, "<string>Scan", '<string notr="true">Scan'), "translation"),
}
"""How each rule is violated, and a word of the resulting message."""


def test_this_tree_holds_every_rule_but_for_the_clone(repository: Path) -> None:
    assert broken(repository) == []


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_is_told(tree: Path, name: str) -> None:
    assert broken(tree) == []
    break_it, word = BREAKS[name]
    break_it(tree)
    told = broken(tree)
    assert any(word in problem for problem in told), told


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A repository with three versions of 100 kB of weights, of which the last is kept, and two versions of a text."""
    root = tmp_path / "source"
    root.mkdir()
    publish_clone.git(root, "init", "-q", "-b", "work")
    for version in range(3):
        (root / "weights.pth").write_bytes(bytes((version * 7 + n * n) % 251 for n in range(100_000)))
        (root / "notes.md").write_text(f"version {min(version, 1)}")
        publish_clone.git(root, "add", ".")
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        publish_clone.git(root, *identity, "commit", "-q", "--allow-empty", "-m", f"version {version}")
    return root


def test_the_published_clone_holds_the_last_weights_alone(history: Path, tmp_path: Path) -> None:
    before = publish_clone.git(history, "rev-parse", "HEAD")
    publish_clone.git(history, "checkout", "-q", "--detach")  # as in continuous integration
    out = publish_clone.publish(history, tmp_path / "out")
    assert publish_clone.git(history, "rev-parse", "HEAD") == before, "the source was changed"
    assert (out / "weights.pth").read_bytes() == (history / "weights.pth").read_bytes()
    objects = publish_clone.git(out, "rev-list", "--objects", "--all").split()
    assert (objects.count("weights.pth"), objects.count("notes.md")) == (1, 2)
    assert publish_clone.git(out, "log", "--format=%s").split("\n")[:3] == ["version 2", "version 1", "version 0"]
    assert 0.1 < publish_clone.size_mb(out) < publish_clone.size_mb(history)


def test_it_refuses_a_shallow_clone_and_a_folder_that_is_there(history: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exists already"):
        publish_clone.publish(history, history)
    shallow = tmp_path / "shallow"
    publish_clone.git(tmp_path, "clone", "-q", "--depth", "1", history.as_uri(), str(shallow))
    with pytest.raises(SystemExit, match="unshallow"):
        publish_clone.publish(shallow, tmp_path / "out")


def test_a_clone_that_is_too_large_is_told(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = check_extension.Tree.read(history)
    assert check_extension.clone_is_small(tree) == []
    monkeypatch.setattr(publish_clone, "LARGEST_MB", 0.1)
    (problem,) = check_extension.clone_is_small(tree)
    assert "use smaller weights" in problem


def test_the_exit_status_is_that_of_the_rules(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check_extension.RULES, CLONE_RULE, lambda _: [])
    assert check_extension.main([str(tree)]) == 0
    (tree / "README.md").unlink()
    assert check_extension.main([str(tree)]) == 1
