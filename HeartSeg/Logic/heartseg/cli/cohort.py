"""``heartseg cohort``: all results of a batch as one table, and one page to judge them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..formats import REVIEW_FILE
from ..progress import Reporter
from .exits import EXIT_OK, stop_token, warn
from .progress import ProgressBar

if TYPE_CHECKING:
    from ..cohort import CohortCase

_DESCRIPTION = f"""\
Make one table of all cases of a batch, and one page to look at them, worst first:
  cohort.csv      a row per case with all measures, findings and settings; cohort.parquet too, if pyarrow is installed
  cohort.html     distributions against reference ranges, outliers, cases by finding, and the cases with their
                  pictures; one file that needs no network
Your verdicts (accept, reject, comment) are kept in {REVIEW_FILE}, which no run of this command changes. --review shows
the page through a server on this machine that writes it; without, the page offers it as a download.

OUT is the output folder of 'heartseg segment' for many scans."""

_EXAMPLES = """\
examples:
  heartseg cohort out
  heartseg cohort out --review
  heartseg cohort out --phase diastole

exit codes:
  0    done
  2    invalid input or setting, reported in one line on standard error"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "cohort",
        help="one table of the results of many scans, and a page to judge them",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="OUT", type=Path, help="output folder of heartseg segment")
    parser.add_argument(
        "--phase",
        choices=("diastole",),
        default="",
        help="phase of the heart in all scans, if known, for the reference ranges",
    )
    parser.add_argument(
        "--review", action="store_true", help=f"show the page at an address of this machine, and write {REVIEW_FILE}"
    )
    parser.add_argument(
        "--port", metavar="N", type=int, default=0, help="port of --review on 127.0.0.1 (default: a free one)"
    )
    parser.set_defaults(run=run_cohort)


def run_cohort(args: argparse.Namespace) -> int:
    """Make table and page, and serve the page if asked; return the exit code."""
    from ..cohort import judge, read_cohort, read_reviews, write_cohort_page, write_cohort_table

    with ProgressBar() as bar:
        cases = read_cohort(args.source, Reporter(bar, stop_token()))
    cohort = judge(cases, args.phase)
    reviews = read_reviews(args.source)
    files = write_cohort_table(cohort, reviews, args.source)
    files.append(write_cohort_page(cohort, reviews, args.source))
    counts = ", ".join(f"{number} {status}" for status, number in sorted(cohort.statuses().items()))
    print(f"{len(cases)} case(s): {counts}")
    print(f"written to {args.source}: {', '.join(files)}")
    if args.review:
        _serve(args, cases)
    return EXIT_OK


def _serve(args: argparse.Namespace, cases: tuple[CohortCase, ...]) -> None:
    """Serve the page until Ctrl-C."""
    from ..cohort.server import ReviewServer

    try:
        server = ReviewServer(args.source, cases, args.port)
    except (OSError, OverflowError) as error:
        raise OutputError(f"port {args.port} cannot be used ({error}): choose another with --port") from error
    with server:
        print(f"open {server.address}", flush=True)
        warn("stop with Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            path = args.source / REVIEW_FILE
            print(f"verdicts are in {path}" if path.exists() else "no verdict was given")
