"""``accurate``: changes nothing if off; averages augmented windows if on, or mirrored copies without a window.

The networks are written by hand, so that expected results can be calculated independently of the engine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from heartseg import STRUCTURES, Cancelled, CancelToken, Result, Segmenter, Settings, Volume
from heartseg.inference.engine import Engine
from heartseg.inference.test_time import AUGMENTATIONS, apply_gamma, shifted
from heartseg.inference.tiles import Predictor
from heartseg.models.folder import ModelFolder
from heartseg.models.loading import LoadedModel
from heartseg.progress import ProgressEvent, Reporter
from heartseg.volume import Geometry
from near_ties import assert_equal_but_few
from tiny_models import make_tiny_model_folder, write_card

SPACING = 3.0
ON = Settings(device="cpu", accurate=True)


class Finder(nn.Module):
    """Labels bright voxels as heart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-x, x], 1)


class Fine(nn.Module):
    """Background, LV, RV: bright voxels are LV and RV alternately along the x axis of the patch.

    The borders between both depend on the position of the window and on the grey scale, as with a real network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        wave = torch.linspace(-9, 9, x.shape[-1]).cos().expand(x.shape)
        return torch.cat([-3 * x, 3 * x + wave / 2, 3 * x - wave / 2 + x**2 / 6], 1)


def on_arrays(network: nn.Module) -> Predictor:
    """The network for the engine, without a copy, so that its calls are counted."""
    return lambda batch: network(torch.from_numpy(batch.copy())).numpy()


@pytest.fixture
def scan() -> Volume:
    """Return a ball of 57 mm radius, brighter towards one side, in a noisy block; CT values."""
    shape = (60, 62, 64)
    z, y, x = np.indices(shape)
    ball = (z - 29) ** 2 + (y - 32) ** 2 + (x - 31) ** 2 < 19**2
    image = np.where(ball, 300 + 4 * z, 0) + np.random.default_rng(0).normal(0, 10, shape)
    return Volume(image.astype(np.int16), Geometry(shape, (SPACING,) * 3, (-90.0, -93.0, -87.0)), "ball", "CT")


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    """A model with a finder; its weights are unused."""
    path = make_tiny_model_folder(tmp_path / "tiny", labels=("LV", "RV"), patch=(48, 48, 48), spacing=(SPACING,) * 3)
    make_tiny_model_folder(path / "finder", labels=("LV",), patch=(48, 48, 48), spacing=(6.0,) * 3)
    write_card(path, ("LV", "RV"), finder="finder", margin_mm=6.0, normalization_extent="crop")
    return ModelFolder.open(path)


def engine_of(folder: ModelFolder, settings: Settings, mirroring_axes: tuple[int, ...] = ()) -> tuple[Engine, Fine]:
    engine, fine = Engine(folder, settings), Fine()
    engine._fine.__dict__["loaded"] = LoadedModel(folder, (fine,), mirroring_axes, "by hand")
    if engine._finder:
        engine._finder.__dict__["loaded"] = LoadedModel(engine._finder.folder, (Finder(),), mirroring_axes, "by hand")
    return engine, fine


def by_hand(scan: Volume, window: Geometry) -> np.ndarray:
    """Return labels on the grid of the window: crop, normalise, predict, average, with NumPy indexing."""
    network = Fine()
    first = np.rint((np.array(window.origin) - scan.geometry.origin) / SPACING).astype(int)[::-1]
    total, count = torch.zeros(3, *window.shape), torch.zeros(window.shape)
    for augmentation in [None, *AUGMENTATIONS]:
        direction = augmentation.direction[::-1] if augmentation else (0, 0, 0)
        step = tuple(3 * d for d in direction)  # 8 mm: 3 voxels of 3 mm
        start = first + step
        assert (start >= 0).all() and (start + window.shape <= scan.array.shape).all()
        box = tuple(slice(a, a + n) for a, n in zip(start, window.shape, strict=True))
        image = scan.array[box].astype(np.float32)
        image = (image - image.mean()) / image.std()
        gamma = augmentation.gamma if augmentation else 1.0
        image = apply_gamma(image, np.ones(image.shape, bool), gamma)
        share = network(torch.from_numpy(image)[None, None])[0].softmax(0)
        here = [slice(max(0, s), min(n, n + s)) for s, n in zip(step, window.shape, strict=True)]
        there = [slice(max(0, -s), min(n, n - s)) for s, n in zip(step, window.shape, strict=True)]
        z, y, x = there
        total[:, here[0], here[1], here[2]] += share[:, z, y, x]
        count[tuple(here)] += 1
    return (total / count).argmax(0).numpy()


def test_on_gives_the_mean_of_the_augmented_windows(folder: ModelFolder, scan: Volume) -> None:
    engine, _ = engine_of(folder, ON)
    found = engine.predict(scan, Reporter())
    center = np.array(found.run.window_center_lps)
    origin = center - SPACING * 47 / 2
    window = Geometry((48, 48, 48), (SPACING,) * 3, tuple(origin))
    expected = by_hand(scan, window)
    first = np.rint((origin - np.array(scan.geometry.origin)) / SPACING).astype(int)[::-1]
    box = tuple(slice(a, a + 48) for a in first)
    assert np.mean(found.labels[box] == expected) > 0.9999  # rounding may change a voxel at the border
    plain = engine_of(folder, Settings(device="cpu"))[0].predict(scan, Reporter()).labels
    assert np.mean(plain[box] == expected) < 0.999, "the average does not differ: nothing is tested"
    assert set(np.unique(expected)) == {0, 1, 2}


def test_off_runs_one_window_and_says_so(folder: ModelFolder, scan: Volume) -> None:
    engine, network = engine_of(folder, Settings(device="cpu"))
    engine._fine._ready["cpu"] = [on_arrays(network)]
    reporter = Reporter()
    run = engine.predict(scan, reporter).run
    assert (run.accurate, run.windows, run.mirrored_copies) == (False, 1, 1)
    assert network.calls == 1
    assert "average" not in reporter.seconds


def test_on_is_counted_reported_and_deterministic(folder: ModelFolder, scan: Volume) -> None:
    engine, network = engine_of(folder, ON, mirroring_axes=(0, 1, 2))
    engine._fine._ready["cpu"] = [on_arrays(network)]
    events: list[ProgressEvent] = []
    found = engine.predict(scan, Reporter(events.append))
    assert network.calls == 1 + len(AUGMENTATIONS), "a window is never mirrored"
    run = found.run
    assert (run.accurate, run.windows, run.mirrored_copies) == (True, 1 + len(AUGMENTATIONS), 1)
    seen = [(e.done, e.total) for e in events if e.stage == "average"]
    assert list(dict.fromkeys(seen)) == [(k, len(AUGMENTATIONS)) for k in range(len(AUGMENTATIONS) + 1)]
    assert np.array_equal(engine.predict(scan, Reporter()).labels, found.labels)


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_cancel_while_averaging_stops_before_the_next_tile(at: int, folder: ModelFolder, scan: Volume) -> None:
    engine, network = engine_of(folder, ON)
    engine._fine._ready["cpu"] = [on_arrays(network)]
    token = CancelToken()

    def stop(event: ProgressEvent) -> None:
        if event.stage == "average" and event.done == at:
            token.cancel()

    with pytest.raises(Cancelled):
        engine.predict(scan, Reporter(stop, token))
    assert network.calls <= 1 + at + 1
    assert engine.predict(scan, Reporter()).labels.any()


@pytest.mark.parametrize(("axes", "copies"), [((2,), 2), ((0, 1, 2), 8), ((), 1)])
@pytest.mark.parametrize("carded", [True, False])
def test_without_a_window_the_checkpoints_mirrored_copies_are_averaged(
    carded: bool, axes: tuple[int, ...], copies: int, folder: ModelFolder, scan: Volume
) -> None:
    if not carded:
        (folder.path / "heartseg.json").unlink()
        folder = ModelFolder.open(folder.path)
    reporter, settings = Reporter(), Settings(device="cpu", accurate=True, locate=False, tile_step=1.0)
    engine, network = engine_of(folder, settings, axes)
    engine._fine._ready["cpu"] = [on_arrays(network)]
    run = engine.predict(scan, reporter).run
    tiles = 8
    assert network.calls == tiles * copies
    assert (run.accurate, run.windows, run.mirrored_copies) == (True, 1, copies)
    assert any("accurate changes nothing" in text for text in reporter.announcements) == (copies == 1)


def test_a_cancel_works_between_mirrored_copies(folder: ModelFolder, scan: Volume) -> None:
    token = CancelToken()
    engine, network = engine_of(folder, Settings(device="cpu", accurate=True, locate=False), (0, 1, 2))

    def once(batch: np.ndarray) -> np.ndarray:
        token.cancel()
        return on_arrays(network)(batch)

    engine._fine._ready["cpu"] = [once]
    with pytest.raises(Cancelled):
        engine.predict(scan, Reporter(cancel=token))
    assert network.calls == 1


@pytest.fixture(scope="module")
def accurate(default_model: Path) -> Segmenter:
    return Segmenter(default_model, ON)


@pytest.fixture(scope="module")
def averaged(accurate: Segmenter, volume: Volume) -> Result:
    """The sample scan segmented with ``accurate``."""
    return accurate.segment(volume)


def test_the_default_model_stays_as_good_on_the_sample(averaged: Result, result: Result, sample_scan: Path) -> None:
    import SimpleITK as sitk

    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(sample_scan).replace(".nii.gz", "-labels.nii.gz")))

    def mean_dice(labels: np.ndarray) -> float:
        pairs = [(labels == s.label, truth == s.label) for s in STRUCTURES]
        return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))

    assert mean_dice(averaged.labels) > mean_dice(result.labels) - 0.02
    assert averaged.provenance.settings["accurate"] is True
    assert averaged.provenance.run.windows == 1 + len(AUGMENTATIONS)
    assert "average" in averaged.provenance.seconds


@pytest.mark.parametrize(("order", "flips"), [((2, 0, 1), (True, False, True))])
def test_permuted_and_flipped_copies_give_the_same_labels(
    order: tuple[int, int, int], flips: tuple[bool, bool, bool], accurate: Segmenter, averaged: Result, volume: Volume
) -> None:
    import SimpleITK as sitk

    from heartseg.volume.itk import geometry_of, image_of

    image = sitk.Flip(sitk.PermuteAxes(image_of(volume.array, volume.geometry), order), flips)
    copy = Volume(sitk.GetArrayFromImage(image), geometry_of(image), "copy", volume.modality)
    found = sitk.GetImageFromArray(accurate.segment(copy).labels)
    back = sitk.PermuteAxes(sitk.Flip(found, flips), [order.index(k) for k in range(3)])
    assert_equal_but_few(sitk.GetArrayFromImage(back), averaged.labels)


def test_windows_stay_on_the_networks_lattice() -> None:
    grid = Geometry((8, 8, 8), (3.0, 2.0, 1.5), (30.0, -14.0, 4.5))
    for augmentation in AUGMENTATIONS:
        moved = np.array(shifted(grid, augmentation.direction).origin) / grid.spacing
        assert np.allclose(moved, np.rint(moved))


def test_the_spread_of_the_volumes_over_the_windows_is_that_of_their_labels() -> None:
    from heartseg.inference.evidence import volume_spread

    table = np.array([0, 2, 1], np.uint8)
    windows = [np.zeros((10, 10, 10), np.uint8) for _ in range(3)]
    for window, count in zip(windows, (2, 4, 6), strict=True):
        window[:count, :5] = 1  # RV: 100, 200, 300 voxels
    windows[0][9] = 2  # LV in one window only
    assert volume_spread(windows, table) == {"RV": pytest.approx(0.5)}
