"""Which of the installed packages runs the default model fastest on this machine, and how far labels differ.

``heartseg doctor --speed`` prints it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from .errors import DependencyError, HeartSegError
from .inference.engine import Engine
from .models.store import find_model
from .progress import Reporter
from .provenance import RunFacts
from .settings import Settings
from .volume.types import Volume

SAFE_DICE = 0.995
"""A way of running is recommended only if each structure keeps this Dice to the first way, in float32."""

_WAYS = (
    Settings(device="cpu", backend="torch", precision="float32"),
    Settings(device="cpu", backend="onnx"),
    Settings(device="cpu", backend="openvino", precision="float32"),
    Settings(device="cpu", backend="openvino", precision="half"),
    Settings(device="cuda", backend="torch"),
    Settings(device="mps", backend="torch"),
)


@dataclass(frozen=True)
class Timing:
    """One way of running the model on one scan.

    Attributes:
        settings: device, backend and precision.
        run: facts of the run.
        first: seconds of the first run, with loading and compiling.
        warm: seconds of the second run, as for each further scan of a batch.
        dice: smallest Dice of a structure to the first way.
        worst: label value of that structure; 0 if all labels are equal.
    """

    settings: Settings
    run: RunFacts
    first: float
    warm: float
    dice: float = 1.0
    worst: int = 0

    @property
    def options(self) -> str:
        """The options of ``heartseg segment`` that choose this way."""
        chosen = self.settings
        precision = "" if chosen.precision == "auto" else f" --precision {chosen.precision}"
        return f"--device {chosen.device} --backend {chosen.backend}{precision}"


def compare_ways(volume: Volume, settings: Settings, reporter: Reporter) -> tuple[Timing, ...]:
    """Run the default model on a scan in each way that this machine has, twice; about a minute.

    Args:
        volume: the scan.
        settings: a heart centre, if the scan's heart need not be found.
        reporter: progress (stage ``compare``) and cancellation.

    Raises:
        HeartSegError: no way runs the model.
    """
    folder = find_model()
    timings: list[Timing] = []
    reference: np.ndarray | None = None
    problem: HeartSegError | None = None
    with reporter.stage("compare", len(_WAYS)):
        for done, way in enumerate(_WAYS):
            reporter.advance(done)
            try:
                engine = Engine(folder, replace(way, heart_center=settings.heart_center))
                engine_seconds, labels, run = _run_twice(engine, volume, reporter)
            except HeartSegError as error:  # not installed, or not on this machine
                problem = error
                continue
            reference = labels if reference is None else reference
            worst, dice = least_dice(labels, reference)
            timings.append(Timing(way, run, *engine_seconds, dice, worst))
    if not timings:
        raise problem or DependencyError("no package that runs the network is installed")
    return tuple(timings)


def least_dice(labels: np.ndarray, reference: np.ndarray) -> tuple[int, float]:
    """Label value and Dice of the structure that differs most between two label arrays of the same shape."""
    size = 256
    both = np.bincount(labels[labels == reference], minlength=size)
    sums = np.bincount(labels.ravel(), minlength=size) + np.bincount(reference.ravel(), minlength=size)
    values = [v for v in range(1, size) if sums[v]]
    scores = {v: 2.0 * both[v] / sums[v] for v in values}
    worst = min(scores, key=lambda v: scores[v], default=0)
    return (worst, float(scores[worst])) if worst and scores[worst] < 1 else (0, 1.0)


def _run_twice(engine: Engine, volume: Volume, reporter: Reporter) -> tuple[tuple[float, float], np.ndarray, RunFacts]:
    quiet = Reporter(cancel=reporter.cancel)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        prediction = engine.predict(volume, quiet)
        seconds.append(time.perf_counter() - started)
    return (seconds[0], seconds[1]), prediction.labels, prediction.run
