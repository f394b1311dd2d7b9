"""``heartseg check``: find problems of a scan before segmentation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HeartSegError, InputError
from ..findings import Finding, Severity
from ..settings import DEVICES, Settings
from .cases import scan_path
from .exits import EXIT_OK, EXIT_USAGE, stop_token
from .progress import ProgressBar

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
    parser.add_argument("--series", metavar="UID|NUMBER", help="series of a DICOM folder")
    parser.add_argument("--frame", metavar="N", type=int, help="frame of a time series, from 0")
    parser.add_argument("--modality", choices=("CT", "MR"), help="modality, for files that do not store it")
    parser.add_argument("--model", metavar="NAME|DIR", help="model name or folder (default: the included model)")
    parser.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}, or a card such as cuda:1")
    parser.add_argument("--quick", action="store_true", help="do not search for the heart (runs no network)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the checks; returns 0 if the scan can be segmented, else 2."""
    settings = Settings(device=args.device).check()
    checks = checks_of(
        args.input, args.series, args.frame, args.modality, args.model, settings, look=not args.quick, output=None
    )
    return print_checks(checks, args.json, series_table(args.input))


def series_table(path: Path) -> tuple[Row, ...]:
    """List the series of a DICOM folder; empty for other scans and unreadable folders."""
    from ..volume.dicom.table import rows_of
    from ..volume.reading import list_dicom

    try:
        return rows_of(list_dicom(path))
    except (HeartSegError, OSError):  # the checks report the problem
        return ()


def checks_of(
    path: Path,
    series: str | None,
    frame: int | None,
    modality: str | None,
    model: str | None,
    settings: Settings,
    look: bool,
    output: Path | None,
) -> tuple[Finding, ...]:
    """Run all checks of a scan on disk; an unreadable scan gives a finding too.

    Raises:
        ModelError: the model is unknown.
        Cancelled: the user stopped the check.
    """
    from ..models.store import find_model
    from ..preflight import Chosen, look_for_heart, machine_facts, preflight
    from ..progress import Reporter
    from ..volume.reading import count_frames, read_volume

    label_map = dict(settings.label_map) if settings.label_map else None
    folder = find_model(model, label_map)
    with ProgressBar() as bar:
        reporter = Reporter(bar, stop_token())
        try:
            with reporter.stage("read"):
                if frame is None and path.exists() and (frames := count_frames(path, series=series)) > 1:
                    return preflight(None, chosen=Chosen(path.name, frames=frames))
                volume = read_volume(path, series=series, frame=frame, modality=modality)
        except InputError as error:
            return (Finding("scan-refused", Severity.ERROR, str(error)),)
        heart = look_for_heart(volume, folder, settings, reporter) if look else None
    return preflight(volume, folder, settings, machine_facts(settings, output), heart=heart)


def print_checks(checks: tuple[Finding, ...], as_json: bool, table: tuple[Row, ...] = ()) -> int:
    """Print the table of series, then the checks; returns the exit code."""
    from ..preflight import OPTIONS
    from ..volume.dicom.table import format_rows

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
