#!/usr/bin/env python
"""How much the result depends on where the window lies: 15 windows, at the heart's centre and 12 mm from it.

    python benchmarks/shifted_windows.py ../shared/data [--shift MM] [--model DIR] [--json FILE]

The windows lie at the centre of the box of the reference, 12 mm from it along each axis in both directions, and in the
eight directions between the axes. The finder is off (``heart_center``); clean-up is that of the program. Scans: the
development CT as an 8-bit picture and in HU, scored where both annotations agree.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from _common import facts, make_parser, make_segmenter, markdown, structure_dice, summarise, write_json
from windows import scans

from heartseg import Segmenter


def directions() -> list[np.ndarray]:
    """Unit vectors ``(x, y, z)``, and none."""
    corners = [np.array(c) / 3**0.5 for c in itertools.product((-1, 1), repeat=3)]
    return [np.zeros(3), *np.eye(3), *-np.eye(3), *corners]


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--shift", type=float, default=12.0, help="distance from the centre, mm (default: 12)")
    args = parser.parse_args(argv)
    segmenter = make_segmenter(args)
    keys, table, found = [s.key for s in segmenter.structures], [], {}
    for _group, name, volume, truth, mask in scans(args.data, []):
        inside = np.argwhere(truth > 0)
        middle = volume.geometry.index_to_world((inside.min(axis=0) + inside.max(axis=0)) / 2)
        cases = []
        for direction in directions():
            x, y, z = (float(v) for v in middle + args.shift * direction)
            one = Segmenter(segmenter.model, replace(segmenter.settings, heart_center=(x, y, z)))
            cases.append(structure_dice(one.segment(volume).labels, truth, keep=mask))
            print(name, *(f"{v:.1f}" for v in (x, y, z)), f"{np.mean(list(cases[-1].values())):.3f}", flush=True)
        found[name] = cases
        rows = [*((k, summarise([c[k] for c in cases])) for k in keys)]
        rows.append(("mean", summarise([float(np.mean(list(c.values()))) for c in cases])))
        for key, row in rows:
            values = [c[key] if key != "mean" else float(np.mean(list(c.values()))) for c in cases]
            table.append([name, key, row["n"], row["mean"], row["sd"], min(values), max(values)])
    print(markdown(["scan", "structure", "n", "mean", "SD", "least", "most"], table))
    write_json(args.json, {"benchmark": "shifted windows", "shift_mm": args.shift, **facts(segmenter), "scans": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
