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
from heartseg.provenance import InputFacts, Provenance
from heartseg.result import Result
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


def test_the_frames_of_a_series_give_its_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hearts = [LeftVentricle().shrunk(f) for f in (0.9, 1.0, 0.75)]
    for k, heart in enumerate(hearts):
        labels, geometry = heart.labels((2.0, 2.0, 2.0))
        facts = InputFacts(name="cine", path="cine.nii.gz", frame=k, modality="MR")
        result = Result(labels, geometry, provenance=Provenance(input=facts))
        volume = Volume(labels.astype(np.int16), geometry, "cine", "MR")
        write_result(result, volume, tmp_path / f"cine_frame{k}", formats=("labels",))
    assert main(["measure", str(tmp_path), "--heart-rate", "60", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = values(found["measures"])
    fraction = 100 * (1 - hearts[2].volume_ml / hearts[1].volume_ml)
    assert (found["function"]["end_diastole"], found["function"]["end_systole"]) == (1, 2)
    assert rows["LV", "ejection_fraction"]["value"] == pytest.approx(fraction, abs=1.0)
    assert rows["LV", "edv"]["value"] == pytest.approx(hearts[1].volume_ml, rel=0.01)
    stroke = hearts[1].volume_ml - hearts[2].volume_ml
    assert rows["LV", "cardiac_output"]["value"] == pytest.approx(stroke * 0.06, abs=0.1)
    assert rows["MYO", "thickening_10"]["value"] == pytest.approx(100 * 6 / 9, abs=8.0)  # 9 to 15 mm
    assert rows["LV", "ejection_fraction"]["not_compared"] == "sex unknown"


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
    assert "holds no frames" in capsys.readouterr().err
