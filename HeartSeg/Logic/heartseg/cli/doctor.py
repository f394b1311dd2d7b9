"""``heartseg doctor``: check the installation, as a report to paste."""

from __future__ import annotations

import argparse
import json

from .exits import EXIT_FAILED, EXIT_OK, stop_token
from .progress import ProgressBar

_EXAMPLES = """\
examples:
  heartseg doctor                 everything, with a run on a tiny made-up volume (about ten seconds)
  heartseg doctor --no-self-test  without the run

exit codes:
  0    nothing to mend
  1    something to mend; the last lines of the report say what"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this installation; prints a report to paste",
        description="Check versions, devices, models, folders and network settings, and segment a tiny made-up volume. "
        "The report holds no names, no hosts, and no paths but those below your home folder (as ~).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--no-self-test", action="store_true", help="leave the run on a tiny volume out")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; returns 0 if there is nothing to mend, else 1."""
    from ..doctor import check_installation
    from ..progress import Reporter

    with ProgressBar() as bar:
        report = check_installation(Reporter(bar, stop_token()), self_test=not args.no_self_test)
    if args.json:
        sections = {title: dict(rows) for title, rows in report.sections.items()}
        print(json.dumps({"problems": list(report.problems), "sections": sections}, indent=2, ensure_ascii=False))
    else:
        print(report.text)
    return EXIT_FAILED if report.problems else EXIT_OK
