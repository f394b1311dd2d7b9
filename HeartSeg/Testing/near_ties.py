"""Comparisons that are independent of the CPU: labels may differ only in near-ties, numbers only by rounding.

CPUs differ in the width of their vector units and thus in the order of summation, so float32 results differ in the last
bits. A label changes only if the two most likely channels are equal within this precision.
"""

from __future__ import annotations

import numpy as np
import torch

ROUNDING = 1e-5
"""Largest difference of two float32 results relative to the largest value. A sum of n products of random sign errs by
about sqrt(n) * 2**-24, which is 5.5e-6 for the longest sums (8,640 products); normalisation keeps the errors of a chain
of layers from growing: the shipped network differs by 6e-7 from itself in double precision."""

LARGEST_MARGIN = 2.0**-10
"""Maximum difference of two probabilities in a near-tie. Logits that differ by d change the difference of two
probabilities by at most d. float32 rounds at 2**-24, so 2**-10 allows for 2**14 roundings of a logit of 1, more than
those of the longest sums (8,640 products) and of a chain of 20 layers."""

LARGEST_SHARE = 1e-3
"""Maximum share of differing labelled voxels without probabilities: at most 5 in 10,000 voxels were near-ties."""


def assert_equal_but_near_ties(found: np.ndarray, wanted: np.ndarray, margin: np.ndarray) -> None:
    """Check that labels differ only in near-ties; ``margin``: difference of the two largest probabilities."""
    near_tie = margin <= LARGEST_MARGIN
    assert near_tie.mean() <= 0.05, "too many near-ties for a meaningful comparison"
    differ = found != wanted
    assert not (differ & ~near_tie).any(), f"{(differ & ~near_tie).sum()} voxels differ that are not near-ties"


def assert_equal_but_few(found: np.ndarray, wanted: np.ndarray, share: float = LARGEST_SHARE) -> None:
    """Check without probabilities that at most ``share`` of the labelled voxels differ."""
    differ, labelled = np.count_nonzero(found != wanted), np.count_nonzero(wanted)
    assert labelled, "no voxel is labelled"
    assert differ <= share * labelled, f"{differ} voxels differ, of {labelled} labelled"


def assert_equal_but_rounding(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Check that two float32 tensors of one computation in another order of summation differ by rounding only."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=ROUNDING * float(wanted.detach().abs().max()))
