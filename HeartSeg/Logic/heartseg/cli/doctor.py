"""``heartseg doctor``: check the installation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .exits import EXIT_FAILED, EXIT_OK, stop_token
from .progress import ProgressBar

_EXAMPLES = """\
examples:
  heartseg doctor                 full check, with a run on a small synthetic volume (about ten seconds)
  heartseg doctor --no-self-test  without the run
  heartseg doctor --speed         also time each installed way of running the network (about a minute)
  heartseg doctor --speed SCAN    the same on a scan of yours, with the differences between the labels

exit codes:
  0    no problems
  1    problems, listed at the end of the report"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this installation and print a report that can be shared",
        description="Check versions, devices, models, folders and network settings, and segment a small synthetic "
        "volume. The report contains no names, no hosts, and no full paths except those below your home folder (as ~).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--no-self-test", action="store_true", help="skip the run on a small volume")
    parser.add_argument(
        "--speed",
        metavar="SCAN",
        nargs="?",
        const="",
        help="time each installed way of running the network, on one window of the small volume or on SCAN, compare "
        "its labels with those in float32, and recommend one",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; return 0 if there are no problems, else 1."""
    from ..doctor import check_installation
    from ..progress import Reporter
    from ..volume import read_volume

    scan = read_volume(Path(args.speed)) if args.speed else None
    with ProgressBar() as bar:
        reporter = Reporter(bar, stop_token())
        report = check_installation(reporter, not args.no_self_test, args.speed is not None, scan)
    if args.json:
        sections = {title: dict(rows) for title, rows in report.sections.items()}
        print(json.dumps({"problems": list(report.problems), "sections": sections}, indent=2, ensure_ascii=False))
    else:
        print(report.text)
    return EXIT_FAILED if report.problems else EXIT_OK
