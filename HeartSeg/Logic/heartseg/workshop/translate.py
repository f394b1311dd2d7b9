"""``heartseg translate``: MR into CT and back; train, apply, join a training set."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..cli.cases import is_batch, list_cases
from ..cli.exits import CONTINUES, EXIT_FAILED, EXIT_OK, stop_token, warn
from ..cli.progress import ProgressBar
from ..cli.scan_options import parse_frame
from ..errors import OutputError, SettingsError, writing
from ..progress import Reporter

if TYPE_CHECKING:
    from ..translation.presets import Settings

PRESETS = ("reference", "document")
DIRECTIONS = ("mr2ct", "ct2mr")

_DESCRIPTION = """\
Turn MR into CT (or CT into MR) with a CycleGAN that learns from unpaired, unlabelled scans, so that labelled scans of
one modality can join a training set of the other. What it makes is training data: an image of what CT looks like, not
what this patient's CT would show. Never read it as an image."""

_TRAIN = """\
Train both directions on folders of scans (or DICOM folders); they need be neither paired nor labelled. After a
stop, the same command continues. OUT/model is the model, OUT/sheets holds pictures made while it trains: a row a slice,
MR first; in each row source, translation, and what comes back.

Presets: reference (the CycleGAN paper: ResNet-9, least squares, 200 epochs, batch 1, 256 pixels), document (the
founding document's: rate 0.01 falling linearly to 0, 50 epochs, batch 2, 384 pixels, log loss)."""

_TRAIN_EXAMPLES = """\
examples:
  heartseg translate train mr/ ct/ -o cyclegan
  heartseg translate train mr/ ct/ -o cyclegan --preset document --device cuda
  heartseg translate train mr/ ct/ -o small --blocks 6 --filters 32 --patch 128 --spacing 1.5 --epochs 40"""

_APPLY_EXAMPLES = """\
examples:
  heartseg translate apply cyclegan mr/case_01.nii.gz -o case_01_as_ct.nii.gz
  heartseg translate apply cyclegan mr/ -o as_ct
  heartseg translate apply cyclegan ct/ -o as_mr --direction ct2mr"""

_JOIN_EXAMPLES = """\
examples:
  heartseg translate join cyclegan mr/images mr/labels trainset      adds trainset/images and trainset/labels"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "translate",
        help="turn MR into CT for training (CycleGAN)",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_train(commands)
    _add_apply(commands)
    _add_join(commands)


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "train", "learn from unpaired MR and CT", _TRAIN, _TRAIN_EXAMPLES)
    parser.add_argument("mr", metavar="MR", type=Path, help="folder of MR scans, at least two")
    parser.add_argument("ct", metavar="CT", type=Path, help="folder of CT scans in HU, at least two")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--preset", choices=PRESETS, default="reference", help="where settings come from (default: reference)"
    )
    numbers = parser.add_argument_group("settings that replace the preset's")
    for name, kind, text in (
        ("blocks", int, "residual blocks of a generator: 9, or 6 for small slices"),
        ("filters", int, "channels of a generator's first layer"),
        ("critic-filters", int, "channels of a discriminator's first layer"),
        ("cycle", float, "weight of the cycle's L1 loss"),
        ("identity", float, "weight of the identity loss, as a share of --cycle"),
        ("edges", float, "weight of a term that keeps edges in place (0 in the presets)"),
        ("pool", int, "earlier translations that a discriminator also sees (0: none)"),
        ("momentum", float, "beta1 of adam, or the momentum of sgd"),
        ("steps", int, "steps in all, instead of --epochs"),
        ("learning-rate", float, "at the start"),
        ("epochs", int, "epochs in all"),
        ("constant-epochs", int, "epochs before the rate begins to fall (default: the preset's share of --epochs)"),
        ("batch", int, "slices of each modality a step"),
        ("patch", int, "pixels of the square that is shown, a multiple of 4 from 32"),
        ("spacing", float, "pixel size, mm"),
        ("ema", float, "decay of the averaged generators (0: none)"),
        ("seed", int, "seed of weights and samples"),
    ):
        numbers.add_argument(f"--{name}", metavar="N", type=kind, help=text)
    numbers.add_argument("--loss", choices=("lsgan", "log"), help="adversarial loss")
    numbers.add_argument("--optimizer", choices=("adam", "sgd"), help="give --learning-rate and --momentum with it")
    numbers.add_argument(
        "--mr-percentiles",
        metavar=("LOW", "HIGH"),
        nargs=2,
        type=float,
        help="percentiles of each MR scan that become -1 and 1 (default: 0.5 99.5)",
    )
    numbers.add_argument(
        "--ct-window", metavar=("LOW", "HIGH"), nargs=2, type=float, help="HU that are kept (default: -500 1000)"
    )
    run = parser.add_argument_group("running")
    _add_machine(run)
    run.add_argument(
        "--run-minutes", metavar="M", type=float, default=math.inf, help="stop after M minutes with everything saved"
    )
    run.add_argument(
        "--sheet-every", metavar="N", type=int, default=500, help="steps between sample sheets (default: 500)"
    )
    parser.set_defaults(run=run_train, after_stop=CONTINUES)


def _add_apply(commands: argparse._SubParsersAction) -> None:
    text = "Translate a scan, or every scan in a folder, slice by slice; the result has the scan's grid."
    parser = _command(commands, "apply", "translate scans", text, _APPLY_EXAMPLES)
    parser.add_argument("model", metavar="MODEL", type=Path, help="what train wrote: OUT or OUT/model")
    parser.add_argument("scan", metavar="SCAN", type=Path, help="image file, DICOM folder, or folder of them")
    parser.add_argument("-o", "--output", metavar="FILE|DIR", type=Path, required=True, help="file, or folder for many")
    parser.add_argument("--direction", choices=DIRECTIONS, default="mr2ct", help="default: mr2ct")
    parser.add_argument("--frame", metavar="N|all", help="which frame of a time series, from 0; all: a file each")
    _add_machine(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.set_defaults(run=run_apply)


def _add_join(commands: argparse._SubParsersAction) -> None:
    text = """\
Translate labelled scans and put them with their labels into SET/images and SET/labels, a training set's folders, beside
what is there. Labels are found by name (case_01_image.nii.gz, case_01_label.nii.gz); their values stay, and a
.seg.nrrd is read by its segments' names into the values 1-7. After a stop, the same command continues."""
    parser = _command(commands, "join", "translated scans and their labels into a training set", text, _JOIN_EXAMPLES)
    parser.add_argument("model", metavar="MODEL", type=Path, help="what train wrote: OUT or OUT/model")
    parser.add_argument("images", metavar="IMAGES", type=Path, help="folder of labelled scans")
    parser.add_argument("labels", metavar="LABELS", type=Path, help="folder of their label maps")
    parser.add_argument(
        "set", metavar="SET", type=Path, help="training set: a folder with images/ and labels/, made if absent"
    )
    parser.add_argument("--direction", choices=DIRECTIONS, default="mr2ct", help="default: mr2ct")
    _add_machine(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace cases that exist")
    parser.set_defaults(run=run_join, after_stop=CONTINUES)


def _command(
    commands: argparse._SubParsersAction, name: str, what: str, text: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=what, description=text, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _add_machine(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--threads", metavar="N", type=int, help="CPU threads (default: torch's)")


def run_train(args: argparse.Namespace) -> int:
    """Train; 0 at the end, 1 when stopped before it by ``--run-minutes``."""
    settings = _settings(args)
    if args.sheet_every < 1:
        raise SettingsError(f"--sheet-every is {args.sheet_every}: it must be 1 or more")
    from ..translation.join import without_label_maps
    from ..translation.trainer import train

    mr, ct = (
        without_label_maps([case.path for case in list_cases(folder, without=args.output)])
        for folder in (args.mr, args.ct)
    )

    until = time.monotonic() + args.run_minutes * 60
    _limit_threads(args.threads)
    with ProgressBar() as bar:
        done = train(
            mr,
            ct,
            args.output,
            settings,
            device=args.device,
            reporter=Reporter(bar, stop_token()),
            until=until,
            sheet_every=args.sheet_every,
        )
    print(f"model: {args.output / 'model'}\npictures: {args.output / 'sheets'}")
    if not done:
        warn("note: stopped before the end; the same command continues")
    return EXIT_OK if done else EXIT_FAILED


def _settings(args: argparse.Namespace) -> Settings:
    """Return the preset with what the command line replaces."""
    from ..translation.presets import PRESETS as KNOWN

    preset = KNOWN[args.preset]
    names = (
        "blocks",
        "filters",
        "critic_filters",
        "cycle",
        "identity",
        "edges",
        "pool",
        "momentum",
        "steps",
        "optimizer",
        "learning_rate",
        "epochs",
        "constant_epochs",
        "batch",
        "patch",
        "spacing",
        "ema",
        "seed",
        "loss",
    )
    given = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    if args.ct_window is not None:
        given["ct_window"] = tuple(args.ct_window)
    if args.mr_percentiles is not None:
        given["mr_percentiles"] = tuple(args.mr_percentiles)
    if "epochs" in given and "constant_epochs" not in given:
        given["constant_epochs"] = given["epochs"] * preset.constant_epochs // preset.epochs
    return replace(preset, **given)


def _limit_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise SettingsError(f"--threads is {threads}: it must be 1 or more")
    if threads:
        import torch

        torch.set_num_threads(threads)


def run_apply(args: argparse.Namespace) -> int:
    """Translate one scan or many; returns the exit code."""
    frame = parse_frame(args.frame)
    many = frame == "all" or is_batch(args.scan)
    cases = list_cases(args.scan, frame=frame, without=args.output if many else None)
    targets = [args.output / f"{c.name}.nii.gz" if many else args.output for c in cases]
    if not many:
        from ..volume.writing import check_target

        check_target(args.output)
    there = [t for t in targets if t.exists()]
    if there and not args.overwrite:
        raise OutputError(f"'{there[0]}' exists: give --overwrite or another name")
    _limit_threads(args.threads)
    from ..translation.apply import Translator
    from ..volume import read_volume, write_volume

    translator = Translator(args.model, args.direction, args.device, args.threads)
    if many:
        args.after_stop = "translated scans are kept; repeat the command with --overwrite for all of them"
        _make_folder(args.output)
    with ProgressBar() as bar:
        for case, target in zip(cases, targets, strict=True):
            volume = read_volume(case.path, series=case.series, frame=case.frame)
            write_volume(translator(volume, Reporter(bar, stop_token())), target)
            print(f"written: {target}")
    return EXIT_OK


def _make_folder(folder: Path) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def run_join(args: argparse.Namespace) -> int:
    """Translate labelled scans into a training set; returns the exit code."""
    _limit_threads(args.threads)
    images = [case.path for case in list_cases(args.images)]
    from ..translation.apply import Translator
    from ..translation.join import join_training_set, pair_labels

    pairs = pair_labels(images, args.labels)
    translator = Translator(args.model, args.direction, args.device, args.threads)
    with ProgressBar() as bar:
        names = join_training_set(
            translator, pairs, args.set, overwrite=args.overwrite, reporter=Reporter(bar, stop_token())
        )
    print(f"{len(names)} cases in {args.set / 'images'} and {args.set / 'labels'}")
    return EXIT_OK
