"""What README.md and the tutorial must tell."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from .tree import EXTENSION, Problem, Rule, Tree

README = "README.md"
TUTORIAL = "docs/tutorial/in-slicer.md"
SAMPLE_DATA = ("CTACardio", "HeartSegSyntheticCTA")
NOTICE = "research use only, not a medical device"
_SENTENCES_ON_TOP = 3


def introduction(tree: Tree) -> list[Problem]:
    """The title is the extension's name; the first paragraph says in few sentences what it is for."""
    blocks = [block.strip() for block in tree.text(README).split("\n\n") if block.strip()]
    found = []
    if not blocks or blocks[0] != f"# {EXTENSION}":
        found.append(Problem(f"{README} does not begin with the extension's name", f"begin it with '# {EXTENSION}'"))
    first = " ".join(blocks[1].split()) if len(blocks) > 1 else ""
    sentences = len(re.findall(r"[.!](?= |$)", first))
    if first.startswith(("#", "!", ">", "```")) or not 1 <= sentences <= _SENTENCES_ON_TOP:
        found.append(
            Problem(f"{README} does not say at once what the extension is for", "say it in one or two sentences")
        )
    return found


def picture(tree: Tree) -> list[Problem]:
    """A picture of this tree is shown."""
    return _picture_problems(tree, README)


def modules(tree: Tree) -> list[Problem]:
    """A sentence for the module."""
    if re.search(rf"^[^#|\n]*\*\*{EXTENSION}\*\*[^\n]*\w+", tree.text(README), re.MULTILINE):
        return []
    return [Problem(f"{README} has no sentence on the module", f"write one with **{EXTENSION}** in it")]


def tutorial(tree: Tree) -> list[Problem]:
    """README.md links the tutorial, which has numbered steps, names the sample data and shows a picture."""
    found = []
    if f"]({TUTORIAL})" not in tree.text(README):
        found.append(Problem(f"{README} does not link {TUTORIAL}", "link it"))
    text = tree.text(TUTORIAL)
    if len(re.findall(r"^(?:#+ )?\d+\. ", text, re.MULTILINE)) < 3:
        found.append(Problem(f"{TUTORIAL} is missing or has no numbered steps", "write it step by step"))
    missing = [name for name in SAMPLE_DATA if name not in text]
    if missing:
        found.append(Problem(f"{TUTORIAL} does not name the sample data {', '.join(missing)}", "name them"))
    return found + _picture_problems(tree, TUTORIAL)


def citation(tree: Tree) -> list[Problem]:
    """How to cite, and a citation file."""
    if re.search(r"^#+ Citation", tree.text(README), re.MULTILINE) and tree.text("CITATION.cff"):
        return []
    return [Problem("README.md has no heading 'Citation' or CITATION.cff is missing", "tell how to cite")]


def publications(tree: Tree) -> list[Problem]:
    """At least one publication: authors, title, journal with year and pages."""
    if re.search(r"\b(19|20)\d\d;\s?\d+(\(\d+\))?:\w+", tree.text(README)):
        return []
    return [Problem(f"{README} names no publication", "name those it stands on, as 'Journal 2021;18:203-211'")]


def notice(tree: Tree) -> list[Problem]:
    """The notice of README.md, and one in the module's help."""
    found = []
    if NOTICE not in " ".join(tree.text(README).lower().replace(">", " ").split()):
        found.append(Problem(f"{README} does not say '{NOTICE}'", "say it near the top"))
    return found


def privacy(tree: Tree) -> list[Problem]:
    """Whether data leave the machine, and how to get rid of what was downloaded."""
    text = " ".join(tree.text(README).split())
    found = []
    if "no data leave" not in text.lower():
        found.append(Problem(f"{README} does not say that no data leave the machine", "say it"))
    if not re.search(r"\b(remove|delete)\b[^.]*\b(model|download|folder|package)", text, re.IGNORECASE):
        found.append(Problem(f"{README} does not say how to remove what was downloaded", "say it"))
    return found


def _picture_problems(tree: Tree, page: str) -> list[Problem]:
    links = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", tree.text(page))
    here = [link for link in links if tree.has(_resolved(page, link))]
    return [] if here else [Problem(f"{page} shows no picture of this tree", "show one: ![what it shows](path)")]


def _resolved(page: str, link: str) -> str:
    """A relative link's target as a path from the top."""
    parts: list[str] = []
    for part in (PurePosixPath(page).parent / link).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


RULES = (
    Rule("readme-introduction", "README.md begins with the name and what it is for", introduction),
    Rule("readme-picture", "README.md shows a picture", picture),
    Rule("readme-modules", "README.md has a sentence on the module", modules),
    Rule("readme-tutorial", "a tutorial step by step, with a picture, names the sample data", tutorial),
    Rule("readme-citation", "README.md tells how to cite", citation),
    Rule("readme-publications", "README.md names publications", publications),
    Rule("readme-notice", "README.md says: research use only, not a medical device", notice),
    Rule("readme-privacy", "README.md says that no data leave the machine and how to remove downloads", privacy),
)
