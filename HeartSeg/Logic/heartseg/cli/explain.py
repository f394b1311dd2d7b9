"""``heartseg explain``: heat map of the image regions that contribute to a structure."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..anatomy import KEYS
from ..errors import InputError, ModelError, SettingsError
from ..formats import LABEL_FILES, REPORT_FILE
from ..models.labels import parse_label_map
from ..progress import Reporter
from ..settings import DEVICES, Settings
from .cases import Case
from .exits import EXIT_OK, warn
from .processes import in_child
from .progress import ProgressBar
from .scan_options import add_scan_options, frame_number

if TYPE_CHECKING:
    from ..models.folder import ModelFolder
    from ..result import Result
    from ..volume.geometry import Geometry

_SUFFIXES = {"nifti": ".nii.gz", "nrrd": ".nrrd"}

_DESCRIPTION = f"""\
Show which parts of a scan contribute to a structure (Grad-CAM for segmentation: Selvaraju et al. 2017, Vinogradova et
al. 2020), and write a folder with:
  heat_map.nii.gz   float32, 0 to 1, on the scan's grid
  heat_map.png      three slices: scan, heat map, contour of the structure
  explanation.json  provenance: model, layer, method, input hash, seconds

The map is an illustration, not a validation: it does not show whether the segmentation is correct.

SCAN is one scan, as for 'heartseg segment'. With --result, the command explains the labels of that result with its
model; otherwise it segments the scan first.

Structures: {", ".join(KEYS)}."""

_EXAMPLES = """\
examples:
  heartseg explain scan.nii.gz -o out/heat
  heartseg explain scan.nii.gz -o out/heat --structure MYO --layer bottleneck
  heartseg explain scan.nii.gz -o out/heat --result out/scan --structure LV
  heartseg explain --list-layers

exit codes:
  0    done
  2    bad input or setting; one line on standard error says which, and nothing was written
  130  stopped with Ctrl-C or SIGTERM; nothing half-written is left"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "explain",
        help="show which parts of a scan contribute to a structure: a heat map (Grad-CAM)",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scan", metavar="SCAN", type=Path, nargs="?", help="scan file or DICOM folder")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="folder for the heat map")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier heat map in the output folder")
    parser.add_argument(
        "--format", choices=tuple(_SUFFIXES), default="nifti", help="format of the heat map (default: nifti)"
    )
    parser.add_argument("--json", action="store_true", help="print explanation.json on standard output")
    what = parser.add_argument_group("structure and layer")
    what.add_argument("--structure", metavar="KEY", default="AO", help="structure, e.g. LV (default: AO)")
    what.add_argument(
        "--layer",
        metavar="NAME",
        default="last",
        help="last (the last convolution before the output), bottleneck, or the name of a layer (default: last)",
    )
    what.add_argument("--list-layers", action="store_true", help="only list the layers of the model")
    what.add_argument("--result", metavar="DIR", type=Path, help="output folder of 'heartseg segment' for this scan")
    scan = parser.add_argument_group("the scan")
    add_scan_options(scan)
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--model", metavar="NAME|DIR", help="model name or folder (default: that of --result, or the included model)"
    )
    run.add_argument("--labels", metavar="MAP", help='for a model without a card: "1=LV,2=RV,3=MYO"')
    run.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}, or a card such as cuda:1 (default: auto)")
    run.add_argument("--threads", metavar="N", type=int, help="CPU threads")
    run.add_argument("--no-locate", action="store_true", help="tile the whole scan instead of finding the heart first")
    parser.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    settings = Settings(
        device=args.device,
        locate=not args.no_locate,
        threads=args.threads,
        label_map=tuple(parse_label_map(args.labels).items()) if args.labels else None,
    ).check()
    if args.list_layers:
        return _list_layers(_model(args, settings, {}))
    if args.scan is None or args.output is None:
        raise SettingsError("SCAN or -o is missing: give a scan and -o DIR")
    from ..explain.files import EXPLANATION_FILE, check_explanation_folder

    check_explanation_folder(args.output, args.overwrite)
    with ProgressBar() as bar:
        found = in_child(partial(_explain, args, settings), bar)
    if args.json:
        print((args.output / EXPLANATION_FILE).read_text(encoding="utf-8"), end="")
        return EXIT_OK
    for notice in found["notices"]:
        warn(f"note: {notice}")
    for name, why in found["skipped"].items():
        warn(f"note: not written: {name} ({why})")
    print(f"written to {args.output}: {', '.join(found['files'])}")
    return EXIT_OK


def _explain(args: argparse.Namespace, settings: Settings, reporter: Reporter) -> dict[str, Any]:
    """Read, explain and write."""
    from ..explain import Explainer, write_explanation
    from ..pipeline import Segmenter

    report = _read_report(args.result) if args.result else {}
    explainer = Explainer(Segmenter(_model(args, settings, report), settings))
    explainer.find(args.structure, args.layer)  # rejects an unknown name before reading the scan
    with reporter.stage("read"):
        frame = frame_number(args.frame)
        volume = Case(args.scan, args.scan.name, args.series, frame, args.modality, args.spacing).read()
        result = _result(args.result, report, volume.geometry) if args.result else None
    explanation = explainer.explain(volume, args.structure, args.layer, result, reporter=reporter)
    written = write_explanation(explanation, volume, args.output, _SUFFIXES[args.format], args.overwrite, reporter)
    return {**written, "notices": explanation.notices}


def _model(args: argparse.Namespace, settings: Settings, report: dict[str, Any]) -> ModelFolder:
    """Return the model of ``--model``, else that of the result, else the included model."""
    from ..models.store import find_model
    from ..pipeline import model_of
    from ..provenance import Provenance

    label_map = dict(settings.label_map) if settings.label_map else None
    made_by = Provenance.from_dict(report.get("provenance", {}))
    try:
        found = model_of(made_by, label_map) if args.model is None else None
    except ModelError as error:
        name = made_by.model.name if made_by.model else ""
        raise ModelError(f"model {name!r} of the result was not found ({error}): give a model with --model") from error
    return found or find_model(args.model, label_map=label_map)


def _read_report(folder: Path) -> dict[str, Any]:
    try:
        report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        if isinstance(report, dict) and isinstance(report.get("provenance", {}).get("model", {}), dict):
            return report
    except (OSError, ValueError, AttributeError):
        pass
    raise InputError(f"'{folder}' contains no readable {REPORT_FILE}: give an output folder of 'heartseg segment'")


def _result(folder: Path, report: dict[str, Any], grid: Geometry) -> Result:
    """Read the labels and the provenance of a result folder, on the grid of the scan."""
    from ..provenance import Provenance
    from ..result import Result
    from ..volume.reading import read_volume

    file = folder / LABEL_FILES[0]
    if report.get("heart_found") is False:
        raise InputError(f"no heart was found in the result '{folder}': there is nothing to explain")
    if not file.is_file():
        raise InputError(f"'{folder}' contains no {LABEL_FILES[0]}: write the result with --format labels")
    labels = read_volume(file)
    if labels.array.min() < 0 or labels.array.max() > len(KEYS) or (labels.array % 1).any():
        raise InputError(
            f"'{file}' contains values other than the labels 0 to {len(KEYS)}: give an output folder of "
            "'heartseg segment'"
        )
    if not labels.geometry.same_grid(grid, 0.01):  # NIfTI stores 32-bit numbers
        raise InputError(f"'{file}' is not on the grid of the scan: give the result for this scan")
    provenance = Provenance.from_dict(report.get("provenance", {}))
    return Result(labels.array.astype(np.uint8), grid, provenance=provenance)


def _list_layers(model: ModelFolder) -> int:
    from ..explain import list_layers

    layers = list_layers(model)
    print(f"{model.name}: 'last' is {layers.last.name}, 'bottleneck' is {layers.bottleneck.name}")
    width = max(len(layer.name) for layer in layers.all)
    for layer in layers.all:
        channels, *voxels = layer.shape
        print(f"{layer.name:<{width}}  {channels:4d} channels  {' x '.join(map(str, voxels))} voxels per patch")
    return EXIT_OK
