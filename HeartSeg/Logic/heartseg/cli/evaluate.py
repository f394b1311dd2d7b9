"""``heartseg evaluate``: compare label maps with references."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ..anatomy import KEYS
from ..errors import InputError, SettingsError
from ..evaluation import (
    LABEL_SETS,
    TOLERANCES_MM,
    Evaluation,
    Study,
    check_targets,
    evaluate,
    evaluate_folders,
    format_evaluation,
    format_study,
    result_file,
    write_files,
)
from ..evaluation.files import STANDARD_NAMES
from ..models.labels import parse_label_map
from ..progress import Reporter
from .exits import EXIT_FAILED, EXIT_OK, stop_token, warn
from .progress import ProgressBar

_DESCRIPTION = f"""\
Compare a segmentation with a reference: Dice, IoU, precision, sensitivity, HD95 and ASSD (mm), surface Dice at a
tolerance (NSD), volumes and their error (mL, %), per structure and their mean.

PRED and TRUTH are label maps (NIfTI, NRRD, Slicer's .seg.nrrd, MHA/MHD), or two folders whose files have the same
names except for an ending such as _labels or _reference. PRED may also be an output folder of 'heartseg segment', for
one or many scans. If the grids differ, PRED is resampled onto the grid of TRUTH.

Structures: {", ".join(KEYS)} (label values 1-7, in this order)."""

_EXAMPLES = """\
examples:
  heartseg evaluate out/scan reference.nii.gz
  heartseg evaluate labels.nii.gz reference.nii.gz --mask confidence.nii.gz -o out/evaluation
  heartseg evaluate out/ references/ -o evaluation --tolerance 1,2,3
  heartseg evaluate out/ mmwhs/ --truth-labels mmwhs --csv scores.csv
  heartseg evaluate out/scan reference.nii.gz --threshold 0.8
  heartseg evaluate a.nrrd b.nrrd --labels "1=RV,2=MYO,3=LV" --structures LV,MYO

exit codes:
  0    done
  1    some cases of a folder could not be compared (named on standard error and in the JSON file)
  2    bad input or setting; one line on standard error says which, and nothing was written
  130  stopped with Ctrl-C or SIGTERM; nothing half-written is left"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare segmentations with references: Dice, distances, volumes",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pred", metavar="PRED", type=Path, help="segmentation to evaluate: label map or folder")
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="reference: label map or folder")
    parser.add_argument(
        "--mask", metavar="FILE|DIR", type=Path, help="mask that excludes voxels where it is 0: one file or a folder"
    )
    parser.add_argument(
        "--labels",
        metavar="MAP",
        help='label values of both, e.g. "1=RV,2=MYO,3=LV", or mmwhs (default: heartseg, or the names in a .seg.nrrd)',
    )
    parser.add_argument("--truth-labels", metavar="MAP", help="label values of TRUTH, if different")
    parser.add_argument("--structures", metavar="LIST", help="structures to score, e.g. LV,RV,MYO (default: all)")
    parser.add_argument(
        "--tolerance",
        metavar="LIST",
        default=",".join(f"{t:g}" for t in TOLERANCES_MM),
        help="tolerances of the surface Dice, mm (default: 1,2)",
    )
    parser.add_argument(
        "--threshold",
        metavar="P",
        type=float,
        help="count labels of a lower probability as background, 0 to 1; requires the confidence map of the run",
    )
    parser.add_argument(
        "--confidence", metavar="FILE", type=Path, help="the confidence map (default: the file beside PRED's labels)"
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help=f"write {', '.join(STANDARD_NAMES.values())} into this folder"
    )
    files.add_argument("--csv", metavar="FILE", type=Path, help="write the table")
    files.add_argument("--json", metavar="FILE", type=Path, help="write all results and notices")
    files.add_argument("--figure", metavar="FILE", type=Path, help="write a figure of Dice and HD95 (PNG)")
    files.add_argument(
        "--picture",
        metavar="FILE",
        type=Path,
        help="write one slice of image, reference and result (PNG); requires --image and a single case",
    )
    files.add_argument("--image", metavar="SCAN", type=Path, help="scan for --picture")
    files.add_argument("--overwrite", action="store_true", help="replace these files if they exist")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> int:
    """Compare, print and write; returns the exit code."""
    targets = _targets(args)
    if (args.picture is None) != (args.image is None):
        raise SettingsError("--picture and --image require each other: give the scan and the name of the picture")
    if args.picture is not None and args.truth.is_dir():
        raise SettingsError("--picture shows one case and TRUTH is a folder: give two files")
    check_targets({**targets, **({"picture": args.picture} if args.picture else {})}, args.overwrite)
    found = _compare(args)
    stop_token().check()
    write_files(found, targets, args.overwrite)
    if isinstance(found, Study):
        print(format_study(found))
        _tell(found)
    else:
        print(format_evaluation(found))
        for notice in found.notices:
            warn(f"note: {notice}")
    if args.picture is not None:
        _draw(args)
        targets["picture"] = args.picture
    for path in targets.values():
        print(f"written: {path}")
    return EXIT_FAILED if isinstance(found, Study) and found.failed else EXIT_OK


def _draw(args: argparse.Namespace) -> None:
    """Write the picture of one slice."""
    from ..evaluation.slices import write_slices
    from ..volume.label_maps import as_label_map

    pred = (result_file(args.pred) if args.pred.is_dir() else None) or args.pred
    labels, truth_labels = _labels(args.labels), _labels(args.truth_labels)
    truth = as_label_map(args.truth, truth_labels if truth_labels is not None else labels, "--truth-labels")
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    write_slices(args.image, as_label_map(pred, labels, "--labels"), truth, args.picture)


def _targets(args: argparse.Namespace) -> dict[str, Path]:
    standard = {kind: args.output / name for kind, name in STANDARD_NAMES.items()} if args.output else {}
    given = {kind: getattr(args, kind) for kind in STANDARD_NAMES if getattr(args, kind) is not None}
    return {**standard, **given}


def _compare(args: argparse.Namespace) -> Evaluation | Study:
    labels, truth_labels = _labels(args.labels), _labels(args.truth_labels)
    structures = [k.strip() for k in args.structures.split(",") if k.strip()] if args.structures is not None else None
    tolerances = _tolerances(args.tolerance)
    pred, truth = args.pred, args.truth
    if truth.is_dir() and not pred.is_dir():
        raise InputError(
            f"TRUTH {str(truth)!r} is a folder and PRED {str(pred)!r} is not: give two files or two folders"
        )
    if pred.is_dir() and not truth.is_dir():
        file = result_file(pred)
        if file is None:
            raise InputError(
                f"PRED {str(pred)!r} is a folder without a label map of 'heartseg segment', and TRUTH is not a folder: "
                "give two files or two folders"
            )
        pred = file
    if not truth.is_dir():
        return evaluate(
            pred,
            truth,
            args.mask,
            labels=labels,
            truth_labels=truth_labels,
            structures=structures,
            tolerances=tolerances,
            threshold=args.threshold,
            confidence=args.confidence,
            name=args.pred.name if args.pred.is_dir() else "",
        )
    if args.confidence is not None:
        raise SettingsError("--confidence names the map of one case, but TRUTH is a folder: omit it")
    with ProgressBar() as bar:
        return evaluate_folders(
            pred,
            truth,
            args.mask,
            labels=labels,
            truth_labels=truth_labels,
            structures=structures,
            tolerances=tolerances,
            threshold=args.threshold,
            reporter=Reporter(bar, stop_token()),
        )


def _labels(text: str | None) -> dict[int, str] | None:
    return None if text is None else LABEL_SETS.get(text.strip().lower()) or parse_label_map(text)


def _tolerances(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(v) and v > 0 for v in values):
        raise SettingsError(f"tolerance {text!r} is not a list of lengths above 0 mm: write --tolerance 1,2")
    return values


def _tell(study: Study) -> None:
    """Report omitted cases on standard error."""
    for case in study.cases:
        for notice in case.notices:
            warn(f"note: {case.name}: {notice}")
    for names, where in (
        (study.pred_only, "prediction without reference"),
        (study.truth_only, "reference without prediction"),
    ):
        if names:
            warn(f"note: {where}, not compared: {', '.join(names)}")
    for name, why in study.failed.items():
        warn(f"failed: {name}: {why}")
