"""The report page is self-contained, contains the measures, and escapes names as text."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.errors import OutputError
from heartseg.export import Subject
from heartseg.findings import Finding, Severity
from heartseg.provenance import InputFacts, ModelFacts, Provenance
from heartseg.report import write_page
from heartseg.report.page import page_text
from heartseg.result import Result

pytest.importorskip("matplotlib", reason='needs matplotlib: pip install "heartseg[app]"')

NASTY = '<script>alert("1")</script> & Müller'
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Text and attributes of a page; fails if tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def written(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(subject.scan(), subject.result, [], path, subject.name)
    return path.read_text(encoding="utf-8")


def test_it_fetches_nothing(written: str) -> None:
    page = Page(written)
    links = [value for _tag, name, value in page.attributes if name in ("src", "href", "action", "data", "srcset")]
    assert links and all(link.startswith("data:image/png;base64,") for link in links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in written and "@import" not in written
    assert "default-src 'none'" in written


def test_it_has_four_pictures_that_can_be_read(written: str) -> None:
    import io

    from matplotlib.image import imread

    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', written)
    assert len(pictures) == 4
    for content in pictures:
        picture = imread(io.BytesIO(base64.b64decode(content)))
        assert picture.shape[:2] == (656, 880)
        assert picture[..., :3].std() > 0.05, "not one grey"


def test_measures_come_with_units_and_what_is_plausible(written: str, subject: Subject) -> None:
    text = Page(written).text
    for s in STRUCTURES:
        assert s.name in text.lower()
        volume = subject.result.measure(s.key, "volume")
        assert f"{volume:.1f}" in text
        low, high = s.plausible
        assert f"{low:g}–{high:g} {s.plausible_unit.split()[0]}" in text
    for words in ("Volume mL", "Mass g", "Diameter mm", "HU", "Research use only"):
        assert words in text


def test_it_says_how_it_was_made(written: str) -> None:
    text = Page(written).text
    for words in ("made up 1.0", "2026-01-02", "voxels", "HeartSeg"):
        assert words in text


def changed(subject: Subject, **more: Any) -> str:
    return page_text(replace(subject.result, **more), {}, more.get("title", "scan"), subject.scan())


def test_findings_are_listed_most_serious_first(subject: Subject) -> None:
    findings = (
        Finding("low-resolution", Severity.INFO, "Thick slices."),
        Finding("structure-missing", Severity.ERROR, f"No {NASTY}."),
    )
    text = Page(changed(subject, findings=findings)).text
    assert text.index("structure-missing") < text.index("low-resolution")
    assert NASTY in text
    assert Page(changed(subject, findings=())).text.count("No findings") == 1


def test_names_are_text_and_never_markup(subject: Subject) -> None:
    model, source = ModelFacts(name=NASTY, version=NASTY), InputFacts(name=NASTY)
    provenance = Provenance(created=NASTY, input=source, model=model)
    result = replace(subject.result, provenance=provenance)
    page = Page(page_text(result, {NASTY: b"png"}, NASTY, subject.scan(), (NASTY,)))
    assert "script" not in page.tags
    assert page.text.count("alert") >= 5


def test_what_was_not_found_and_what_is_not_plausible_stand_out(subject: Subject) -> None:
    labels = subject.result.labels.copy()
    labels[labels == 7] = 0
    measures = tuple(
        replace(
            m,
            value=None if m.structure == "PA" else 999.0 if (m.structure, m.quantity) == ("LV", "volume") else m.value,
        )
        for m in subject.result.measures
    )
    text = changed(subject, labels=labels, measures=measures)
    assert "not found" in text
    assert '<td class="out">999.0' in text


def test_an_empty_result_has_a_page_too(subject: Subject, tmp_path: Path) -> None:
    empty = Result(np.zeros_like(subject.result.labels), subject.result.geometry)
    write_page(subject.scan(), empty, [], tmp_path / "report.html")
    assert "left ventricle" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text.lower()


def test_a_folder_that_does_not_exist_is_one_line(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        write_page(subject.scan(), subject.result, [], tmp_path / "nowhere" / "report.html")
