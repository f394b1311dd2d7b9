"""Training improves the networks, stops and resumes with identical results, and reports errors."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heartseg.errors import Cancelled, DeviceError, InputError, SettingsError
from heartseg.progress import ProgressEvent, Reporter
from heartseg.translation.model import open_model
from heartseg.translation.presets import DOCUMENT, PRESETS, REFERENCE
from heartseg.translation.trainer import Trainer, total_steps, train

from .conftest import TINY


def weights(trainer: Trainer) -> list[torch.Tensor]:
    groups = (trainer.generators, trainer.critics, trainer.average)
    return [w for g in groups for n in g.values() for w in n.state_dict().values()]


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_losses_fall(trained: Path) -> None:
    rows = history(trained)
    assert [int(r["step"]) for r in rows] == list(range(20, 121, 20))
    assert float(rows[-1]["cycle"]) < 0.6 * float(rows[0]["cycle"])
    assert float(rows[-1]["identity"]) < 0.6 * float(rows[0]["identity"])


def test_fat_becomes_dark_and_blood_stays_bright(trained: Path) -> None:
    """Bright fat in MR is dark in CT; no single mapping of grey values achieves that and also preserves the lungs."""
    from heartseg.translation.apply import Translator

    from .conftest import FAT_HU, scan

    volume, labels = scan("MR", 42)
    made = Translator(trained, device="cpu")(volume).array
    fat = (labels == 0) & (volume.array > 400)
    blood, lung = np.isin(labels, (1, 2, 3, 4)), volume.array < 100
    assert made[fat].mean() < 0.5 * made[blood].mean() + 0.5 * FAT_HU
    assert made[lung].mean() < made[fat].mean() < made[blood].mean()


def test_sheets_are_drawn_while_it_trains(trained: Path) -> None:
    import SimpleITK as sitk

    sheets = sorted(p.name for p in (trained / "sheets").iterdir())
    assert sheets == ["step-0000060.png", "step-0000120.png"]
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(trained / "sheets" / sheets[-1])))
    assert picture.shape == (8 * 34, 3 * 34)  # four slices of each modality: source, translation, reconstruction
    source, back = picture[:32, :32].astype(float), picture[:32, 68:100].astype(float)
    assert np.corrcoef(source.ravel(), back.ravel())[0, 1] > 0.8


def test_nothing_half_written_stays(trained: Path) -> None:
    assert not [p for p in trained.rglob("*") if p.name.endswith("part") or p.name.startswith(".")]
    assert len(list((trained / "model").glob("*.pth"))) == 2
    assert 1 <= len(list(trained.glob("state-*"))) <= 2


def test_stopped_and_gone_on_with_it_is_the_same_bit_for_bit(
    new_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    settings = replace(TINY, steps=9, batch=2)
    whole = new_trainer(tmp_path / "whole", settings)
    assert whole.run()

    def stop(event: ProgressEvent) -> None:
        if event.stage == "train" and event.done == 5:
            reporter.cancel.cancel()

    parts = new_trainer(tmp_path / "parts", settings)
    reporter = Reporter(stop)
    with pytest.raises(Cancelled):
        parts.run(reporter)
    again = new_trainer(tmp_path / "parts", settings)
    assert again.resume()
    assert 5 <= again.step <= 6
    assert again.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole.pools["CT"].images, again.pools["CT"].images, strict=True))


def test_it_stops_when_its_time_is_over(new_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    trainer = new_trainer(tmp_path / "timed")
    assert not trainer.run(until=0.0)
    assert open_model(tmp_path / "timed").facts["step"] == 0


def test_other_settings_or_scans_do_not_go_on_with_a_run(
    new_trainer: Callable[..., Trainer], scans: dict[str, list[Path]], trained: Path
) -> None:
    with pytest.raises(SettingsError, match=r"has cycle 10\.0, not 5"):
        new_trainer(trained, replace(TINY, cycle=5)).resume()
    with pytest.raises(SettingsError, match="started with different scans"):
        train(scans["MR"][:2], scans["CT"], trained, TINY, device="cpu")


def test_a_run_goes_on_from_the_state_before_a_damaged_one_and_not_from_none(
    new_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = new_trainer(tmp_path / "run")
    for trainer.step in (1, 2):
        trainer.save()
    (tmp_path / "run" / "state-0000002" / "part-00.bin").write_bytes(b"damaged")
    again = new_trainer(tmp_path / "run")
    assert again.resume()
    assert again.step == 1
    (tmp_path / "run" / "state-0000001" / "state.json").unlink()
    with pytest.raises(SettingsError, match="all saved states are damaged"):
        again.resume()


def test_the_rate_is_constant_and_then_falls_to_zero(new_trainer: Callable[..., Trainer]) -> None:
    trainer = new_trainer(settings=replace(TINY, steps=100, epochs=4, constant_epochs=1))
    rates = []
    for trainer.step in (0, 24, 25, 62, 99):
        rates.append(trainer.learning_rate() / TINY.learning_rate)
    assert rates == pytest.approx([1, 1, 1, 38 / 75, 1 / 75])
    document = new_trainer(settings=replace(DOCUMENT, blocks=1, filters=4, critic_filters=4, spacing=5.0))
    assert document.learning_rate() == 0.01
    document.step = document.steps // 2
    assert document.learning_rate() == pytest.approx(0.005, rel=1 / document.steps)
    assert isinstance(document.optimisers[0], torch.optim.SGD)


def test_epochs_count_the_larger_domain() -> None:
    assert total_steps(REFERENCE, 1000) == 200_000
    assert total_steps(DOCUMENT, 1001) == 50 * 501
    assert total_steps(replace(REFERENCE, steps=7), 1000) == 7
    assert total_steps(DOCUMENT, 1) == total_steps(DOCUMENT, 0) == 50


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_runs_real_steps_with_small_networks(new_trainer: Callable[..., Trainer], name: str) -> None:
    """Losses, optimizer and weights of the preset with small networks and patches; the slow test uses full size."""
    settings = replace(
        PRESETS[name],
        blocks=1,
        filters=4,
        critic_filters=4,
        patch=32,
        spacing=5.0,
        epochs=4,
        steps=20,
        constant_epochs=PRESETS[name].constant_epochs // 100,
    )
    trainer = new_trainer(settings=settings)
    before = [w.clone() for w in weights(trainer)]
    assert trainer.run()
    after = weights(trainer)
    assert all(torch.isfinite(w).all() for w in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_runs_twenty_steps_as_it_is(new_trainer: Callable[..., Trainer], name: str) -> None:
    trainer = new_trainer(settings=replace(PRESETS[name], steps=20))
    assert trainer.run()
    assert all(torch.isfinite(w).all() for w in weights(trainer))


def test_the_edge_term_is_an_option(new_trainer: Callable[..., Trainer]) -> None:
    trainer = new_trainer(settings=replace(TINY, edges=2.0, steps=20, identity=0.0))
    assert trainer.run()
    row = history(trainer.out)[-1]
    assert 0 < float(row["edges"]) < 4
    assert float(row["identity"]) == 0


def test_a_training_that_diverges_says_so(new_trainer: Callable[..., Trainer]) -> None:
    trainer = new_trainer(settings=replace(TINY, optimizer="sgd", learning_rate=9.0, momentum=0.99, cycle=1e4))
    with pytest.raises(SettingsError, match=r"training diverged before step .* learning rate below 9"):
        trainer.run()


def test_too_little_memory_says_which_settings_to_lower(
    new_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer()

    def no_room(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(trainer, "_teach_generators", no_room)
    with pytest.raises(DeviceError, match="lower --batch, then --patch, then --filters"):
        trainer.run()


def test_a_scan_in_both_folders_and_a_missing_device_are_refused_before_reading(
    scans: dict[str, list[Path]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="among the MR and among the CT scans"):
        train(scans["MR"], scans["MR"], tmp_path / "out", TINY, device="cpu")
    with pytest.raises(DeviceError, match="is not available"):
        train(scans["MR"], scans["CT"], tmp_path / "out", TINY, device="tpu")
    assert not (tmp_path / "out").exists()
