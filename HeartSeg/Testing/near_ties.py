"""Comparisons of labels that hold on any CPU: rounding decides near-ties, and nothing else may differ.

CPUs differ in the width of their vector units, so that sums are added in another order and float32 results differ in
the last bits. A label changes only where the two likeliest channels are equal to within that.
"""

from __future__ import annotations

import numpy as np

LARGEST_MARGIN = 2.0**-10
"""Probabilities closer than this are a near-tie. Logits that differ by d change the difference of two probabilities by
at most d. float32 rounds at 2**-24; 2**-10 leaves 2**14 roundings of a logit of 1, more than the longest sums have
(8,640 products) and than a chain of 20 layers adds."""

LARGEST_SHARE = 1e-3
"""Of the labelled voxels, where no probabilities are at hand: near-ties were 5 in 10,000 of all voxels at most."""


def assert_equal_but_near_ties(found: np.ndarray, wanted: np.ndarray, margin: np.ndarray) -> None:
    """Labels differ only where ``margin``, likeliest less second probability of ``wanted``, is a near-tie."""
    near_tie = margin <= LARGEST_MARGIN
    assert near_tie.mean() <= 0.05, "so many near-ties that the comparison says little"
    differ = found != wanted
    assert not (differ & ~near_tie).any(), f"{(differ & ~near_tie).sum()} voxels differ that are no near-tie"


def assert_equal_but_few(found: np.ndarray, wanted: np.ndarray, share: float = LARGEST_SHARE) -> None:
    """As above where probabilities are not at hand: at most ``share`` of the labelled voxels differ."""
    differ, labelled = np.count_nonzero(found != wanted), np.count_nonzero(wanted)
    assert labelled, "nothing is labelled: nothing is compared"
    assert differ <= share * labelled, f"{differ} voxels differ, of {labelled} labelled"
