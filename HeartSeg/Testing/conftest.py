"""Shared fixtures. If ``../shared`` is present, tests that need it must not be skipped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from heartseg.progress import ProgressCallback, Reporter

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
SHARED_DATA = SHARED / "data"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data next to the repository; the test is skipped if the folder is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"development data not found at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The shipped model, which is part of the repository."""
    path = ROOT / "Models" / "HeartSeg-Default"
    assert (path / "plans.json").is_file(), f"the default model is missing at {path}"
    return path


@pytest.fixture(scope="session")
def sample_scan() -> Path:
    """The shipped synthetic scan."""
    path = ROOT / "HeartSeg" / "Resources" / "SampleData" / "HeartSeg-synthetic-CTA.nii.gz"
    assert path.is_file(), f"the sample scan is missing at {path}"
    return path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Generator[None, Any, None]:
    """Fail a test on the development data that is skipped although the data are present."""
    outcome = yield
    report = outcome.get_result()
    needs_shared = "shared_data" in getattr(item, "fixturenames", ())
    if report.skipped and needs_shared and SHARED_DATA.is_dir() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped although {SHARED_DATA} is present: {report.longrepr}"


@pytest.fixture(scope="module", autouse=True)
def _memory_given_back() -> Iterator[None]:
    """Give freed memory back to the system after each file, so that processes of tests stay below 4 GB."""
    yield
    if devices := sys.modules.get("heartseg.devices"):
        devices.release_heap()


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the work of child processes (of a single scan) in this one, which has imported torch already."""
    from heartseg.cli import cases, check, explain, processes, refine, segment
    from heartseg.progress import Reporter

    def answers(
        works: Iterable[Any], progress: ProgressCallback | None = None, limit: float | None = None
    ) -> Iterator[Any]:
        do = processes._one_task(progress or (lambda event: None))
        yield from (processes._answer(do, work, False) for work in works)

    def in_child(work: Callable[[Reporter], Any], progress: ProgressCallback, limit: float | None = None) -> Any:
        return work(Reporter(progress, processes.stop_token()))

    monkeypatch.setattr(cases, "answers", answers)
    for module in (check, explain, refine, segment):
        monkeypatch.setattr(module, "in_child", in_child)
