"""All benchmark results for the release of a model; an interrupted run can be continued.

    python benchmarks/all.py ../shared/data WORK [--model DIR] [--heads DIR]

Scans are created once in ``WORK``. Each benchmark writes its JSON file to ``WORK/<name of the model>-<version>`` and is
skipped if the file exists. At the end, ``tested_on.json`` in this folder contains the list for the model card
(``python -m heartseg.training.export --tested-on``), and a table is printed.

The frozen scenes, Sunnybrook, bivme and the heart-free scans are for the release of a model and not used to make
choices. ``--choose`` runs only the validation scenes and the development CT, which may be used for choices.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartseg.models.store import find_model

HERE = Path(__file__).resolve().parent
CHEST = "scans/ct_chest_arterial_windowed_uint8"
DICE = "Dice inside the mask of sure labels, mean and SD over scans"
Entries = list[dict[str, Any]]


@dataclass(frozen=True)
class Benchmark:
    """A program: its arguments (``{data}``, ``{work}``, ``{heads}`` are replaced) and the card entries of its JSON."""

    name: str
    command: tuple[str, ...]
    entries: Callable[[dict[str, Any]], Entries]
    choosing: bool = False


def dice_figures(row: dict[str, Any]) -> dict[str, Any]:
    """Structure -> mean and SD of the Dice in a group of ``frozen_scenes.py``."""
    return {k: v["dice"] for k, v in row.items() if isinstance(v, dict) and "dice" in v}


def scenes(what: str) -> Callable[[dict[str, Any]], Entries]:
    """Card entries of the scenes of ``frozen_scenes.py``; ``what`` describes their subjects."""

    def entries(record: dict[str, Any]) -> Entries:
        rows = [
            {
                "data": f"{label} of {what}, whole program",
                "n": record[group]["n"],
                "metric": DICE,
                "figures": dice_figures(record[group]),
            }
            for group, label in (("cta", "synthetic CTA"), ("mr", "synthetic MR"))
        ]
        if record["trunks"]:
            rows.append(
                {
                    "data": f"synthetic trunk CT of {what}",
                    "n": record["trunks"],
                    "metric": "hearts reported with chambers and myocardium's centre of mass within 25 mm, and those "
                    "with the centre of the box about all structures within 25 mm",
                    "figures": {"found": record["found_trunks"], "found_by_box": record["trunks_by_box"]},
                }
            )
        return rows

    return entries


def rounded(figures: Any) -> Any:
    """Figures of a card with three decimals."""
    if isinstance(figures, dict):
        return {k: rounded(v) for k, v in figures.items()}
    return round(figures, 3) if isinstance(figures, float) else figures


def development(record: dict[str, Any]) -> Entries:
    return [
        {
            "data": "one real contrast chest CT (ct_chest_arterial_windowed_uint8), the development case on which "
            "choices were made; the whole program",
            "n": 1,
            "metric": "Dice inside the confidence mask",
            "figures": record["dice"] | {"mean": record["mean"]},
        }
    ]


def sunnybrook(record: dict[str, Any]) -> Entries:
    where = {
        "LV, searched": "stacks in one short-axis orientation searched on SC-HF-I-01 and -02 (not counted)",
        "LV, standard view": "stacks in a standard short-axis view that was fixed before any score",
    }
    return [
        {
            "data": f"Sunnybrook cine MR, LV cavity, {where[view]}, finder off",
            "n": row["n"],
            "metric": "Dice, mean and SD over patients",
            "figures": {"LV": {"mean": row["mean"], "sd": row["sd"]}},
        }
        for view, row in record["summary"].items()
    ]


def bivme(record: dict[str, Any]) -> Entries:
    return [
        {
            "data": "bivme cine MR frame (6 slices, 17.7 mm apart), whole program, against its software fit",
            "n": 1,
            "metric": "Dice",
            "figures": {k: row["mean"] for k, row in record["summary"].items() if k != "mean"},
        }
    ]


def prototype(record: dict[str, Any]) -> Entries:
    row = record["summary"]["whole program"]
    return [
        {
            "data": "synthetic CTA of the prototype's generator, subjects 17-19, whole program",
            "n": row["mean"]["n"],
            "metric": DICE,
            "figures": {k: {"mean": v["mean"], "sd": v["sd"]} for k, v in row.items()},
        }
    ]


def heart_free(record: dict[str, Any]) -> Entries:
    rows = record["summary"]
    return [
        {
            "data": "scans without a heart: " + ", ".join(f"{k} ({r['n']})" for k, r in rows.items() if k != "all"),
            "n": rows["all"]["n"],
            "metric": "false hearts",
            "figures": {k: r["false_hearts"] for k, r in rows.items() if r["false_hearts"] or k == "all"},
        }
    ]


BENCHMARKS = (
    Benchmark(
        "accuracy",
        (
            "accuracy.py",
            f"{{data}}/{CHEST}.nii.gz",
            f"{{data}}/{CHEST}_reference.nii.gz",
            "--mask",
            f"{{data}}/{CHEST}_confidence.nii.gz",
        ),
        development,
        True,
    ),
    Benchmark(
        "validation",
        ("frozen_scenes.py", "{data}", "{work}/validation", "score"),
        scenes("validation subjects 15 and 16"),
        True,
    ),
    Benchmark("frozen", ("frozen_scenes.py", "{data}", "{work}/frozen", "score"), scenes("frozen subjects 17-19")),
    Benchmark("prototype", ("prototype_scenes.py", "{data}", "--work", "{work}/prototype"), prototype),
    Benchmark("sunnybrook", ("sunnybrook.py", "{data}"), sunnybrook),
    Benchmark("bivme", ("bivme.py", "{data}"), bivme),
    Benchmark("heart_free", ("heart_free.py", "{data}", "--heads", "{heads}"), heart_free),
)


def make_scans(args: argparse.Namespace) -> None:
    """Create the missing synthetic scans."""
    for name, action in (("validation", "make-validation"), ("frozen", "make")):
        if not any((args.work / name).glob("*_labels.nii.gz")):
            run(["frozen_scenes.py", str(args.data), str(args.work / name), action], check=False)


def run(command: list[str], check: bool = True) -> None:
    """Run another benchmark program."""
    subprocess.run([sys.executable, str(HERE / command[0]), *command[1:]], check=check)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/all.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data)")
    parser.add_argument("work", type=Path, help="folder for scans and results")
    parser.add_argument("--model", help="model folder or name (default: the default model)")
    parser.add_argument("--heads", type=Path, default=Path("/"), help="see benchmarks/heart_free.py")
    parser.add_argument("--choose", action="store_true", help="run only benchmarks that may be used for choices")
    args = parser.parse_args(argv)
    model = find_model(args.model)
    out = args.work / f"{model.name}-{model.card.version if model.card else 'no-card'}"
    out.mkdir(parents=True, exist_ok=True)
    make_scans(args)
    tested: Entries = []
    missing = []
    for benchmark in BENCHMARKS:
        if args.choose and not benchmark.choosing:
            continue
        path = out / f"{benchmark.name}.json"
        places = {"data": args.data, "work": args.work, "heads": args.heads}
        command = [part.format(**places) for part in benchmark.command]
        if not path.is_file():
            run([*command, "--model", str(model.path), "--json", str(path)], check=False)
        if not path.is_file():
            missing.append(benchmark.name)
            continue
        shown = " ".join(part.replace(str(args.data), "../shared/data") for part in command)
        entries = benchmark.entries(json.loads(path.read_text(encoding="utf-8")))
        tested += [{**e, "figures": rounded(e["figures"]), "command": f"benchmarks/{shown}"} for e in entries]
    (out / "tested_on.json").write_text(json.dumps(tested, indent=1) + "\n", encoding="utf-8")
    for entry in tested:
        print(f"{entry['data']} (n {entry['n']}): {entry['figures']}")
    if missing:
        print(f"no figures of {', '.join(missing)}: see their output above", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
