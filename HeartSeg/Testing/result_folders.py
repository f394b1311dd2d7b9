"""The output of a batch without its computation: summary and reports with drawn values."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from heartseg.cli.cases import Case
from heartseg.cli.summary import SummaryRow, write_summary
from heartseg.findings import Finding, Severity
from heartseg.measure.grid import CUT_OFF
from heartseg.provenance import InputFacts, ModelFacts, Provenance
from heartseg.report import report_dict, write_report
from heartseg.result import Measure, Result
from heartseg.settings import Settings
from heartseg.volume import Geometry
from heartseg.volume.patient import Patient

SIZES = {
    ("LV", "volume", "mL"): (130, 25),
    ("RV", "volume", "mL"): (160, 30),
    ("LA", "volume", "mL"): (80, 18),
    ("RA", "volume", "mL"): (95, 20),
    ("MYO", "mass", "g"): (120, 20),
    ("AO", "diameter", "mm"): (33, 3.5),
    ("PA", "diameter", "mm"): (26, 3),
    ("LV", "long_axis_length", "mm"): (88, 8),
}
"""Measure -> mean and standard deviation."""

_GRID = Geometry((2, 2, 2), (1.0, 1.0, 1.0))


def drawn_result(rng: np.random.Generator, number: int) -> Result:
    """Draw the result of a case; every 17th has a left ventricle that no other has, every 23rd one that is cut off."""
    measures = []
    for (structure, quantity, unit), (mean, sd) in SIZES.items():
        value, note = float(rng.normal(mean, sd)), ""
        if structure == "LV" and quantity == "volume":
            value = 900.0 if number % 17 == 5 else value
            note = CUT_OFF if number % 23 == 7 else ""
        measures.append(Measure(structure, quantity, value, unit, note, value * 0.95, value * 1.05))
    findings = [Finding("slices-thick", Severity.WARNING, "slices lie 6 mm apart")] if number % 3 == 0 else []
    if number % 17 == 5:
        findings.append(Finding("implausible-size", Severity.ERROR, "the left ventricle has 900 mL", "LV"))
    if number % 31 == 11:
        findings.append(Finding("no-heart", Severity.ERROR, "no heart was found"))
    patient = Patient("FM"[number % 2], 165.0 + number % 20, 70.0) if number % 4 else Patient()
    facts = InputFacts(modality="CT", size_xyz=(512, 512, 300), spacing_mm_xyz=(0.7, 0.7, 1.0), patient=patient)
    provenance = Provenance(
        heartseg="0.1.0",
        created=f"2026-11-30T20:{number % 60:02}:00+00:00",
        input=facts,
        model=ModelFacts("Tiny", "0.1"),
        settings=Settings().to_dict(),
        seconds={"predict": 9.1},
    )
    return Result(
        np.zeros((2, 2, 2), np.uint8), _GRID, measures=tuple(measures), findings=tuple(findings), provenance=provenance
    )


def make_results(folder: Path, count: int, preview: Path | None = None) -> list[str]:
    """Write results and their summary; every tenth scan failed. Returns the names of the cases."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    rows: dict[str, SummaryRow] = {}
    for k in range(count):
        name = f"case_{k:04}"
        row = SummaryRow(name, "done", 9.1, path=f"/scans/{name}.nii.gz")
        if k % 10 == 3:
            rows[name] = replace(row, status="failed", message="the file is cut short: copy or export it again")
            continue
        result = drawn_result(rng, k)
        (folder / name).mkdir(exist_ok=True)
        write_report(result, folder / name / "report.json", extra={"case": {"choices": {"model": "abc"}}})
        if preview is not None:
            shutil.copyfile(preview, folder / name / "preview.png")
        row = row.with_report(report_dict(result))
        rows[name] = row if result.heart_found else replace(row, status="no heart", message="no heart was found")
    write_summary(folder / "summary.csv", [Case(Path(name), name) for name in rows], rows)
    return list(rows)
