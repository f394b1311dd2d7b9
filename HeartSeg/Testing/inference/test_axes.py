"""Network axes: conversion to and from any orientation and transposition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from heartseg.errors import ModelError
from heartseg.inference.axes import NetworkAxes


def test_lps_without_transposition_changes_nothing() -> None:
    axes = NetworkAxes.of("LPS")
    image = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(axes.to_network(image), image)


def test_ras_reverses_left_right_and_front_back() -> None:
    image = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(NetworkAxes.of("RAS").to_network(image), np.flip(image, (1, 2)))


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SAL", "PIR", "ILA"])
@pytest.mark.parametrize("transpose", list(itertools.permutations(range(3))))
def test_the_way_back_undoes_the_way_there(orientation: str, transpose: tuple[int, ...]) -> None:
    axes = NetworkAxes.of(orientation, transpose)
    image = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    there = axes.to_network(image)
    assert np.array_equal(axes.from_network(there), image)
    assert axes.in_lps(tuple(there.shape[1:])) == (2, 3, 4)


@pytest.mark.parametrize("wrong", ["LPX", "LLS", "LP", ""])
def test_an_impossible_orientation_is_named(wrong: str) -> None:
    with pytest.raises(ModelError, match="three letters"):
        NetworkAxes.of(wrong)
