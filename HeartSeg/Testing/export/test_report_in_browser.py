"""The page of a report in a browser: no errors, nothing wider than the window, the heart turns, slices scroll."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import Browser, chromium
from heartseg.export import Subject, report_of, study_of
from heartseg.report.page import write_page

pytest.importorskip("matplotlib", reason='needs matplotlib: pip install "heartseg[app]"')
pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def page(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> str:
    file: Path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(report_of(subject, study_of(subject)), file)
    return file.as_uri()


def pixels(browser: Browser) -> str:
    """What the viewer draws now."""
    return browser.value("heartsegViewer.drawScene(), document.getElementById('viewer-canvas').toDataURL()")


def move(browser: Browser, control: str, value: str) -> None:
    """Set a control of the viewer as a user does."""
    kind = "change" if control == "viewer-layout" else "input"
    browser.value(
        f"(c => {{ c.value = '{value}'; c.dispatchEvent(new Event('{kind}')); }})(document.getElementById('{control}'))"
    )


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_fits_the_heart_turns_and_slices_scroll(page: str, width: int, tmp_path: Path) -> None:
    with Browser(width, 900) as browser:
        browser.call("Page.navigate", url=page)
        browser.until("document.readyState === 'complete' && !!document.getElementById('viewer')")
        assert browser.value("document.documentElement.scrollWidth") <= width
        browser.value("document.getElementById('viewer').scrollIntoView()")
        browser.until("document.getElementById('viewer').dataset.ready === 'yes'")
        move(browser, "viewer-layout", "render")
        before = pixels(browser)
        move(browser, "viewer-azimuth", "40")
        assert pixels(browser) != before
        move(browser, "viewer-layout", "axial")
        before, place = pixels(browser), browser.value("document.getElementById('viewer-place').textContent")
        move(browser, "viewer-axial", "20")
        assert pixels(browser) != before
        assert browser.value("document.getElementById('viewer-place').textContent") != place
        browser.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
        assert [m for m in browser.messages if "GL Driver Message" not in m] == []  # of reading pixels, in software
