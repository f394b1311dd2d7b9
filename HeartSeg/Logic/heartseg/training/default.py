"""Train the default model from the shape model and the trunk: scenes, finder, fine network, model folder.

Run ``heartseg train-default DATA -o DIR`` or, with only torch, numpy and scipy installed,
``python -m heartseg.training.default DATA.npz -o DIR``. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.pool import AsyncResult, Pool
from pathlib import Path

import torch

from heartseg.devices import choose_device
from heartseg.errors import HeartSegError
from heartseg.synthesis.hearts import VALIDATION_SUBJECTS
from heartseg.synthesis.patients import Recipe as PatientRecipe
from heartseg.synthesis.scenes import make_scenes, scene_name
from heartseg.synthesis.source import load_source, pack_source
from heartseg.synthesis.switches import ANATOMY_PARTS, FROZEN, IMAGE_PARTS, check_parts

from .cargo import pack_scenes, unpack_scenes
from .options import DESCRIPTION, EXAMPLES, add_arguments
from .stages import SIZES, Stage, with_empty_views
from .trainer import Recipe, Trainer

log = logging.getLogger(__name__)

VALIDATION_FIRST = 50_000
"""Number of the first validation scene; training scenes start at 0."""
N_VALIDATION = 8
START_FROM_RATE = 0.6
"""Factor on the peak learning rate of a run that starts from a trained model."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``python -m heartseg.training.default``; returns 0 if the model is finished, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m heartseg.training.default",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for stop in (signal.SIGINT, signal.SIGTERM):  # background processes of a shell ignore SIGINT
        signal.signal(stop, signal.default_int_handler)
    try:
        return train_default(args)
    except KeyboardInterrupt:
        parser.exit(1, "stopped, everything is saved: run the same command again to continue\n")
    except (OSError, ValueError, HeartSegError) as error:
        parser.exit(2, f"{error}\n")


def train_default(args: argparse.Namespace) -> int:
    """Run the command with the given options; returns 0 when done, 1 when stopped by ``--run-minutes``.

    Raises:
        ValueError: an option has an invalid value.
        FileNotFoundError: a file of DATA is missing.
    """
    if args.pack:
        pack_source(load_source(args.data), args.pack)
        log.info("wrote '%s', %.1f MB", args.pack, args.pack.stat().st_size / 1e6)
        return 0
    if args.out is None:
        raise ValueError("option -o is missing: give a working folder")
    if args.pack_scenes:
        count = pack_scenes(args.out, args.pack_scenes)
        log.info("wrote '%s', %d scenes, %.1f MB", args.pack_scenes, count, args.pack_scenes.stat().st_size / 1e6)
        return 0
    if args.unpack:
        log.info("extracted %d scenes from '%s'", unpack_scenes(args.unpack, args.out), args.unpack)
    check_parts(args.without, (*ANATOMY_PARTS, *IMAGE_PARTS))
    until = time.monotonic() + args.run_minutes * 60
    device = str(choose_device(args.device, ("cuda", "cpu")))
    workers = max(1, (os.cpu_count() or 2) - 1) if args.workers is None else args.workers
    torch.set_num_threads(args.threads)
    stages = choose_stages(args.size, device, args.batch)
    if args.crop is not None and (args.crop < 32 or args.crop % 16):
        raise ValueError(f"--crop is {args.crop}: give a multiple of 16 that is at least 32, such as 96")
    if not 0 <= args.empty_views <= 1:
        raise ValueError(f"--empty-views is {args.empty_views:g}: give a factor from 0 to 1")
    with SceneMakers(args, workers) as makers:
        if not makers.wait(until):
            log.info("stopped while making scenes: run the same command again to continue")
            return 1
        for stage in stages:
            if args.only in (None, stage.name) and not _train(stage, args, device, workers, until):
                return 1
    if args.only:
        if args.only == "scenes":
            return 0
        log.info("%s is trained: run again without --only to finish the model", args.only)
        return 1
    return finish(args, stages)


def choose_stages(size: str, device: str, batch: int | None) -> tuple[Stage, Stage]:
    """Return the finder and the fine network of a size, with the batch size of the device."""
    gpu = device != "cpu"
    chosen = SIZES["full" if size == "auto" and gpu else "small" if size == "auto" else size]
    finder, fine = (replace(stage, batch=batch or (4 if gpu else 1)) for stage in chosen)
    return finder, fine


class SceneMakers:
    """Make the missing training and validation scenes: validation first, then all kinds in proportion.

    Use as a context manager: :meth:`wait` starts the worker processes, and leaving the block ends them. With 0 or 1
    workers, :meth:`wait` makes all scenes in this process.
    """

    def __init__(self, args: argparse.Namespace, workers: int) -> None:
        out, without = args.out, frozenset(args.without) & set(ANATOMY_PARTS)
        first = args.seed * 1_000_000
        hearts = [
            SceneJob(out / "scenes", first + i, without=without, patients=args.generator != FROZEN and i % 4 < 3)
            for i in range(args.scenes)
        ]
        bodies = [SceneJob(out / "scenes", first + i, heartless=True) for i in range(args.heartless)]
        mixed = [(i / len(jobs), job) for jobs in (hearts, bodies) for i, job in enumerate(jobs)]
        mixed.sort(key=lambda pair: pair[0])
        tests = [
            SceneJob(out / "validation", VALIDATION_FIRST + i, VALIDATION_SUBJECTS, 4) for i in range(N_VALIDATION)
        ]
        self.jobs = [*tests, *(job for _, job in mixed)]
        self.needed = len(self.jobs) if args.begin_with is None else len(tests) + max(1, args.begin_with)
        self.source, self.workers = str(args.data), workers
        self._pool: Pool | None = None
        self._results: dict[SceneJob, AsyncResult[None]] = {}

    def __enter__(self) -> SceneMakers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
        failed = [job for job, result in self._results.items() if result.ready() and not result.successful()]
        if failed:
            log.warning("%d scenes could not be made, such as %s", len(failed), failed[0].file(".json").name)

    def wait(self, until: float) -> bool:
        """Wait for the scenes that training needs to start; False if ``time.monotonic()`` exceeds ``until``."""
        missing = [job for job in self.jobs if not job.file(".json").exists()]
        for job in missing:  # locks of an interrupted run; no other process uses the working folder
            job.file(".lock").unlink(missing_ok=True)
        if not missing:
            return True
        start = time.monotonic()
        log.info("making %d scenes in %d processes", len(missing), max(1, self.workers))
        if self.workers <= 1:
            for job in missing:
                if time.monotonic() > until:
                    return False
                _make_one(self.source, job)
        else:
            spawn = multiprocessing.get_context("spawn")
            self._pool = spawn.Pool(min(self.workers, len(missing)), _yield_to_training)
            self._results = {job: self._pool.apply_async(_make_one, (self.source, job)) for job in missing}
            for job in self.jobs[: self.needed]:
                try:
                    if job in self._results:
                        self._results[job].get(timeout=max(0.0, until - time.monotonic()) if until < math.inf else None)
                except multiprocessing.TimeoutError:
                    return False
        made = sum(job.file(".json").exists() for job in missing)
        log.info("%d scenes, %.2f per second", made, made / (time.monotonic() - start))
        return True


@dataclass(frozen=True)
class SceneJob:
    """A scene to make: its folder, number and parameters (see :func:`~heartseg.synthesis.scenes.make_scenes`).

    With ``patients`` the heart has a cardiac phase and often a disease (:mod:`~heartseg.synthesis.patients`), as in
    three quarters of the scenes of generator 0.6.
    """

    folder: Path
    number: int
    subjects: tuple[int | None, ...] = (None,)
    thorax_every: int = 3
    without: frozenset[str] = frozenset()
    heartless: bool = False
    patients: bool = False

    def file(self, suffix: str) -> Path:
        """Path of the file of the scene with this suffix."""
        return self.folder / (scene_name(self.number, self.heartless) + suffix)


def _yield_to_training() -> None:
    if hasattr(os, "nice"):
        os.nice(10)


def _make_one(source: str, job: SceneJob) -> None:
    """Make one scene; if several patients in a row fail, use a heart of :mod:`~heartseg.synthesis.hearts`."""
    torch.set_num_threads(1)
    try:
        _make(source, job, PatientRecipe() if job.patients else None)
    except RuntimeError as error:
        if not job.patients:
            raise
        log.warning("%s: %s; made without a patient", job.file("").name, error)
        job.file(".lock").unlink(missing_ok=True)
        _make(source, job, None)


def _make(source: str, job: SceneJob, recipe: PatientRecipe | None) -> None:
    make_scenes(
        load_source(source),
        job.folder,
        [job.number],
        subjects=job.subjects,
        thorax_every=job.thorax_every,
        without=job.without,
        heartless=job.heartless,
        recipe=recipe,
    )


def _train(stage: Stage, args: argparse.Namespace, device: str, workers: int, until: float) -> bool:
    gpu = device != "cpu"
    steps = args.finder_steps if stage.name == "finder" else args.fine_steps
    default = {"finder": (3000, 6000), "fine": (8000, 16000)}[stage.name][gpu]
    minutes = args.fine_minutes if stage.name == "fine" else 0.0
    steps = 0 if minutes else steps or default
    if args.learning_rate or args.start_from:
        rate = args.learning_rate or stage.learning_rate * START_FROM_RATE
        stage = replace(stage, learning_rate=rate)
    if stage.name == "fine":
        stage = with_empty_views(replace(stage, patch=args.crop or stage.patch), args.empty_views)
    recipe = Recipe(
        steps=steps,
        minutes=minutes,
        seed=args.seed,
        device=device,
        workers=0 if gpu else min(1, workers),
        ema=min(0.998, 1 - 8 / max(steps, 16)) if steps else 0.998,
        save_every=120.0,
        fresh=args.fresh,
        without=tuple(sorted(set(args.without) - set(ANATOMY_PARTS))),
        generator=args.generator,
        frozen=tuple(args.freeze),
    )
    trainer = Trainer(stage, args.out / "scenes", args.out / stage.name, recipe, args.out / "validation")
    if trainer.resume():
        log.info("%s: resuming at step %d", stage.name, trainer.step)
    elif args.start_from:
        trainer.start_from(
            args.start_from / ("finder" if stage.name == "finder" else "") / "fold_0/checkpoint_final.pth"
        )
    return trainer.fraction() >= 1 or trainer.run(until)


def finish(args: argparse.Namespace, stages: tuple[Stage, Stage]) -> int:
    """Write the model folder; its card contains the results on the validation scenes."""
    from .evaluate import validation_figures
    from .export import export_model, scene_facts

    facts = scene_facts(args.out / "scenes", args.seed)
    facts["without"] = sorted(args.without)
    tested = validation_figures(args.out, stages, args.out / "validation")
    export_model(args.out, args.out / "model", facts, tested, stages)
    (args.out / "tested_on.json").write_text(json.dumps(tested, indent=1))
    log.info("wrote '%s': try heartseg segment SCAN --model '%s'", args.out / "model", args.out / "model")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
