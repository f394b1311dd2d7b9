"""Tiles: nnU-Net's positions and weights, progress and cancel at each tile, fallbacks when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.devices import CPU, Device
from heartseg.errors import Cancelled, DeviceError
from heartseg.inference.tiles import (
    Predictor,
    Rung,
    SlidingWindow,
    gaussian_weights,
    ladder,
    predict_tiles,
    tile_starts,
)
from heartseg.progress import CancelToken, ProgressEvent, Reporter

PATCH = (8, 8, 8)


def double(batch: np.ndarray) -> np.ndarray:
    return np.concatenate([batch, -batch], 1) * 2


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def run(
    image: np.ndarray,
    predictors: Callable[[Rung], list[Predictor]],
    reporter: Reporter | None = None,
    rungs: list[Rung] | None = None,
    **options: Any,
) -> np.ndarray:
    rungs, reporter, window = rungs or [Rung(CPU, CPU, 1)], reporter or Reporter(), SlidingWindow(PATCH, **options)
    with reporter.stage("predict", len(window.starts(image.shape[1:]))):
        return predict_tiles(image, window, predictors, 2, rungs, reporter)


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 17, 30), (64, 40, 23)])
@pytest.mark.parametrize("step", [0.3, 0.5, 0.8, 1.0])
def test_tiles_lie_where_nnunet_puts_them(size: tuple[int, int, int], step: float) -> None:
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    stock = compute_steps_for_sliding_window(size, PATCH, step)
    assert tile_starts(size, PATCH, step) == [(z, y, x) for z in stock[0] for y in stock[1] for x in stock[2]]


def test_weights_are_nnunets() -> None:
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

    stock = compute_gaussian((16, 12, 8), 1 / 8, 10, torch.float32, torch.device("cpu"))
    assert np.allclose(gaussian_weights((16, 12, 8)), stock, rtol=1e-6)


def test_blending_overlapping_tiles_gives_the_prediction_back() -> None:
    image = noise(1, 20, 11, 5)
    logits = run(image, lambda rung: [double])
    assert logits.shape == (2, 20, 11, 5)
    assert np.allclose(logits, double(image[None])[0], atol=1e-5)


def test_the_logits_of_one_tile_are_their_own_mean() -> None:
    image = noise(1, 8, 8, 5)
    assert np.array_equal(run(image, lambda rung: [double]), double(image[None])[0])


def test_folds_and_mirrored_copies_are_averaged() -> None:
    image = noise(1, 8, 8, 8)
    ramp = np.arange(8, dtype=np.float32)
    logits = run(image, lambda rung: [lambda b: np.concatenate([b, b], 1) + ramp, double], mirror_axes=(2,))
    expected = (image + 3.5 + 2 * image) / 2  # the ramp and its mirror image average to 3.5
    assert np.allclose(logits[:1], expected, atol=1e-5)


def test_progress_counts_every_tile() -> None:
    events: list[ProgressEvent] = []
    run(np.zeros((1, 16, 16, 16), np.float32), lambda rung: [double], Reporter(events.append))
    assert [e.done for e in events if e.stage == "predict"] == [0, *range(1, 28), 27]
    assert all(e.total == 27 for e in events)
    assert events[5].seconds_left is not None


@pytest.mark.parametrize("at", [1, 5, 27])
def test_a_cancel_stops_at_the_next_tile(at: int) -> None:
    token, calls = CancelToken(), []

    def network(batch: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == at:
            token.cancel()
        return double(batch)

    with pytest.raises(Cancelled):
        run(np.zeros((1, 16, 16, 16), np.float32), lambda rung: [network], Reporter(cancel=token))
    assert len(calls) == at


def test_the_ladder_goes_from_the_device_to_the_cpu() -> None:
    gpu = Device("cuda", 0)
    assert ladder(gpu, 4) == [
        Rung(gpu, gpu, 4),
        Rung(gpu, CPU, 4),
        Rung(gpu, CPU, 2),
        Rung(gpu, CPU, 1),
        Rung(CPU, CPU, 1),
    ]
    assert ladder(CPU, 4) == [Rung(CPU, CPU, 1)]


@pytest.mark.parametrize("fail_at", [1, 4])
def test_out_of_memory_goes_on_a_rung_lower_without_repeating_a_tile(fail_at: int) -> None:
    """Three levels on the CPU represent those of a graphics card: the error is injected, the fallback is real."""
    rungs = [Rung(CPU, CPU, 4), Rung(CPU, CPU, 2), Rung(CPU, CPU, 1)]
    done = {4: 0, 2: 0, 1: 0}

    def networks(rung: Rung) -> list[Predictor]:
        def network(batch: np.ndarray) -> np.ndarray:
            done[rung.batch] += len(batch)
            if rung.batch > 1 and done[rung.batch] >= fail_at * rung.batch:
                done[rung.batch] -= len(batch)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return double(batch)

        return [network]

    image, reporter = noise(1, 16, 16, 16), Reporter()
    logits = run(image, networks, reporter, rungs)
    assert np.allclose(logits, double(image[None])[0], atol=1e-5)
    assert sum(done.values()) == 27
    assert len(reporter.announcements) == 2
    assert all("out of memory" in text and "tile" in text for text in reporter.announcements)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_sums_in_tensors_on_a_device_are_those_of_arrays(lost: int) -> None:
    """Torch's ``cpu:0`` represents a card: tiles and sums are tensors there, until its memory runs out."""
    card = Device("cpu", 0)
    rungs = [Rung(card, card, 2), Rung(card, CPU, 2), Rung(CPU, CPU, 1)]

    def networks(rung: Rung) -> list[Predictor]:
        def network(batch: np.ndarray) -> Any:
            if rungs.index(rung) < lost:
                raise torch.OutOfMemoryError("CUDA out of memory")
            logits = double(batch)
            return torch.from_numpy(logits) if rung.device == card else logits

        return [network, network]

    image = noise(1, 13, 16, 9)
    logits = run(image, networks, rungs=rungs, mirror_axes=(0, 2))
    assert isinstance(logits, np.ndarray)
    wanted = run(image, lambda rung: [double, double], mirror_axes=(0, 2))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)


def test_out_of_memory_on_the_last_rung_is_one_line_with_a_way_out() -> None:
    def network(batch: np.ndarray) -> np.ndarray:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(DeviceError, match="close other programs"):
        run(np.zeros((1, 8, 8, 8), np.float32), lambda rung: [network])


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    def network(batch: np.ndarray) -> np.ndarray:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run(np.zeros((1, 8, 8, 8), np.float32), lambda rung: [network], rungs=[Rung(CPU, CPU, 2), Rung(CPU, CPU, 1)])


def test_two_runs_give_the_same_numbers() -> None:
    image = noise(1, 20, 20, 20)
    assert np.array_equal(run(image, lambda rung: [double]), run(image, lambda rung: [double]))
