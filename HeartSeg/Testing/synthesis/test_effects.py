"""Image effects of generator 0.6: each effect alone, disabled, and their absence in generator 0.5."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.synthesis.appearance import Appearance, draw_appearance, render
from heartseg.synthesis.appearance.effects import ALL
from heartseg.synthesis.appearance.effects.base import Effect
from heartseg.synthesis.appearance.effects.clipping import Clipping
from heartseg.synthesis.appearance.effects.enhancement import LateEnhancement
from heartseg.synthesis.appearance.effects.flow_voids import FlowVoids
from heartseg.synthesis.appearance.effects.layering import Layer, Layering
from heartseg.synthesis.appearance.effects.low_dose import LowDose
from heartseg.synthesis.appearance.effects.lung_kernel import LungKernel
from heartseg.synthesis.appearance.effects.pulsation import Pulsation, zoom_matrix
from heartseg.synthesis.appearance.effects.svc_streaks import VenaCavaStreaks
from heartseg.synthesis.appearance.effects.trabeculae import Trabeculae
from heartseg.synthesis.regions import Region
from heartseg.synthesis.switches import EFFECTS
from plain_images import body, plain

LOOKS = [("ct", "arterial"), ("ct", "non_contrast"), ("mr", "bssfp"), ("mr", "late_enhancement"), ("free", None)]


def two_chambers(size: int = 64) -> np.ndarray:
    """Return a left ventricle in its wall above a right atrium, a right ventricle next to it, a vena cava; 1 mm."""
    regions = np.full((size, size, size), Region.MUSCLE, np.uint8)
    regions[36:60, 8:56, 8:40] = Region.LV_MYO
    regions[40:56, 12:52, 12:36] = Region.LV_BLOOD
    regions[4:28, 4:60, 4:28] = Region.RA_BLOOD
    regions[4:28, 4:60, 36:60] = Region.RV_BLOOD
    regions[:, 28:36, 50:58][regions[:, 28:36, 50:58] == Region.MUSCLE] = Region.SVC
    return regions


def shown(look: Appearance, *effects: Effect, regions: np.ndarray | None = None) -> np.ndarray:
    """Return the image of a map at 2 mm with these effects."""
    regions = two_chambers() if regions is None else regions
    return render(np.random.default_rng(0), regions, replace(look, effects=effects), 2.0).numpy()


def centres(region: Region) -> np.ndarray:
    """Return image voxels that lie completely in a region."""
    return (two_chambers() == region).reshape(32, 2, 32, 2, 32, 2).all((1, 3, 5))


def test_each_effect_has_a_switch_of_its_name() -> None:
    assert {kind.name for kind in ALL} == set(EFFECTS)


@pytest.mark.parametrize("kind", ["ct", "mr", "free", "mixed"])
def test_the_recipe_of_the_frozen_scans_has_no_effects_and_draws_as_before(kind: str) -> None:
    versions: tuple[dict[str, Any], ...] = ({}, {"generator": "0.5"})
    old, named = (draw_appearance(np.random.default_rng(4), kind, **k) for k in versions)
    assert old.effects == named.effects == ()
    assert np.array_equal(old.mean, named.mean)


@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.name)
def test_an_effect_that_is_switched_off_leaves_everything_else_as_drawn(kind: type[Effect]) -> None:
    seen = 0
    for seed in range(160):
        full, less = (
            draw_appearance(np.random.default_rng(seed), without=frozenset(off), generator="0.6")
            for off in ((), (kind.name,))
        )
        if kind.name == "low_dose" and full.protocol != less.protocol:
            continue  # the switch also disables more CT without contrast medium
        assert [type(e) for e in less.effects] == [type(e) for e in full.effects if type(e) is not kind]
        seen += len(full.effects) - len(less.effects)
        same = [f.name for f in fields(Appearance) if f.name != "effects"]
        assert all(np.array_equal(getattr(full, name), getattr(less, name)) for name in same)
    assert seen > 0


@pytest.mark.parametrize(("kind", "protocol"), LOOKS)
def test_images_with_effects_are_finite_and_repeat_by_seed(kind: str, protocol: str | None) -> None:
    regions = body()
    for seed in range(6):
        look = draw_appearance(np.random.default_rng(seed), kind, protocol=protocol, generator="0.6")
        a, b = (render(np.random.default_rng(1), regions, look, 3.0) for _ in range(2))
        assert a.dtype == torch.float32 and bool(torch.isfinite(a).all()) and torch.equal(a, b)


def test_effects_are_drawn_for_the_images_that_have_them() -> None:
    draws = [draw_appearance(np.random.default_rng(s), generator="0.6") for s in range(300)]
    names = {e.name for look in draws for e in look.effects}
    assert names == set(EFFECTS)
    for look in draws:
        of = {e.name for e in look.effects}
        assert not ({"svc_streaks", "lung_kernel", "low_dose"} & of and look.kind != "ct")
        assert not ("late_enhancement" in of and look.protocol != "late_enhancement")
        assert not ("layering" in of and look.protocol == "non_contrast")


def test_layers_divide_the_atrium_and_leave_the_rest() -> None:
    look = plain("ct")
    layer = Layer((Region.RA_BLOOD,), np.array([0.0, 1.0, 0.0]), 0.0, 1.0, 0.0, 800.0, 40.0)
    before, after = shown(look), shown(look, Layering((layer,)))
    atrium, front = centres(Region.RA_BLOOD), np.arange(32)[None, :, None] < 14
    back = np.arange(32)[None, :, None] > 17
    assert after[atrium & back] == pytest.approx(800, abs=1)
    assert after[atrium & front] == pytest.approx(40, abs=1)
    others = centres(Region.RV_BLOOD) | centres(Region.LV_BLOOD) | centres(Region.MUSCLE)
    assert after[others] == pytest.approx(before[others], abs=1e-3)


def test_one_border_may_run_through_atrium_and_ventricle() -> None:
    layer = Layer((Region.RA_BLOOD, Region.RV_BLOOD), np.array([0.0, 1.0, 0.0]), 0.0, 1.0, 0.0, 800.0, 40.0)
    after = shown(plain("ct"), Layering((layer,)))
    assert np.ptp(after[2:14, 20, 2:14]) < 1 and after[8, 20, 8] == pytest.approx(after[8, 20, 24], abs=1)


def test_trabeculae_are_muscle_in_the_blood_beside_the_wall_alone() -> None:
    look = plain("mr")
    after = shown(look, Trabeculae((Region.LV_BLOOD,), 3.0, 0.6, 3.0, 1.0))
    blood = centres(Region.LV_BLOOD)
    depth = np.zeros(blood.shape)
    depth[20:28, 6:26, 6:18] = 1
    deep = np.zeros_like(blood)
    deep[23:25, 11:21, 10:14] = True
    muscle = (after - look.mean[Region.LV_BLOOD]) / (look.mean[Region.LV_MYO] - look.mean[Region.LV_BLOOD])
    assert muscle[blood & ~deep].mean() > 5 * max(muscle[deep].mean(), 0.005)
    assert 0.05 < muscle[blood].mean() < 0.6
    assert after[centres(Region.RA_BLOOD)] == pytest.approx(look.mean[Region.RA_BLOOD], rel=1e-4)


def test_flow_voids_darken_blood_alone() -> None:
    look = plain("mr")
    jets = FlowVoids(
        np.array([20.0]), np.array([3.0]), np.array([[0.0, 1.0, 0.0]]), np.array([Region.LV_BLOOD]), np.array([0.9])
    )
    before, after = shown(look), shown(look, jets)
    blood = centres(Region.LV_BLOOD)
    assert after[blood].min() < 0.4 * before[blood].min()
    assert after[centres(Region.MUSCLE)] == pytest.approx(before[centres(Region.MUSCLE)], rel=1e-5)


def test_a_subendocardial_scar_lies_at_the_inner_border_of_the_wall() -> None:
    look = plain("mr")
    look = replace(look, mean=look.mean.copy())
    look.mean[Region.SCAR], look.mean[Region.LV_MYO] = 5.0, 0.5
    thick = two_chambers()
    thick[40:56, 12:52, 12:36] = Region.LV_MYO
    thick[42:56, 18:46, 20:34] = Region.LV_BLOOD
    scar = LateEnhancement(0.2, 1.0, -9.0, 30.0, 1.0, 0.0)  # every voxel exceeds this level
    after = shown(look, scar, regions=thick)
    assert after[24, 16, 9] > 2  # 2 mm to the right of the blood
    assert after[20, 5, 6] == pytest.approx(0.5, abs=0.05)  # at the outer border


def test_rays_start_at_the_vena_cava_and_fade() -> None:
    rays = VenaCavaStreaks(np.array([np.pi]), np.deg2rad([6.0]), np.array([300.0]), 0.0, 40.0, 0.0)
    look = plain("ct")
    change = shown(look, rays) - shown(look)
    slice_ = change[30]
    assert slice_[15, 22] > 60 > abs(slice_[5, 22])  # to the right of the vein, not in front of it
    assert slice_[15, 20] > slice_[15, 3] > 0


def test_pulsation_keeps_borders_in_their_mean_place() -> None:
    assert zoom_matrix(9, 4.0, 1.0) == pytest.approx(np.eye(9))
    look = plain("ct")
    before, after = shown(look), shown(look, Pulsation((0.1, 0.1, 0.1), 2, 0.0, False, 0.0))
    assert np.abs(after - before).max() > 20
    line = slice(1, 15)
    assert after[8, 16, line].mean() == pytest.approx(before[8, 16, line].mean(), rel=0.1)


def test_a_lung_kernel_adds_noise_without_slow_parts() -> None:
    look, regions = plain("ct"), np.full((64, 64, 64), Region.MUSCLE, np.uint8)
    noise = shown(look, LungKernel(1.0, 1.2, 60.0), regions=regions) - look.mean[Region.MUSCLE]
    assert noise.std() == pytest.approx(60, rel=0.02)
    blocks = noise.reshape(32, 4, 8, 4, 8).mean((2, 4))
    assert blocks.std() < 0.5 * 60 / 4  # white noise would have 60 / 4


def test_low_dose_noise_runs_in_stripes_along_x() -> None:
    look, regions = plain("ct"), np.full((64, 64, 64), Region.MUSCLE, np.uint8)
    noise = shown(look, LowDose(40.0, 10.0), regions=regions) - look.mean[Region.MUSCLE]
    assert noise.std() == pytest.approx(40, rel=0.05)
    along = np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]
    across = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    assert along > 0.9 > 0.7 > across


def test_clipping_keeps_what_lies_below_its_knee() -> None:
    look = replace(plain("ct"), mean=np.linspace(-500, 2000, 256).astype(np.float32))
    before = shown(look)
    cut = shown(look, Clipping(100.0, True, 0.0))
    bent = shown(look, Clipping(100.0, True, 0.25))
    assert cut == pytest.approx(np.minimum(before, 100))
    assert bent == pytest.approx(np.where(before > 100, 100 + 0.25 * (before - 100), before), abs=1e-3)
    share = shown(look, Clipping(0.9, False, 0.0))
    assert (share == share.max()).mean() >= 0.1 - 1e-6


def test_random_convolutions_keep_mean_and_spread() -> None:
    kind = next(k for k in ALL if k.name == "random_convolution")
    look, done = plain("ct"), 0
    before = shown(look)
    for seed in range(40):
        effect = kind.draw(np.random.default_rng(seed), look)
        if effect is not None:
            after = shown(look, effect)
            done += 1
            assert after.mean() == pytest.approx(before.mean(), abs=0.01 * float(before.std()))
            assert after.std() == pytest.approx(before.std(), rel=0.01)
    assert done >= 3


def test_clusters_divide_a_tissue_and_spare_the_air() -> None:
    kind = next(k for k in ALL if k.name == "clusters")
    look = plain("ct")
    regions = np.zeros((64, 64, 64), np.uint8)
    regions[:, 32:] = Region.MUSCLE
    spreads = []
    for seed in range(30):
        effect = kind.draw(np.random.default_rng(seed), look)
        if effect is not None:
            after = shown(look, effect, regions=regions)
            assert np.ptp(after[:, :16]) == 0
            spreads.append(np.unique(after[:, 16:].round(2)).size)
    assert max(spreads) >= 2 and max(spreads) <= 4 and min(spreads) == 1
