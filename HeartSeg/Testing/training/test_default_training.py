"""The training loop learns, stops and resumes, and its export loads in stock nnU-Net."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import types
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.synthesis.appearance import draw_appearance
from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.scenes import Scene, load_scene, save_scene
from heartseg.synthesis.views import draw_fine_view
from heartseg.training.evaluate import load_snapshot
from heartseg.training.export import CHECKPOINT, coarser, export_model, scene_facts
from heartseg.training.export import main as export_main
from heartseg.training.losses import cross_entropy_and_dice
from heartseg.training.scoring import dice_scores, score_scenes, summary
from heartseg.training.stages import FINE, FINE_FULL, SIZES, STAGES, Stage, build_network, with_empty_views
from heartseg.training.state import load_state, save_state
from heartseg.training.stream import (
    PICTURE_SHARE,
    SampleStream,
    draw_look,
    more_pictures,
    outline_contrast,
    pooled_batches,
)
from heartseg.training.trainer import Recipe, Trainer

TINY = replace(FINE, patch=32, spacing=3.0, features=(4, 4, 8, 8, 8), draw_view=draw_fine_view, learning_rate=2e-2)


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a block heart of seven slabs in muscle and lung, which can be learnt in a few steps."""
    folder = tmp_path_factory.mktemp("scenes")
    regions = np.full((90, 90, 90), Region.LUNG, np.uint8)
    regions[15:75, 15:75, 15:75] = Region.MUSCLE
    target = np.zeros((50, 50, 50), np.uint8)
    for k in range(7):
        regions[20 + 7 * k : 27 + 7 * k, 20:70, 20:70] = k + 1
        target[7 * k : 7 * k + 7] = k + 1
    save_scene(Scene(regions, target, (20, 20, 20), 1.5, (66.0, 67.0, 67.0), "thorax", 1, 0), folder, "block")
    return folder


@pytest.fixture(scope="module")
def trained(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Run a tiny training of 60 steps, and return its losses."""
    out = tmp_path_factory.mktemp("run")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer = Trainer(TINY, scene_folder, out / "fine", Recipe(steps=60, warm_up=5, workers=0, without=("mr", "free")))
    trainer.run()
    torch.set_num_threads(threads)
    return trainer


def test_a_few_steps_lower_the_loss(trained: Trainer) -> None:
    losses = [float(entropy) for entropy, _ in trained.history]
    assert trained.step == 60
    assert np.mean(losses[-15:]) < 0.9 * np.mean(losses[:10])


def test_a_run_goes_on_where_it_stopped(trained: Trainer, scene_folder: Path) -> None:
    again = Trainer(TINY, scene_folder, trained.out, Recipe(steps=62, workers=0, without=("free", "mr")))
    assert again.resume()
    assert again.step == 60
    for old, new in zip(trained.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(old, new)
    for old, new in zip(trained.average.parameters(), again.average.parameters(), strict=True):
        assert torch.allclose(old, new, atol=1e-3)  # stored as float16
    again.run()
    assert again.step == 62


@pytest.mark.parametrize(
    ("stage", "recipe", "said"),
    [
        ({"spacing": 1.5}, {}, "holds a training at 3 mm with 32 voxels, not 1.5 mm with 32: give another folder"),
        ({"patch": 64}, {}, "holds a training at 3 mm with 32 voxels, not 3 mm with 64"),
        ({"features": (4, 8, 8, 8, 8)}, {}, r"features \[4, 4, 8, 8, 8\], not \[4, 8, 8, 8, 8\]"),
        ({}, {"seed": 1}, "holds a training with --seed 0, not 1"),
        ({}, {"generator": "0.5"}, "holds a training with --generator 0.6, not 0.5"),
        ({}, {"without": ()}, "holds a training with --without free mr, not nothing"),
    ],
)
def test_another_training_is_not_gone_on_with(
    trained: Trainer, scene_folder: Path, stage: dict[str, Any], recipe: dict[str, Any], said: str
) -> None:
    usual: dict[str, Any] = {"steps": 60, "workers": 0, "without": ("mr", "free")}
    with pytest.raises(ValueError, match=said):
        Trainer(replace(TINY, **stage), scene_folder, trained.out, Recipe(**usual | recipe)).resume()


def test_the_size_of_the_training_there_is_named(scene_folder: Path, tmp_path: Path) -> None:
    small, full = (replace(SIZES[s][1], features=(4, 4, 8, 8, 8)) for s in ("small", "full"))
    trainer = Trainer(small, scene_folder, tmp_path, Recipe(steps=9))
    trainer.stage = SIZES["small"][1]
    trainer.save()
    said = "at 2 mm with 96 voxels, not 1.5 mm with 128: give --size small, or another folder with -o"
    with pytest.raises(ValueError, match=said):
        Trainer(full, scene_folder, tmp_path, Recipe(steps=9)).resume()


def test_a_state_of_an_older_version_is_gone_on_with(scene_folder: Path, tmp_path: Path) -> None:
    trainer = Trainer(TINY, scene_folder, tmp_path, Recipe(steps=9))
    trainer.save()
    state = load_state(tmp_path)
    del state["stage"]
    save_state(tmp_path, state, 0)
    assert Trainer(replace(TINY, batch=2), scene_folder, tmp_path, Recipe(steps=20, workers=0)).resume()


def test_frozen_parts_keep_their_weights(scene_folder: Path, tmp_path: Path) -> None:
    trainer = Trainer(TINY, scene_folder, tmp_path, Recipe(steps=2, workers=0, frozen=("encoder",)))
    before = {name: weight.clone() for name, weight in trainer.network.named_parameters()}
    trainer.run()
    changed = {n for n, weight in trainer.network.named_parameters() if not torch.equal(weight, before[n])}
    assert changed and not any(name.startswith("encoder.") for name in changed)


def test_bfloat16_is_for_devices_with_instructions_for_it(
    scene_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for matrix, vector in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda yes=matrix: yes)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda yes=vector: yes)
        assert Trainer(TINY, scene_folder, tmp_path, Recipe(steps=2)).bfloat16 is (matrix or vector)
    assert Trainer(TINY, scene_folder, tmp_path, Recipe(steps=2, bfloat16=False)).bfloat16 is False


def test_a_finished_run_has_nothing_left_to_do(trained: Trainer, scene_folder: Path) -> None:
    again = Trainer(TINY, scene_folder, trained.out, Recipe(steps=60, workers=0, without=("mr", "free")))
    again.resume()
    assert again.fraction() >= 1


def test_the_stream_repeats_its_samples_by_number(scene_folder: Path) -> None:
    def samples(start: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        stream = iter(SampleStream(scene_folder, TINY, 3, start))
        return [next(stream) for _ in range(count)]

    (a, b, c), (later,) = samples(0, 3), samples(2, 1)
    assert torch.equal(c[0], later[0])
    assert torch.equal(c[1], later[1])
    assert not torch.equal(a[0], b[0])


def test_the_newest_generator_gives_other_samples_than_the_frozen_one(scene_folder: Path) -> None:
    def first(generator: str) -> list[torch.Tensor]:
        stream = SampleStream(scene_folder, TINY, 3, 0, generator=generator)
        return [image for image, _ in itertools.islice(stream, 6)]

    old, new, again = first("0.5"), first("0.6"), first("0.6")
    assert all(torch.equal(a, b) for a, b in zip(new, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(old, new, strict=True))
    assert all(bool(torch.isfinite(image).all()) for image in new)
    with pytest.raises(ValueError, match=r"0\.4"):
        SampleStream(scene_folder, TINY, 3, 0, generator="0.4")


def test_a_pool_gives_every_sample_out_about_twice_and_new_ones_at_every_step() -> None:
    samples = ((torch.full((1, 2, 2, 2), float(k)), torch.full((2, 2, 2), k % 256)) for k in itertools.count())
    batches = pooled_batches(samples, 4, 2, seed=3, keep=32)
    seen: Counter[int] = Counter()
    for step in range(400):
        image, target = next(batches)
        assert image.shape == (4, 1, 2, 2, 2) and image.dtype == torch.float32
        numbers = image[:, 0, 0, 0, 0].int().tolist()
        assert target[:, 0, 0, 0].tolist() == [k % 256 for k in numbers]
        made = 4 + 2 * step  # an eighth of the pool before the first batch, then two per step
        assert max(numbers) < made and min(numbers) >= made - 32
        seen.update(numbers)
    uses = [seen[k] for k in range(100, 700)]
    assert 1.8 < np.mean(uses) < 2.2


def test_a_pool_repeats_its_batches_by_number() -> None:
    def batches(start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return pooled_batches(
            ((torch.full((1, 2, 2, 2), float(k)), torch.zeros(2, 2, 2)) for k in range(40)), 4, 2, start
        )

    first = [next(b)[0][:, 0, 0, 0, 0].tolist() for b in [batches(0)] for _ in range(3)]
    again = [next(b)[0][:, 0, 0, 0, 0].tolist() for b in [batches(0)] for _ in range(3)]
    assert first == again


def test_steps_do_not_depend_on_where_a_run_was_stopped(scene_folder: Path, tmp_path: Path) -> None:
    """Ten steps at once equal six and four: same order of images, weights equal within the precision of bfloat16."""
    recipe = Recipe(steps=10, warm_up=2, workers=0, bfloat16=False)
    whole = Trainer(TINY, scene_folder, tmp_path / "whole", recipe)
    whole.run()
    parts = Trainer(TINY, scene_folder, tmp_path / "parts", recipe)
    for image, target in parts.batches():
        parts.take_step(image, target)
        if parts.step == 6:
            break
    parts.save()
    again = Trainer(TINY, scene_folder, tmp_path / "parts", recipe)
    assert again.resume()
    assert again.step == 6
    assert again.run()
    a, b = (torch.cat([p.flatten() for p in t.network.parameters()]) for t in (whole, again))
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.999


def test_a_run_stops_in_time_and_says_it_is_not_done(scene_folder: Path, tmp_path: Path) -> None:
    trainer = Trainer(TINY, scene_folder, tmp_path, Recipe(steps=50, workers=0))
    assert not trainer.run(until=0.0)
    assert trainer.step < 50
    assert list(tmp_path.glob("state-*/state.json"))


def test_a_recipe_needs_steps_or_minutes() -> None:
    for steps, minutes in ((0, 0.0), (5, 1.0)):
        with pytest.raises(ValueError, match=r"steps is .* minutes is"):
            Recipe(steps=steps, minutes=minutes)
    with pytest.raises(ValueError, match="--fresh is 0"):
        Recipe(steps=5, fresh=0)


def test_more_pictures_blacken_fat_and_keep_the_myocardium() -> None:
    rng, made = np.random.default_rng(0), 0
    for _ in range(400):
        look = replace(draw_appearance(rng, "ct", protocol="arterial"), window=None)
        changed = more_pictures(rng, look)
        if changed is look:
            continue
        made += 1
        assert changed.window[0] >= -90
        assert changed.window[0] <= max(-80, (look.mean[1:8] - look.mixing[1:8]).min() - 30)
    assert made / 400 == pytest.approx(PICTURE_SHARE, abs=0.06)
    mr = draw_appearance(rng, "mr")
    assert more_pictures(rng, mr) is mr


def test_most_looks_let_the_outline_be_seen() -> None:
    rng = np.random.default_rng(1)
    before = np.mean([outline_contrast(draw_appearance(rng, "mixed")) > 0.08 for _ in range(200)])
    after = np.mean([outline_contrast(draw_look(rng)) > 0.08 for _ in range(200)])
    assert after > before and after > 0.85


def test_an_empty_folder_of_scenes_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no scene of kind"):
        next(iter(SampleStream(tmp_path, TINY, 0, 0)))


def test_ignored_voxels_do_not_touch_the_loss() -> None:
    logits = torch.randn(1, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 8, (1, 4, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    target[:, 2:] = IGNORE
    changed = logits.clone()
    changed[:, :, 2:] = 50.0 * torch.randn(1, 8, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    for a, b in zip(cross_entropy_and_dice(logits, target), cross_entropy_and_dice(changed, target), strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-5)


def test_a_right_answer_costs_nothing() -> None:
    target = torch.arange(8, dtype=torch.uint8).reshape(1, 2, 2, 2)
    logits = 40 * torch.nn.functional.one_hot(target.long(), 8).movedim(-1, 1).float()
    entropy, dice = cross_entropy_and_dice(logits, target, heart_weight=6.0)
    assert float(entropy) == pytest.approx(0, abs=1e-6)
    assert float(dice) == pytest.approx(0, abs=1e-5)


def test_validation_scores_every_structure(trained: Trainer, scene_folder: Path) -> None:
    scores = score_scenes(trained.average, TINY, scene_folder)
    assert set(scores) == {"LV", "RV", "LA", "RA", "MYO", "AO", "PA", "mean"}
    assert all(0 <= row["mean"] <= 1 for row in scores.values())


def test_scores_are_summed_up_over_the_cases_that_have_a_structure() -> None:
    truth = np.array([[[1, 1, 2, 0]]], np.uint8)
    found = np.array([[[1, 0, 2, 2]]], np.uint8)
    keep = np.array([[[True, True, True, False]]])
    case = dice_scores(found, truth, keep)
    assert case == {"LV": pytest.approx(2 / 3), "RV": 1.0}
    assert summary([case, {"LV": 1.0}])["RV"] == {"mean": 1.0, "sd": 0.0}


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, scene_folder: Path
) -> tuple[Path, Path, dict[str, torch.nn.Module]]:
    """Return a model folder of untrained networks of the real size."""
    run, out = tmp_path_factory.mktemp("full"), tmp_path_factory.mktemp("Models") / "HeartSeg-Default"
    networks = {}
    for name, stage in STAGES.items():
        torch.manual_seed(1)
        networks[name] = build_network(stage.features)
        (run / name).mkdir()
        torch.save({"step": 1, "seconds": 1.0, "weights": networks[name].state_dict()}, run / name / "snapshot.pt")
    export_model(run, out, scene_facts(scene_folder, 0), [], SIZES["small"])
    return run, out, networks


def test_the_export_loads_with_weights_only_and_is_small(
    exported: tuple[Path, Path, dict[str, torch.nn.Module]],
) -> None:
    _, out, _ = exported
    for path, limit in ((out / CHECKPOINT, 7e6), (out / "finder" / CHECKPOINT, 1.8e6)):
        checkpoint = torch.load(path, weights_only=True)
        assert set(checkpoint) == {
            "network_weights",
            "trainer_name",
            "init_args",
            "inference_allowed_mirroring_axes",
        }
        assert path.stat().st_size < limit
        assert {i.compress_type for i in zipfile.ZipFile(path).infolist()} == {zipfile.ZIP_DEFLATED}


def test_filters_keep_eight_bits_that_float16_holds_exactly() -> None:
    kernel = torch.randn(5, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 5).view(
        5, 1, 1, 1, 1
    )
    kernel[4] = 0
    rounded = coarser(kernel)
    assert torch.equal(rounded.half().float(), rounded)
    assert torch.equal(coarser(rounded), rounded)
    for before, after in zip(kernel, rounded, strict=True):
        assert len(after.unique()) <= 255
        assert (after - before).abs().max() <= before.abs().max() / 127 + 1e-12
    bias = torch.randn(7)
    assert torch.equal(coarser(bias), bias)


def test_a_run_of_the_fine_network_alone_takes_the_finder_of_another_model(
    exported: tuple[Path, Path, dict[str, torch.nn.Module]], tmp_path: Path, scene_folder: Path
) -> None:
    run, model, _ = exported
    fine = tmp_path / "run" / "fine"
    shutil.copytree(run / "fine", fine)
    export_main(
        [
            "--run",
            str(tmp_path / "run"),
            "--scenes",
            str(scene_folder),
            "--finder",
            str(model),
            "--note",
            "why",
            "--out",
            str(tmp_path / "new"),
        ]
    )
    card = json.loads((tmp_path / "new" / "heartseg.json").read_text())
    assert (tmp_path / "new" / "finder" / CHECKPOINT).read_bytes() == (model / "finder" / CHECKPOINT).read_bytes()
    assert (
        card["files"][f"finder/{CHECKPOINT}"]
        == json.loads((model / "heartseg.json").read_text())["files"][f"finder/{CHECKPOINT}"]
    )
    assert card["trained_on"]["history"] == "why"
    assert card["trained_on"]["finder"]["of_model"] == card["version"]


def test_the_card_holds_the_hashes_of_both_checkpoints(exported: tuple[Path, Path, dict[str, torch.nn.Module]]) -> None:
    _, out, _ = exported
    card = json.loads((out / "heartseg.json").read_text())
    assert card["schema"] == "heartseg-model-1"
    assert set(card["files"]) == {CHECKPOINT, f"finder/{CHECKPOINT}"}
    for name, digest in card["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    inner = json.loads((out / "finder" / "heartseg.json").read_text())
    assert (card["normalization_extent"], inner["normalization_extent"]) == ("crop", "scan")


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_stock_nnunet_takes_the_folder_and_computes_the_same(
    exported: tuple[Path, Path, dict[str, torch.nn.Module]], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor_module = pytest.importorskip("nnunetv2.inference.predict_from_raw_data", reason="nnunetv2 not installed")
    # The trainer search would import the primus trainers, which need a torchvision that matches torch.
    blank = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
    monkeypatch.setitem(sys.modules, blank, types.ModuleType(blank))
    run, out, _ = exported
    folder = out / "finder" if stage.name == "finder" else out
    predictor = predictor_module.nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=(0,), checkpoint_name="checkpoint_final.pth")
    assert predictor.configuration_manager.normalization_schemes == ["ZScoreNormalization"]
    assert predictor.configuration_manager.spacing == [stage.spacing] * 3
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    ours = load_snapshot(run, stage)
    with torch.inference_mode():
        assert torch.allclose(predictor.network.eval()(image), ours(image), atol=1e-5)


def test_fewer_views_without_a_heart_leave_the_others_as_they_are(scene_folder: Path) -> None:
    fewer = with_empty_views(FINE_FULL, 0.25)
    assert dict(fewer.kinds) == {"trunk": 0.51, "thorax": 0.34, "heartless": 0.0375}
    body = np.zeros((100, 100, 100), np.uint8)
    scene = replace(
        load_scene(next(scene_folder.glob("*.json"))),
        kind="trunk",
        regions=body,
        spacing=5.0,
        heart_centre=(250.0, 250.0, 250.0),
    )

    def away(stage: Stage) -> float:
        views = [stage.draw_view(np.random.default_rng(i), scene, 32, 6.0) for i in range(200)]
        return float(np.mean([np.abs(v.centre - np.array(scene.heart_centre)).max() > 75 for v in views]))

    assert 0.2 < away(FINE_FULL) < 0.45
    assert away(with_empty_views(FINE_FULL, 0)) == 0
    assert away(fewer) < 0.15
