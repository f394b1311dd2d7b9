"""Options of ``heartseg train-default``; imports nothing heavy."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from heartseg.synthesis.switches import FROZEN, GENERATORS, NEWEST

DESCRIPTION = """\
Train the default model (a finder and a fine network) on synthetic images, and write it as an nnU-Net v2 model folder
that HeartSeg and stock nnU-Net load. No real scan is used. Stopped at any time, the same command goes on.

DATA is the folder with heart-shape-model/ and thorax/ (docs/how-to/train-the-default-model.md says where the public
data come from), or a file that --pack wrote, which also works where SimpleITK is not installed."""

EXAMPLES = """\
examples:
  heartseg train-default ../shared/data -o train                        CPU: 2 mm, 96 voxels; hours
  heartseg train-default ../shared/data --pack data.npz                 one file (1.2 MB) for another machine
  heartseg train-default data.npz -o train --device cuda --run-minutes 9    GPU: 1.5 mm, 128 voxels; run it again
  heartseg train-default ../shared/data -o try --scenes 6 --finder-steps 20 --fine-steps 20    a short trial"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("data", metavar="DATA", type=Path, help="data folder or packed file")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, help="working folder; the model is DIR/model")
    parser.add_argument("--pack", metavar="FILE", type=Path, help="only write DATA as one .npz file")
    parser.add_argument(
        "--pack-scenes", metavar="FILE", type=Path, help="only write the scenes of DIR as one .zip, for another machine"
    )
    parser.add_argument("--unpack", metavar="FILE", type=Path, help="first take the scenes that --pack-scenes wrote")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--size",
        choices=["auto", "small", "full"],
        default="auto",
        help="fine network: small 2 mm and 96 voxels, full 1.5 mm and 128 (default: full on a GPU)",
    )
    parser.add_argument("--scenes", metavar="N", type=int, default=400, help="training scenes (default: 400)")
    parser.add_argument(
        "--heartless", metavar="N", type=int, default=60, help="bodies without a heart, for the finder (default: 60)"
    )
    parser.add_argument(
        "--only", choices=["scenes", "finder", "fine"], help="make the scenes, or train this network, then stop"
    )
    parser.add_argument("--finder-steps", metavar="N", type=int, help="default: 3000 on a CPU, 6000 on a GPU")
    parser.add_argument("--fine-steps", metavar="N", type=int, help="default: 8000 on a CPU, 16000 on a GPU")
    parser.add_argument(
        "--fine-minutes",
        metavar="M",
        type=float,
        default=0.0,
        help="train the fine network for M minutes of training, instead of a number of steps",
    )
    parser.add_argument(
        "--begin-with",
        metavar="N",
        type=int,
        help="train as soon as N scenes are there, while worker processes make the others; such a run cannot be "
        "repeated exactly (default: make all scenes first)",
    )
    parser.add_argument(
        "--fresh",
        metavar="N",
        type=int,
        default=2,
        help="on a GPU: new images a step; the others of a batch are drawn from the last 256 (default: 2)",
    )
    parser.add_argument(
        "--crop",
        metavar="N",
        type=int,
        help="voxels an axis of the fine network's training crops, a multiple of 16: smaller ones than the model's own "
        "window let a CPU take more steps (default: the window)",
    )
    parser.add_argument(
        "--freeze", choices=["encoder"], nargs="+", default=(), help="keep the weights of these parts of the networks"
    )
    parser.add_argument("--learning-rate", metavar="R", type=float, help="peak learning rate (default: the network's)")
    parser.add_argument(
        "--generator",
        choices=GENERATORS,
        default=NEWEST,
        help=f"recipe of the images: {FROZEN} as the frozen scans, {NEWEST} with all artefacts (default: {NEWEST})",
    )
    parser.add_argument("--batch", metavar="N", type=int, help="samples a step (default: 1 on a CPU, 4 on a GPU)")
    parser.add_argument(
        "--run-minutes",
        metavar="M",
        type=float,
        default=math.inf,
        help="stop after M minutes with everything saved; run again to go on (default: no limit)",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, help="processes that make scenes and samples (default: cores - 1)"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="CPU threads of the network (default: 1)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of weights, scenes and samples")
    parser.add_argument("--start-from", metavar="MODEL", type=Path, help="model folder whose weights to start from")
    parser.add_argument(
        "--without", metavar="PART", nargs="+", default=(), help="switch parts of the generator off (for comparisons)"
    )
