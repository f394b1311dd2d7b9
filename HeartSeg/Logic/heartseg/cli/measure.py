"""``heartseg measure``: planes, wall, vessels, function and reference ranges of results that exist."""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, OutputError, SettingsError
from ..formats import REPORT_FILE
from ..measure import Circumstances, Comparison, Patient, implausible
from ..measure.study import Labels, Study, scan_study, series_study
from ..provenance import InputFacts
from ..volume.geometry import Geometry
from .exits import EXIT_OK

JSON_FILE, CSV_FILE = "measures.json", "measures.csv"
CSV_COLUMNS = ("structure", "quantity", "value", "unit", "range", "position", "source", "note")

_DESCRIPTION = """\
Measure a segmentation again, with everything that its labels allow: volumes, valve planes, long axis, wall thickness in
the 17 AHA segments, widths of the chambers, levels of the aorta. A folder with the results of all frames of a time
series (heartseg segment --frame all) also gives the function: volume curves, EDV, ESV, EF.

SOURCE is a result folder of 'heartseg segment', a folder of such folders, or a label map, possibly edited.

Values are compared with reference ranges only if modality, sex, phase and, for values per body surface area, height and
weight are known. Nothing is guessed."""

_EXAMPLES = """\
examples:
  heartseg measure out/scan
  heartseg measure out/scan --sex F --height 168 --weight 62 --phase diastole -o out/measures
  heartseg measure out/cine --heart-rate 64 --json

exit codes:
  0    done
  2    invalid input or setting, reported in one line on standard error; nothing was written"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "measure",
        help="measure a result: planes, wall, vessels, function, reference ranges",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="result folder, folder of frames, or label map")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help=f"write {CSV_FILE} and {JSON_FILE} there")
    parser.add_argument("--sex", choices=("M", "F"), help="sex of the patient")
    parser.add_argument("--height", metavar="CM", type=float, help="body height, cm")
    parser.add_argument("--weight", metavar="KG", type=float, help="body weight, kg")
    parser.add_argument("--heart-rate", metavar="BPM", type=float, help="heart rate during the scan, beats per minute")
    parser.add_argument("--phase", choices=("diastole",), help="phase of the heart in a single scan, if it is known")
    parser.add_argument("--modality", choices=("CT", "MR"), help="modality, if the result does not state it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run_measure)


def run_measure(args: argparse.Namespace) -> int:
    """Measure, print, and write the files if asked; return the exit code."""
    patient = patient_of(args.sex, args.height, args.weight, args.heart_rate)
    study = measure_source(args.source, patient, args.modality, args.phase or "")
    if args.output is not None:
        write_study(study, args.output)
    print(json.dumps(study.to_dict(), indent=2, ensure_ascii=False) if args.json else format_study(study))
    return EXIT_OK


def patient_of(sex: str | None, height: float | None, weight: float | None, rate: float | None) -> Patient:
    """The patient from options.

    Raises:
        SettingsError: a value is outside what a person can have.
    """
    for name, value, low, high in (
        ("height", height, 40, 250),
        ("weight", weight, 2, 400),
        ("heart-rate", rate, 20, 300),
    ):
        if value is not None and not low <= value <= high:
            raise SettingsError(f"--{name} {value:g} is not possible: give {low} to {high}")
    return Patient(sex, height, weight, rate)


@dataclass(frozen=True)
class _Frame:
    folder: Path
    facts: InputFacts


def measure_source(source: Path, patient: Patient, modality: str | None, phase: str) -> Study:
    """Measures of a result folder, of a folder with the results of all frames, or of a label map.

    Raises:
        InputError: the source holds no segmentation, or frames of several scans.
    """
    from ..export.subject import measured, open_subject

    frames = _frames(source)
    if frames:
        return series_study(
            len(frames), lambda k: _labels(frames[k].folder), patient, modality or frames[0].facts.modality
        )
    subject = measured(open_subject(source))
    known = subject.result.provenance.input
    circumstances = Circumstances(modality or (known.modality if known else ""), phase, patient.sex)
    labels = (subject.result.labels, subject.result.geometry)
    return scan_study(labels, subject.result.measures, patient, circumstances)


def _frames(source: Path) -> list[_Frame]:
    """Return the results of the frames of one time series, in order; empty if the folder holds no time series."""
    if not source.is_dir() or (source / REPORT_FILE).is_file():
        return []
    found = []
    for report in sorted(source.glob(f"*/{REPORT_FILE}")):
        try:
            content = json.loads(report.read_text(encoding="utf-8"))["provenance"]["input"]
            facts = InputFacts(path=content["path"], frame=content["frame"], modality=content["modality"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if facts.frame is not None:
            found.append(_Frame(report.parent, facts))
    if not found:
        raise InputError(f"folder {str(source)!r} holds no frames of a time series: give a folder of one result")
    scans = {f.facts.path for f in found}
    numbers = sorted(f.facts.frame or 0 for f in found)
    if len(scans) > 1:
        raise InputError(f"folder {str(source)!r} holds frames of {len(scans)} scans: give a folder of one")
    if numbers != list(range(len(numbers))):
        raise InputError(f"folder {str(source)!r} holds frames {numbers}: segment all with --frame all")
    return sorted(found, key=lambda f: f.facts.frame or 0)


def _labels(folder: Path) -> Labels:
    from ..export.subject import LABEL_FILES
    from ..volume.label_maps import as_label_map

    for name in LABEL_FILES:
        if (folder / name).is_file():
            found = as_label_map(folder / name, None, "--labels")
            labels: np.ndarray = found.labels
            geometry: Geometry = found.geometry
            return labels, geometry
    raise InputError(f"folder {str(folder)!r} has no label map: segment the scan again with --format labels")


def write_study(study: Study, folder: Path) -> None:
    """Write ``measures.csv`` and ``measures.json`` into a folder, which is created if needed.

    Raises:
        OutputError: the files cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(study.to_dict(), indent=2, ensure_ascii=False)
        (folder / JSON_FILE).write_text(text + "\n", encoding="utf-8")
        with (folder / CSV_FILE).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(CSV_COLUMNS)
            for measure, found in study.compared():
                value = "" if measure.value is None else f"{measure.value:.2f}"
                beside, note = ("", "", ""), measure.note
                if isinstance(found, Comparison):
                    beside = (found.norm.text, found.position, found.norm.source)
                    note += f"; range: {found.norm.note}" if found.norm.note else ""
                writer.writerow((measure.structure, measure.quantity, value, measure.unit, *beside, note))
    except OSError as error:
        raise OutputError(f"cannot write to {str(folder)!r}: {error.strerror or error}") from error


def format_study(study: Study) -> str:
    """A text table: value, reference range and its source, or the reason why a value is missing."""
    lines = [] if study.function is None else [f"note: {note}" for note in getattr(study.function, "notes", ())]
    for measure, found in study.compared():
        name = f"{measure.structure:<4}{measure.quantity:<32}"
        if measure.value is None:
            lines.append(f"{name}{'-':>10}  {measure.note}".rstrip())
            continue
        text = f"{name}{measure.value:>10.2f} {measure.unit:<9}"
        if isinstance(found, Comparison):
            text += f" {found.position}: {found.norm.text} ({found.norm.source})"
            text += f"; range: {found.norm.note}" if found.norm.note else ""
        limits = implausible(measure)
        if limits is not None:
            text += f" implausible (limits {limits.low:g} to {limits.high:g}): check the segmentation"
        lines.append(text.rstrip())
    return "\n".join(lines)
