"""Options of ``heartseg train-default``; has no slow imports."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from heartseg.synthesis.switches import FROZEN, GENERATORS, NEWEST

DESCRIPTION = """\
Train the default model (a finder and a fine network) on synthetic images, and write it as an nnU-Net v2 model folder
for HeartSeg and stock nnU-Net. Training uses no real scans. The same command resumes an interrupted run.

DATA is the folder with heart-shape-model/ and thorax/ (docs/how-to/train-the-default-model.md lists the sources of
these public data), or a file written by --pack, which does not require SimpleITK."""

EXAMPLES = """\
examples:
  heartseg train-default ../shared/data -o train                        CPU: 2 mm, 96 voxels; hours
  heartseg train-default ../shared/data --pack data.npz                 one file (1.2 MB) for another machine
  heartseg train-default data.npz -o train --device cuda --run-minutes 9    GPU: 1.5 mm, 128 voxels; repeat to resume
  heartseg train-default ../shared/data -o try --scenes 6 --finder-steps 20 --fine-steps 20    a short trial"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("data", metavar="DATA", type=Path, help="data folder or packed file")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, help="working folder; the model is DIR/model")
    parser.add_argument("--pack", metavar="FILE", type=Path, help="only write DATA to one .npz file")
    parser.add_argument(
        "--pack-scenes", metavar="FILE", type=Path, help="only write the scenes of DIR to one .zip, for another machine"
    )
    parser.add_argument("--unpack", metavar="FILE", type=Path, help="first extract scenes written by --pack-scenes")
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
        "--only", choices=["scenes", "finder", "fine"], help="only make the scenes, or only train this network"
    )
    parser.add_argument(
        "--finder-steps", metavar="N", type=int, help="steps of the finder (default: 3000 on a CPU, 6000 on a GPU)"
    )
    parser.add_argument(
        "--fine-steps", metavar="N", type=int, help="steps of the fine network (default: 8000 on a CPU, 16000 on a GPU)"
    )
    parser.add_argument(
        "--fine-minutes",
        metavar="M",
        type=float,
        default=0.0,
        help="train the fine network for M minutes instead of a number of steps",
    )
    parser.add_argument(
        "--begin-with",
        metavar="N",
        type=int,
        help="start training after N scenes while worker processes make the others; such a run is not reproducible "
        "(default: make all scenes first)",
    )
    parser.add_argument(
        "--fresh",
        metavar="N",
        type=int,
        default=2,
        help="on a GPU: number of new images per step; the rest of the batch is drawn from the last 256 (default: 2)",
    )
    parser.add_argument(
        "--crop",
        metavar="N",
        type=int,
        help="edge length in voxels of the training crops of the fine network, a multiple of 16; smaller crops allow "
        "more steps on a CPU (default: the window of the model)",
    )
    parser.add_argument(
        "--empty-views",
        metavar="F",
        type=float,
        default=1.0,
        help="factor, 0 to 1, on the fractions of the fine network's views without a heart (a third of those of "
        "trunks, and all of bodies without a heart), to learn more about hearts in few steps (default: 1)",
    )
    parser.add_argument(
        "--freeze", choices=["encoder"], nargs="+", default=(), help="do not train these parts of the networks"
    )
    parser.add_argument(
        "--learning-rate", metavar="R", type=float, help="peak learning rate (default: that of the network)"
    )
    parser.add_argument(
        "--generator",
        choices=GENERATORS,
        default=NEWEST,
        help=f"version of the generator: {FROZEN} as for the frozen scans, {NEWEST} with all artefacts "
        f"(default: {NEWEST})",
    )
    parser.add_argument("--batch", metavar="N", type=int, help="samples per step (default: 1 on a CPU, 4 on a GPU)")
    parser.add_argument(
        "--run-minutes",
        metavar="M",
        type=float,
        default=math.inf,
        help="save and stop after M minutes; the same command continues (default: no limit)",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, help="processes that make scenes and samples (default: cores - 1)"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="CPU threads of the network (default: 1)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of weights, scenes and samples")
    parser.add_argument("--start-from", metavar="MODEL", type=Path, help="model folder with the initial weights")
    parser.add_argument(
        "--without", metavar="PART", nargs="+", default=(), help="switch off parts of the generator (for comparisons)"
    )
