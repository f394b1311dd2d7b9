"""Shared fixtures. Where ``../shared`` is present, tests on its data must run: a skip there fails the run."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
SHARED_DATA = SHARED / "data"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the clone."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the clone; skips with the reason where the folder is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"development data not found at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The model that ships. It is part of the repository: a clone without it is broken."""
    path = ROOT / "Models" / "HeartSeg-Default"
    assert (path / "plans.json").is_file(), f"the default model is missing at {path}"
    return path


@pytest.fixture(scope="session")
def sample_scan() -> Path:
    """The synthetic scan that ships."""
    path = ROOT / "HeartSeg" / "Resources" / "SampleData" / "HeartSeg-synthetic-CTA.nii.gz"
    assert path.is_file(), f"the sample scan is missing at {path}"
    return path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """A test on the development data that skips although the data are there fails the run."""
    outcome = yield
    report = outcome.get_result()
    wants_shared = "shared_data" in getattr(item, "fixturenames", ())
    if report.skipped and wants_shared and SHARED_DATA.is_dir() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped although {SHARED_DATA} is present: {report.longrepr}"
