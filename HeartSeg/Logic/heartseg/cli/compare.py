"""``heartseg compare``: two results of a patient, earlier and later."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..progress import Reporter
from ..staging import FolderKind, check_folder, staged_folder
from .exits import EXIT_OK, stop_token
from .measure import add_patient_options, opened_source, patient_of
from .progress import ProgressBar

PAGE_FILE, JSON_FILE = "comparison.html", "comparison.json"
COMPARISON_FOLDER = FolderKind("a comparison of HeartSeg", (PAGE_FILE, JSON_FILE), JSON_FILE)

_DESCRIPTION = """\
Compare two results of one patient: differences of the measures with their intervals, and the same planes through both
hearts side by side. The later heart is aligned rigidly with the earlier one by the labels. Warnings say what else may
explain a difference: modality, phase of the heart, field of view, resolution.

EARLIER and LATER are result folders of 'heartseg segment', folders with the results of all frames of a time series, or
label maps. The options about the patient apply to both."""

_EXAMPLES = """\
examples:
  heartseg compare out/january out/june
  heartseg compare out/january out/june -o out/course --phase diastole

exit codes:
  0    done
  2    invalid input or setting, reported in one line on standard error; nothing was written"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two results of a patient, earlier and later",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("earlier", metavar="EARLIER", type=Path, help="result of the earlier scan")
    parser.add_argument("later", metavar="LATER", type=Path, help="result of the later scan")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help=f"write {PAGE_FILE} and {JSON_FILE} there")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier comparison in the output folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_patient_options(parser)
    parser.set_defaults(run=run_compare)


def run_compare(args: argparse.Namespace) -> int:
    """Compare, print, and write the files if asked; return the exit code."""
    from ..report.comparison import Visit, compare_visits, format_comparison, write_comparison_page

    if args.output is not None:
        check_folder(args.output, COMPARISON_FOLDER, args.overwrite)
    patient = patient_of(args.sex, args.height, args.weight, args.heart_rate)
    visits = []
    with ProgressBar() as bar:
        reporter = Reporter(bar, stop_token())
        with reporter.stage("read"):
            for source in (args.earlier, args.later):
                opened = opened_source(source, patient, args.modality, args.phase or "")
                visits.append(Visit(opened.study, opened.subject.result, opened.subject.volume))
        comparison = compare_visits(*visits)
    text = json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False)
    if args.output is not None:
        with staged_folder(args.output, COMPARISON_FOLDER, args.overwrite) as stage:
            write_comparison_page(comparison, stage / PAGE_FILE)
            (stage / JSON_FILE).write_text(text + "\n", encoding="utf-8")
    print(text if args.json else format_comparison(comparison))
    return EXIT_OK
