"""Parameters and FLOPs of all networks of the catalogue, as Markdown.

    python benchmarks/network_table.py [--patch 3d=128,128,128]

Counted by ``torch.utils.flop_counter`` for one forward pass of one patch in inference: convolutions and matrix
products, with a multiplication and its addition as two operations. The networks are built without memory, so the
results do not depend on the machine. docs/reference/networks.md contains the output; a test compares it with the code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from heartseg.networks.catalogue import NETWORKS, Cost, table, unet_plan

FEATURES = {"2d": (32, 64, 128, 256, 512, 512), "3d": (16, 32, 64, 128, 256)}
PATCHES = {"2d": (256, 256), "3d": (96, 96, 96)}
LABELS = 8


def rows(configuration: str, patch: tuple[int, ...]) -> list[Cost]:
    """Costs of the catalogue for one of the two plans: 1 image channel, 7 structures and background."""
    return table(unet_plan(FEATURES[configuration], len(patch)), patch, 1, LABELS)


def markdown(configuration: str, patch: tuple[int, ...]) -> str:
    """Format one table, with its plan as heading."""
    features = ", ".join(map(str, FEATURES[configuration]))
    lines = [
        f"**{configuration.upper()}**, patch {' x '.join(map(str, patch))}, features {features}:",
        "",
        "| network | parameters | GFLOPs | of plain |",
        "|---|---|---|---|",
    ]
    costs = rows(configuration, patch)
    plain = next(c for c in costs if c.key == "plain")
    for c in costs:
        share = c.flops / plain.flops
        lines.append(f"| `{c.key}` | {c.parameters / 1e6:.2f} M | {c.flops / 1e9:.1f} | {share:.2f} |")
    return "\n".join(lines)


def catalogue() -> str:
    """Format the description and the origin of the networks."""
    lines = ["| network | what it is | source | class |", "|---|---|---|---|"]
    for entry in NETWORKS.values():
        extra = "".join(f", `{k}={v!r}`" for k, v in entry.extra.items())
        lines.append(f"| `{entry.key}` | {entry.summary} | {entry.source} | `{entry.class_path}`{extra} |")
    return "\n".join(lines)


def read_patches(changes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Parse changes of the patches such as ``3d=128,128,128``.

    Raises:
        ValueError: a plan is unknown, or the number of axes is wrong.
    """
    patches = dict(PATCHES)
    for change in changes:
        name, _, sizes = change.partition("=")
        patch = tuple(int(n) for n in sizes.split(",") if n.isdigit())
        if name not in patches or len(patch) != len(patches[name]):
            raise ValueError(f"patch '{change}' is not valid: write it like 2d=256,256 or 3d=96,96,96")
        patches[name] = patch
    return patches


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", nargs="+", default=[], help="other patches, e.g. 3d=128,128,128")
    args = parser.parse_args()
    try:
        patches = read_patches(args.patch)
    except ValueError as error:
        print(f"network_table.py: {error}", file=sys.stderr)
        return 2
    print("\n\n".join([catalogue(), *(markdown(name, patch) for name, patch in patches.items())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
