"""The worker thread, the pace of a run and the device line, without a window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heartseg.panel.device import look_at_device, parse_cards
from heartseg.panel.pace import TYPICAL_SECONDS, WORDS, Pace, in_words
from heartseg.panel.worker import Event, Failed, Finished, Job, Progressed, Stopped, Worker
from heartseg.progress import ProgressEvent, Reporter


def outcome(worker: Worker, job: Job, seconds: float = 60) -> Event:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for event in worker.events():
            if event.job is job and not isinstance(event, Progressed):
                return event
        time.sleep(0.005)
    raise TimeoutError


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("test worker")
    yield made
    made.close()


def test_jobs_are_done_in_order_on_one_thread(worker: Worker) -> None:
    names: list[str] = []

    def named(n: str) -> Callable[[Reporter], None]:
        return lambda reporter: names.append(f"{n} {threading.current_thread().name}")

    jobs = [worker.submit(n, named(n)) for n in "abc"]
    outcome(worker, jobs[-1])
    assert names == ["a test worker", "b test worker", "c test worker"]


def test_a_job_hands_its_value_and_its_progress_over(worker: Worker) -> None:
    def work(reporter: Reporter) -> int:
        with reporter.stage("read", 2):
            reporter.advance(1)
        return 42

    job = worker.submit("read", work)
    until = time.monotonic() + 60
    events: list[Event] = []
    while not any(isinstance(e, Finished) for e in events) and time.monotonic() < until:
        events += worker.events()
        time.sleep(0.005)
    assert [e.event.done for e in events if isinstance(e, Progressed)] == [0, 1, 2]
    assert events[-1] == Finished(job, 42)


def test_a_job_that_was_cancelled_before_it_began_is_never_begun(worker: Worker) -> None:
    release, begun = threading.Event(), []
    worker.submit("first", lambda reporter: release.wait(60))
    second = worker.submit("second", lambda reporter: begun.append(1))
    second.token.cancel()
    release.set()
    assert isinstance(outcome(worker, second), Stopped)
    assert not begun


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(1), KeyboardInterrupt(), MemoryError()])
def test_no_error_ends_the_thread(worker: Worker, error: BaseException) -> None:
    def fails(reporter: Reporter) -> None:
        raise error

    failed = outcome(worker, worker.submit("fails", fails))
    assert isinstance(failed, Failed)
    assert failed.error is error
    assert "in fails" in failed.trace
    assert failed.error.__traceback__ is None
    assert isinstance(outcome(worker, worker.submit("works", lambda reporter: 1)), Finished)


def test_waiting_for_news_ends_with_the_next_event(worker: Worker) -> None:
    gate = threading.Event()
    job = worker.submit("waits", lambda reporter: gate.wait(60))
    start = time.monotonic()
    worker.wait(0.05)
    assert time.monotonic() - start >= 0.045
    threading.Timer(0.05, gate.set).start()
    worker.wait(60)
    assert time.monotonic() - start < 30
    assert isinstance(outcome(worker, job), Finished)


def test_closing_waits_for_a_job_that_ends_soon(worker: Worker) -> None:
    gate = threading.Event()
    worker.submit("waits", lambda reporter: gate.wait(60))
    threading.Timer(0.1, gate.set).start()
    worker.close(30)
    assert not worker._thread.is_alive()


def test_a_closed_worker_takes_no_job_and_its_thread_ends(worker: Worker) -> None:
    outcome(worker, worker.submit("one", lambda reporter: 1))
    worker.close()
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit("two", lambda reporter: 2)
    until = time.monotonic() + 60
    while worker._thread.is_alive() and time.monotonic() < until:
        time.sleep(0.005)
    assert not worker._thread.is_alive()


def test_the_share_of_a_run_grows_from_0_to_1_and_the_time_left_shrinks() -> None:
    now = [0.0]
    pace = Pace.of_run(accurate=False)
    pace._clock, pace._started = (lambda: now[0]), 0.0
    shares, left = [], []
    for stage in (s for s in TYPICAL_SECONDS if s != "average"):
        for done in range(5):
            now[0] += TYPICAL_SECONDS[stage] / 4
            left.append(pace.take(ProgressEvent(stage, done, 4)))
            shares.append(pace.fraction)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    told = [x for x in left if x is not None]
    assert told[-1] == pytest.approx(0.0, abs=0.1)
    assert max(told) < 3 * sum(v for s, v in TYPICAL_SECONDS.items() if s != "average")


def test_a_stage_that_comes_again_does_not_take_the_bar_back() -> None:
    pace = Pace.of_run(accurate=False)
    pace.take(ProgressEvent("predict", 8, 8))
    far = pace.fraction
    pace.take(ProgressEvent("predict", 1, 8))
    assert pace.fraction == far


def test_every_stage_has_words() -> None:
    assert set(WORDS) == set(TYPICAL_SECONDS)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "about 1 s"), (7.4, "about 7 s"), (23, "about 25 s"), (100, "about 2 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_cards_of_nvidia_smi_are_read() -> None:
    cards = parse_cards("NVIDIA RTX A5000, 23028, 24564\nTesla, V100, 100, 200\nbroken line\n")
    assert [(c.name, c.free_bytes, c.total_bytes) for c in cards] == [
        ("NVIDIA RTX A5000", 23028 << 20, 24564 << 20),
        ("Tesla, V100", 100 << 20, 200 << 20),
    ]


@pytest.mark.parametrize(("hidden", "kind"), [(("torch",), "cpu"), (("torch", "onnxruntime"), "")])
def test_without_torch_the_device_is_the_processor_if_there_is_another_package(
    monkeypatch: pytest.MonkeyPatch, hidden: tuple[str, ...], kind: str
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in hidden else found(name))
    report = look_at_device("cuda")
    assert report.kind == kind
    assert ("not installed" in report.why) is (kind == "")


def test_a_card_that_this_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from heartseg.panel import device

    monkeypatch.setattr(device, "cuda_build", lambda: "")
    monkeypatch.setattr(device, "_cards", lambda: parse_cards("NVIDIA T4, 100, 200"))
    report = look_at_device()
    assert report.kind == "cpu"
    assert report.why == "NVIDIA T4 is present, but this torch was built without CUDA"
    monkeypatch.setattr(device, "cuda_build", lambda: "12.6")
    assert look_at_device().name == "NVIDIA T4"


def test_looking_at_the_device_does_not_load_torch(repository: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from heartseg.panel.device import look_at_device; look_at_device(); print('torch' in sys.modules)"
    )
    path = str(repository / "HeartSeg" / "Logic")
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path, "PATH": ""}, capture_output=True, text=True
    )
    assert run.stdout.strip() == "False", run.stderr
