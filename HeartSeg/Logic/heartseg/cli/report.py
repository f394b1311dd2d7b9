"""``heartseg report``: the report of a result as a page, a PDF and a DICOM SR."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import OutputError, SettingsError
from ..formats import check_formats
from ..progress import Reporter
from .exits import EXIT_OK, stop_token, warn
from .measure import add_patient_options, opened_source, patient_of
from .progress import ProgressBar

REPORT_FORMATS = ("html", "pdf", "dicom-sr")

_DESCRIPTION = """\
Write a report that you can hand to a colleague: key numbers with interval, reference range and source, curves,
bull's-eye plot, standard views and an interactive view in one HTML file that needs no network; two printed pages with
the same content, without the interactive view; or a DICOM SR that refers to the DICOM Segmentation beside it.

SOURCE is a result folder of 'heartseg segment', a folder with the results of all frames of a time series, or a label
map. The report names neither patient nor file, unless --title does. A DICOM SR takes the patient from its images,
unless the scan was segmented with --anonymize."""

_EXAMPLES = """\
examples:
  heartseg report out/scan -o out/report
  heartseg report out/cine -o out/report --sex F --height 168 --weight 62 --heart-rate 64 --phase cycle
  heartseg report out/scan -o out/report --format html,pdf,dicom-sr --title "Case 7"

exit codes:
  0    done
  2    invalid input or setting, reported in one line on standard error; nothing was written
  130  stopped with Ctrl-C or SIGTERM; no partial output is left"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "report",
        help="write the report of a result: HTML page, PDF, DICOM SR",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="result folder, folder of frames, or label map")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the report")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier report in the output folder")
    known = ",".join(REPORT_FORMATS)
    parser.add_argument("--format", metavar="LIST", default="html", help=f"formats, from {known} (default: html)")
    parser.add_argument("--title", metavar="TEXT", default="", help="heading (default: one that names nobody)")
    parser.add_argument("--scan", metavar="PATH", type=Path, help="the scan, if it is not where it was")
    add_patient_options(parser)
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Write the report; return the exit code."""
    from ..export import write_report_files
    from ..export.report_files import check_report_folder

    formats = tuple(f.strip().lower() for f in args.format.split(",") if f.strip())
    unknown = [f for f in formats if f not in REPORT_FORMATS]
    if unknown or not formats:
        named = ", ".join(unknown) or repr(args.format)
        raise SettingsError(f"format {named} is unknown: choose from {', '.join(REPORT_FORMATS)}")
    check_formats(formats)
    if args.output.resolve() == args.source.resolve():
        raise OutputError(f"{str(args.output)!r} is the result itself: give another folder for the report")
    check_report_folder(args.output, args.overwrite)
    patient = patient_of(args.sex, args.height, args.weight, args.heart_rate)
    with ProgressBar() as bar:
        reporter = Reporter(bar, stop_token())
        with reporter.stage("read"):
            opened = opened_source(args.source, patient, args.modality, args.phase or "", args.scan)
        files = write_report_files(opened.subject, opened.study, args.output, formats, args.title, args.overwrite)
    for notice in opened.subject.notices:
        warn(f"note: {notice}")
    print(f"written to {args.output}: {', '.join(files)}")
    return EXIT_OK
