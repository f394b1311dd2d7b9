"""``heartseg train-default``: the default model, from the shape model to a model folder."""

from __future__ import annotations

import argparse

from ..cli.exits import CONTINUES
from ..errors import InputError
from .training_options import logged_on_stderr


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand; its options come from :mod:`heartseg.training.options`, which imports nothing heavy."""
    from ..training.options import DESCRIPTION, EXAMPLES, add_arguments

    parser = subparsers.add_parser(
        "train-default",
        help="train the default model on synthetic images",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run, after_stop=CONTINUES)


def run(args: argparse.Namespace) -> int:
    """Train; returns 0 when the model is written, 1 when stopped before that (run again to go on)."""
    from ..training.default import train_default

    try:
        with logged_on_stderr("%(asctime)s %(message)s", "heartseg.training", "heartseg.synthesis"):
            return train_default(args)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(str(error)) from None
