"""Hooks of MkDocs (mkdocs.yml): navigation from the folders, and links to files outside ``docs/``."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "Tutorials": "tutorial",
    "How-to guides": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Development": "development",
}
OUTSIDE = "repository/"
"""Folder of the site for pictures that lie outside ``docs/``."""
_LINK = re.compile(r"(!?)(\[[^\]]*\])\((\.\./[^)\s]+)\)")
_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):<code>~?([^<]+)</code>")


def on_config(config: Any) -> Any:
    """Builds the navigation: front pages first, then every page of each part by its name."""
    docs = Path(config["docs_dir"])
    front = [p.name for p in sorted(docs.glob("*.md")) if p.name != "index.md"]
    nav: list[Any] = [{"Home": ["index.md", *front]}]
    for title, folder in PARTS.items():
        pages = sorted(p.relative_to(docs).as_posix() for p in (docs / folder).rglob("*.md"))
        if pages:
            nav.append({title: pages})
    config["nav"] = nav
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pictures outside ``docs/`` that pages show."""
    for page in list(files.documentation_pages()):
        for bang, _, target in _LINK.findall(page.content_string):
            path = _outside(page.src_uri, target)
            if bang and path and files.get_file_from_path(OUTSIDE + path) is None:
                files.append(File.generated(config, OUTSIDE + path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Leads links to files outside ``docs/`` to the repository, and pictures there to their copies."""

    def replaced(found: re.Match[str]) -> str:
        bang, text, target = found.groups()
        path = _outside(page.file.src_uri, target)
        if not path:
            return found.group(0)
        if bang:
            return f"!{text}({posixpath.relpath(OUTSIDE + path, posixpath.dirname(page.file.src_uri) or '.')})"
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{text}({config['repo_url']}/{kind}/main/{path})"

    return _LINK.sub(replaced, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Shows the roles of docstrings, such as ``:class:`Volume```, as code."""
    return _ROLE.sub(r"<code>\1</code>", html)


def _outside(page: str, target: str) -> str | None:
    """Path from the repository's top of a link's target that exists outside ``docs/``, else None."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target.partition("#")[0]))
    return path if not path.startswith(("docs/", "..")) and (ROOT / path).exists() else None
