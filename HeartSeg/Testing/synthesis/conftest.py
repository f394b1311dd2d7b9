"""Scenes, made once for all tests of the generator."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.synthesis import thorax
from heartseg.synthesis.hearts import Heart, make_heart
from heartseg.synthesis.scenes import Scene, make_scene, pack_scene
from heartseg.synthesis.vessels import landmarks
from toy_hearts import toy_subject


def toy_heart(seed: int) -> Heart:
    """A deformed and remodelled toy heart."""
    return make_heart(np.random.default_rng(seed), toy_subject())


@pytest.fixture(scope="session")
def thorax_scene() -> Scene:
    """A drawn thorax around a toy heart."""
    heart = toy_heart(3)
    regions, target = thorax.make_thorax(np.random.default_rng(4), heart, landmarks(heart))
    return pack_scene(regions, target, 1.0, "thorax", 0, 3)


@pytest.fixture(scope="session")
def trunk_scene(shared_data) -> Scene:
    """A trunk scene of validation subject 15."""
    return make_scene(shared_data, 15, 7, "trunk")
