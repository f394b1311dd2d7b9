"""Edges are joined to their regions: probabilities sum to 1, and labels are restored."""

from __future__ import annotations

import pytest
import torch

from heartseg.networks.edge_channels import (
    channels_for,
    edge_labels,
    edge_logits,
    interior_labels,
    interior_logits,
    region_labels,
    region_logits,
)

CHANNELS = torch.randn(2, 7, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_structures_probability_is_its_interiors_and_its_edges_together() -> None:
    p = CHANNELS.softmax(1)
    found = region_logits(CHANNELS, "inner").softmax(1)
    torch.testing.assert_close(found, torch.cat((p[:, :1], p[:, 1:4] + p[:, 4:]), 1))


def test_no_edge_is_background_or_any_interior() -> None:
    p = CHANNELS.softmax(1)
    found = edge_logits(CHANNELS, "inner").softmax(1)
    torch.testing.assert_close(found, torch.cat((p[:, :4].sum(1, keepdim=True), p[:, 4:]), 1))


def test_the_auxiliary_head_keeps_regions_and_edges_apart() -> None:
    assert torch.equal(region_logits(CHANNELS, "head"), CHANNELS[:, :4])
    edges = edge_logits(CHANNELS, "head")
    assert torch.equal(edges[:, 1:], CHANNELS[:, 4:])
    assert not edges[:, 0].any()


def test_half_precision_comes_back_as_half_and_does_not_overflow() -> None:
    large = (CHANNELS * 1e4).half()
    found = region_logits(large, "inner")
    assert found.dtype == torch.float16
    assert torch.isfinite(found).all()


def test_an_interior_is_apart_from_background_and_all_edges() -> None:
    p = CHANNELS.softmax(1)
    found = interior_logits(CHANNELS).softmax(1)
    torch.testing.assert_close(found, torch.cat((p[:, :1] + p[:, 4:].sum(1, keepdim=True), p[:, 1:4]), 1))
    targets = torch.tensor([0, 1, 3, 4, 6, 255], dtype=torch.uint8)
    assert interior_labels(targets, 3, 255).tolist() == [0, 1, 3, 0, 0, 255]
    assert interior_logits(CHANNELS.half()).dtype == torch.float16


def test_labels_come_back_from_channel_numbers() -> None:
    targets = torch.tensor([0, 1, 3, 4, 6, 255], dtype=torch.uint8)
    assert region_labels(targets, 3, 255).tolist() == [0, 1, 3, 1, 3, 255]
    assert edge_labels(targets, 3, 255).tolist() == [0, 0, 0, 1, 3, 255]


def test_channels_are_counted_and_unknown_kinds_refused() -> None:
    assert [channels_for(kind, 8) for kind in ("inner", "head", "none")] == [15, 15, 8]
    with pytest.raises(ValueError, match="edge is 'both': it must be one of"):
        channels_for("both", 8)
    with pytest.raises(ValueError, match="no edge channels"):
        edge_logits(CHANNELS, "none")
