#!/usr/bin/env python3
"""Draw the packages of ``heartseg`` in their layers, with who imports whom: ``docs/images/architecture.svg``.

    python tools/draw_architecture.py

Layers are those that import-linter enforces (``pyproject.toml``); lines are imports in the code, without those that
follow from others.
"""

from __future__ import annotations

import ast
import sys
from html import escape
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "HeartSeg" / "Logic" / "heartseg"
OUT = ROOT / "docs" / "images" / "architecture.svg"
WIDTH, ROW, BOX, GAP = 1080, 68, 34, 24
BANDS = (("for those who make models (not in Slicer)", 4, "#fdf0e3"), ("what people use", 5, "#e8f1fb"))
"""Name, number of layers from the top and colour of the groups; the layers below are the engine."""
ENGINE = ("the engine", "#eaf6ec")


def layers() -> list[list[str]]:
    """Packages in each layer, top to bottom."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(c for c in config["contracts"] if c["type"] == "layers")
    return [[name.strip().removeprefix("heartseg.") for name in row.split("|")] for row in contract["layers"]]


def imports_of(package: str, known: set[str]) -> set[str]:
    """Other packages that a package or module of ``heartseg`` imports."""
    folder = PACKAGE / package
    found = set()
    for path in [*folder.rglob("*.py")] if folder.is_dir() else [PACKAGE / f"{package}.py"]:
        place = ["heartseg", *path.relative_to(PACKAGE).parent.parts]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = place[: len(place) - node.level + 1] if node.level else []
                start = ".".join([*base, *([node.module] if node.module else [])])
                names = [f"{start}.{alias.name}" for alias in node.names]
            else:
                continue
            parts = (name.split(".") for name in names)
            found |= {p[1] for p in parts if len(p) > 1 and p[0] == "heartseg" and p[1] in known}
    return found - {package}


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The edges of an acyclic graph that do not follow from others."""
    reach: dict[str, set[str]] = {}

    def below(name: str) -> set[str]:
        if name not in reach:
            reach[name] = edges[name].union(*(below(other) for other in edges[name]))
        return reach[name]

    return {name: {b for b in to if not any(b in below(c) for c in to - {b})} for name, to in edges.items()}


def draw(rows: list[list[str]], edges: dict[str, set[str]]) -> str:
    """The drawing as SVG."""
    places: dict[str, tuple[float, float, float]] = {}
    for number, row in enumerate(rows):
        widths = [9.2 * len(name) + 26 for name in row]
        x: float = (WIDTH + 60 - sum(widths) - GAP * 3 * (len(row) - 1)) / 2
        for name, width in zip(row, widths, strict=True):
            places[name] = (x, number * ROW + 24, width)
            x += width + GAP * 3
    height = len(rows) * ROW + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" role="img">',
        "<title>Packages of heartseg in layers; each imports only from layers below</title>",
    ]
    top = 0
    for title, count, colour in (*BANDS, (ENGINE[0], len(rows) - sum(b[1] for b in BANDS), ENGINE[1])):
        band, tall = top * ROW + 6, count * ROW - 6
        out.append(f'<rect x="4" y="{band}" width="{WIDTH - 8}" height="{tall}" rx="10" fill="{colour}"/>')
        out.append(f'<text x="18" y="{band + 24}" font-size="15" fill="#444">{escape(title)}</text>')
        top += count
    for name, others in edges.items():
        for other in sorted(others):
            (left, top_edge, wide), (left2, end_y, wide2) = places[name], places[other]
            start, end = (left + wide / 2, top_edge + BOX), (left2 + wide2 / 2, end_y)
            bend = (end[1] - start[1]) / 2
            path = f"M{start[0]:.0f} {start[1]} C{start[0]:.0f} {start[1] + bend:.0f} {end[0]:.0f} {end[1] - bend:.0f}"
            out.append(f'<path d="{path} {end[0]:.0f} {end[1]}" fill="none" stroke="#8a97a8" stroke-width="1.3"/>')
    for name, (left, upper, wide) in places.items():
        out.append(
            f'<rect x="{left:.0f}" y="{upper}" width="{wide:.0f}" height="{BOX}" rx="6" fill="#fff" stroke="#46536a"/>'
        )
        middle = f'x="{left + wide / 2:.0f}" y="{upper + 22}"'
        out.append(f'<text {middle} font-size="15" text-anchor="middle" fill="#1b2430">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])


def main() -> None:
    rows = layers()
    known = {name for row in rows for name in row}
    edges = reduced({name: imports_of(name, known) for name in sorted(known)})
    OUT.write_text(draw(rows, edges), encoding="utf-8")


if __name__ == "__main__":
    main()
