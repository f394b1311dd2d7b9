"""``heartseg check``: find problems of a scan before segmentation."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HeartSegError, InputError
from ..findings import Finding, Severity
from ..progress import Reporter
from ..settings import DEVICES, Settings
from .cases import Case
from .exits import EXIT_OK, EXIT_USAGE
from .processes import in_child
from .progress import ProgressBar
from .scan_options import add_scan_options, frame_number, scan_path

if TYPE_CHECKING:
    from ..volume.dicom.table import Row

_EXAMPLES = """\
examples:
  heartseg check scan.nii.gz
  heartseg check dicom_folder --series 3 --modality CT
  heartseg check scan.nii.gz --quick --json

exit codes:
  0    the scan can be segmented (warnings may be printed)
  2    the scan cannot be segmented; the lines that begin with "error" give the reason and the solution"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "check",
        help="check a scan for problems before segmentation",
        description="Check a scan before segmentation: dimensions, field of view, spacing, modality and intensities, "
        "and the memory, disk and speed of this machine. No file is written.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="INPUT", type=scan_path, help="scan file or DICOM folder")
    add_scan_options(parser)
    parser.add_argument("--model", metavar="NAME|DIR", help="model name or folder (default: the included model)")
    parser.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}, or a card such as cuda:1")
    parser.add_argument("--quick", action="store_true", help="do not search for the heart (runs no network)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the checks; returns 0 if the scan can be segmented, else 2."""
    settings = Settings(device=args.device).check()
    frame = frame_number(args.frame)
    case = Case(args.input, args.input.name, args.series, frame, args.modality, args.spacing)
    return print_checks(checked(Request(case, args.model, settings, look=not args.quick)), args.json)


@dataclass(frozen=True)
class Request:
    """What to check.

    Attributes:
        case: the scan.
        model: name or folder, ``None`` for the included model.
        settings: settings of the run to come.
        look: whether to search for the heart with the coarse network.
        output: folder of the results, ``None`` if nothing will be written.
    """

    case: Case
    model: str | None
    settings: Settings
    look: bool = True
    output: Path | None = None


@dataclass(frozen=True)
class Checked:
    """Findings of a scan, and the series of a DICOM folder."""

    checks: tuple[Finding, ...]
    series: tuple[Row, ...] = ()


def checked(request: Request) -> Checked:
    """Check a scan in a child process; a scan that cannot be read gives a finding too.

    Raises:
        ModelError: the model is unknown.
        Cancelled: the user stopped the check.
    """
    with ProgressBar() as bar:
        try:
            return in_child(partial(check_case, request), bar)
        except InputError as error:  # the process crashed
            return Checked((Finding("scan-refused", Severity.ERROR, str(error)),))


def check_case(request: Request, reporter: Reporter) -> Checked:
    """Run all checks of a scan on disk."""
    from ..models.store import find_model
    from ..preflight import Chosen, look_for_heart, machine_facts, preflight
    from ..volume.reading import count_frames

    case, settings = request.case, request.settings
    label_map = dict(settings.label_map) if settings.label_map else None
    model = find_model(request.model, label_map)
    series: tuple[Row, ...] = ()
    try:
        with reporter.stage("read"):
            series = series_table(case.path)
            if (
                case.frame is None
                and case.path.exists()
                and (frames := count_frames(case.path, series=case.series)) > 1
            ):
                return Checked(preflight(None, chosen=Chosen(case.path.name, frames=frames)), series)
            volume = case.read()
    except (InputError, OSError) as error:
        return Checked((Finding("scan-refused", Severity.ERROR, str(error)),), series)
    heart = look_for_heart(volume, model, settings, reporter) if request.look else None
    return Checked(preflight(volume, model, settings, machine_facts(settings, request.output), heart=heart), series)


def series_table(path: Path) -> tuple[Row, ...]:
    """List the series of a DICOM folder; empty for other scans and unreadable folders."""
    from ..volume.dicom.table import rows_of
    from ..volume.reading import list_dicom

    try:
        return rows_of(list_dicom(path))
    except (HeartSegError, OSError):  # the checks report the problem
        return ()


def print_checks(found: Checked, as_json: bool) -> int:
    """Print the table of series, then the checks; returns the exit code."""
    from ..preflight import OPTIONS
    from ..volume.dicom.table import format_rows

    checks, table = found.checks, found.series
    ready = all(c.severity is not Severity.ERROR for c in checks)
    if as_json:
        told = {"ready": ready, "checks": [c.to_dict() for c in checks], "series": [row.to_dict() for row in table]}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        if table:
            print(f"{format_rows(table)}\n")
        for check in checks:
            option = f" ({OPTIONS[check.fix]})" if check.fix in OPTIONS else ""
            print(f"{check.severity.value:<8}{check.message}{option}")
        print("The scan can be segmented." if ready else "The scan cannot be segmented as it is.")
    return EXIT_OK if ready else EXIT_USAGE
