"""``heartseg export``: export a result or a segmentation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..export import (
    COORDINATES,
    DEFAULT_FORMATS,
    FORMATS,
    WALL_LIMITS_MM,
    WALL_MM,
    ExportOptions,
    check_export,
    open_subject,
    write_export,
)
from ..export.surfaces import SMOOTHING
from ..models.labels import parse_label_map
from ..progress import Reporter
from ..volume.label_maps import LABEL_SETS
from .exits import EXIT_OK, stop_token, warn
from .progress import ProgressBar
from .scan_options import add_given_scan, frame_number
from .segment import parse_formats

_FORMAT_LINES = "\n".join(f"  {name:<11}{text}" for name, text in FORMATS.items())

_DESCRIPTION = f"""\
Export a segmentation to surfaces, 3D-print models, DICOM SEG, tables and pictures. All files are written, or none.

SOURCE is a result folder of 'heartseg segment' or a segmentation, possibly edited: a label map (NIfTI, NRRD, MHA/MHD)
or Slicer's .seg.nrrd, which is measured and checked again. Pictures, intensities and DICOM SEG need the scan. For a
result folder, the scan named in its report is used; for a segmentation, give --scan.

Formats:
{_FORMAT_LINES}

export.json lists the written files, their source and statistics of the surfaces."""

_EXAMPLES = """\
examples:
  heartseg export out/scan -o out/export
  heartseg export out/scan -o out/mesh --format ply,obj --coordinates RAS --smoothing 0.3
  heartseg export out/scan -o out/print --format print --wall 1.5
  heartseg export out/scan -o out/dicom --format dicom-seg --scan dicom_folder --series 3
  heartseg export edited.seg.nrrd -o out/edited --format csv,html --scan scan.nii.gz --modality CT

exit codes:
  0    done
  2    invalid input or setting, reported in one line on standard error; nothing was written
  130  stopped with Ctrl-C or SIGTERM; no partial output is left"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="export surfaces, 3D-print models, DICOM SEG or a report page of a segmentation",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="result folder, label map or .seg.nrrd")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder for the export")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in the output folder")
    parser.add_argument(
        "--format",
        metavar="LIST",
        help=f"formats, from {','.join(FORMATS)} (default: {','.join(DEFAULT_FORMATS)})",
    )
    parser.add_argument("--json", action="store_true", help="print export.json to standard output")
    parser.add_argument("--title", metavar="TEXT", default="", help="heading of a report (default: one without a name)")
    how = parser.add_argument_group("surfaces and print models")
    how.add_argument(
        "--coordinates", metavar="AXES", default="LPS", help=f"world axes, {' or '.join(COORDINATES)} (default: LPS)"
    )
    how.add_argument(
        "--smoothing",
        metavar="F",
        type=float,
        default=SMOOTHING,
        help=f"smoothing of the surfaces, 0 (none) to 1 (default: {SMOOTHING:g}, as in 3D Slicer)",
    )
    low, high = WALL_LIMITS_MM
    how.add_argument(
        "--wall",
        metavar="MM",
        type=float,
        default=WALL_MM,
        help=f"wall thickness of the printed blood pool, {low:g} to {high:g} mm (default: {WALL_MM:g})",
    )
    scan = add_given_scan(parser, "the scan")
    scan.add_argument(
        "--labels",
        metavar="MAP",
        help='label values of a label map, e.g. "1=RV,2=MYO,3=LV", or mmwhs',
    )
    parser.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Run the export and print a summary; return the exit code."""
    options = ExportOptions(args.coordinates, args.smoothing, args.wall, args.title).check()
    formats, frame = parse_formats(args.format), frame_number(args.frame)
    labels = None
    if args.labels is not None:
        labels = LABEL_SETS.get(args.labels.strip().lower()) or parse_label_map(args.labels)
    check_export(args.output, formats, args.overwrite)
    with ProgressBar() as bar:
        reporter = Reporter(bar, stop_token())
        with reporter.stage("read"):
            subject = open_subject(
                args.source,
                args.scan,
                series=args.series,
                frame=frame,
                modality=args.modality,
                spacing=args.spacing,
                labels=labels,
            )
        content = write_export(subject, args.output, formats, options, args.overwrite, reporter)
    for notice in content["notices"]:
        warn(f"note: {notice}")
    if args.json:
        print(json.dumps(content, indent=2, default=str))
        return EXIT_OK
    for name, why in content["skipped"].items():
        print(f"not written: {name} ({why})")
    for name, part in ((content["print"] or {}).get("parts") or {}).items():
        print(f"print/{name}: watertight, material volume {part['volume_ml']:.1f} mL")
    shown = dict.fromkeys(file.partition("/")[0] + "/" * ("/" in file) for file in content["files"])
    print(f"written to {args.output}: {', '.join(shown)}")
    return EXIT_OK
