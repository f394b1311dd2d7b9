"""``heartseg refine``: mend a result with a few marks."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..anatomy import KEYS
from ..errors import InputError, ModelError, SettingsError
from ..formats import CONFIDENCE, CONFIDENCE_FILE, REPORT_FILE, check_output_folder, formats_in
from ..marks import Mark, read_marks
from ..progress import Reporter
from ..provenance import Mend
from ..settings import DEVICES, Settings
from .exits import EXIT_OK, warn
from .processes import in_child
from .progress import ProgressBar
from .scan_options import add_given_scan, frame_number

if TYPE_CHECKING:
    from ..export.subject import Subject
    from ..pipeline import Segmenter
    from ..result import Result
    from ..volume.types import Volume

_DESCRIPTION = f"""\
Correct a segmentation with a few marks: points or short strokes that say "this is RA" or "this is not RA". Voxels near
the marks are relabelled from the marks, the network's probabilities and the current labels; all others stay as they
are. Every mark is obeyed.

OUT is a result folder of 'heartseg segment', which is replaced unless -o is given, or a label map, possibly edited.

The marks are a markups file of 3D Slicer (.mrk.json), LPS or RAS as the file states. The label of a point, or of the
first point of a curve, names the structure: {", ".join(KEYS)} or background; a minus sign ("-RA") means that the place
is not that structure. Numbers that Slicer adds ("RA-3") are ignored. Later marks overrule earlier ones."""

_EXAMPLES = """\
examples:
  heartseg refine out/scan --marks marks.mrk.json
  heartseg refine out/scan --marks marks.mrk.json -o out/mended --json
  heartseg refine edited.seg.nrrd --scan scan.nii.gz --marks marks.mrk.json -o out/mended

exit codes:
  0    done
  2    invalid input or setting, reported in one line on standard error; nothing was written
  130  stopped with Ctrl-C or SIGTERM; the earlier result is kept"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "refine",
        help="mend a result with a few marks",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="OUT", type=Path, help="result folder, or label map")
    parser.add_argument("--marks", metavar="FILE", type=Path, required=True, help="markups file of 3D Slicer")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="write there instead of replacing OUT")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result in DIR")
    parser.add_argument("--json", action="store_true", help="print what was mended as JSON")
    add_given_scan(parser, "the scan, if the result does not name it or it has moved")
    run = parser.add_argument_group("the network")
    run.add_argument("--model", metavar="NAME|DIR", help="model (default: the one that made the result)")
    run.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}, or a card such as cuda:1 (default: auto)")
    run.add_argument("--threads", metavar="N", type=int, help="CPU threads")
    parser.set_defaults(run=run_refine)


def run_refine(args: argparse.Namespace) -> int:
    """Mend, write, and print what was done; return the exit code."""
    settings = Settings(device=args.device, threads=args.threads).check()
    marks, (target, overwrite) = read_marks(args.marks), _target(args)
    with ProgressBar() as bar:
        mend, note = in_child(partial(_mend, args, marks, settings, target, overwrite), bar)
    if not mend.model:
        warn(f"note: the network's probabilities were not used{note}: check the borders near the marks")
    if mend.model_note:
        warn(f"note: {mend.model_note}")
    if args.json:
        print(json.dumps(asdict(mend), indent=2))
        return EXIT_OK
    print(format_mend(mend))
    print(f"written to {target}")
    return EXIT_OK


def _mend(
    args: argparse.Namespace,
    marks: tuple[Mark, ...],
    settings: Settings,
    target: Path,
    overwrite: bool,
    reporter: Reporter,
) -> tuple[Mend, str]:
    """Read, mend and write; returns what was done, and why no network was used."""
    from ..refinement import refine

    with reporter.stage("read"):
        subject = _subject(args)
        volume = _scan_of(subject, args.source)
    segmenter, note = _segmenter(args, subject.result, settings)
    mended = refine(volume, subject.result, marks, segmenter, reporter=reporter)
    _write(args.source, mended, volume, target, overwrite, reporter)
    return mended.provenance.mends[-1], note


def _target(args: argparse.Namespace) -> tuple[Path, bool]:
    """The folder to write, and whether it is replaced."""
    if args.output is None:
        if not args.source.is_dir():
            raise SettingsError(f"{str(args.source)!r} is no result folder: give a folder for the result with -o")
        return check_output_folder(args.source, overwrite=True), True
    return check_output_folder(args.output, args.overwrite), args.overwrite


def _subject(args: argparse.Namespace) -> Subject:
    from ..export.subject import open_subject

    return open_subject(
        args.source,
        args.scan,
        series=args.series,
        frame=frame_number(args.frame),
        modality=args.modality,
        spacing=args.spacing,
        measure=False,
    )


def _scan_of(subject: Subject, source: Path) -> Volume:
    if subject.volume is None:
        why = subject.notices[-1] if subject.notices else "the scan is unknown: give it with --scan"
        raise InputError(f"{str(source)!r} cannot be mended without its scan ({why})")
    return subject.volume


def _segmenter(args: argparse.Namespace, result: Result, settings: Settings) -> tuple[Segmenter | None, str]:
    """The model that was asked for, else that of the result; ``None`` and the reason if that is not there."""
    from ..models.store import find_model
    from ..pipeline import Segmenter, model_of

    if args.model is not None:
        return Segmenter(find_model(args.model), settings), ""
    try:
        folder = model_of(result.provenance)
    except ModelError as error:
        return None, f" ({error})"
    return None if folder is None else Segmenter(folder, settings), ""


def _write(source: Path, result: Result, volume: Volume, target: Path, overwrite: bool, reporter: Reporter) -> None:
    """Write the result in the formats of the source, with the further fields of its report."""
    from ..output import write_result
    from ..volume.reading import read_volume

    if not source.is_dir():
        write_result(result, volume, target, overwrite=overwrite, reporter=reporter)
        return
    formats, report = formats_in(source), json.loads((source / REPORT_FILE).read_text(encoding="utf-8"))
    known = {*result.to_dict(), "output"}
    extra = {name: value for name, value in report.items() if name not in known}
    if CONFIDENCE in formats:
        found = read_volume(source / CONFIDENCE_FILE).array
        result = replace(result, confidence_map=np.asarray(found, np.uint8))
    write_result(result, volume, target, formats, overwrite, reporter, extra)


def format_mend(mend: Mend) -> str:
    """Marks, voxels, and the volumes that changed."""
    count = len(mend.marks)
    lines = [f"{count} mark{'s' * (count != 1)} obeyed, {mend.voxels} voxels changed in {mend.seconds:.2f} s"]
    for key in KEYS:
        before, after = mend.volumes_ml_before.get(key, 0.0), mend.volumes_ml_after.get(key, 0.0)
        if before != after:
            lines.append(f"{key:<4} {before:8.1f} -> {after:8.1f} mL")
    return "\n".join(lines)
