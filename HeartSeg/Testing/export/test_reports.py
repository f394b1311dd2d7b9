"""The report model and its page and PDF: same numbers, self-contained, text escaped, two pages."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from heartseg.errors import OutputError
from heartseg.export import Subject, report_of, study_of, write_report_files
from heartseg.findings import Finding, Severity
from heartseg.measure import Circumstances, Patient
from heartseg.measure.study import Study
from heartseg.provenance import InputFacts, ModelFacts, Provenance
from heartseg.report.model import Report
from heartseg.report.numbers import key_numbers, name_of, numbers_of
from heartseg.report.page import LARGEST_BYTES, niivue_gz, page_text, write_page
from heartseg.report.scene import LARGEST_VOXELS, nifti_gz, scene_of
from heartseg.result import Measure, Result
from heartseg.volume import Geometry

pytest.importorskip("matplotlib", reason='needs matplotlib: pip install "heartseg[app]"')

NASTY = '<script>alert("1")</script> & Müller'
VOID = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """Text, attributes and scripts of a page; fails if tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.scripts: dict[str, str] = {}
        self._open: list[str] = []
        self._script = ""
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self._script = dict(attrs).get("id") or "code"
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif not (self._open and self._open[-1] == "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def report(subject: Subject) -> Report:
    return report_of(subject, study_of(subject), meshes=())


@pytest.fixture(scope="module")
def written(report: Report) -> str:
    return page_text(report)


def test_the_page_fetches_nothing(written: str) -> None:
    page = Page(written)
    links = [v for _t, n, v in page.attributes if n in ("src", "href", "action", "data", "srcset")]
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert "default-src 'none'" in written.replace("&#x27;", "'")


def test_the_vendored_viewer_is_the_recorded_build_and_is_in_the_page(written: str) -> None:
    recorded = json.loads((resources.files("heartseg.report") / "vendor" / "niivue.json").read_text("utf-8"))
    packed = niivue_gz()
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == recorded["sha256"]
    assert base64.b64decode(Page(written).scripts["niivue"]) == packed
    assert len(written) < LARGEST_BYTES


def test_every_number_of_the_study_is_shown_with_its_interval(written: str, subject: Subject, report: Report) -> None:
    text = Page(written).text
    values = {(m.structure, m.quantity): m.value for m in study_of(subject).measures}
    assert {(n.structure, n.quantity): n.value for n in report.numbers} == values
    for number in report.numbers:
        assert number.name in text
        assert number.value_text in text
        assert number.interval_text in text
    volume = next(n for n in report.key_numbers if (n.structure, n.quantity) == ("LV", "volume"))
    assert volume.interval is not None
    assert volume.value is not None
    assert volume.interval.low < volume.value < volume.interval.high


def test_the_viewer_holds_scan_and_labels_on_one_grid(written: str, report: Report, tmp_path: Path) -> None:
    import SimpleITK as sitk

    data = json.loads(Page(written).scripts["viewer-data"])
    images = []
    for name in ("grey", "labels"):
        (tmp_path / f"{name}.nii.gz").write_bytes(base64.b64decode(data[name]))
        images.append(sitk.ReadImage(str(tmp_path / f"{name}.nii.gz")))
    assert images[0].GetSize() == images[1].GetSize()
    scene = report.scene
    assert scene is not None
    assert np.allclose(images[1].GetOrigin(), scene.geometry.origin, atol=1e-3)
    assert np.allclose(images[1].GetDirection(), scene.geometry.direction, atol=1e-5)
    assert np.array_equal(sitk.GetArrayFromImage(images[1]), scene.labels)
    assert {s["label"] for s in data["structures"]} == set(np.unique(scene.labels)) - {0}


def test_a_large_scene_is_reduced_with_its_corners_in_place(subject: Subject) -> None:
    from heartseg.measure.boxes import crop_labels

    labels = np.zeros((260, 200, 200), np.uint8)
    labels[20:240, 20:180, 20:180] = 1
    geometry = Geometry(labels.shape, (0.5, 0.5, 0.5))
    crop = crop_labels(labels, geometry)
    assert crop is not None
    scene = scene_of(None, None, crop, labels, geometry, ())
    assert scene.labels.size <= LARGEST_VOXELS
    centers = [g.index_to_world(np.array([g.shape]) - 1) for g in (scene.geometry, geometry)]
    assert np.allclose(centers[0], centers[1], atol=0.01)
    voxels = np.count_nonzero(scene.labels) * scene.geometry.voxel_volume_ml
    assert voxels == pytest.approx(220 * 160 * 160 * 0.125 / 1000, rel=0.03)
    assert gzip.decompress(nifti_gz(scene.labels, scene.geometry))[:2] == b"\x5c\x01"


def test_findings_stand_beside_the_numbers_of_their_structure(subject: Subject) -> None:
    findings = (
        Finding("low-resolution", Severity.INFO, "Thick slices."),
        Finding("structure-missing", Severity.ERROR, f"No {NASTY}.", "RV"),
    )
    changed = replace(subject, result=replace(subject.result, findings=findings))
    report = report_of(changed, study_of(changed), meshes=())
    assert {n.structure for n in report.numbers if n.findings} == {"RV"}
    text = page_text(report)
    rows = re.findall(r"<tr>.*?</tr>", text)
    (beside,) = [row for row in rows if "structure-missing" in row]
    assert "RV volume" in beside
    assert not [row for row in rows if "low-resolution" in row]
    assert NASTY in Page(text).text


def test_names_are_text_and_never_markup(subject: Subject) -> None:
    provenance = Provenance(created=NASTY, input=InputFacts(sha256=NASTY), model=ModelFacts(name=NASTY, version=NASTY))
    changed = replace(subject, result=replace(subject.result, provenance=provenance), notices=(NASTY,))
    page = Page(page_text(report_of(changed, study_of(changed), meshes=(), title=NASTY)))
    assert page.tags.count("script") == 3
    assert page.text.count("alert") >= 4


def test_the_report_names_no_file_unless_the_title_does(subject: Subject) -> None:
    source = InputFacts(name="Kolibri", path="/home/Kolibri/scan.nii.gz")
    provenance = replace(subject.result.provenance, input=source, segmentation="/home/Kolibri/labels.nii.gz")
    changed = replace(subject, name="Kolibri", result=replace(subject.result, provenance=provenance))
    assert "Kolibri" not in page_text(report_of(changed, study_of(changed), meshes=()))
    assert "Kolibri" in page_text(report_of(changed, study_of(changed), meshes=(), title="Kolibri"))


def test_an_empty_result_has_a_page_too(subject: Subject, tmp_path: Path) -> None:
    empty = replace(subject, result=Result(np.zeros_like(subject.result.labels), subject.result.geometry))
    write_page(report_of(empty, study_of(empty), meshes=()), tmp_path / "report.html")
    assert Page((tmp_path / "report.html").read_text(encoding="utf-8")).tags.count("canvas") == 0


def test_a_folder_that_does_not_exist_is_one_line(report: Report, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        write_page(report, tmp_path / "nowhere" / "report.html")


def test_a_value_outside_its_range_is_marked_with_words() -> None:
    measures = (Measure("AO", "diameter", 45.0, "mm"), Measure("PA", "diameter", 80.0, "mm"))
    study = Study(measures, None, None, Patient(), Circumstances("CT", "", "M"))
    numbers = {n.structure: n for n in numbers_of(study, ())}
    assert numbers["AO"].position == "above"
    assert numbers["AO"].norm is not None
    assert numbers["PA"].limits is not None
    assert [n.structure for n in key_numbers(tuple(numbers.values()), False)] == ["AO", "PA"]


@pytest.mark.parametrize(
    ("key", "quantity", "name", "decimals"),
    [
        ("LV", "edv_index", "LV end-diastolic volume per body surface", 0),
        ("MYO", "wall_thickness_mean_03", "basal inferoseptal, thickness", 1),
        ("PA", "pa_ao_ratio", "PA/AO diameter", 2),
        ("AO", "unheard_of", "AO unheard of", 2),
    ],
)
def test_measures_have_names(key: str, quantity: str, name: str, decimals: int) -> None:
    assert name_of(key, quantity) == (name, decimals)


def pdf_content(path: Path) -> bytes:
    """Return the objects of a PDF, decompressed."""
    streams = re.findall(rb"/FlateDecode.*?stream\n(.*?)\nendstream", path.read_bytes(), re.DOTALL)
    return b"".join(zlib.decompress(stream) for stream in streams)


def test_the_pdf_has_two_pages_whatever_the_number_of_findings(
    subject: Subject, report: Report, tmp_path: Path
) -> None:
    pytest.importorskip("weasyprint", reason='needs WeasyPrint: pip install "heartseg[report]"')
    from heartseg.report.pdf import write_pdf

    sentence = "A sentence of some length about a structure of this heart. "
    finding = Finding("made-up", Severity.WARNING, 3 * sentence, "LV")
    crowded = replace(
        report,
        findings=tuple(replace(finding, structure=None) for _ in range(9)),
        key_numbers=tuple(replace(n, findings=(finding,)) for n in report.key_numbers),
    )
    for number, shown in enumerate((report, crowded)):
        path = tmp_path / f"{number}.pdf"
        write_pdf(shown, path)
        boxes = re.findall(rb"/MediaBox\s*\[([^\]]+)\]", pdf_content(path))
        assert [tuple(round(float(v)) for v in box.split()[2:]) for box in boxes] == [(595, 842)] * 2


def test_report_files_are_written_together_with_the_measures(subject: Subject, tmp_path: Path) -> None:
    study = study_of(subject)
    names = write_report_files(subject, study, tmp_path / "out", ("html",))
    assert names == ("measures.json", "report.html")
    stored = json.loads((tmp_path / "out" / "measures.json").read_text(encoding="utf-8"))["measures"]
    row = next(m for m in stored if (m["structure"], m["quantity"]) == ("LV", "volume"))
    assert row["value"] == subject.result.measure("LV", "volume")
    assert row["low"] < row["value"] < row["high"]
    with pytest.raises(OutputError):
        write_report_files(subject, study, tmp_path / "out", ("html",))
