"""Options that ``heartseg train`` and ``heartseg ablate`` have in common; imports nothing heavy."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..anatomy import KEYS
from ..errors import SettingsError
from ..models.labels import parse_label_map
from ..training.nnunet.config import read_config
from ..training.nnunet.presets import AUGMENTATIONS, DIMENSIONS, LOSSES, NETWORK_NAMES, OPTIMIZERS, PRESETS, REGIONS
from ..volume.label_maps import LABEL_SETS

if TYPE_CHECKING:
    from ..training.nnunet.job import DataOptions, Machine
    from ..training.nnunet.presets import Preset

DATA_HELP = """\
DATA is a folder in one of these layouts, or a MONAI data list (.json):
  ct_train_1001_image.nii.gz beside ct_train_1001_label.nii.gz      MM-WHS (label values 500 600 420 550 205 820 850)
  images/ and labels/ (or imagesTr/, labelsTr/), same file names    label values 1-7, or as --labels says
  scan.nrrd beside scan.seg.nrrd                                    Slicer segmentations, by their segments' names
  results that were mended ('heartseg refine', or in Slicer)        the others are left out"""


def add_data(parser: argparse.ArgumentParser) -> None:
    """DATA, the output folder, and how scans and references are read."""
    parser.add_argument(
        "data", metavar="DATA", type=Path, help="folder of labelled scans, or a MONAI data list (.json)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder for everything that is made; the same command continues where it stopped",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--labels",
        metavar="MAP",
        help='label values, e.g. "1=RV,2=MYO,3=LV" (others become background), or mmwhs (default: by the values)',
    )
    data.add_argument(
        "--structures", metavar="LIST", help=f"structures to train, of {','.join(KEYS)} (default: all there)"
    )
    data.add_argument(
        "--modality",
        choices=("CT", "MR"),
        help="CT is normalised by its HU, MR to z-scores (default: z-scores, or as MM-WHS's names say)",
    )
    data.add_argument(
        "--orientation",
        choices=("keep", "lps"),
        default="keep",
        help="lps turns all scans to the nearest LPS axes: needed where they are stored differently (default: keep)",
    )
    data.add_argument("--folds", metavar="N", type=int, default=5, help="of the cross-validation (default: 5)")
    data.add_argument("--only-folds", metavar="LIST", help="train these folds alone, e.g. 0,1")
    data.add_argument(
        "--skip-bad", action="store_true", help="leave out cases that cannot be used, instead of stopping"
    )
    data.add_argument(
        "--unlabelled",
        metavar="DIR",
        type=Path,
        help="folder of scans without references, of the same kind: the network also learns from what it is sure of in "
        "them (FixMatch; 7/3 of the arithmetic of a step)",
    )
    data.add_argument("--copy", action="store_true", help="copy scans into DIR instead of linking them")


def add_preset(parser: argparse.ArgumentParser, default: str) -> None:
    """The preset, and what may be changed in it."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--preset", choices=tuple(PRESETS), default=default, help=f"settings to start from (default: {default})"
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="settings of a preset (YAML), as a run writes them to DIR/config.yaml; other options replace them",
    )
    group.add_argument(
        "--network",
        metavar="NAME",
        help=f"one of {', '.join(NETWORK_NAMES)}; or your own class, as package.module.Class, which takes nnU-Net's "
        "arguments",
    )
    group.add_argument("--dimension", choices=tuple(DIMENSIONS), help="2d: slice by slice")
    group.add_argument("--epochs", metavar="N", type=int, help="epochs of so many steps")
    group.add_argument("--iterations-per-epoch", metavar="N", type=int, help="steps an epoch (nnU-Net: 250)")
    group.add_argument("--validation-iterations", metavar="N", type=int, help="held-out batches an epoch (nnU-Net: 50)")
    group.add_argument("--batch", metavar="N", type=int, help="patches a step")
    group.add_argument("--patch", metavar="SIZE", help="voxels, e.g. 256x256 or 96x128x128 (z, y, x)")
    group.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        help="another optimizer than the preset's starts at its own rate (sgd 0.01, adam 0.001); adam learns more in "
        "the few steps of a first look",
    )
    group.add_argument("--learning-rate", metavar="RATE", type=float, help="at the start")
    group.add_argument(
        "--loss",
        metavar="NAME",
        help=f"of regions, and of edges where the network has them, one of {', '.join(LOSSES)} (nnunet: its own, or "
        "ce-dice with edges; ce-dice: B cross-entropy + (1 - B) soft Dice); or your own function, as package.module.f, "
        "called with logits, target and ignore",
    )
    group.add_argument("--beta", metavar="B", type=float, help="of ce-dice, which a preset with loss nnunet then gets")
    group.add_argument("--delta", metavar="D", type=float, help="smoothing of ce-dice's Dice, voxels; as --beta")
    group.add_argument("--alpha", metavar="A", type=float, help="weight of the edges' loss")
    group.add_argument("--erosion", metavar="M", type=int, help="voxels of the inner edge, 0-3")
    group.add_argument(
        "--edge-structures", metavar="LIST", help="structures whose inner edges are learnt, e.g. AO,PA (default: all)"
    )
    group.add_argument(
        "--regions", choices=REGIONS, help="what the regions' loss compares where edges are learnt (default: whole)"
    )
    group.add_argument(
        "--augmentation",
        metavar="NAME",
        help=f"one of {', '.join(AUGMENTATIONS)} (region-aware: rotation up to 30 degrees, shift up to 10 %%, scale "
        "0.8-1.2 where the target lies); or your own function, as package.module.f, from nnU-Net's transforms to those "
        "to use",
    )
    group.add_argument(
        "--unlabelled-weight", metavar="W", type=float, help="of the unlabelled scans' loss (default: 1)"
    )
    group.add_argument(
        "--pseudo-threshold",
        metavar="P",
        type=float,
        help="least probability at which a voxel of an unlabelled scan teaches (default: 0.95)",
    )
    group.add_argument(
        "--no-translated", action="store_true", help="leave out what heartseg translate join added to the data"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Where it runs."""
    group = parser.add_argument_group("machine")
    group.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto", help="(default: auto)")
    group.add_argument("--num-gpus", metavar="N", type=int, default=1, help="more than 1: nnU-Net's DDP (default: 1)")
    group.add_argument(
        "--loaders",
        metavar="N",
        type=int,
        help="processes that make batches; 0: none, and a stopped run repeats bit for bit (default: 0 on a CPU)",
    )
    group.add_argument(
        "--processes", metavar="N", type=int, default=1, help="for preprocessing and export (default: 1)"
    )
    group.add_argument("--threads", metavar="N", type=int, help="CPU threads")
    group.add_argument(
        "--yes", action="store_true", help="start without asking, also if training will take longer than a day"
    )


def confirmation(args: argparse.Namespace) -> Callable[[str], bool]:
    """Return what answers a question before a long training: ``--yes``, or the user at a terminal; else no."""

    def ask(question: str) -> bool:
        if args.yes:
            return True
        if not sys.stdin.isatty():
            return False
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return ask


def preset_of(args: argparse.Namespace) -> Preset:
    """Return the preset with the options' changes."""
    for name in ("unlabelled_weight", "pseudo_threshold"):
        if getattr(args, name) is not None and args.unlabelled is None:
            option = f"--{name.replace('_', '-')}"
            raise SettingsError(f"{option} has no effect without --unlabelled: give a folder of scans, or leave it out")
    start = PRESETS[args.preset] if args.config is None else read_config(args.config, PRESETS[args.preset])
    return start.with_changes(
        network=args.network,
        dimension=args.dimension,
        epochs=args.epochs,
        iterations=args.iterations_per_epoch,
        validation_iterations=args.validation_iterations,
        batch=args.batch,
        patch=_patch(args.patch),
        optimizer=args.optimizer,
        learning_rate=args.learning_rate,
        loss=args.loss,
        beta=args.beta,
        delta=args.delta,
        alpha=args.alpha,
        erosion=args.erosion,
        edge_structures=_keys(args.edge_structures),
        regions=args.regions,
        augmentation=args.augmentation,
        translated=False if args.no_translated else None,
        unlabelled_weight=args.unlabelled_weight,
        pseudo_threshold=args.pseudo_threshold,
    )


def data_of(args: argparse.Namespace) -> DataOptions:
    """Return the data options."""
    from ..training.nnunet.job import DataOptions

    labels = None
    if args.labels is not None:
        labels = LABEL_SETS.get(args.labels.strip().lower()) or parse_label_map(args.labels)
    return DataOptions(
        args.data,
        labels,
        _keys(args.structures),
        args.modality or "",
        args.orientation,
        args.skip_bad,
        args.copy,
        args.folds,
        unlabelled=args.unlabelled,
    )


def machine_of(args: argparse.Namespace) -> Machine:
    """Return the machine options."""
    from ..training.nnunet.job import Machine

    return Machine(args.device, args.num_gpus, args.loaders, args.processes, args.threads)


def whole_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """``"0,2"`` as numbers; ``SettingsError`` names the option."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise SettingsError(f"{option} {text!r} is not a list of whole numbers: write {option} 0,1") from None


def _keys(text: str | None) -> tuple[str, ...] | None:
    """Structures of a list such as ``"LV, MYO"``."""
    return None if text is None else tuple(k.strip().upper() for k in text.split(",") if k.strip())


def _patch(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise SettingsError(f"patch {text!r} is not a size: write 256x256, or 96x128x128 (z, y, x)") from None


def epochs_on_stderr() -> contextlib.AbstractContextManager[None]:
    """A line per epoch on standard error while the command runs."""
    return logged_on_stderr("%(asctime)s %(message)s", "heartseg.training.nnunet")


@contextlib.contextmanager
def logged_on_stderr(line: str, *names: str) -> Iterator[None]:
    """Messages of loggers as lines on standard error, each once, while the command runs."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(line, "%H:%M:%S"))
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False  # the root handler would print each line again
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
