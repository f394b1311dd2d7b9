"""``heartseg sample``: labelled toy scans to try a training on."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..cli.exits import EXIT_OK, stop_token
from ..cli.progress import ProgressBar
from ..progress import Reporter

_DESCRIPTION = """\
Make labelled toy scans: hearts of ellipsoids and tubes, each of its own size, pose and contrast, in DIR/images and
DIR/labels. They are for trying commands and methods; nothing learnt from them is of use on a patient's scan."""

_EPILOG = """\
examples:
  heartseg sample --labelled 6 --spacing 6 -o toy
  heartseg train toy -o run --modality CT --folds 3 --only-folds 0 --epochs 2 --iterations-per-epoch 20"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "sample",
        help="make labelled toy scans to try a training on",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--labelled", metavar="N", type=int, required=True, help="number of scans")
    parser.add_argument("--modality", choices=("CT", "MR"), default="CT", help="(default: CT)")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="new or empty folder")
    parser.add_argument("--spacing", metavar="MM", type=float, default=3.0, help="edge of the voxels (default: 3)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the hearts (default: 0)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the scans; returns the exit code."""
    from ..training.toy import make_toy_data

    with ProgressBar() as bar:
        reporter = Reporter(bar, stop_token())
        folder = make_toy_data(args.output, args.labelled, args.modality, args.spacing, args.seed, reporter)
    print(f"{args.labelled} labelled {args.modality} scan(s) in {folder}")
    return EXIT_OK
