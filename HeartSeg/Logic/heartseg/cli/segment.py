"""``heartseg segment``: one scan, a time series, a folder or a list of scans."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..anatomy import KEYS
from ..errors import SettingsError
from ..formats import CONFIDENCE, DEFAULT_FORMATS, FORMATS, REPORT_FILE, check_formats, check_output_folder
from ..models.labels import parse_label_map
from ..progress import Reporter
from ..settings import BACKENDS, DEVICES, PRECISIONS, Settings
from .cases import Case, Part, is_batch, list_cases
from .exits import EXIT_CODES, EXIT_NO_HEART, EXIT_OK
from .processes import in_child
from .progress import ProgressBar
from .scan_options import add_scan_options, parse_frame, scan_path

_DESCRIPTION = f"""\
Segment the heart in a scan and write a folder with:
  segmentation.seg.nrrd  opens in 3D Slicer with names and colours
  labels.nii.gz          label map on the scan's grid
  surfaces/*.stl         closed surfaces (mm, LPS)
  measurements.csv       volumes (mL), mass (g), diameters (mm), intensities
  report.json            how it was made: input hash, model, device, seconds, findings
  preview.png            three slices with contours and a 3D view
--format selects other files (see heartseg export --help). The format confidence writes confidence.nii.gz, the
probability that the network assigns to the label of each voxel, in percent.

INPUT is a NIfTI, NRRD, MHA/MHD or DICOM file, or a folder of DICOM files (with its subfolders, one study).
For many scans: a folder with scan files, or with a folder per patient; or a CSV file with a column "path" and the
optional columns "name", "series", "frame" and "modality". Each scan gets a folder in DIR and a row in summary.csv.

Structures: {", ".join(KEYS)}."""

_EXAMPLES = f"""\
examples:
  heartseg segment scan.nii.gz -o out/scan
  heartseg segment dicom_folder -o out/scan --series 3
  heartseg segment cine.nii.gz -o out/cine --frame all
  heartseg segment scan.nii.gz -o out/scan --structures LV,MYO --format labels,csv --json
  heartseg segment scans/ -o out --resume
  heartseg segment scans/ -o out --resume --scheduler tcp://host:8786
  heartseg segment scans/ -o out --resume --slurm 20 --threads 4
  heartseg segment scans/ -o out --resume --part 3/100

{EXIT_CODES}"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "segment",
        help="segment the heart in one or many scans",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input", metavar="INPUT", type=scan_path, help="scan, DICOM folder, folder of scans, or list.csv"
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--check-only", action="store_true", help="only report possible problems (as heartseg check); write nothing"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result in the output folder")
    parser.add_argument(
        "--format",
        metavar="LIST",
        help=f"formats to write: {','.join(FORMATS)} (default: {','.join(DEFAULT_FORMATS)})",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the report (many scans: the summary) as JSON on standard output"
    )
    parser.add_argument(
        "--anonymize",
        action="store_true",
        help="omit the patient's name, ID and birth date and the path and name of the scan from all files",
    )
    scan = parser.add_argument_group("the scan")
    add_scan_options(scan, all_frames=True)
    run = parser.add_argument_group("the run")
    run.add_argument("--model", metavar="NAME|DIR", help="model name or folder (default: the included model)")
    run.add_argument("--labels", metavar="MAP", help='for a model without a card: "1=LV,2=RV,3=MYO"')
    run.add_argument("--structures", metavar="LIST", help="structures to keep, e.g. LV,RV,MYO (default: all)")
    run.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}, or a card such as cuda:1 (default: auto)")
    run.add_argument("--precision", default="auto", choices=PRECISIONS, help="precision of the network (default: auto)")
    run.add_argument(
        "--backend",
        default="auto",
        choices=BACKENDS,
        help="default: torch on a graphics card, else the fastest that is installed: openvino, onnx, torch",
    )
    run.add_argument(
        "--accurate",
        action="store_true",
        help="average several predictions, which is several times slower: shifted windows at three grey scales or, for "
        "whole scans, the mirrored copies that the model allows",
    )
    run.add_argument("--threads", metavar="N", type=int, help="CPU threads per process")
    run.add_argument("--no-locate", action="store_true", help="tile the whole scan instead of finding the heart first")
    run.add_argument("--no-cleanup", action="store_true", help="keep every voxel that the network labels")
    batch = parser.add_argument_group("many scans")
    batch.add_argument("--resume", action="store_true", help="skip scans with a complete result in the output folder")
    run.add_argument(
        "--time-limit",
        metavar="MIN",
        type=float,
        default=120.0,
        help="time limit for each scan in minutes, 0 for no limit (default: 120)",
    )
    where = batch.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        help="number of processes, each with its own model (default: as cores and free memory allow, at most 4)",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="segment on the workers of a running dask scheduler, such as tcp://host:8786, or its scheduler file",
    )
    where.add_argument(
        "--slurm", metavar="WORKERS", type=int, help="submit this number of workers to Slurm and segment on them"
    )
    batch.add_argument(
        "--slurm-option",
        metavar="OPTION",
        action="append",
        default=[],
        help="further option of sbatch for each worker, such as --slurm-option=--gres=gpu:1",
    )
    batch.add_argument(
        "--part",
        metavar="I/N",
        type=Part.parse,
        help="segment one of N parts of the scans, for job arrays without a scheduler",
    )
    parser.set_defaults(run=run_segment)


def settings_from(args: argparse.Namespace) -> Settings:
    """Return the settings of a run from the parsed arguments; raises ``SettingsError``."""
    most = 8 * (os.cpu_count() or 1)
    if args.threads is not None and args.threads > most:
        raise SettingsError(f"threads {args.threads} is more than this machine can run: at most {most} (8 per core)")
    return Settings(
        device=args.device,
        structures=tuple(k.strip().upper() for k in args.structures.split(",") if k.strip())
        if args.structures
        else None,
        locate=not args.no_locate,
        clean_up=not args.no_cleanup,
        accurate=args.accurate,
        precision=args.precision,
        backend=args.backend,
        threads=args.threads,
        label_map=tuple(parse_label_map(args.labels).items()) if args.labels else None,
    ).check()


def parse_formats(text: str | None) -> tuple[str, ...] | None:
    """Return the formats to write, or ``None`` for the default; raises ``SettingsError``."""
    if text is None:
        return None
    formats = tuple(f.strip().lower() for f in text.split(",") if f.strip())
    unknown = [f for f in formats if f not in FORMATS]
    if unknown or not formats:
        raise SettingsError(f"format {', '.join(unknown) or repr(text)} is unknown: choose from {', '.join(FORMATS)}")
    check_formats(formats)
    return formats


def run_segment(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    formats = parse_formats(args.format)
    settings = replace(settings_from(args), confidence_map=CONFIDENCE in (formats or ()))
    for name in ("jobs", "slurm"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise SettingsError(f"{name} {getattr(args, name)} must be 1 or more")
    frame, limit = parse_frame(args.frame), time_limit(args)
    if args.check_only:
        return _check_only(args, settings, frame)
    if frame == "all" or is_batch(args.input):
        from .batch import run_batch

        args.after_stop = "finished scans are kept; add --resume to continue"
        cases = list_cases(
            args.input, args.series, frame, args.modality, args.output, args.spacing, args.anonymize, limit
        )
        return run_batch(cases, args, settings, formats, limit)
    assert not isinstance(frame, str)
    if option := next((name for name in ("scheduler", "slurm", "part") if getattr(args, name) is not None), None):
        raise SettingsError(f"--{option} is for many scans, and {args.input} is one: omit it")
    check_output_folder(args.output, args.overwrite)
    case = Case(args.input, args.output.name, args.series, frame, args.modality, args.spacing)
    run = Run(args.output, args.model, settings, formats, args.overwrite, args.anonymize)
    with ProgressBar() as bar:
        told = in_child(partial(segment_case, case, run), bar, limit)
    print(told.report if args.json else "\n".join(told.lines))
    return EXIT_OK if told.heart_found else EXIT_NO_HEART


def time_limit(args: argparse.Namespace) -> float | None:
    """Return the seconds of ``--time-limit``, ``None`` for no limit."""
    if args.time_limit < 0:
        raise SettingsError(f"time limit is {args.time_limit:g} minutes: give 0 (no limit) or more")
    return 60.0 * args.time_limit or None


def _check_only(args: argparse.Namespace, settings: Settings, frame: int | str | None) -> int:
    """Only check one scan for possible problems."""
    from .check import Request, checked, print_checks

    if frame == "all" or is_batch(args.input):
        raise SettingsError(
            f"--check-only checks a single scan, not all of {args.input}: give one file, DICOM folder or frame"
        )
    assert not isinstance(frame, str)
    case = Case(args.input, args.input.name, args.series, frame, args.modality, args.spacing)
    return print_checks(checked(Request(case, args.model, settings, output=args.output)), args.json)


@dataclass(frozen=True)
class Run:
    """Output folder, model and settings for the segmentation of one scan."""

    output: Path
    model: str | None
    settings: Settings
    formats: tuple[str, ...] | None
    overwrite: bool
    anonymize: bool = False


@dataclass(frozen=True)
class Told:
    """What the command prints about a finished run.

    Attributes:
        report: content of ``report.json`` as JSON in ASCII, for any terminal.
        heart_found: whether there is a heart in the result.
        lines: text for the terminal.
    """

    report: str
    heart_found: bool
    lines: tuple[str, ...]


def segment_case(case: Case, run: Run, reporter: Reporter) -> Told:
    """Read, segment and write one scan."""
    from ..models.store import find_model
    from ..output import write_result
    from ..pipeline import Segmenter
    from ..report import format_findings, format_measurements

    folder = find_model(run.model, label_map=dict(run.settings.label_map) if run.settings.label_map else None)
    with reporter.stage("read"):
        volume = case.read()
    volume = volume.anonymized() if run.anonymize else volume
    result = Segmenter(folder, run.settings).segment(volume, reporter=reporter)
    written = write_result(result, volume, run.output, run.formats, run.overwrite, reporter)
    lines = [format_measurements(result), format_findings(result)]
    lines += [f"not written: {name} ({why})" for name, why in written["skipped"].items()]
    plain = (f for f in written["files"] if not f.startswith("surfaces/"))
    lines.append(f"written to {run.output}: {', '.join(plain)}")
    if any(f.startswith("surfaces/") for f in written["files"]):
        lines.append(f"surfaces in {run.output / 'surfaces'}")
    report = json.loads((run.output / REPORT_FILE).read_text(encoding="utf-8"))
    return Told(json.dumps(report, indent=2), result.heart_found, tuple(lines))
