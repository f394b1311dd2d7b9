"""Losses: values calculated by hand, gradients against finite differences, ignored voxels without weight."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from heartseg.training.edges import split_interior_edge
from heartseg.training.losses import (
    REGION_LOSSES,
    DeepSupervision,
    RegionAndEdgeLoss,
    cross_entropy,
    cross_entropy_and_dice,
    cross_entropy_and_soft_dice,
    cross_entropy_plus_dice,
    deep_loss,
    dice,
    focal,
    plain_focal,
    soft_dice,
    thin_out,
)
from heartseg.training.nnunet.presets import CSFBU
from heartseg.training.nnunet.supervision import TrainingLoss

# Two pixels, three classes: p = (.5, .3, .2) with true class 1, and (.1, .1, .8) with true class 2.
P = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
LOGITS = P.log().T.reshape(1, 3, 1, 2)
TRUTH = torch.tensor([[[1, 2]]])


def random_case(dims: int, channels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (2, channels, 3, 4[, 2]) in double precision, and labels of which some are ignored."""
    generator = torch.Generator().manual_seed(seed)
    size = (3, 4, 2)[:dims]
    logits = torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, channels, (2, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits, labels


def test_cross_entropy_is_the_mean_of_minus_log_p() -> None:
    assert cross_entropy(LOGITS, TRUTH).item() == pytest.approx(-(math.log(0.3) + math.log(0.8)) / 2)


@pytest.mark.parametrize("delta", [1e-5, 0.5, 1.0])
def test_soft_dice_is_the_formula(delta: float) -> None:
    first = (2 * 0.3 + delta) / (1 + 0.4 + delta)  # class 1: one true pixel, p sums to .3 + .1
    second = (2 * 0.8 + delta) / (1 + 1.0 + delta)
    zero = delta / (0.6 + delta)
    assert soft_dice(LOGITS, TRUTH, delta=delta).item() == pytest.approx(1 - (first + second) / 2)
    assert soft_dice(LOGITS, TRUTH, delta=delta, background=True).item() == pytest.approx(
        1 - (zero + first + second) / 3
    )


def test_the_tutorials_dice_is_smoothed_by_a_hundred_thousandth() -> None:
    assert dice(LOGITS, TRUTH).item() == pytest.approx(1 - (0.6 / 1.4 + 1.6 / 2.0) / 2, abs=1e-5)


def test_soft_dice_per_image_is_the_mean_of_each_images_own() -> None:
    logits, labels = random_case(2, 3)
    alone = [soft_dice(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    assert soft_dice(logits, labels, per_image=True).item() == pytest.approx(sum(alone).item() / 2)
    assert soft_dice(logits, labels).item() != pytest.approx(sum(alone).item() / 2, abs=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 1.0])
def test_beta_mixes_cross_entropy_and_soft_dice(beta: float) -> None:
    wanted = beta * cross_entropy(LOGITS, TRUTH) + (1 - beta) * soft_dice(LOGITS, TRUTH)
    assert cross_entropy_and_soft_dice(LOGITS, TRUTH, beta=beta).item() == pytest.approx(wanted.item())


def test_beta_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"beta is 1\.5: it must be between 0 and 1"):
        cross_entropy_and_soft_dice(LOGITS, TRUTH, beta=1.5)


def test_focal_weighs_structures_by_alpha_and_easy_voxels_little() -> None:
    wanted = -(0.75 * 0.7**2 * math.log(0.3) + 0.75 * 0.2**2 * math.log(0.8)) / 2
    assert focal(LOGITS, TRUTH).item() == pytest.approx(wanted)
    background = -(0.25 * 0.5**2 * math.log(0.5) + 0.25 * 0.9**2 * math.log(0.1)) / 2
    assert focal(LOGITS, TRUTH * 0).item() == pytest.approx(background)
    plain = focal(LOGITS, TRUTH, gamma=0.0, alpha=0.5)
    assert plain.item() == pytest.approx(cross_entropy(LOGITS, TRUTH).item() / 2)


@pytest.mark.parametrize("name", REGION_LOSSES)
@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_are_those_of_finite_differences(name: str, dims: int) -> None:
    logits, labels = random_case(dims, 3)
    assert torch.autograd.gradcheck(lambda x: REGION_LOSSES[name](x, labels), logits.requires_grad_())


@pytest.mark.parametrize("edge", ["inner", "head"])
@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_of_regions_and_edges_are_those_of_finite_differences(edge: str, dims: int) -> None:
    logits, channels = random_case(dims, 5)
    loss = RegionAndEdgeLoss(edge, 2, alpha=0.7)
    assert torch.autograd.gradcheck(lambda x: loss(x, channels), logits.requires_grad_())


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_ignored_voxels_have_no_weight(name: str) -> None:
    logits, labels = random_case(3, 4)
    changed = torch.where((labels == 255)[:, None], 30 * torch.randn_like(logits), logits)
    loss = REGION_LOSSES[name]
    assert loss(changed, labels).item() == pytest.approx(loss(logits, labels).item())
    nothing = loss(logits.requires_grad_(), torch.full_like(labels, 255))
    nothing.backward()
    assert math.isfinite(nothing.item())
    assert not logits.grad.any()


def test_a_single_voxel_that_counts_is_the_whole_mean() -> None:
    target = torch.tensor([[[1, 255]]])
    assert cross_entropy(LOGITS, target).item() == pytest.approx(-math.log(0.3))
    weighed = -0.75 * 0.7**2 * math.log(0.3)
    assert focal(LOGITS, target).item() == plain_focal(LOGITS, target).item() == pytest.approx(weighed)
    alone = torch.tensor([1, 255, 255, 255]).reshape(1, 1, 1, 4)
    entropy, lost = cross_entropy_and_dice(VOLUME, alone)
    assert (entropy.item(), lost.item()) == pytest.approx((-math.log(0.3), 1 - 1.6 / 2.3))


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_a_slice_costs_the_same_in_2d_and_in_3d_and_with_a_channel_axis(name: str) -> None:
    logits, labels = random_case(2, 4)
    flat, loss = REGION_LOSSES[name](logits, labels).item(), REGION_LOSSES[name]
    assert loss(logits[..., None], labels[..., None]).item() == pytest.approx(flat)
    assert loss(logits, labels[:, None].to(torch.int16)).item() == pytest.approx(flat)


@pytest.mark.parametrize("name", [n for n in REGION_LOSSES if n != "ce-plus-dice"])
def test_a_right_answer_costs_nothing_and_half_precision_is_no_matter(name: str) -> None:
    labels = torch.randint(0, 4, (2, 5, 5), generator=torch.Generator().manual_seed(0))
    logits = 40 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).half()
    value = REGION_LOSSES[name](logits, labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0, abs=1e-5)


def test_document_004s_focal_loss_weighs_all_voxels_alike() -> None:
    wanted = -0.75 * (0.5**2 * math.log(0.5) + 0.2**2 * math.log(0.8)) / 2
    found = REGION_LOSSES["plain-focal"](LOGITS, torch.tensor([[[0, 2]]]))
    assert found.item() == pytest.approx(wanted)
    halved = plain_focal(LOGITS, TRUTH, gamma=0.0, alpha=0.5)
    assert halved.item() == pytest.approx(cross_entropy(LOGITS, TRUTH).item() / 2)


@pytest.mark.parametrize("smoothing", [0.5, 1.0])
def test_document_002s_loss_is_the_plain_sum_with_its_smoothing_in_the_denominator(smoothing: float) -> None:
    first, second = 2 * 0.3 / (1 + 0.4 + smoothing), 2 * 0.8 / (1 + 1.0 + smoothing)
    entropy = -(math.log(0.3) + math.log(0.8)) / 2
    found = cross_entropy_plus_dice(LOGITS, TRUTH, smoothing=smoothing)
    assert found.item() == pytest.approx(entropy + 1 - (first + second) / 2)
    if smoothing == 1:
        assert REGION_LOSSES["ce-plus-dice"](LOGITS, TRUTH).item() == pytest.approx(found.item())
    masked = cross_entropy_plus_dice(LOGITS, torch.tensor([[[1, 255]]]), smoothing=smoothing)
    assert masked.item() == pytest.approx(-math.log(0.3) + 1 - 0.6 / (1 + 0.3 + smoothing) / 2)


def test_regions_that_lose_their_edges_are_compared_as_interiors() -> None:
    """Manual calculation, K = 1: one interior pixel with p = (.2, .5, .3), one edge pixel with p = (.1, .3, .6)."""
    p = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.3, 0.6]], dtype=torch.float64)
    channels, target = p.log().T.reshape(1, 3, 1, 2), torch.tensor([[[1, 2]]])
    interior, edges = [0.5, 0.7], [0.7, 0.6]  # the edge pixel is not interior: .1 + .6
    entropies = [-sum(map(math.log, part)) / 2 for part in (interior, edges)]
    loss = RegionAndEdgeLoss("inner", 1, alpha=0.5, base=cross_entropy, regions="interior")
    assert loss(channels, target).item() == pytest.approx(entropies[0] + 0.5 * entropies[1])
    preset = CSFBU.with_changes(regions="interior", loss="cross-entropy", network="csfbu-edge", alpha=0.5)
    assert TrainingLoss(preset, 1, (1.0, 1.0)).at_one_resolution == loss


@pytest.mark.parametrize("edge", ["inner", "head"])
def test_regions_and_edges_are_two_losses_added(edge: str) -> None:
    """Manual calculation, K = 1: one interior pixel with p = (.2, .5, .3), one edge pixel with p = (.1, .3, .6)."""
    p = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.3, 0.6]], dtype=torch.float64)
    channels, target = p.log().T.reshape(1, 3, 1, 2), torch.tensor([[[1, 2]]])
    region, edges = [0.8, 0.9], [0.7, 0.6]  # p of the true region; p of "no edge", then of the edge
    if edge == "head":
        region = [0.5 / 0.7, 0.3 / 0.4]
        edges = [1 / 1.3, 0.6 / 1.6]  # logit 0 next to log .3, log .6
    entropies = [-sum(map(math.log, part)) / 2 for part in (region, edges)]
    loss = RegionAndEdgeLoss(edge, 1, alpha=0.5, base=cross_entropy)
    assert loss(channels, target).item() == pytest.approx(entropies[0] + 0.5 * entropies[1])


def test_without_weight_on_edges_it_is_the_loss_of_the_plain_network() -> None:
    logits, labels = random_case(3, 4)
    channels = torch.cat((logits, torch.full_like(logits[:, 1:], -100)), 1)
    target = split_interior_edge(labels, (1.0, 1.0, 1.0), 1, 3)
    found = RegionAndEdgeLoss("inner", 3, alpha=0.0)(channels, target)
    assert found.item() == pytest.approx(cross_entropy_and_soft_dice(logits, labels).item())


def test_a_network_in_evaluation_is_judged_by_its_regions() -> None:
    logits, labels = random_case(2, 4)
    target = split_interior_edge(labels, (1.0, 1.0), 1, 3)
    loss = RegionAndEdgeLoss("inner", 3)
    assert loss(logits, target).item() == pytest.approx(cross_entropy_and_soft_dice(logits, labels).item())
    with pytest.raises(ValueError, match="5 channels found: 3 structures need 7, or 4 joined"):
        loss(logits[:, [0, 1, 2, 3, 3]], target)


def test_deep_supervision_halves_the_weight_at_every_level() -> None:
    logits, labels = random_case(2, 3)
    coarse = torch.randn(2, 3, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    loss = DeepSupervision(partial(cross_entropy_and_soft_dice, beta=0.3))
    parts = [loss(logits, labels).item(), loss(coarse, labels[:, :1, ::2]).item()]
    assert loss([logits, coarse], labels).item() == pytest.approx((parts[0] + parts[1] / 2) / 1.5)
    assert loss([logits, coarse], [labels, labels[:, :1, ::2]]).item() == pytest.approx((parts[0] + parts[1] / 2) / 1.5)


# Four voxels of a volume, three classes: p of the classes, and the true class; the last voxel is ignored.
VOXELS = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
VOLUME, LABELS = VOXELS.log().T.reshape(1, 3, 1, 1, 4), torch.tensor([1, 0, 0, 255]).reshape(1, 1, 1, 4)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_the_default_models_loss_weighs_heart_voxels_and_scores_the_labels_that_occur(weight: float) -> None:
    entropy, lost = cross_entropy_and_dice(VOLUME, LABELS, weight)
    wanted = -(weight * math.log(0.3) + math.log(0.1) + math.log(0.7)) / (weight + 2)
    assert entropy.item() == pytest.approx(wanted, rel=1e-5)
    # Only label 1 occurs: its voxel has p = .3, and p of label 1 sums to .3 + .1 + .2 over the voxels not ignored.
    assert lost.item() == pytest.approx(1 - (2 * 0.3 + 1) / (0.6 + 1 + 1), rel=1e-5)


def test_the_default_models_dice_is_the_mean_over_the_labels_that_occur() -> None:
    _, lost = cross_entropy_and_dice(VOLUME, torch.tensor([1, 2, 0, 255]).reshape(1, 1, 1, 4))
    first, second = (2 * 0.3 + 1) / (0.6 + 1 + 1), (2 * 0.8 + 1) / (1.1 + 1 + 1)
    assert lost.item() == pytest.approx(1 - (first + second) / 2, rel=1e-5)


def test_nothing_to_learn_from_costs_nothing() -> None:
    for labels in (LABELS * 0 + 255, LABELS * 0):
        entropy, lost = cross_entropy_and_dice(VOLUME, labels)
        assert lost.item() == 0
    assert entropy.item() == pytest.approx(-sum(math.log(p) for p in (0.5, 0.1, 0.7, 0.2)) / 4, rel=1e-5)
    assert cross_entropy_and_dice(VOLUME, LABELS * 0 + 255)[0].item() == 0


def test_the_default_models_deep_loss_halves_the_weight_at_every_level() -> None:
    generator = torch.Generator().manual_seed(0)
    full, half = torch.randn(1, 3, 4, 4, 4, generator=generator), torch.randn(1, 3, 2, 2, 2, generator=generator)
    labels = torch.randint(0, 3, (1, 4, 4, 4), generator=generator)
    total, entropy, found = deep_loss([full, half], labels, 2.0)
    first = cross_entropy_and_dice(full, labels, 2.0)
    second = cross_entropy_and_dice(half, labels[:, ::2, ::2, ::2], 2.0)
    assert total.item() == pytest.approx((sum(first) + sum(second) / 2).item())
    assert (entropy.item(), found.item()) == pytest.approx((first[0].item(), 1 - first[1].item()))


def test_targets_are_thinned_and_never_mixed() -> None:
    labels = torch.arange(24).reshape(1, 4, 6)
    assert torch.equal(thin_out(labels, (2, 3)), labels[:, ::2, ::2])
    assert torch.equal(thin_out(labels, (4, 6)), labels)
    assert torch.equal(thin_out(labels[:, None], (4, 2)), labels[:, None, :, ::3])
