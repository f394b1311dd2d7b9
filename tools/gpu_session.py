#!/usr/bin/env python3
"""Train the fine network on a borrowed GPU in one session of under 12 minutes, and bring the weights home.

    python tools/gpu_session.py pack ../shared/data        # here, beforehand: scenes and data into .train/cargo
    python3 tools/gpu_session.py start                     # there: trains in a session of its own, shows the log
    python3 tools/gpu_session.py poll                      # there, until it says "done": shows the log, brings results

The other machine needs this checkout, ``.train/cargo``, torch, numpy and scipy. ``start`` and ``poll`` return after
``--limit`` seconds while the training goes on, and each time put what there is into ``$OUT`` (or ``--out``): at most
eight files of at most 16 MB, namely the checkpoint as it would ship, its card, the log, and the whole state to go on
from. Training begins at once with the packed scenes, while the other cores make more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CARGO = ROOT / ".train" / "cargo"
WORK = Path("/tmp/heartseg-gpu-session")
LIMIT_MB = 64 * 1.048576
"""What may travel, with the checkout."""
MODEL = Path("Models") / "HeartSeg-Default"


def pack(args: argparse.Namespace) -> int:
    """Make the scenes that are missing, pack them and the data, and write the plan of the training."""
    CARGO.mkdir(parents=True, exist_ok=True)
    count = ["--seed", str(args.seed), "--scenes", str(args.packed), "--heartless", str(args.packed // 10 + 1)]
    scenes = ["-o", str(args.run), *count, "--generator", args.generator]
    train = [sys.executable, "-m", "heartseg.training.default"]
    for options in (
        [args.data, "--pack", CARGO / "data.npz"],
        [args.data, *scenes, "--only", "scenes", "--workers", str(args.workers)],
        [args.data, "-o", str(args.run), "--pack-scenes", CARGO / "scenes.zip"],
    ):
        code = subprocess.run([*train, *(str(o) for o in options)], env=environment(ROOT)).returncode
        if code:
            return code
    more = ["--scenes", str(args.scenes), "--heartless", str(max(1, args.scenes // 10))]
    same = ["--device", args.device, "--seed", str(args.seed), "--generator", args.generator]
    plan = {
        "options": [*same, *more, "--begin-with", str(args.packed), *args.options],
        "fine_minutes": args.fine_minutes,
        "finder_steps": args.finder_steps,
        "size": args.size,
        "seed": args.seed,
    }
    (CARGO / "plan.json").write_text(json.dumps(plan, indent=1))
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tree = sum((ROOT / name).stat().st_size for name in names.split("\0") if name and (ROOT / name).is_file())
    cargo = sum(file.stat().st_size for file in CARGO.iterdir())
    print(f"checkout {tree / 1e6:.1f} MB, cargo {cargo / 1e6:.1f} MB, of {LIMIT_MB:.1f} MB that may travel")
    return 0 if tree + cargo < LIMIT_MB * 1e6 else 1


def start(args: argparse.Namespace) -> int:
    """Start the work in a session of its own, from a copy of the code, and poll."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    shutil.copytree(ROOT / "HeartSeg" / "Logic", WORK / "code" / "HeartSeg" / "Logic")
    shutil.copytree(ROOT / MODEL, WORK / "code" / MODEL)
    shutil.copytree(CARGO, WORK / "cargo")
    shutil.copy(__file__, WORK / "session.py")
    with (WORK / "log.txt").open("wb") as log:
        command = [sys.executable, "-u", str(WORK / "session.py"), "work"]
        subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=WORK)
    return poll(args)


def work(_: argparse.Namespace) -> int:
    """What runs there in the background: train, validate, export. Its exit code goes into ``done``."""
    plan = json.loads((WORK / "cargo" / "plan.json").read_text())
    begun, code = time.monotonic(), 0
    common = [str(WORK / "cargo" / "data.npz"), "-o", str(WORK / "run"), "--size", plan["size"]]
    common += [*plan["options"], "--unpack", str(WORK / "cargo" / "scenes.zip")]
    common += ["--start-from", str(WORK / "code" / MODEL)]
    stages = [["--only", "fine", "--fine-minutes", str(plan["fine_minutes"])]]
    if plan["finder_steps"]:
        stages.insert(0, ["--only", "finder", "--finder-steps", str(plan["finder_steps"])])
    for options in stages:
        module = [sys.executable, "-u", "-m", "heartseg.training.default"]
        code = subprocess.run([*module, *common, *options], env=environment(WORK / "code")).returncode
        if code not in (0, 1):  # 1: trained, but one network alone is no model yet
            break
    code = code if code > 1 else export(plan)
    print(f"done after {time.monotonic() - begun:.0f} s, exit code {code}", flush=True)
    (WORK / "done").write_text(str(code))
    return code


def export(plan: dict[str, object]) -> int:
    """Write the newest averaged weights as a model folder; the finder is the old one unless it was trained too."""
    command = [sys.executable, "-m", "heartseg.training.export", "--run", WORK / "run", "--out", WORK / "model"]
    command += ["--scenes", WORK / "run" / "scenes", "--size", plan["size"], "--seed", plan["seed"]]
    if not plan["finder_steps"]:
        command += ["--finder", WORK / "code" / MODEL]
    return subprocess.run([str(c) for c in command], env=environment(WORK / "code")).returncode


def poll(args: argparse.Namespace) -> int:
    """Show the log until the work is done or the limit is near, then bring home what there is; 0 when done."""
    until, shown, done = time.monotonic() + args.limit, 0, WORK / "done"
    while True:
        finished = done.exists()
        text = (WORK / "log.txt").read_text(errors="replace")
        print(text[shown:], end="", flush=True)
        shown = len(text)
        if finished or time.monotonic() > until:
            break
        time.sleep(1)
    bring(args.out)
    print("done" if finished else "still at work: poll again at once", flush=True)
    return int(done.read_text()) if finished else 1


def bring(out: Path) -> None:
    """Copy log, checkpoint, card and newest state into a folder; before the end, of the newest snapshot."""
    out.mkdir(parents=True, exist_ok=True)
    if not (WORK / "done").exists() and (WORK / "run" / "fine" / "snapshot.pt").is_file():
        export(json.loads((WORK / "cargo" / "plan.json").read_text()))
    model = WORK / "model"
    states = sorted((WORK / "run" / "fine").glob("state-???????"))
    files = [WORK / "log.txt", model / "heartseg.json", model / "fold_0" / "checkpoint_final.pth"]
    files += sorted(states[-1].iterdir()) if states else []
    for file in files:
        if file.is_file():
            shutil.copy(file, out / file.name)
            print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")


def environment(code: Path) -> dict[str, str]:
    """The process's variables with the package of a checkout on the path."""
    return os.environ | {"PYTHONPATH": str(code / "HeartSeg" / "Logic")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    here = commands.add_parser("pack", help="here: make and pack scenes")
    here.add_argument("data", help="data folder")
    here.add_argument("--run", type=Path, default=ROOT / ".train" / "gpu", help="working folder of the scenes")
    here.add_argument("--packed", type=int, default=45, help="scenes to pack, about 0.6 MB each (default: 45)")
    here.add_argument("--scenes", type=int, default=1100, help="scenes in all; the rest is made there (default: 1100)")
    here.add_argument("--fine-minutes", type=float, default=10.5, help="of training (default: 10.5)")
    here.add_argument("--finder-steps", type=int, default=0, help="train the finder first (default: not)")
    here.add_argument("--seed", type=int, default=6)
    here.add_argument("--generator", default="0.6")
    here.add_argument("--size", default="full")
    here.add_argument("--device", default="cuda")
    here.add_argument("--workers", type=int, default=1, help="processes that make scenes here (default: 1)")
    here.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="more options of train-default, last")
    here.set_defaults(run_it=pack)
    for name, function in (("start", start), ("poll", poll), ("work", work)):
        there = commands.add_parser(name)
        there.add_argument("--limit", type=float, default=540.0, help="seconds until it returns (default: 540)")
        there.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", WORK / "out")))
        there.set_defaults(run_it=function)
    args = parser.parse_args()
    return args.run_it(args)


if __name__ == "__main__":
    sys.exit(main())
