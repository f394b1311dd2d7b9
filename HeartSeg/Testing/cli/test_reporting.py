"""``heartseg report`` and ``heartseg compare``: results in, files and text out; refusals before anything is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.test_measuring import HEARTS, write_series
from heartseg.cli.main import main
from heartseg.cli.measure import opened_source
from heartseg.export import subject
from heartseg.volume.patient import Patient
from heartseg.volume.types import Volume
from heartseg.volume.writing import write_labels, write_volume
from measured_hearts import LeftVentricle

pytest.importorskip("matplotlib", reason='needs matplotlib: pip install "heartseg[app]"')


def write_heart(path: Path, factor: float = 1.0) -> Path:
    labels, geometry = LeftVentricle().shrunk(factor).labels((2.0, 2.0, 2.0))
    write_labels(labels, geometry, path)
    return path


def test_a_time_series_has_curves_and_key_numbers_of_its_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "cine")
    assert main(["report", str(tmp_path / "cine"), "-o", str(tmp_path / "out"), "--phase", "cycle"]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    measures = json.loads((tmp_path / "out" / "measures.json").read_text(encoding="utf-8"))
    fraction = next(m for m in measures["measures"] if m["quantity"] == "ejection_fraction" and m["structure"] == "LV")
    assert f"<b>{fraction['value']:.0f}</b> %" in page
    assert fraction["low"] is None or fraction["low"] < fraction["value"] < fraction["high"]
    assert page.count("<polyline") >= 1
    assert page.index("ejection fraction") < page.index("LV end-diastolic volume")


def test_the_given_scan_is_measured_and_everything_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heart = write_heart(tmp_path / "heart.nii.gz")
    labels, geometry = LeftVentricle().labels((2.0, 2.0, 2.0))
    write_volume(Volume((10 * labels).astype(np.int16), geometry, modality="MR"), tmp_path / "scan.nii.gz")
    read: list[str] = []
    for name in ("read_volume", "as_label_map"):
        monkeypatch.setattr(subject, name, counting(getattr(subject, name), read))
    options = ("--scan", str(tmp_path / "scan.nii.gz"), "--modality", "MR")
    assert main(["report", str(heart), "-o", str(tmp_path / "out"), *options]) == 0
    assert sorted(read) == ["heart.nii.gz", "scan.nii.gz"]
    measures = json.loads((tmp_path / "out" / "measures.json").read_text(encoding="utf-8"))["measures"]
    means = {m["structure"]: m["value"] for m in measures if m["quantity"] == "mean_intensity"}
    assert (means["LV"], means["MYO"]) == (pytest.approx(10.0), pytest.approx(50.0))


def test_the_scan_of_a_time_series_is_read_at_the_frame_that_is_shown(tmp_path: Path) -> None:
    import SimpleITK as sitk

    write_series(tmp_path / "cine")
    frames = []
    for k, heart in enumerate(HEARTS):
        labels, geometry = heart.labels((2.0, 2.0, 2.0))
        image = sitk.GetImageFromArray((100 * (k + 1) * (labels > 0)).astype(np.int16))
        image.SetSpacing(geometry.spacing)
        image.SetOrigin(geometry.origin)
        frames.append(image)
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "cine.nrrd"))
    opened = opened_source(tmp_path / "cine", Patient(), "MR", "cycle", tmp_path / "cine.nrrd")
    assert opened.study.shown_frame == 1
    assert opened.subject.volume is not None
    assert int(opened.subject.volume.array.max()) == 200


def counting(reader: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    """Return a reader that lists the names of the files that it reads."""

    def read(path: Any, *args: Any, **more: Any) -> Any:
        names.append(Path(path).name)
        return reader(path, *args, **more)

    return read


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "docx"), "docx"),
        (("--height", "3"), "--height"),
        (("--scan", "nowhere.nii.gz"), "nowhere.nii.gz"),
        (("--format", "dicom-sr"), "DICOM"),
    ],
)
def test_what_cannot_be_reported_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    heart = write_heart(tmp_path / "heart.nii.gz")
    assert main(["report", str(heart), "-o", str(tmp_path / "out"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_dicom_series_is_refused_before_the_pages_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr("heartseg.export.report_files.report_of", lambda *given, **more: made.append("report"))
    arguments = ["report", str(write_heart(tmp_path / "heart.nii.gz")), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--format", "html,dicom-sr"]) == 2
    assert not made


def test_a_report_does_not_replace_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "cine")
    before = sorted(p.name for p in (tmp_path / "cine").iterdir())
    assert main(["report", str(tmp_path / "cine"), "-o", str(tmp_path / "cine"), "--overwrite"]) == 2
    assert sorted(p.name for p in (tmp_path / "cine").iterdir()) == before


def test_two_visits_differ_by_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write_heart(tmp_path / "one.nii.gz"), write_heart(tmp_path / "two.nii.gz", 0.9)
    arguments = ["compare", str(one), str(two), "--phase", "diastole", "--modality", "CT", "--json"]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    volume = next(d for d in printed["differences"] if (d["structure"], d["quantity"]) == ("LV", "volume"))
    expected = LeftVentricle().shrunk(0.9).volume_ml - LeftVentricle().volume_ml
    assert volume["difference"] == pytest.approx(expected, rel=0.05)
    assert volume["is_clear"] == (abs(volume["difference"]) > volume["half_width"])
    assert printed["alignment"]["angle_deg"] < 3
    assert main(arguments[:-1]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if " (±" in line]
    ends = {re.search(r"(\S+) +\S+  [+-]", row).end(1) for row in rows}
    assert len(rows) > 2 and len(ends) == 1, "the columns are aligned"
    assert np.allclose(printed["alignment"]["shift_mm"], 0, atol=2)
    assert [w["code"] for w in printed["warnings"]] == []
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert page.count("<figure>") % 2 == 0
    assert page.count("<figure>") >= 4
    assert f"{volume['difference']:+.0f} mL (±{volume['half_width']:.0f})" in page


def test_a_result_without_a_heart_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heart = write_heart(tmp_path / "heart.nii.gz")
    labels, geometry = LeftVentricle().labels((4.0, 4.0, 4.0))
    write_labels(np.zeros_like(labels), geometry, tmp_path / "none.nii.gz")
    assert main(["compare", str(heart), str(tmp_path / "none.nii.gz"), "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
