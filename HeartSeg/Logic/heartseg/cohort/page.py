"""The page of a cohort: one HTML file that needs no network, to look at the cases, worst first, and to judge them.

All text is escaped, and a content security policy blocks network access; pictures are those of the result folders. The
verdicts go to ``review.csv``: through ``heartseg cohort --review``, or as a file to download.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import writing
from ..formats import COHORT_FILES
from ..provenance import NOTICE
from ..report.numbers import KEY_OF_A_SCAN
from ..report.parts import asset
from ..version import __version__
from .cases import DONE, FAILED, NO_HEART, is_cut_off
from .charts import HATCHING, finding_bars, histogram_svg, limits_of, title_of
from .judging import KINDS, OUTLIER, Cohort, Distribution, JudgedCase, name_in
from .review import Review

PAGE_FILE = COHORT_FILES[-1]
MOST_CASES = 5000
"""Cases in the page; the table has all."""
_POLICY = (
    "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
_KEYS = (
    ("j ↓", "next case"),
    ("k ↑", "previous case"),
    ("a", "accept"),
    ("r", "reject"),
    ("c", "comment, Esc to leave"),
    ("u", "take the verdict back"),
    ("n", "next case without a verdict"),
    ("/", "search"),
)


def write_cohort_page(cohort: Cohort, reviews: Mapping[str, Review], folder: Path) -> str:
    """Write ``cohort.html``; returns its name.

    Raises:
        OutputError: the file cannot be written.
    """
    with writing(folder / PAGE_FILE):
        (folder / PAGE_FILE).write_text(page_text(cohort, reviews), encoding="utf-8")
    return PAGE_FILE


def page_text(cohort: Cohort, reviews: Mapping[str, Review]) -> str:
    """HTML text of the page."""
    listed = list(cohort.distributions.values())
    counts = cohort.statuses()
    shown = cohort.cases[:MOST_CASES]
    more = (
        f'<p class="notice">The page shows the worst {len(shown)} of {len(cohort.cases)} cases; cohort.csv has all.</p>'
        if len(shown) < len(cohort.cases)
        else ""
    )
    tiles = "".join(
        f'<li><button type="button" data-status="{status}"><b>{counts[status]}</b> {status}</button></li>'
        for status in (DONE, NO_HEART, FAILED)
    )
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
        f"<title>Cohort of {len(cohort.cases)} - HeartSeg</title>",
        f"<style>{asset('page.css')}{_own('cohort.css')}</style>",
        f'</head><body>{HATCHING}<a class="skip" href="#review">Skip to the cases</a>',
        f'<header><h1>Cohort of {len(cohort.cases)} cases</h1><p class="sub">'
        f"{escape(datetime.now(timezone.utc).date().isoformat())}</p></header>",
        f'<p class="notice">{escape(NOTICE)} The order of the cases is no diagnosis: look at each.</p>{more}',
        f'<main><ul class="tiles">{tiles}<li id="progress" role="status"></li></ul>',
        f'<section id="review"><h2>Cases, worst first</h2>{_review()}</section>',
        f'<section id="findings"><h2>Cases by finding</h2>{finding_bars(cohort.codes(), len(cohort.cases))}</section>',
        f'<section id="distributions"><h2>Distributions</h2>{_distributions(listed)}</section></main>',
        f"<footer>HeartSeg {escape(__version__)} · {escape(NOTICE)}</footer>",
        f'<script type="application/json" id="cohort-data">{_data(shown, listed, reviews)}</script>',
        f"<script>{_own('cohort.js')}</script></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _own(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _review() -> str:
    """The list of cases and the case that is shown; a script fills both."""
    keys = "".join(f"<li><kbd>{escape(key)}</kbd> {escape(text)}</li>" for key, text in _KEYS)
    return (
        '<noscript><p>This list needs JavaScript; cohort.csv has the same.</p></noscript><div class="desk">'
        '<div class="cases"><div class="tools"><label>Search <input id="search" type="search" '
        'placeholder="case, finding"></label><label>Show <select id="shown"><option value="">all</option>'
        '<option value="open">without a verdict</option><option value="accept">accepted</option>'
        '<option value="reject">rejected</option><option value="done">done</option>'
        '<option value="no heart">no heart</option><option value="failed">failed</option></select></label></div>'
        '<ol id="list" role="listbox" aria-label="Cases, worst first" tabindex="0"></ol>'
        '<p class="small" id="where"></p></div><div id="case" class="case" aria-live="polite"></div></div>'
        '<p id="saved" role="status" class="small"></p>'
        '<button type="button" id="download">Download review.csv</button>'
        f'<ul class="keys">{keys}</ul>'
    )


def _distributions(listed: list[Distribution]) -> str:
    figures: dict[bool, list[str]] = {True: [], False: []}
    for number, distribution in enumerate(listed):
        caption = f"{title_of(distribution)[0]}, n = {len(distribution.values)}"
        figures[_is_key(distribution)].append(
            f"<figure><figcaption>{escape(caption)}</figcaption>{histogram_svg(distribution, number)}</figure>"
        )
    sources = "; ".join(dict.fromkeys(norm.source for distribution in listed for norm in distribution.norms))
    rest = f'<details><summary>Other measures ({len(figures[False])})</summary><div class="charts grid">'
    return (
        f'<p class="small">Dashed: median. Hatched: outliers, with a modified z-score above {OUTLIER}. Lines below: '
        "reference ranges of healthy adults. ▼: the case that is shown. Structures that the scan cuts off do not "
        "count.</p>"
        f'<div class="charts grid">{"".join(figures[True])}</div>'
        f"{rest}{''.join(figures[False])}</div></details>"
        f"{f'<p class=small>Reference ranges: {escape(sources)}.</p>' if sources else ''}"
    )


def _is_key(distribution: Distribution) -> bool:
    return (distribution.name.structure, distribution.name.quantity) in KEY_OF_A_SCAN


def _data(shown: tuple[JudgedCase, ...], listed: list[Distribution], reviews: Mapping[str, Review]) -> str:
    number = {distribution.name: k for k, distribution in enumerate(listed)}
    content = {
        "measures": [_measure(distribution) for distribution in listed],
        "cases": [_case(judged, number) for judged in shown],
        "reviews": {name: asdict(review) for name, review in reviews.items()},
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")  # nothing in it ends the element


def _measure(distribution: Distribution) -> dict[str, Any]:
    title, decimals = title_of(distribution)
    low, high = limits_of(distribution)
    inner = [distribution.quantile(0.05), distribution.quantile(0.95)]
    return {
        "title": title,
        "decimals": decimals,
        "axis": [low, high],
        "inner": inner,
        "median": distribution.median,
        "key": _is_key(distribution),
    }


def _case(judged: JudgedCase, number: Mapping[Any, int]) -> dict[str, Any]:
    case = judged.case
    remarks: dict[int, list[str]] = {}
    for remark in judged.remarks:
        remarks.setdefault(number[name_in(case, remark.measure)], []).append(remark.text)
    values = [
        [number[name_in(case, m)], m.value, m.low, m.high, "" if not is_cut_off(m) else m.note]
        for m in case.measures
        if m.value is not None and name_in(case, m) in number
    ]
    scan = case.scan
    facts = [
        scan.modality,
        " × ".join(str(n) for n in scan.size_xyz),
        " × ".join(f"{n:.3g}" for n in scan.spacing_mm_xyz) + " mm" if scan.spacing_mm_xyz else "",
        f"{case.model.name} {case.model.version or ''}".strip(),
        f"{case.seconds:.1f} s" if case.seconds is not None else "",
        case.path,
    ]
    return {
        "name": case.name,
        "status": case.status,
        "message": case.message,
        "counts": [judged.count(kind) for kind in KINDS],
        "findings": [[f.severity.value, f.code, f.message] for f in case.findings],
        "values": values,
        "remarks": remarks,
        "files": case.files,
        "facts": [fact for fact in facts if fact],
        "made": case.made,
    }
