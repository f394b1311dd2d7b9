"""``heartseg train``: a model of your own from labelled scans, through nnU-Net v2."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..anatomy import structure
from ..cli.exits import CONTINUES, EXIT_OK, EXIT_USAGE, stop_token, warn
from ..cli.progress import ProgressBar
from ..errors import HeartSegError
from ..progress import Reporter
from .training_options import (
    DATA_HELP,
    add_data,
    add_machine,
    add_preset,
    confirmation,
    data_of,
    epochs_on_stderr,
    machine_of,
    preset_of,
    whole_numbers,
)

if TYPE_CHECKING:
    from ..training.nnunet.checking import CheckedData
    from ..training.nnunet.job import DataOptions

_DESCRIPTION = f"""\
Train a model on labelled scans with nnU-Net v2: convert, plan, preprocess, train every fold, predict the held-out
cases, write a model folder. Needs pip install "heartseg[train]".

{DATA_HELP}

Presets:
  csfbu                  CSFBU-Net, 2D: SGD 0.01 falling linearly, 200 epochs, batch 14
  integrated-attention   2D: Adam 1e-4, weight decay 1e-5, batch 16, 500 epochs, 256 x 256
  nnunet                 nnU-Net's own: 3D, SGD 0.01 (poly), 1000 epochs"""

_EPILOG = """\
examples:
  heartseg train mmwhs/ct_train -o ct --dry-run                 list the cases and what is wrong with them
  heartseg train mmwhs/ct_train -o ct --orientation lps         CSFBU-Net in 2D, five folds
  heartseg train scans/ -o own --preset nnunet --modality CT --only-folds 0
  heartseg train scans/ -o tuned --preset nnunet --start-from HeartSeg-Default --epochs 100 --orientation lps
  heartseg train out/ -o learnt --preset nnunet --start-from HeartSeg-Default --epochs 50 --orientation lps
                                                                learn from the results in out/ that were mended
  heartseg models install ct/model --name CT-CSFBU              then: heartseg segment scan.nii.gz --model CT-CSFBU

written into DIR:
  model/                 the model folder with its card (heartseg.json: data, settings, cross-validation's Dice)
  progress_fold_0.png    losses, Dice and learning rate by epoch; train.log: everything nnU-Net says
  raw/ preprocessed/ results/    nnU-Net's folders; they may go when the model is installed

After a stop, the same command continues from the last epoch. Settings that change the result cannot be changed
in a folder that holds a training.

exit codes: 0 done, 2 bad data or setting (one line says which), 130 stopped"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train",
        help="train a model on labelled scans (nnU-Net v2)",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data(parser)
    add_preset(parser, "csfbu")
    training = parser.add_argument_group("model")
    training.add_argument("--name", default="", help="of the model (default: network, dimension and DIR)")
    training.add_argument("--seed", metavar="N", type=int, default=0, help="of weights and samples (default: 0)")
    training.add_argument(
        "--start-from", metavar="MODEL", help="fine-tune: start from this model's weights, spacing and patch"
    )
    training.add_argument(
        "--test",
        metavar="DATA",
        type=Path,
        help="labelled scans that the training does not see, in one of the layouts above: scored once, at the end, in "
        "DIR/test",
    )
    add_machine(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="list the cases and what is wrong with them; write nothing"
    )
    parser.set_defaults(run=run, after_stop=CONTINUES)


def run(args: argparse.Namespace) -> int:
    """Train, or list what would be trained on; returns the exit code."""
    preset, only = preset_of(args), whole_numbers(args.only_folds, "--only-folds")
    from ..training.nnunet.job import Training
    from ..training.nnunet.run import check_data, train

    training = Training(
        data_of(args), args.output, preset, machine_of(args), args.name, only, args.seed, args.start_from, args.test
    ).check()
    with ProgressBar() as bar:
        reporter = Reporter(bar, stop_token())
        if args.dry_run:
            data = check_data(training.data, reporter)
        else:
            with epochs_on_stderr():
                model = train(training, reporter, confirmation(args))
    if args.dry_run:
        return _list(data, training.data)
    print(f"model: {model}\ninstall it with: heartseg models install {model}")
    return EXIT_OK


def _list(data: CheckedData, options: DataOptions) -> int:
    """Print the cases with their volumes, and what cannot be used; 2 if a training would be refused."""
    from ..training.nnunet.checking import orientation_notice, refuse_bad_data
    from ..training.nnunet.datasets import find_unlabelled

    width = max((len(c.case.name) for c in data.cases), default=4)
    print(f"{data.listing.layout}: {len(data.cases)} case(s), {len(data.listing.unlabelled)} scan(s) without reference")
    if options.unlabelled is not None:
        print(
            f"{options.unlabelled}: {len(find_unlabelled(options.unlabelled))} scan(s) to learn from without reference"
        )
    for checked in data.cases:
        grid = checked.geometry
        size, spacing = "x".join(map(str, grid.size)), "x".join(f"{s:.3g}" for s in grid.spacing)
        volumes = ", ".join(f"{k} {v:.0f}" for k, v in checked.volumes_ml.items())
        print(f"{checked.case.name:<{width}}  {size} of {spacing} mm, {grid.orientation}; mL: {volumes}")
        for notice in checked.notices:
            warn(f"note: {checked.case.name}: {notice}")
    for key in data.structures:
        lacking = [c.case.name for c in data.cases if key not in c.volumes_ml]
        if lacking:
            warn(f"note: {structure(key).name} is in no reference of {', '.join(lacking)}: background there")
    if options.orientation == "keep" and (notice := orientation_notice(data)):
        warn(f"note: {notice}")
    for problem in data.problems.values():
        warn(f"cannot be used: {problem}")
    try:
        refuse_bad_data(data, options.folds, skip_bad=False)
    except HeartSegError as error:
        if not data.problems:
            warn(f"heartseg: {error}")
        return EXIT_USAGE
    return EXIT_OK
