"""Normalisation of grey values."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.inference.normalize import fit, fit_clipped


def test_clipped_values_do_not_set_the_scale() -> None:
    tissue = np.linspace(0, 100, 990, dtype=np.float32)
    metal = np.full(10, 30_000, np.float32)
    scaling = fit_clipped("ZScoreNormalization", np.concatenate([tissue, metal]), {}, 98.0)
    assert scaling.high == pytest.approx(np.percentile(np.concatenate([tissue, metal]), 98.0))
    assert scaling.scale == pytest.approx(tissue.std(), rel=0.03)
    assert scaling.apply(metal).max() == pytest.approx((scaling.high - scaling.shift) / scaling.scale)


def test_the_hundredth_percentile_clips_nothing() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert fit_clipped("ZScoreNormalization", values, {}, 100.0) == fit("ZScoreNormalization", values, {})


def test_the_limits_of_the_plans_stay() -> None:
    properties = {"percentile_00_5": -100.0, "percentile_99_5": 50.0, "mean": 0.0, "std": 1.0}
    scaling = fit_clipped("CTNormalization", np.arange(1000, dtype=np.float32), properties, 98.0)
    assert (scaling.low, scaling.high) == (-100.0, 50.0)
