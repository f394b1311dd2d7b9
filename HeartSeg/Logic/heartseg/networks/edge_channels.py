"""Networks that learn inner edges as well as regions: meaning of the channels, and how edges rejoin their regions.

With K structures a network has 1 + 2K channels in training, and a target is one map of channel numbers: 0 is
background, k the interior of structure k, K + k its inner edge
(:func:`heartseg.training.edges.split_interior_edge`).

- ``inner``: all 1 + 2K channels are exclusive, under one softmax. A structure is its interior or its edge, so its logit
  is the logsumexp of the two; "no edge" is the logsumexp of background and all interiors.
- ``head``: channels 0..K are background and whole structures, as in any network; the last K are the edges, in a softmax
  of their own in which "no edge" has the logit 0. Dropping them leaves a stock network.
"""

from __future__ import annotations

import torch

EDGE_KINDS = ("inner", "head", "none")


def channels_for(edge: str, num_classes: int) -> int:
    """Return channels in training of a network with ``num_classes`` labels (background with them).

    Raises:
        ValueError: an unknown kind of edge supervision.
    """
    if edge not in EDGE_KINDS:
        raise ValueError(f"edge is {edge!r}: it must be one of {', '.join(EDGE_KINDS)}")
    return num_classes if edge == "none" else 2 * num_classes - 1


def region_logits(channels: torch.Tensor, edge: str) -> torch.Tensor:
    """Return logits of background and whole structures, (b, 1 + K, ...), from training channels (b, 1 + 2K, ...)."""
    if edge == "none":
        return channels
    k = (channels.shape[1] - 1) // 2
    if edge == "head":
        return channels[:, : k + 1]
    x = full_precision(channels)
    structures = torch.logaddexp(x[:, 1 : k + 1], x[:, k + 1 :])
    return torch.cat((x[:, :1], structures), 1).to(channels.dtype)


def edge_logits(channels: torch.Tensor, edge: str) -> torch.Tensor:
    """Return logits of "no edge" and the K inner edges, (b, 1 + K, ...), from training channels (b, 1 + 2K, ...).

    Raises:
        ValueError: the network has no edge channels.
    """
    if edge == "none":
        raise ValueError("edge is 'none': such a network has no edge channels")
    k = (channels.shape[1] - 1) // 2
    x, edges = full_precision(channels), full_precision(channels)[:, k + 1 :]
    rest = torch.logsumexp(x[:, : k + 1], 1, keepdim=True) if edge == "inner" else torch.zeros_like(x[:, :1])
    return torch.cat((rest, edges), 1).to(channels.dtype)


def interior_logits(channels: torch.Tensor) -> torch.Tensor:
    """Return logits of "no interior" and the K interiors, (b, 1 + K, ...), of a network with ``inner`` edges."""
    k = (channels.shape[1] - 1) // 2
    x = full_precision(channels)
    rest = torch.logsumexp(torch.cat((x[:, :1], x[:, k + 1 :]), 1), 1, keepdim=True)
    return torch.cat((rest, x[:, 1 : k + 1]), 1).to(channels.dtype)


def interior_labels(targets: torch.Tensor, k: int, ignore: int) -> torch.Tensor:
    """Return interiors 1..K, 0 elsewhere (``ignore`` kept), of a map of channel numbers 0..2K."""
    return torch.where((targets > k) & (targets != ignore), torch.zeros_like(targets), targets)


def region_labels(targets: torch.Tensor, k: int, ignore: int) -> torch.Tensor:
    """Return labels 0..K (``ignore`` kept) of a map of channel numbers 0..2K."""
    return torch.where((targets > k) & (targets != ignore), targets - k, targets)


def edge_labels(targets: torch.Tensor, k: int, ignore: int) -> torch.Tensor:
    """Return edges 0..K, 0 for none (``ignore`` kept), of a map of channel numbers 0..2K."""
    kept = torch.where(targets > k, targets - k, torch.zeros_like(targets))
    return torch.where(targets == ignore, targets, kept)


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """Return half-precision tensors as float32; sums of exponentials need it."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
