"""One default model in memory and the shipped sample scan for all tests of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from heartseg import Result, Segmenter, Settings, Volume, read_volume


@pytest.fixture(scope="session")
def segmenter(default_model: Path) -> Segmenter:
    return Segmenter(default_model, Settings(device="cpu"))


@pytest.fixture(scope="session")
def volume(sample_scan: Path) -> Volume:
    return read_volume(sample_scan)


@pytest.fixture(scope="session")
def result(segmenter: Segmenter, volume: Volume) -> Result:
    """The sample segmented with default settings."""
    return segmenter.segment(volume)
