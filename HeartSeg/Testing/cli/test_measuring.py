"""``heartseg measure`` on label maps and on the frames of a time series."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.cli.main import main
from heartseg.output import write_result
from heartseg.provenance import InputFacts, Provenance, RunFacts
from heartseg.result import Result
from heartseg.volume.patient import Patient
from heartseg.volume.types import Volume
from heartseg.volume.writing import write_labels
from measured_hearts import LeftVentricle
from phantoms import heart_phantom


def values(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m["structure"], m["quantity"]): m for m in rows}


def test_a_label_map_is_measured_and_compared_only_with_what_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    write_labels(labels, geometry, tmp_path / "heart.nii.gz")
    assert main(["measure", str(tmp_path / "heart.nii.gz"), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    rows = values(plain["measures"])
    assert rows["LV", "long_axis_length"]["value"] == pytest.approx(66.0, abs=2.0)
    assert len(rows) == len(plain["measures"])
    assert all(m["range"] is None and m["not_compared"] for m in plain["measures"])
    assert plain["planes"]["four_chamber"]["up_lps"]
    assert plain["patient"]["bsa_m2"] is None
    options = ["--sex", "F", "--height", "180", "--weight", "80", "--phase", "diastole", "--modality", "CT"]
    assert main(["measure", str(tmp_path / "heart.nii.gz"), *options, "-o", str(tmp_path / "out")]) == 0
    assert "within: up to 83 mL/m²" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "measures.json").read_text(encoding="utf-8"))
    index = values(written["measures"])["LV", "volume_index"]
    assert index["value"] == pytest.approx(rows["LV", "volume"]["value"] / 2)
    assert (index["position"], index["range"]["doi"]) == ("within", "10.1093/ehjci/jev337")
    with (tmp_path / "out" / "measures.csv").open(encoding="utf-8", newline="") as file:
        lines = {(r["structure"], r["quantity"]): r for r in csv.DictReader(file)}
    assert lines["LV", "volume_index"]["position"] == "within"
    assert set(lines) == {(m["structure"], m["quantity"]) for m in written["measures"]}


def test_findings_notes_and_cut_structures_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    right = int(np.argwhere(labels == 2)[:, 2].min()) + 8
    part = (slice(None), slice(None), slice(right, None))
    write_labels(np.ascontiguousarray(labels[part]), geometry.cropped(part), tmp_path / "cut.nii.gz")
    options = ["--sex", "F", "--height", "180", "--weight", "80", "--phase", "diastole", "--modality", "CT"]
    assert main(["measure", str(tmp_path / "cut.nii.gz"), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    cut = {f["structure"]: f["values"]["sides"] for f in found["findings"] if f["code"] == "cut-by-border"}
    assert cut["RV"] == ["right"]
    rows = values(found["measures"])
    assert ("RV", "volume_index") not in rows
    assert rows["LV", "volume_index"]["range"] is not None
    assert main(["measure", str(tmp_path / "cut.nii.gz"), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "[cut-by-border]" in line]
    assert "3 structures" in line and "RV (right)" in line and len(cut) == 3
    (volume,) = [line for line in lines if line.split()[:2] == ["RV", "volume"]]
    assert rows["RV", "volume"]["note"] in volume
    (area,) = [line for line in lines if line.split()[:2] == ["LV", "mitral_valve_area"]]
    assert rows["LV", "mitral_valve_area"]["note"] in area


def test_the_spread_of_the_run_s_windows_widens_the_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, geometry, image = heart_phantom((2.0, 2.0, 2.0))
    half = []
    for spread in ({}, {"LV": 0.2}):
        made = Provenance(run=RunFacts(accurate=True, window_spread=spread))
        result, folder = Result(labels, geometry, provenance=made), tmp_path / f"out{len(spread)}"
        write_result(result, Volume(image, geometry, "heart", "CT"), folder, formats=("labels",))
        assert main(["measure", str(folder), "--json"]) == 0
        volume = values(json.loads(capsys.readouterr().out)["measures"])["LV", "volume"]
        half.append(volume["high"] - volume["value"])
    assert half[1] == pytest.approx(np.hypot(half[0], 1.645 * 0.2 * volume["value"]))


def test_a_phase_that_the_scan_states_is_that_of_the_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, geometry, image = heart_phantom((3.0, 3.0, 3.0))
    made = Provenance(input=InputFacts(phase="75 % of the cycle", modality="CT"))
    volume = Volume(image, geometry, "heart", "CT")
    write_result(Result(labels, geometry, provenance=made), volume, tmp_path / "out", formats=("labels",))
    for options, phase in (([], "75 % of the cycle"), (["--phase", "diastole"], "diastole")):
        assert main(["measure", str(tmp_path / "out"), "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out)["phase"] == phase


HEARTS = [LeftVentricle().shrunk(f) for f in (0.9, 1.0, 0.75)]


def write_series(folder: Path, numbers: tuple[int, ...] = (0, 1, 2), **facts: Any) -> None:
    """Write results of frames as ``heartseg segment --frame all`` does."""
    for k in numbers:
        labels, geometry = HEARTS[k].labels((2.0, 2.0, 2.0))
        made = InputFacts(**{"name": "cine", "path": "cine.nii.gz", "frame": k, "frames": 3, "modality": "MR", **facts})
        result = Result(labels, geometry, provenance=Provenance(input=made))
        volume = Volume(labels.astype(np.int16), geometry, "cine", "MR")
        write_result(result, volume, folder / f"cine_frame{k}", formats=("labels",))


def test_the_frames_of_a_series_give_its_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path)
    assert main(["measure", str(tmp_path), "--heart-rate", "60", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = values(found["measures"])
    fraction = 100 * (1 - HEARTS[2].volume_ml / HEARTS[1].volume_ml)
    assert (found["function"]["end_diastole"], found["function"]["end_systole"]) == (1, 2)
    assert rows["LV", "ejection_fraction"]["value"] == pytest.approx(fraction, abs=1.0)
    assert rows["LV", "edv"]["value"] == pytest.approx(HEARTS[1].volume_ml, rel=0.01)
    stroke = HEARTS[1].volume_ml - HEARTS[2].volume_ml
    assert rows["LV", "cardiac_output"]["value"] == pytest.approx(stroke * 0.06, abs=0.1)
    assert rows["MYO", "thickening_10"]["value"] == pytest.approx(100 * 6 / 9, abs=8.0)  # 9 to 15 mm
    assert found["phase"] is None


@pytest.mark.parametrize(
    ("facts", "options", "phase"),
    [
        ({}, [], None),
        ({}, ["--phase", "cycle"], "cycle"),
        ({"cardiac_cycle": True}, [], "cycle"),
        ({"frames": None}, ["--phase", "cycle"], "cycle"),
    ],
)
def test_a_series_is_a_cycle_only_if_dicom_or_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], options: list[str], phase: str | None
) -> None:
    write_series(tmp_path, **facts)
    assert main(["measure", str(tmp_path), "--sex", "F", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["phase"] == phase
    compared = values(found["measures"])["LV", "ejection_fraction"]["range"]
    assert (compared is not None) == (phase == "cycle")


@pytest.mark.parametrize(
    ("numbers", "facts", "options", "said"),
    [
        ((0, 1), {}, [], ("2 of 3 frames", "missing: 2", "--frame all")),
        ((1, 2), {}, ["--phase", "cycle"], ("2 of 3 frames", "missing: 0")),
        ((0, 2), {"frames": None}, ["--phase", "cycle"], ("missing: 1",)),
        ((0, 1, 2), {"frames": None}, [], ("--frame all", "--phase cycle")),
        ((0, 1, 2), {}, ["--phase", "diastole"], ("--phase diastole",)),
    ],
)
def test_a_series_that_is_not_known_to_be_complete_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    numbers: tuple[int, ...],
    facts: dict[str, None],
    options: list[str],
    said: tuple[str, ...],
) -> None:
    write_series(tmp_path, numbers, **facts)
    assert main(["measure", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert all(text in error for text in said)


def test_the_patient_is_that_of_the_header_unless_options_say_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path, patient=Patient("F", 165.0, 60.0, 62.0))
    assert main(["measure", str(tmp_path), "--weight", "70", "--phase", "cycle", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    patient = found["patient"]
    assert [patient[k] for k in ("sex", "height_cm", "weight_kg", "heart_rate_bpm")] == ["F", 165.0, 70.0, 62.0]
    assert values(found["measures"])["LV", "ejection_fraction"]["range"]["sex"] == "F"
    assert main(["measure", str(tmp_path / "cine_frame0")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "patient: F, 165.0 cm, 60.0 kg, 62/min"


def test_frames_of_different_scans_are_told_apart_without_their_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path, (0,), path="", series_uid="1.2")
    write_series(tmp_path, (1, 2), path="", series_uid="1.3")
    assert main(["measure", str(tmp_path)]) == 2
    assert "2 scans" in capsys.readouterr().err


def test_the_phase_of_a_single_scan_is_no_cycle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path)
    assert main(["measure", str(tmp_path / "cine_frame0"), "--phase", "cycle"]) == 2
    assert "--phase cycle" in capsys.readouterr().err
    (tmp_path / "cine_frame1" / "report.json").write_text("{", encoding="utf-8")
    assert main(["measure", str(tmp_path)]) == 2
    assert "missing: 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--height", "1.8"], "--height 1.8 is not possible"),
        (["--heart-rate", "900"], "--heart-rate 900 is not possible"),
    ],
)
def test_impossible_patients_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["measure", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(tmp_path)]) == 2
    assert f"folder {str(tmp_path)!r} holds no result" in capsys.readouterr().err


def test_pictures_and_surface_are_written_with_the_values_of_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, geometry = LeftVentricle().labels((1.5, 1.5, 1.5))
    write_labels(labels, geometry, tmp_path / "heart.nii.gz")
    files = {name: tmp_path / name for name in ("wall.svg", "views.png", "wall.vtp")}
    options = ["--bullseye", files["wall.svg"], "--views", files["views.png"], "--wall-surface", files["wall.vtp"]]
    assert main(["measure", str(tmp_path / "heart.nii.gz"), *map(str, options), "--json"]) == 0
    rows = values(json.loads(capsys.readouterr().out)["measures"])
    drawn = files["wall.svg"].read_text(encoding="utf-8")
    assert all(f">{rows['MYO', f'wall_thickness_mean_{n:02d}']['value']:.1f}<" in drawn for n in range(1, 18))
    assert all(path.stat().st_size > 5_000 for path in files.values())


def test_a_picture_without_content_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, geometry = LeftVentricle().labels((1.5, 1.5, 1.5))
    labels[labels == 5] = 0
    write_labels(labels, geometry, tmp_path / "heart.nii.gz")
    options = ["--bullseye", str(tmp_path / "wall.png"), "-o", str(tmp_path / "out")]
    assert main(["measure", str(tmp_path / "heart.nii.gz"), *options]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["heart.nii.gz"]
    assert main(["measure", str(tmp_path / "heart.nii.gz"), "--views", str(tmp_path / "views.gif")]) == 2


def test_a_time_series_draws_thickening(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "cine")
    assert main(["measure", str(tmp_path / "cine"), "--bullseye", str(tmp_path / "wall.svg"), "--json"]) == 0
    rows = values(json.loads(capsys.readouterr().out)["measures"])
    drawn = (tmp_path / "wall.svg").read_text(encoding="utf-8")
    assert all(f">{rows['MYO', f'thickening_{n:02d}']['value']:.0f}<" in drawn for n in (3, 10, 17))
    assert all(f">{rows['MYO', f'wall_thickness_mean_{n:02d}']['value']:.1f}<" in drawn for n in (3, 10, 17))
