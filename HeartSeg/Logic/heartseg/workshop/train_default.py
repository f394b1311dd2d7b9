"""``heartseg train-default``: the default model, from the shape model to a model folder."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator

from ..cli.exits import CONTINUES
from ..errors import InputError


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
        with _progress_on_stderr():
            return train_default(args)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(str(error)) from None


@contextlib.contextmanager
def _progress_on_stderr() -> Iterator[None]:
    """Scenes, steps and scores as lines on standard error while the command runs."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    loggers = [logging.getLogger(f"heartseg.{name}") for name in ("training", "synthesis")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
