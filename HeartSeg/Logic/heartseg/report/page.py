"""The report as one HTML file that needs no network: numbers, curves, pictures and an interactive viewer.

Pictures and the viewer are embedded, all text is escaped, and a content security policy blocks network access.
"""

from __future__ import annotations

import base64
import json
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np

from ..anatomy import STRUCTURES, structure
from ..errors import writing
from ..version import __version__
from .model import Report, Scene
from .parts import asset, charts, finding_lines, general_findings, header, key_table, method, number_table, views
from .scene import mz3, nifti_gz

LARGEST_BYTES = 5_000_000
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; "
    "connect-src data: blob:; font-src data:; worker-src blob:; base-uri 'none'; form-action 'none'"
)


def write_page(report: Report, path: str | Path) -> None:
    """Write the page, at most :data:`LARGEST_BYTES`; the viewer loses its surfaces if it would be larger.

    Raises:
        OutputError: the file cannot be written.
    """
    text = page_text(report)
    if len(text) > LARGEST_BYTES:
        text = page_text(report, surfaces=False)
    with writing(path):
        Path(path).write_text(text, encoding="utf-8")


def page_text(report: Report, surfaces: bool = True) -> str:
    """HTML text of the report, with or without the surfaces of the viewer."""
    drawn = charts(report)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)} - HeartSeg</title><style>{asset('page.css')}</style></head><body>",
        '<a class="skip" href="#numbers">Skip to the numbers</a>',
        header(report),
        "<main>",
        '<section id="numbers"><h2>Key numbers</h2>',
        finding_lines(general_findings(report)),
        ""
        if report.findings
        else "<p>No findings. This does not prove that the segmentation is correct: check it.</p>",
        key_table(report),
        "</section>",
        f'<section id="charts"><h2>Curves and segments</h2>{drawn}</section>' if drawn else "",
        f'<section id="views"><h2>Views</h2>{views(report, report.pictures)}</section>' if report.pictures else "",
        _viewer(report.scene, surfaces) if report.scene is not None else "",
        f'<section id="all"><h2>All numbers</h2>{_groups(report)}</section>',
        f'<section id="method"><h2>Method</h2>{method(report)}</section>',
        f"</main><footer>HeartSeg {escape(__version__)} · {escape(report.use)}</footer>",
        f"<script>{asset('viewer.js')}</script>" if report.scene is not None else "",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _groups(report: Report) -> str:
    return "".join(
        f"<details><summary>{escape(group.title)} ({len(group.numbers)})</summary>"
        f"{number_table(group.numbers, group.title, 'all', with_findings=False)}</details>"
        for group in report.groups
    )


def _viewer(scene: Scene, surfaces: bool) -> str:
    shown = {*np.unique(scene.labels).tolist(), *(structure(s.structure).label for s in scene.surfaces)}
    present = [s for s in STRUCTURES if s.label in shown]
    meshes = {s.structure: _text(mz3(s)) for s in scene.surfaces} if surfaces else {}
    data = {
        "grey": None if scene.grey is None else _text(nifti_gz(scene.grey, scene.geometry)),
        "labels": _text(nifti_gz(scene.labels, scene.geometry)),
        "structures": [
            {"key": s.key, "name": s.name, "label": s.label, "color": s.color, "surface": meshes.get(s.key)}
            for s in present
        ],
    }
    ticks = "".join(
        f'<label><input type="checkbox" id="viewer-show-{s.key}" checked> {escape(s.name)}</label>' for s in present
    )
    sliders = "".join(
        f'<label>{title} <input type="range" id="viewer-{name}" min="{low}" max="{high}" value="{value}"></label>'
        for name, title, low, high, value in (
            ("axial", "Axial slice", 0, 100, 50),
            ("coronal", "Coronal slice", 0, 100, 50),
            ("sagittal", "Sagittal slice", 0, 100, 50),
            ("azimuth", "Turn", 0, 360, 180),
            ("elevation", "Tilt", -90, 90, 10),
            ("opacity", "Colours", 0, 100, 45),
        )
    )
    layouts = (
        ("all", "Slices and 3D"),
        ("render", "3D"),
        ("axial", "Axial"),
        ("coronal", "Coronal"),
        ("sagittal", "Sagittal"),
    )
    options = "".join(f'<option value="{name}">{title}</option>' for name, title in layouts)
    return (
        '<section id="viewer" class="viewer"><h2>Interactive view</h2>'
        '<p id="viewer-status" role="status" class="small">The interactive view needs JavaScript.</p>'
        '<div class="stage"><canvas id="viewer-canvas" tabindex="0" role="img" '
        'aria-label="Slices and surfaces of the heart"></canvas></div>'
        f'<fieldset><legend>View</legend><label>Layout <select id="viewer-layout">{options}</select></label>'
        f"{sliders}</fieldset>"
        f"<fieldset><legend>Structures</legend>{ticks}</fieldset>"
        '<p id="viewer-place" aria-live="polite" class="small"></p>'
        f'<details class="small"><summary>Licence of the viewer</summary><pre>{escape(_licence())}</pre></details>'
        f'<script type="application/json" id="viewer-data">{json.dumps(data)}</script>'
        f'<script type="application/octet-stream" id="niivue">{_text(niivue_gz())}</script></section>'
    )


def niivue_gz() -> bytes:
    """The vendored build of NiiVue, compressed; ``vendor/niivue.json`` has its version and SHA-256."""
    return (resources.files(__package__) / "vendor" / "niivue.umd.js.gz").read_bytes()


def _licence() -> str:
    return (resources.files(__package__) / "vendor" / "niivue-LICENSE.txt").read_text(encoding="utf-8")


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
