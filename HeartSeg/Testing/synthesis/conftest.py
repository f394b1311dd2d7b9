"""Hearts and scenes, created once for all tests of the generator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from heartseg.synthesis import thorax, trunk
from heartseg.synthesis.hearts import Heart, make_heart
from heartseg.synthesis.scenes import Scene, make_scene, pack_scene
from heartseg.synthesis.shape import ShapeModel
from heartseg.synthesis.source import Source, load_source
from heartseg.synthesis.vessels import landmarks
from toy_hearts import toy_source


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The results do not depend on the number of threads; one is fastest on a shared machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy() -> Source:
    """Toy shape model and trunk."""
    return toy_source()


@pytest.fixture(scope="session")
def toy_model(toy: Source) -> ShapeModel:
    return toy.model


@pytest.fixture(scope="session")
def drawn_heart(toy_model: ShapeModel) -> Heart:
    """Return a new toy heart with all parts of the generator enabled. Tests copy it before changes."""
    return make_heart(np.random.default_rng(3), toy_model)


@pytest.fixture(scope="session")
def plain_heart(toy_model: ShapeModel) -> Heart:
    """Return toy subject 4 with chambers, walls, pose and detail disabled."""
    return make_heart(np.random.default_rng(5), toy_model, 4, frozenset({"chambers", "walls", "pose", "detail"}))


@pytest.fixture(scope="session")
def thorax_scene(drawn_heart: Heart) -> Scene:
    """Return a drawn thorax around a toy heart."""
    heart = Heart(*(m.copy() for m in (drawn_heart.labels, drawn_heart.regions, drawn_heart.target)))
    regions, target = thorax.make_thorax(np.random.default_rng(4), heart, landmarks(heart))
    return pack_scene(regions, target, 1.0, "thorax", None, 3, heart.facts)


@pytest.fixture(scope="session")
def trunk_scene(toy: Source) -> Scene:
    """Return a toy trunk with devices, warp, organ changes and blobs disabled, on a smaller canvas (faster)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trunk, "SHAPE", (240, 170, 210))
        return make_scene(toy, 15, 7, "trunk", frozenset({"devices", "warp", "organs", "blobs"}))


@pytest.fixture(scope="session")
def real_source(shared_data: Path) -> Source:
    """The shape model and the trunk of the development data."""
    return load_source(shared_data)


@pytest.fixture(scope="session")
def real_scene(real_source: Source) -> Scene:
    """The scene of the shipped sample scan: subject 16, seed 5, all parts enabled."""
    return make_scene(real_source, 16, 5, "trunk", exact=False)
