"""Context for calling nnU-Net v2 as a library: environment variables, console output and worker processes.

nnU-Net is made for its own command line: it reads folders from the environment, prints to the console, and starts
processes for every step. The context managers here change this behaviour and restore the previous state when they exit.
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing.pool
import os
import sys
import types
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import DependencyError
from ...progress import Reporter

log = logging.getLogger(__name__)

N_LOADERS = "nnUNet_n_proc_DA"
"""Environment variable of nnU-Net for the number of processes that make batches."""

EXTERNAL_VARIABLE = "nnUNet_extTrainer"
EXTERNAL = Path(__file__).with_name("external")
"""Folder for ``nnUNet_extTrainer``: where nnU-Net's own commands find HeartSeg's trainer (nnunetv2 2.8.0 and newer)."""

_WITH_PROCESSES = (
    "nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor",
    "nnunetv2.preprocessing.preprocessors.default_preprocessor",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
    "nnunetv2.evaluation.evaluate_predictions",
)
_WITH_BARS = _WITH_PROCESSES[:2]


def check_nnunet() -> None:
    """Raise ``DependencyError`` with the installation command unless nnunetv2 2.8 or newer is installed."""
    try:
        from importlib.metadata import version

        found = version("nnunetv2")
        import_module("nnunetv2")
    except ImportError as error:
        raise DependencyError(f"training needs nnU-Net v2 ({error}): pip install 'heartseg[train]'") from None
    if tuple(int(p) for p in found.split(".")[:2]) < (2, 8):
        raise DependencyError(
            f"nnunetv2 {found} cannot find trainers outside of its own folder: pip install 'nnunetv2>=2.8'"
        )


@contextlib.contextmanager
def nnunet_environment(out: Path, loaders: int | None, processes: int) -> Iterator[None]:
    """Set nnU-Net's folders inside ``out``, and the number of processes it may start.

    Args:
        out: folder of the training.
        loaders: number of processes that make batches (0: none, ``None``: nnU-Net's default).
        processes: number of processes for preprocessing, export and scores; nnU-Net reads it at its first import.
    """
    wanted = {
        "nnUNet_raw": str(out / "raw"),
        "nnUNet_preprocessed": str(out / "preprocessed"),
        "nnUNet_results": str(out / "results"),
        "nnUNet_extTrainer": os.pathsep.join(filter(None, (str(EXTERNAL), os.environ.get(EXTERNAL_VARIABLE)))),
    }
    if processes > 1:
        wanted["nnUNet_def_n_proc"] = str(processes)
    if loaders is not None:
        wanted[N_LOADERS] = str(loaders)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def planning_environment() -> Iterator[None]:
    """Unset ``nnUNet_n_proc_DA`` during planning; nnU-Net sets torch's number of threads to it and fails if it is 0."""
    before = os.environ.pop(N_LOADERS, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[N_LOADERS] = before


class _Lines(io.TextIOBase):
    """Stream that writes standard output to a logger, line by line."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger, self._rest = logger, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._logger.info(line.rstrip())
        return len(text)


@contextlib.contextmanager
def prints_logged(path: Path) -> Iterator[None]:
    """Write printed output and the log of ``heartseg.training`` to the log file ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    quiet = logging.getLogger("heartseg.training.nnunet.printed")
    loggers = [quiet, logging.getLogger("heartseg.training.nnunet")]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    quiet.propagate = False
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(_Lines(quiet)):
            yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        handler.close()


class _ThreadContext:
    """Replacement for ``multiprocessing.get_context("spawn")`` with pools of threads, which start immediately."""

    @staticmethod
    def Pool(processes: int | None = None) -> multiprocessing.pool.ThreadPool:
        return multiprocessing.pool.ThreadPool(1)


@contextlib.contextmanager
def threads_for_processes(active: bool) -> Iterator[None]:
    """Run nnU-Net's pools as threads of this process, because spawning a process takes ten seconds.

    Replaces the name ``multiprocessing`` in nnU-Net's modules, because nnU-Net has no setting for this. Does nothing if
    ``active`` is false.
    """
    if not active:
        yield
        return
    import torch

    trainer: Any = import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    export = trainer.export_prediction_from_logits
    stand_in: Any = types.SimpleNamespace(get_context=lambda method=None: _ThreadContext, Pool=_ThreadContext.Pool)
    modules = [import_module(name) for name in _WITH_PROCESSES]
    before = [module.multiprocessing for module in modules]  # type: ignore[attr-defined]
    for module in modules:
        module.multiprocessing = stand_in  # type: ignore[attr-defined]
    trainer.export_prediction_from_logits = partial(export, num_threads_torch=torch.get_num_threads())
    try:
        yield
    finally:
        trainer.export_prediction_from_logits = export
        for module, real in zip(modules, before, strict=True):
            module.multiprocessing = real  # type: ignore[attr-defined]


@contextlib.contextmanager
def bars_reported(stage: str, total: int, reporter: Reporter) -> Iterator[None]:
    """Report nnU-Net's tqdm progress as a stage of the reporter, and stop it when the user cancels."""

    class Bar:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.done = 0

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, n: int = 1) -> None:
            self.done += n
            reporter.advance(min(self.done, total))

    modules = [import_module(name) for name in _WITH_BARS]
    before = [module.tqdm for module in modules]  # type: ignore[attr-defined]
    with reporter.stage(stage, total):
        for module in modules:
            module.tqdm = Bar  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for module, real in zip(modules, before, strict=True):
                module.tqdm = real  # type: ignore[attr-defined]


@contextlib.contextmanager
def trainer_lookup_without_torchvision() -> Iterator[None]:
    """Replace trainers that nnU-Net's lookup would import and that need a torchvision matching torch.

    CPU builds from PyPI do not match. An empty module replaces the primus trainers during the lookup.
    """
    name = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
    missing = name not in sys.modules
    if missing:
        sys.modules[name] = types.ModuleType(name)
    try:
        yield
    finally:
        if missing:
            sys.modules.pop(name, None)
