"""``heartseg ablate``: several ways to train, on the same folds, in one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..cli.exits import CONTINUES, EXIT_OK, stop_token
from ..cli.progress import ProgressBar
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

_DESCRIPTION = f"""\
Train several configurations on the same folds and seeds, compare their predictions of the held-out cases with the
references, and print the documents' table (Dice in percent, mean and SD over the cases) with the reported figures
beside. Needs pip install "heartseg[train,evaluate]".

{DATA_HELP}

Configurations: baseline (plain U-Net), edge, fusion, edge+fusion (CSFBU-Net), edge-head, edge-m2, edge-m3, translated
(plain U-Net, with the cases that heartseg translate join added), all (CSFBU-Net with them), unlabelled (plain U-Net,
with the scans of --unlabelled), and the networks' names. Translated cases and unlabelled scans are trained on where a
configuration says so; translated ones are never held out. --table FILE adds others:
{{"wide": {{"network": "csfbu", "alpha": 2}}}}, any setting of a preset."""

_EPILOG = """\
examples:
  heartseg ablate mmwhs/ct_train -o ablation --orientation lps --structures LV,RV,LA,RA,MYO,AO
  heartseg ablate scans/ -o m --configurations edge,edge-m2,edge-m3 --only-folds 0 --seeds 0,1
  heartseg ablate scans/ -o quick --epochs 10 --iterations-per-epoch 50

written into DIR: ablation.md, ablation.csv, ablation.json and a model folder in models/ after each training;
ablation.png (box plots) and comparison.png (one slice) at the end. The same command continues where it stopped."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "ablate",
        help="train several configurations on the same folds and compare them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data(parser)
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--configurations",
        metavar="LIST",
        default="baseline,edge,fusion,edge+fusion",
        help="(default: baseline,edge,fusion,edge+fusion)",
    )
    group.add_argument(
        "--table",
        metavar="FILE",
        type=Path,
        help="configurations of your own (JSON); all of them, unless --configurations is given too",
    )
    group.add_argument("--seeds", metavar="LIST", default="0", help="seeds of weights and samples (default: 0)")
    add_preset(parser, "csfbu")
    add_machine(parser)
    parser.set_defaults(run=run, after_stop=CONTINUES, default_configurations=parser.get_default("configurations"))


def run(args: argparse.Namespace) -> int:
    """Train, compare and print; returns the exit code."""
    preset = preset_of(args)
    only, seeds = whole_numbers(args.only_folds, "--only-folds"), whole_numbers(args.seeds, "--seeds")
    from ..evaluation.surfaces import check_monai
    from ..training.nnunet.ablate import ablate, named_configurations, read_table
    from ..training.nnunet.ablation_table import as_markdown
    from ..training.nnunet.job import Training

    check_monai()
    table = read_table(args.table) if args.table else {}
    names = [n.strip() for n in args.configurations.split(",") if n.strip()]
    if table and args.configurations == args.default_configurations:
        names = list(table)
    training = Training(data_of(args), args.output, preset, machine_of(args), only_folds=only).check()
    with ProgressBar() as bar, epochs_on_stderr():
        chosen, reporter = named_configurations(names, table), Reporter(bar, stop_token())
        trials = ablate(training, chosen, seeds or (0,), reporter, confirmation(args))
    print(as_markdown(trials), end="")
    print(f"written to {args.output}: ablation.md, ablation.csv, ablation.json, ablation.png, comparison.png, models/")
    return EXIT_OK
