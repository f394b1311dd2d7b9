# PYTHON_ARGCOMPLETE_OK
"""``heartseg``: entry point, subcommands, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NoReturn

from ..errors import Cancelled, DependencyError, HeartSegError, one_line
from ..version import __version__
from .exits import (
    EXIT_CANCELLED,
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    NOTHING_LEFT,
    stopped_by_signals,
)

_EPILOG = f"""\
examples:
  heartseg segment scan.nii.gz -o out/scan        one scan: labels, surfaces (mm), volumes (mL), report, picture
  heartseg segment scans/ -o out --resume         all scans in a folder, and summary.csv
  heartseg cohort out                             table of all cases, and a page to judge them
  heartseg export out/scan -o out/print --format print   3D-print models; also PLY, OBJ, DICOM SEG, a report page
  heartseg refine out/scan --marks m.mrk.json            mend it with a few marks set in 3D Slicer
  heartseg measure out/scan                       planes, wall thickness, vessels, function, reference ranges
  heartseg report out/scan -o out/report          a report that you can hand to a colleague
  heartseg compare out/january out/june           differences between two visits
  heartseg evaluate out/scan reference.nii.gz     comparison with a reference: Dice, distances, volumes
  heartseg explain scan.nii.gz -o out/heat        heat map of the regions relevant for the aorta (Grad-CAM)
  heartseg models list                            installed models
  heartseg segment --help                         all options and output files

{EXIT_CODES}

HeartSeg is research software, not a medical device."""


COMMANDS = "heartseg.commands"
"""Group of entry points: each is a function that takes the subparsers and adds one command."""


class Parser(argparse.ArgumentParser):
    """Argument parser that reports errors in one line, like all other errors."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse unknown arguments here, so that the error names the subcommand's help."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"heartseg: {message}: see {self.prog} --help\n")


OWN_COMMANDS = (
    "segment",
    "cohort",
    "refine",
    "measure",
    "report",
    "compare",
    "export",
    "evaluate",
    "explain",
    "check",
    "models",
    "doctor",
)
"""Commands of this package, each a module of it."""


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """Build the parser of the command line without heavy imports.

    Args:
        command: one of :data:`OWN_COMMANDS` to build the parser of this command only, which starts faster; all others
            build the parser of all commands.
    """
    parser = Parser(
        prog="heartseg",
        description="Segment the whole heart in CT and MR volumes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"heartseg {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="print log messages, and tracebacks on errors")
    commands: Any = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in (command,) if command in OWN_COMMANDS else OWN_COMMANDS:
        importlib.import_module(f".{name}", __package__).add_parser(commands)
    if command in OWN_COMMANDS:
        return parser
    for add_parser in _registered_commands():
        add_parser(commands)
    version = commands.add_parser("version", help="print the versions of heartseg and its dependencies")
    version.set_defaults(run=_version)
    return parser


def _registered_commands() -> list[Callable[[Any], None]]:
    """Functions that add the subcommands registered as entry points, in the order of their names."""
    found = sorted(metadata.entry_points(group=COMMANDS), key=lambda entry: entry.name)
    commands = []
    for entry in {e.name: e for e in found}.values():
        try:
            commands.append(entry.load())
        except ImportError as error:  # another package's command must not stop ours
            logging.getLogger(__name__).warning("command %s of %s: %s", entry.name, entry.value, error)
    return commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    _escape_unprintable_characters()
    with stopped_by_signals():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    """Parse the arguments, run the command, and report errors in one line."""
    args = argparse.Namespace(verbose=False, after_stop=NOTHING_LEFT)
    try:
        given = sys.argv[1:] if arguments is None else arguments
        parser = build_parser(next((a for a in given if not a.startswith("-")), ""))
        _complete(parser)
        args = parser.parse_args(arguments, args)
        logging.basicConfig(level=logging.INFO if args.verbose else logging.ERROR, format="%(name)s: %(message)s")
        logging.captureWarnings(True)  # warnings of libraries are shown with -v
        return int(args.run(args))
    except (KeyboardInterrupt, Cancelled):
        print(f"heartseg: stopped; {args.after_stop}", file=sys.stderr)
        return EXIT_CANCELLED
    except HeartSegError as error:
        if args.verbose:
            logging.exception("details")
        print(f"heartseg: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if args.verbose or not package or package == __package__.partition(".")[0]:
            raise
        print(f"heartseg: the package {package!r} is not installed: pip install {package}", file=sys.stderr)
        return DependencyError.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except MemoryError:
        print("heartseg: out of memory: close other programs or crop the scan around the heart", file=sys.stderr)
        return EXIT_FAILED
    except Exception as error:  # a bug
        if args.verbose:
            logging.exception("details")
        print(
            f"heartseg: internal error ({one_line(error)}): run the command again as 'heartseg -v ...' and report the "
            "output",
            file=sys.stderr,
        )
        return EXIT_FAILED


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell's request for completions, if it made one and argcomplete is installed (extra ``complete``)."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    with contextlib.suppress(ImportError):
        import argcomplete

        argcomplete.autocomplete(parser)


def _escape_unprintable_characters() -> None:
    """Escape characters that the encoding of the terminal lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _version(args: argparse.Namespace) -> int:
    from ..pipeline import installed_versions

    print(f"heartseg {__version__}")
    for name, version in installed_versions().items():
        print(f"  {name} {version}")
    print(f"  python {sys.version.split()[0]}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
