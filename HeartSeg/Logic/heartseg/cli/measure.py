"""``heartseg measure``: planes, wall, vessels, function and reference ranges of results that exist."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, SettingsError, writing
from ..findings import merged_findings
from ..formats import REPORT_FILE
from ..measure import CardiacFunction, Circumstances, Comparison, Patient, implausible
from ..measure.study import MEASURES_FILE, Study, scan_study, series_study, write_measures
from ..provenance import InputFacts
from ..report.measurements import code_texts, number_text
from ..volume.patient import LIMITS, common_patient
from .exits import EXIT_OK

if TYPE_CHECKING:
    from ..export.subject import Subject

CSV_FILE = "measures.csv"
CSV_COLUMNS = (
    "structure",
    "quantity",
    "value",
    "unit",
    "range",
    "position",
    "source",
    "note",
    "low",
    "high",
    "code",
    "site",
)

_DESCRIPTION = """\
Measure a segmentation again, with everything that its labels allow: volumes, valve planes, long axis, wall thickness in
the 17 AHA segments, widths of the chambers, levels of the aorta. A folder with the results of all frames of a time
series (heartseg segment --frame all) also gives the function: volume curves, EDV, ESV, EF.

SOURCE is a result folder of 'heartseg segment', a folder of such folders, or a label map, possibly edited.

Values are compared with reference ranges only if modality, sex, phase and, for values per body surface area, height and
weight are known, from the options or from the DICOM header of the scan. Nothing is guessed. The function is measured
only if all frames of the scan are there; its phase is that of a whole cycle if DICOM says so, or with --phase cycle."""

_EXAMPLES = """\
examples:
  heartseg measure out/scan
  heartseg measure out/scan --sex F --height 168 --weight 62 --phase diastole -o out/measures
  heartseg measure out/cine --heart-rate 64 --json
  heartseg measure out/scan --bullseye wall.png --views views.png --wall-surface wall.vtp

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
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help=f"write {CSV_FILE} and {MEASURES_FILE} there")
    add_patient_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    pictures = parser.add_argument_group("pictures and surface (a time series: of end-diastole)")
    pictures.add_argument(
        "--bullseye",
        metavar="FILE",
        type=Path,
        help="write the bull's-eye plot of the wall (.png, .svg, .pdf), with the thickening of a time series",
    )
    pictures.add_argument(
        "--views",
        metavar="FILE",
        type=Path,
        help="write the two-, three- and four-chamber view and the short axis (.png, .svg, .pdf)",
    )
    pictures.add_argument(
        "--wall-surface",
        metavar="FILE",
        type=Path,
        help="write the endocardial surface with the wall thickness (.vtp, .ply; world LPS, mm)",
    )
    parser.set_defaults(run=run_measure)


def add_patient_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about patient, phase and modality, which override what the scan states."""
    parser.add_argument("--sex", choices=("M", "F"), help="sex of the patient")
    parser.add_argument("--height", metavar="CM", type=float, help="body height, cm")
    parser.add_argument("--weight", metavar="KG", type=float, help="body weight, kg")
    parser.add_argument("--heart-rate", metavar="BPM", type=float, help="heart rate during the scan, beats per minute")
    parser.add_argument(
        "--phase",
        choices=("diastole", "cycle"),
        help="phase of the heart, if known: diastole for a single scan, cycle for frames that cover one heart beat",
    )
    parser.add_argument("--modality", choices=("CT", "MR"), help="modality, if the result does not state it")


def run_measure(args: argparse.Namespace) -> int:
    """Measure, print, and write the files if asked; return the exit code."""
    patient = patient_of(args.sex, args.height, args.weight, args.heart_rate)
    opened = opened_source(args.source, patient, args.modality, args.phase or "")
    study = opened.study
    write_pictures(opened, args.source.name, args.bullseye, args.views, args.wall_surface)
    if args.output is not None:
        write_study(study, args.output)
    print(study.to_json() if args.json else format_study(study))
    return EXIT_OK


def patient_of(sex: str | None, height: float | None, weight: float | None, rate: float | None) -> Patient:
    """The patient from options.

    Raises:
        SettingsError: a value is outside what a person can have.
    """
    for name, value, (low, high) in (
        ("height", height, LIMITS["height_cm"]),
        ("weight", weight, LIMITS["weight_kg"]),
        ("heart-rate", rate, LIMITS["heart_rate_bpm"]),
    ):
        if value is not None and not low <= value <= high:
            raise SettingsError(f"--{name} {value:g} is not possible: give {low:g} to {high:g}")
    return Patient(sex, height, weight, rate)


def completed(patient: Patient, stated: Patient) -> Patient:
    """The patient from options, with what they leave out from the header of the scan."""
    missing = {name: value for name, value in asdict(stated).items() if getattr(patient, name) is None}
    if patient.heart_rate_bpm is None:
        missing |= {name: getattr(stated, name) for name in ("heart_rate_spread_bpm", "heart_rate_source")}
    return replace(patient, **missing)


@dataclass(frozen=True)
class _Frame:
    folder: Path
    facts: InputFacts

    @property
    def number(self) -> int:
        return self.facts.frame or 0

    @property
    def scan(self) -> tuple[str, str]:
        """What frames of one scan have in common."""
        return self.facts.path, self.facts.series_uid or self.facts.sha256


@dataclass(frozen=True, eq=False)
class Opened:
    """A source with its measures.

    Attributes:
        study: the measures.
        subject: what pictures show; of a time series, its end-diastole, or its first frame if that is unknown.
    """

    study: Study
    subject: Subject


def opened_source(source: Path, patient: Patient, modality: str | None, phase: str, scan: Path | None = None) -> Opened:
    """Open and measure a result folder, a folder with the results of all frames, or a label map.

    Args:
        source: the folder or file.
        patient: properties of the patient, which override those in the report.
        modality: ``"CT"`` or ``"MR"``; by default, that of the report.
        phase: ``"diastole"`` for a single scan, ``"cycle"`` for frames that cover one cycle; ``""`` for what the report
            states.
        scan: the scan; by default, that of the report.

    Raises:
        InputError: the source holds no segmentation, frames of several scans, or not all frames of one.
        SettingsError: the phase does not fit the source.
    """
    from ..export.subject import labels_of, measured_labels, open_subject

    frames = _frames(source)
    if frames:
        if phase == "diastole":
            raise SettingsError("--phase diastole is for a single scan: leave it out, or give the folder of one frame")
        _check_complete(frames, source, phase)
        facts = frames[0].facts
        patient = completed(patient, common_patient([f.facts.patient for f in frames]))
        phase = "cycle" if phase or all(f.facts.cardiac_cycle for f in frames) else ""

        @cache
        def of_frame(k: int) -> Subject:
            return open_subject(frames[k].folder, scan, modality=modality, measure=False)

        study = series_study(
            len(frames),
            lambda k: labels_of(frames[k].folder),
            lambda k: measured_labels(of_frame(k)),
            patient,
            Circumstances(modality or facts.modality, phase, patient.sex),
        )
        return Opened(study, of_frame(study.shown_frame or 0))
    if phase == "cycle":
        raise SettingsError("--phase cycle is for the frames of a time series: give the folder of all of them")
    subject = open_subject(source, scan, modality=modality, measure=False)
    result, facts = subject.result, subject.result.provenance.input or InputFacts()
    patient = completed(patient, facts.patient)
    circumstances = Circumstances(modality or facts.modality, phase or facts.phase, patient.sex)
    study = scan_study((result.labels, result.geometry), measured_labels(subject), patient, circumstances)
    return Opened(study, subject)


def _frames(source: Path) -> list[_Frame]:
    """Return the results of the frames of one time series, in order; empty if the source is no folder of results."""
    from ..export.subject import provenance_of

    if not source.is_dir() or (source / REPORT_FILE).is_file():
        return []
    found = []
    for report in sorted(source.glob(f"*/{REPORT_FILE}")):
        try:
            facts = provenance_of(report.parent).input
        except InputError:
            continue  # a frame that is missing for this reason is reported later
        if facts is not None and facts.frame is not None:
            found.append(_Frame(report.parent, facts))
    if not found:
        raise InputError(
            f"folder {str(source)!r} holds no result of 'heartseg segment': give a result folder or a folder of frames"
        )
    return sorted(found, key=lambda f: f.number)


def _check_complete(frames: Sequence[_Frame], source: Path, phase: str) -> None:
    """Refuse frames that are not all frames of one scan, each once."""
    name = f"folder {str(source)!r}"
    scans = {f.scan for f in frames}
    if len(scans) > 1:
        raise InputError(f"{name} holds frames of {len(scans)} scans: give a folder of one")
    numbers = [f.number for f in frames]
    stated = {f.facts.frames for f in frames if f.facts.frames is not None}
    count = max(stated, default=len(frames))
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{name} holds results of the same frame twice ({numbers}): remove one of them")
    if numbers != list(range(count)):
        missing = sorted(set(range(count)) - set(numbers))
        raise InputError(
            f"{name} holds {len(numbers)} of {count} frames (missing: {', '.join(map(str, missing))}), which cannot "
            "give the function of a whole cycle: segment all with --frame all, or give the folder of one frame"
        )
    if not stated and phase != "cycle":
        raise InputError(
            f"the reports in {name} do not say how many frames the scan has: segment it again with --frame all, or, if "
            f"these {len(numbers)} frames cover one heart beat, say so with --phase cycle"
        )


def write_pictures(
    opened: Opened, name: str, bullseye: Path | None, views: Path | None, wall_surface: Path | None
) -> None:
    """Write the pictures and the surface that are asked for.

    Raises:
        InputError: a picture has nothing to show; with the reason.
        DependencyError: matplotlib or VTK is not installed.
        OutputError: a suffix is unknown, or a file cannot be written.
    """
    from ..export import wall_surface as surfaces
    from ..report.bullseye import write_bullseye
    from ..report.views import write_views

    study, subject = opened.study, opened.subject
    if bullseye is not None:
        write_bullseye(study.measures, bullseye, name)
    if views is None and wall_surface is None:
        return
    if study.heart is None:
        raise InputError(f"{name!r} has no measured heart: there is nothing to draw")
    labels, geometry = subject.result.labels, subject.result.geometry
    if views is not None:
        write_views(subject.volume, labels, geometry, study.heart.planes, views)
    if wall_surface is not None:
        surfaces.write_wall_surface(surfaces.wall_surface(labels, geometry, study.heart.wall), wall_surface)


def write_study(study: Study, folder: Path) -> None:
    """Write ``measures.csv`` and ``measures.json`` into a folder, which is created if needed.

    Raises:
        OutputError: the files cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_measures(study, folder / MEASURES_FILE)
        with (folder / CSV_FILE).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(CSV_COLUMNS)
            for measure, found in study.compared():
                value, low, high = (number_text(v, measure.unit) for v in (measure.value, measure.low, measure.high))
                beside, note = ("", "", ""), measure.note
                if isinstance(found, Comparison):
                    beside = (found.norm.text, found.position, found.norm.source)
                    note += f"; range: {found.norm.note}" if found.norm.note else ""
                first = (measure.structure, measure.quantity, value, measure.unit)
                writer.writerow((*first, *beside, note, low, high, *code_texts(measure)))


def format_study(study: Study) -> str:
    """A text table: findings, then value, 90 % interval, reference range with its source and note of each measure.

    A value that is missing has the reason in its place.
    """
    patient = study.patient
    body = ((patient.sex, ""), (patient.height_cm, " cm"), (patient.weight_kg, " kg"))
    known = [f"{value}{unit}" for value, unit in body if value is not None]
    known += [patient.heart_rate_text] if patient.heart_rate_text else []
    lines = [f"patient: {', '.join(known)}"] if known else []
    lines += [f"{f.severity.value}: {f.message} [{f.code}]" for f in merged_findings(study.findings)]
    if isinstance(study.function, CardiacFunction):
        lines += [f"note: {note}" for note in study.function.notes]
    for measure, found in study.compared():
        name = f"{measure.structure:<4}{measure.quantity:<32}"
        if measure.value is None:
            lines.append(f"{name}{'-':>10}  {measure.note}".rstrip())
            continue
        text = f"{name}{measure.value:>10.2f} {measure.unit:<9}"
        if measure.low is not None and measure.high is not None:
            text += f" {measure.low:.2f} to {measure.high:.2f}"
        if isinstance(found, Comparison):
            text += f" {found.position}: {found.norm.text} ({found.norm.source})"
            text += f"; range: {found.norm.note}" if found.norm.note else ""
        limits = implausible(measure)
        if limits is not None:
            text += f" implausible (limits {limits.low:g} to {limits.high:g}): check the segmentation"
        text += f" [{measure.note}]" if measure.note else ""
        lines.append(text.rstrip())
    return "\n".join(lines)
