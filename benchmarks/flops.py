#!/usr/bin/env python
"""Parameters, floating-point operations and size of each network of a model folder, for a patch.

    python benchmarks/flops.py [--model NAME|DIR] [--patch 64,96] [--json]

Counted by ``torch.utils.flop_counter``: convolutions and matrix products, with a multiplication and its addition as two
operations; normalization and activation, under 2 % of the operations of a U-Net, are not counted. The networks are
built without memory and not executed, so the results do not depend on the machine. MB (10^6 bytes) are those of the
weights in float32 and of the checkpoint file. By default, each network is counted for its own patch; ``--patch``
applies to the fine network only.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from heartseg import HeartSegError
from heartseg.models.folder import ModelFolder
from heartseg.models.loading import build_network
from heartseg.models.store import find_model


@dataclass(frozen=True)
class Cost:
    """Cost of one network for one patch ``(z, y, x)``; ``flops`` counts multiplications and additions."""

    network: str
    patch: tuple[int, ...]
    parameters: int
    flops: int
    weights_mb: float
    file_mb: float


def count_flops(network: torch.nn.Module, channels: int, patch: tuple[int, ...]) -> int:
    """Count the operations of one forward pass of a network on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, channels, *patch, device="meta"))
    return counter.get_total_flops()


def cost_of(folder: ModelFolder, name: str, patch: tuple[int, ...]) -> Cost:
    """Count the network of one folder, for a single fold."""
    network = build_network(folder, device="meta").eval()
    parameters = sum(p.numel() for p in network.parameters())
    return Cost(
        name,
        patch,
        parameters,
        count_flops(network, folder.num_input_channels, patch),
        round(4 * parameters / 1e6, 2),
        round(folder.checkpoints[0].stat().st_size / 1e6, 2),
    )


def costs(model: str | None, edges: list[int]) -> list[Cost]:
    """Count the fine network for its own patch or for cubes with these edges, and the finder, if there is one."""
    folder = find_model(model)
    patches: list[tuple[int, ...]] = [(n, n, n) for n in edges] or [folder.patch_size]
    found = [cost_of(folder, "fine", patch) for patch in patches]
    finder = folder.open_finder()
    return [*found, cost_of(finder, "finder", tuple(finder.patch_size))] if finder else found


def table(rows: list[Cost]) -> str:
    """Format the table as Markdown."""
    lines = ["| network | patch | parameters | GFLOPs | weights MB | file MB |", "|---|---|---|---|---|---|"]
    for r in rows:
        patch = " x ".join(map(str, r.patch))
        lines.append(
            f"| {r.network} | {patch} | {r.parameters / 1e6:.2f} M | {r.flops / 1e9:.1f} | "
            f"{r.weights_mb:.1f} | {r.file_mb:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model name or folder (default: the default model)")
    parser.add_argument("--patch", default="", help="edge lengths of cubes for the fine network, e.g. 64,96")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    try:
        rows = costs(args.model, [int(n) for n in args.patch.split(",") if n])
    except (HeartSegError, ValueError, RuntimeError) as error:
        print(f"flops.py: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    print(json.dumps([asdict(r) for r in rows], indent=2) if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
