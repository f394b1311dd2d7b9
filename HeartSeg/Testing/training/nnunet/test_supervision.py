"""The loss of a preset against the same loss in NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from scipy.special import log_softmax, logsumexp

from heartseg.errors import SettingsError
from heartseg.training.nnunet.job import DataOptions, Training
from heartseg.training.nnunet.presets import CSFBU, Preset
from heartseg.training.nnunet.supervision import TrainingLoss, edge_labels

K = 2
UNUSUAL = CSFBU.with_changes(erosion=2, beta=0.3, delta=2.5, alpha=0.7, network="csfbu-edge", dimension="3d")
SPACING = (1.6, 1.0, 0.8)
STEPS = {0: [], 1: [(0, 1, 1)], 2: [(0, 1, 1), (1, 1, 1)]}
"""Voxels of every erosion along each axis: i times 0.8 mm over the spacing, to the nearest integer, ties down."""


def labels_3d() -> np.ndarray:
    """Two images of two adjacent boxes, (2, 8, 14, 16), with a plane of ignored voxels."""
    labels = np.zeros((2, 8, 14, 16), np.int64)
    labels[:, 1:7, 2:12, 2:8] = 1
    labels[:, 2:7, 2:12, 8:15] = 2
    labels[1, :, :2] = 255
    return labels


def interior(mask: np.ndarray, steps: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Erode a (z, y, x) mask: along each axis by its number of voxels; the border of the image does not erode."""
    for voxels in steps:
        cross = np.zeros((3, 3, 3), bool)
        cross[1, 1, 1] = True
        for axis, n in enumerate(voxels):
            if n:
                cross[tuple(slice(None) if a == axis else 1 for a in range(3))] = True
        mask = ndi.binary_erosion(mask, cross, border_value=1)
    return mask


def ce_dice(logits: np.ndarray, labels: np.ndarray, beta: float, delta: float) -> float:
    """Return beta CE + (1 - beta) soft Dice of logits (b, c, ...) and labels (b, ...); voxels of 255 are ignored."""
    seen = labels != 255
    log_p = log_softmax(logits, 1)
    picked = np.take_along_axis(log_p, np.where(seen, labels, 0)[:, None], 1)[:, 0]
    entropy = -picked[seen].mean()
    scores = []
    for k in range(1, logits.shape[1]):
        y, p = (labels == k)[seen], np.exp(log_p[:, k])[seen]
        scores.append((2 * (y * p).sum() + delta) / (y.sum() + p.sum() + delta))
    return beta * entropy + (1 - beta) * (1 - np.mean(scores))


def by_hand(
    channels: np.ndarray,
    labels: np.ndarray,
    preset: Preset,
    steps: Sequence[tuple[int, ...]],
    with_edge: Sequence[int] = range(1, K + 1),
) -> float:
    """Return L_region + alpha L_edge of training channels (b, 1 + 2K, ...) on their own grid."""
    stride = labels.shape[-1] // channels.shape[-1]
    edges = np.zeros_like(labels)
    for image, labelled in zip(edges, labels, strict=True):
        unknown = labelled == 255
        for k in with_edge:
            inside = interior((labelled == k) | unknown, steps)
            image[(labelled == k) & ~inside] = k
        image[unknown] = 255
    thin = (slice(None), *(slice(None, None, stride),) * 3)
    labels, edges = labels[thin], edges[thin]
    inner, outer = channels[:, 1 : K + 1], channels[:, K + 1 :]
    regions = np.concatenate((channels[:, :1], np.logaddexp(inner, outer)), 1)
    no_edge = logsumexp(channels[:, : K + 1], 1, keepdims=True)
    loss = ce_dice(regions, labels, preset.beta, preset.delta)
    return loss + preset.alpha * ce_dice(np.concatenate((no_edge, outer), 1), edges, preset.beta, preset.delta)


def outputs() -> list[torch.Tensor]:
    """Return channels at full and at half resolution."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((8, 14, 16), (4, 7, 8))
    return [2 * torch.randn(2, 1 + 2 * K, *size, generator=generator, dtype=torch.float64) for size in sizes]


@pytest.mark.parametrize(
    "changes",
    [{}, {"erosion": 1}, {"beta": 0.8}, {"delta": 30.0}, {"alpha": 3.0}, {"erosion": 0}],
    ids=lambda c: "-".join(c) or "as it is",
)
def test_the_loss_of_an_unusual_preset_equals_its_formula(changes: dict[str, float]) -> None:
    preset, labels = UNUSUAL.with_changes(**changes), labels_3d()
    loss = TrainingLoss(preset, K, SPACING)
    full, half = outputs()
    parts = [by_hand(o.numpy(), labels, preset, STEPS[preset.erosion]) for o in (full, half)]
    targets = torch.from_numpy(labels)[:, None]
    assert loss(full, targets).item() == pytest.approx(parts[0], rel=1e-9)
    assert loss([full, half], targets).item() == pytest.approx((parts[0] + 0.5 * parts[1]) / 1.5, rel=1e-9)
    coarse = torch.zeros_like(targets[..., ::2, ::2, ::2])  # nnU-Net's own target, not used
    assert loss([full, half], [targets, coarse]).item() == pytest.approx((parts[0] + 0.5 * parts[1]) / 1.5, rel=1e-9)


def test_the_erosion_follows_the_spacing() -> None:
    """With 1 mm voxels in every direction, the first erosion already reaches across slices, so the loss differs."""
    labels, (full, _) = labels_3d(), outputs()
    found = TrainingLoss(UNUSUAL, K, (1.0, 1.0, 1.0))(full, torch.from_numpy(labels)[:, None]).item()
    assert found == pytest.approx(by_hand(full.numpy(), labels, UNUSUAL, [(1, 1, 1)] * 2), rel=1e-9)
    assert found != pytest.approx(by_hand(full.numpy(), labels, UNUSUAL, STEPS[2]), rel=1e-3)


def test_edges_of_chosen_structures_only() -> None:
    """The other structures are interior throughout, and their edge channels learn to stay empty."""
    preset = UNUSUAL.with_changes(edge_structures=("AO",))
    chosen = edge_labels(preset, {"background": 0, "LV": 1, "AO": 2})
    assert chosen == (2,)
    labels, (full, _) = labels_3d(), outputs()
    targets = torch.from_numpy(labels)[:, None]
    found = TrainingLoss(preset, K, SPACING, chosen)(full, targets).item()
    assert found == pytest.approx(by_hand(full.numpy(), labels, preset, STEPS[2], chosen), rel=1e-9)
    assert found != pytest.approx(TrainingLoss(preset, K, SPACING)(full, targets).item(), rel=1e-3)


def test_edge_structures_that_cannot_be_learnt_are_refused() -> None:
    with pytest.raises(SettingsError, match="AO"):
        edge_labels(UNUSUAL.with_changes(edge_structures=("AO",)), {"background": 0, "LV": 1})
    with pytest.raises(SettingsError, match="plain"):
        UNUSUAL.with_changes(network="plain", edge_structures=("AO",))
    with pytest.raises(SettingsError, match="empty"):
        UNUSUAL.with_changes(edge_structures=())
    with pytest.raises(SettingsError, match="PA"):
        training = Training(DataOptions(Path(), structures=("LV",)), Path(), UNUSUAL)
        replace(training, preset=UNUSUAL.with_changes(edge_structures=("PA",))).check()


def test_a_network_without_edges_has_the_loss_of_regions_only() -> None:
    preset = UNUSUAL.with_changes(network="plain")
    labels, (full, half) = labels_3d(), outputs()
    regions = [o[:, : K + 1] for o in (full, half)]
    parts = [
        ce_dice(o.numpy(), labels[:, ::n, ::n, ::n], preset.beta, preset.delta)
        for o, n in zip(regions, (1, 2), strict=True)
    ]
    found = TrainingLoss(preset, K, SPACING)(regions, torch.from_numpy(labels)[:, None]).item()
    assert found == pytest.approx((parts[0] + 0.5 * parts[1]) / 1.5, rel=1e-9)
