"""Grey values of each kind of scan, and the steps of image formation."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.synthesis.appearance import KINDS, PARTS, Appearance, draw_appearance, render
from heartseg.synthesis.appearance.ct import PHASES
from heartseg.synthesis.appearance.mr import SEQUENCES
from heartseg.synthesis.fields import gaussian_blur, rotation_matrix, shift_matrix, smooth_field, smooth_noise
from heartseg.synthesis.regions import Region
from plain_images import body, plain

LOOKS = [("ct", phase) for phase in PHASES] + [("mr", sequence) for sequence in SEQUENCES] + [("free", None)]


@pytest.mark.parametrize(("kind", "protocol"), LOOKS)
def test_every_region_has_a_finite_value_of_its_own(kind: str, protocol: str) -> None:
    draws = [draw_appearance(np.random.default_rng(seed), kind, protocol=protocol) for seed in range(6)]
    for table in ("mean", "mixing", "texture"):
        assert all(np.isfinite(getattr(look, table)).all() for look in draws)
    ids = [r for r in Region if r not in (Region.AIR, Region.UNSEEN)]
    assert np.stack([look.mean[ids] for look in draws]).any(0).all()
    assert all(look.mixing.min() >= 0 and look.texture.min() >= 0 for look in draws)


@pytest.mark.parametrize(("kind", "protocol"), LOOKS)
def test_images_are_finite_repeatable_and_the_same_from_arrays_and_tensors(kind: str, protocol: str) -> None:
    regions = body()
    for seed in range(4):
        look = draw_appearance(np.random.default_rng(seed), kind, protocol=protocol)
        images = [
            render(np.random.default_rng(1), given, look, 3.0)
            for given in (regions, torch.from_numpy(regions), regions)
        ]
        assert images[0].shape == (24, 24, 24)
        assert images[0].dtype == torch.float32
        assert torch.isfinite(images[0]).all()
        assert torch.equal(images[0], images[1])
        assert torch.equal(images[0], images[2])


def test_draws_repeat_by_seed_and_mix_the_kinds_by_their_shares() -> None:
    draws = [draw_appearance(np.random.default_rng(seed), "mixed") for seed in range(400)]
    again = draw_appearance(np.random.default_rng(7), "mixed")
    assert np.array_equal(again.mean, draws[7].mean)
    shares = {kind: np.mean([look.kind == kind for look in draws]) for kind in KINDS}
    # Standard deviation of a fraction of 400 draws: at most 0.025.
    assert shares["ct"] == pytest.approx(0.5, abs=0.1)
    assert shares["mr"] == pytest.approx(0.3, abs=0.1)


def test_mr_sequences_keep_the_order_of_their_tissues() -> None:
    for seed in range(50):
        tables = {s: draw_appearance(np.random.default_rng(seed), "mr", protocol=s).mean for s in SEQUENCES}
        for name, m in tables.items():
            for blood in (Region.LV_BLOOD, Region.RV_BLOOD):
                assert (m[blood] > m[Region.LV_MYO]) == (name != "black_blood")
            assert m[Region.LUNG] < max(m[Region.LV_BLOOD], m[Region.LV_MYO])
        bright = tables["bssfp"]
        assert 1.9 < bright[Region.LV_BLOOD] / bright[Region.LV_MYO] < 4.9
        assert tables["mra"][Region.FAT] < tables["mra"][Region.LV_BLOOD]
        late = tables["late_enhancement"]
        assert late[Region.SCAR] > late[Region.LV_BLOOD] * 0.9
        assert late[Region.SCAR] > 2 * late[Region.LV_MYO]


def test_contrast_phases_light_the_side_they_are_named_for() -> None:
    for seed in range(50):
        m = {p: draw_appearance(np.random.default_rng(seed), "ct", protocol=p).mean for p in PHASES}
        left, right = ({p: t[r] for p, t in m.items()} for r in (Region.LV_BLOOD, Region.PA_BLOOD))
        assert left["pulmonary"] < m["pulmonary"][Region.RV_BLOOD] + 60
        assert left["arterial"] > 130
        assert min(left["triple_rule_out"], right["triple_rule_out"]) > 100
        assert abs(left["non_contrast"] - m["non_contrast"][Region.LV_MYO]) < 25
        assert left["weak"] < 290
        assert all(2000 <= t[Region.METAL] <= 3071 for t in m.values())


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_that_is_switched_off_leaves_everything_else_as_drawn(part: str) -> None:
    changed = set()
    for seed in range(60):
        full = draw_appearance(np.random.default_rng(seed))
        less = draw_appearance(np.random.default_rng(seed), without=frozenset({part}))
        changed |= {
            f.name for f in fields(Appearance) if not np.array_equal(getattr(full, f.name), getattr(less, f.name))
        }
    expected = {
        "mixing": {"mixing"},
        "streaks": {"streak"},
        "noise": {"noise"},
        "slices": {"slice_mm"},
        "motion": {"motion", "step"},
        "bias": {"bias", "gain", "front_gain", "banding"},
        "window": {"window"},
        "ghosts": {"ghost"},
        "inflow": {"inflow"},
        "beam_hardening": {"beam_hardening"},
        "kernel": {"sharpness", "ringing"},
    }
    assert changed == expected[part]


def test_without_mr_or_free_images_the_mixture_holds_ct_instead() -> None:
    draws = [draw_appearance(np.random.default_rng(s), without=frozenset({"mr", "free"})) for s in range(50)]
    assert {look.kind for look in draws} == {"ct"}


def test_unknown_kinds_phases_sequences_and_parts_are_named() -> None:
    rng = np.random.default_rng(0)
    for kind, protocol in (("pet", None), ("ct", "late"), ("mr", "late")):
        with pytest.raises(ValueError, match=r"pet|late"):
            draw_appearance(rng, kind, protocol=protocol)
    with pytest.raises(ValueError, match="sparkle"):
        draw_appearance(rng, without=frozenset({"sparkle"}))


@pytest.mark.parametrize("kind", KINDS)
def test_with_everything_off_an_image_is_the_mean_of_each_voxels_parts(kind: str) -> None:
    regions, look = body(), plain(kind)
    image = render(np.random.default_rng(0), regions, look, 3.0).numpy()
    expected = look.mean[regions].reshape(24, 2, 24, 2, 24, 2).mean((1, 3, 5))
    assert image == pytest.approx(expected, rel=1e-4, abs=1e-2)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("ct", {"streak": 0.3}),
        ("ct", {"beam_hardening": 1.0}),
        ("ct", {"step": 3.0}),
        ("ct", {"motion": 3.0}),
        ("ct", {"sharpness": 0.4}),
        ("ct", {"noise": 40.0}),
        ("ct", {"bias": 20.0}),
        ("ct", {"slice_mm": 8.0}),
        ("mr", {"noise": 0.1}),
        ("mr", {"ghost": 0.2}),
        ("mr", {"inflow": 0.4}),
        ("mr", {"banding": 0.6}),
        ("mr", {"gain": 0.2}),
        ("mr", {"front_gain": 0.8}),
        ("mr", {"ringing": 5.0}),
        ("mr", {"slice_mm": 8.0, "slice_axis": 1, "tilt": 0.5}),
        ("ct", {"window": (-100.0, 300.0, 256)}),
    ],
)
def test_each_part_changes_the_image_and_keeps_the_heart_where_it_is(kind: str, part: dict[str, Any]) -> None:
    regions, look = body(), plain(kind)
    before = render(np.random.default_rng(0), regions, look, 3.0).numpy()
    after = render(np.random.default_rng(0), regions, replace(look, **part), 3.0).numpy()
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 0.02 * np.ptp(before)
    heart = np.s_[12:20, 5:19, 5:19]
    assert np.corrcoef(before[heart].ravel(), after[heart].ravel())[0, 1] > 0.6


def test_slices_are_thick_along_the_axis_that_is_named() -> None:
    regions = np.zeros((48, 48, 48), np.uint8)
    regions[20:28, 20:28, 20:28] = Region.LV_BLOOD
    look = replace(plain("mr"), slice_mm=9.0)
    for axis in range(3):
        image = render(np.random.default_rng(0), regions, replace(look, slice_axis=axis), 1.5).numpy()
        others = tuple(a for a in range(3) if a != axis)
        extent = [int((image.max(tuple(b for b in range(3) if b != a)) > 0.05).sum()) for a in range(3)]
        assert all(extent[axis] > extent[o] + 2 for o in others)


def test_slices_of_a_turned_stack_are_thick_across_it_and_sharp_along_it() -> None:
    """Spread of a ball along the stack's own axes, one of which is 40 degrees off the axis of the image."""
    regions = np.zeros((96, 96, 96), np.uint8)
    regions[44:52, 44:52, 44:52] = Region.LV_BLOOD
    turn = rotation_matrix(np.deg2rad([40.0, 0.0, 0.0]))
    look = replace(plain("mr"), slice_mm=9.0, slice_axis=0, slice_turn=turn)
    image = render(np.random.default_rng(0), regions, look, 1.5).numpy()
    image -= image.min()
    place = np.moveaxis(np.indices(image.shape), 0, -1) - (np.array(image.shape) - 1) / 2
    spread = [float(np.sqrt((image * (place @ turn[:, k]) ** 2).sum() / image.sum())) for k in range(3)]
    assert spread[0] > 1.5 * spread[1] and spread[0] > 1.5 * spread[2]
    assert spread[0] < 1.5 * 9.0 / 1.5


def test_a_stack_that_is_not_turned_is_the_same_with_and_without_its_axes() -> None:
    regions, look = body(), replace(plain("mr"), slice_mm=9.0)
    straight = render(np.random.default_rng(0), regions, look, 3.0).numpy()
    turned = render(np.random.default_rng(0), regions, replace(look, slice_turn=np.eye(3)), 3.0).numpy()
    assert turned == pytest.approx(straight, rel=1e-4, abs=1e-4 * float(np.ptp(straight)))


def test_noise_in_mr_is_rician() -> None:
    regions = np.zeros((48, 48, 48), np.uint8)
    look = replace(plain("mr"), mean=np.zeros(256, np.float32), noise=0.1, noise_grain=0.0)
    image = render(np.random.default_rng(0), regions, look, 1.5)
    # Without signal, a Rician variable has the mean sqrt(pi / 2) sigma; 13 824 voxels, SD 0.066, so the error is
    # 0.0006.
    assert float(image.mean()) == pytest.approx(0.1 * np.sqrt(np.pi / 2), abs=0.003)


def test_smooth_fields_are_the_same_as_arrays_and_tensors() -> None:
    a = smooth_noise(np.random.default_rng(2), (20, 24, 28), 6)
    b = smooth_field(np.random.default_rng(2), (20, 24, 28), 6, "cpu")
    assert np.array_equal(a, b.numpy())
    assert a.mean() == pytest.approx(0, abs=1e-5)
    assert a.std() == pytest.approx(1, abs=1e-4)


def test_a_blur_keeps_the_sum_and_has_the_width_it_is_given() -> None:
    image = torch.zeros(31, 31, 31)
    image[15, 15, 15] = 1
    blurred = gaussian_blur(image, (2.0, 0.1, 1.0))
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    line = torch.arange(31) - 15.0
    # A Gaussian truncated at three standard deviations has 0.973 of its variance.
    assert float((blurred.sum((1, 2)) * line**2).sum()) == pytest.approx(0.973 * 4, rel=0.03)
    assert float(blurred[:, 14].abs().max()) == 0


def test_a_shift_moves_a_line_by_parts_of_a_voxel() -> None:
    line = np.zeros(9)
    line[4] = 1
    assert (shift_matrix(9, 1.25) @ line).tolist() == pytest.approx([0, 0, 0, 0, 0, 0.75, 0.25, 0, 0])
    assert (shift_matrix(9, -1.0) @ line).argmax() == 3
