"""Scans as tasks of dask.distributed; the only module that imports dask.

A task does with a scan what a local worker process does: a child of the dask worker, with a warm model, reads, segments
and writes it. The command yields the rows, as for local processes. Three things may go wrong besides:

- A worker dies. The scheduler gives its tasks to others, and those of workers that die with the same task several times
  come back here. A result that is there already is kept.
- The scheduler dies. All scans without a row are submitted again when it answers.
- A process is killed or crashes after it has read its scan, perhaps because its machine is short of memory. The scan is
  tried on other workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import queue
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import dask
from distributed import Client, Future, get_worker
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.scheduler import KilledWorker
from distributed.security import Security

from ..errors import InputError, SettingsError, writing
from ..version import __version__
from .cases import Case
from .exits import stop_token, warn
from .processes import Child
from .summary import SummaryRow
from .workers import FATAL, Job, failed_row, row_of, runs

ATTEMPTS = 3
"""Number of attempts for a scan whose process is killed or whose worker dies."""
_FOLDER = ".heartseg-cluster"
_CONNECT_SECONDS = 10.0
_GONE_SECONDS = 600.0
_SEEN_SECONDS = 60.0
"""Seconds after which a new file is visible on all machines of a network file system."""
_TEND_SECONDS = 20.0
_POLL_SECONDS = 0.5
_RESULT_SECONDS = 5.0


@dataclass(frozen=True)
class Run:
    """What every worker needs to know.

    Attributes:
        job: as for local processes, with absolute paths.
        token: of one connection to a scheduler; also the name of a file by which a worker checks that it sees the same
            disk.
        version: version of HeartSeg that made the task.
    """

    job: Job
    token: str
    version: str = __version__


@dataclass(frozen=True)
class Outcome:
    """Outcome of a task.

    Attributes:
        row: row of the scan.
        elsewhere: whether another worker may succeed.
        worker: address of the worker.
    """

    row: SummaryRow
    elsewhere: bool = False
    worker: str = ""


class WarmModel(WorkerPlugin):
    """Keeps one child process with a warm model in each dask worker, for the run that asked last."""

    name = "heartseg"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Called by the worker when it starts or when the plugin is registered."""
        self._address = str(worker.address)
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._child: Child | None = None
        self._token = ""
        self._over: set[str] = set()
        # A nanny starts its worker as a daemon, which multiprocessing does not allow to have children.
        vars(multiprocessing.current_process())["_config"]["daemon"] = False

    def teardown(self, worker: Any) -> None:
        """Called when the worker closes."""
        self._release()

    def segment(self, case: Case, run: Run) -> Outcome:
        """Segment a scan in the child process; a worker with several threads does one scan at a time.

        Raises:
            ModelError, SettingsError, DependencyError: it would happen to every scan alike.
        """
        with self._lock:
            try:
                child = None if run.token in self._over else self._warm(run)
                if child is None:
                    return Outcome(failed_row(case, run.job, 0.0, "stopped"))
                answer = child.ask(case)
                row = row_of(child, case, run.job, answer)
            except FATAL as error:
                raise type(error)(f"worker {self._address}: {error}") from error
        return Outcome(row, bool(answer.end) and not answer.damaged and not answer.late, self._address)

    def _warm(self, run: Run) -> Child | None:
        if self._child is None or self._child.dead or self._token != run.token:
            self._release()
            _check_place(run)
            with self._ending:  # a run that was stopped since it asked gets no child, which nobody would end
                if run.token in self._over:
                    return None
                self._child, self._token = Child(partial(runs, run.job), run.job.time_limit), run.token
        return self._child

    def stop(self, token: str) -> None:
        """End the work of a run, also in the middle of a scan; later tasks of this run do nothing."""
        with self._ending:
            self._over.add(token)
            if self._token == token:
                self._release()

    def _release(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            busy = child.task is not None
            child.stop()
            if busy:  # until its temporary files are removed
                child.gone()


def _check_place(run: Run) -> None:
    """Check that this worker has the version, and sees the disk, of the machine that runs the command."""
    if run.version != __version__:
        raise SettingsError(f"has heartseg {__version__}, the run {run.version}: install the same everywhere")
    end = time.monotonic() + _SEEN_SECONDS
    while not (run.job.output / _FOLDER / run.token).exists():
        if time.monotonic() > end:
            raise SettingsError(f"does not see the output folder {run.job.output}: mount the same disk everywhere")
        time.sleep(0.2)


def _segment(case: Case, run: Run) -> Outcome:
    """The task."""
    model = get_worker().plugins[WarmModel.name]
    assert isinstance(model, WarmModel)
    return model.segment(case, run)


def _stop(token: str, dask_worker: Any) -> None:
    """End the work of a run on a worker."""
    if plugin := dask_worker.plugins.get(WarmModel.name):
        plugin.stop(token)


class Place(Protocol):
    """Where a scheduler is."""

    def open(self, folder: Path) -> None:
        """Start what the run needs; ``folder`` is on the shared disk and is deleted afterwards."""

    def connect(self) -> Client:
        """Connect to the scheduler; raises ``OSError``."""

    def tend(self) -> None:
        """Called from time to time during the run."""

    def close(self) -> None:
        """End what :meth:`open` started."""


@dataclass(frozen=True)
class Running:
    """A scheduler that runs already: its address, or the scheduler file that it writes."""

    address: str

    def open(self, folder: Path) -> None:
        """Check that it answers."""
        try:
            self.connect().close()
        except (asyncio.TimeoutError, OSError, ValueError) as error:
            raise InputError(
                f"scheduler {self.address!r} does not answer: start dask scheduler, and dask worker on the machines"
            ) from error

    def connect(self) -> Client:
        """Connect to it."""
        where = {"address": self.address} if "://" in self.address else {"scheduler_file": self.address}
        if "scheduler_file" in where and not Path(self.address).exists():  # the client would wait for it
            raise FileNotFoundError(self.address)
        return Client(**where, timeout=_CONNECT_SECONDS, set_as_default=False, name="heartseg")

    def tend(self) -> None:
        """Does nothing: workers belong to whoever started the scheduler."""

    def close(self) -> None:
        """Does nothing: the scheduler continues to run."""


class Slurm:
    """A scheduler in this process, with workers that are jobs of Slurm.

    Partition, account, memory, wall time and network interface come from dask-jobqueue's own file,
    ``~/.config/dask/jobqueue.yaml``. Connections are encrypted with keys that only this user can read.

    Args:
        workers: number of jobs, each with one worker process. Jobs that end early are replaced.
        cores: CPU cores of each.
        options: further options of ``sbatch``.
    """

    def __init__(self, workers: int, cores: int, options: Sequence[str] = ()) -> None:
        self.workers, self.cores, self.options = workers, cores, list(options)
        self._cluster: Any = None

    def open(self, folder: Path) -> None:
        """Start the scheduler and submit the jobs."""
        if shutil.which("sbatch") is None:
            raise SettingsError("sbatch was not found: --slurm works where Slurm's commands are installed")
        from dask_jobqueue import SLURMCluster

        known = partial(dask.config.get, default=None)
        local = known("jobqueue.slurm.local-directory") or "/tmp"
        options = known("jobqueue.slurm.job-extra-directives") or []
        scheduler = {"dashboard_address": ":0", **(known("jobqueue.slurm.scheduler-options") or {})}
        self._cluster = SLURMCluster(
            cores=1,
            processes=1,
            job_cpu=known("jobqueue.slurm.job-cpu") or self.cores,
            memory=known("jobqueue.slurm.memory") or "6GB",
            local_directory=local,
            log_directory=str(folder),
            job_extra_directives=[*options, *self.options],
            scheduler_options=scheduler,
            security=_keys(folder),
        )
        self.tend()

    def connect(self) -> Client:
        """Connect to the scheduler of this process."""
        return Client(self._cluster, timeout=_CONNECT_SECONDS, set_as_default=False, name="heartseg")

    def tend(self) -> None:
        """Submit jobs in place of those that ended, e.g. at their wall time."""
        self._cluster.scale(self.workers)

    def close(self) -> None:
        """Cancel the jobs and end the scheduler."""
        if self._cluster is not None:
            self._cluster.close()


def _keys(folder: Path) -> Security:
    """Make certificates and keys for one run, as files that only this user can read."""
    security = Security.temporary()
    names = ("ca_file", *(f"{role}_{kind}" for role in ("client", "scheduler", "worker") for kind in ("cert", "key")))
    for name in names:
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(getattr(security, f"tls_{name}"), encoding="ascii")
        setattr(security, f"tls_{name}", str(file))
    return security


class _SchedulerLost(Exception):
    """The scheduler forgot the tasks, or does not answer."""


def rows_from_cluster(cases: list[Case], job: Job, place: Place) -> Generator[SummaryRow, None, None]:
    """Rows from the workers of a cluster, one per case, in the order in which they end.

    Raises:
        InputError: there is no scheduler, or it did not come back for ten minutes.
        ModelError, SettingsError, DependencyError: what would happen to every scan alike, with the worker's address.
    """
    _quiet()
    paths = {case.name: case.path for case in cases}
    left = {case.name: replace(case, path=case.path.absolute()) for case in cases}
    tries: Counter[str] = Counter()
    with _shared_folder(job.output) as folder, contextlib.ExitStack() as stack:
        stack.callback(place.close)
        place.open(folder)
        while left:
            run = Run(_for_machines(job), _token(folder))
            client = _connected(place)
            try:
                for row in _Session(client, place, run, left, tries).rows():
                    path = "" if job.anonymize else str(paths[row.case])
                    yield replace(row, path=path, status=_status(row, job.resume))
            except _SchedulerLost:
                warn("the scheduler is gone: waiting for it to come back")


def _quiet() -> None:
    """Suppress messages of distributed about lost connections, unless ``-v`` is given."""
    if not logging.getLogger().isEnabledFor(logging.INFO):
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _for_machines(job: Job) -> Job:
    """Return the job with absolute paths; an existing result of this run is never made again."""
    model = str(Path(job.model).absolute()) if job.model and Path(job.model).exists() else job.model
    return replace(job, output=job.output.absolute(), model=model, resume=job.resume or not job.overwrite)


def _status(row: SummaryRow, resume: bool) -> str:
    """Status of a row; without ``--resume``, an earlier result is of this run, by a worker that died afterwards."""
    if row.status != "done before" or resume:
        return row.status
    return "no heart" if row.message else "done"


@contextlib.contextmanager
def _shared_folder(output: Path) -> Iterator[Path]:
    """Make a folder on the shared disk for what the machines of the run share."""
    folder = output / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    try:
        with writing(output):
            folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _token(folder: Path) -> str:
    """Make a file on the shared disk that shows a worker that it sees this disk; returns its name."""
    token = secrets.token_hex(8)
    with writing(folder.parent):
        (folder / token).touch()
    return token


def _connected(place: Place) -> Client:
    """Connect; while there is no scheduler, wait for at most :data:`_GONE_SECONDS`."""
    end = time.monotonic() + _GONE_SECONDS
    while True:
        stop_token().check()
        try:
            return place.connect()
        except (asyncio.TimeoutError, OSError) as error:
            if time.monotonic() > end:
                raise InputError("the scheduler did not come back: start it again, then add --resume") from error
            time.sleep(1.0)


class _Session:
    """The work during one connection to a scheduler.

    Args:
        client: the connection, which is closed at the end.
        place, run: as for the whole run.
        left: scans without a row, by name; those that get one are removed.
        tries: number of failed attempts of a scan, by name.
    """

    def __init__(self, client: Client, place: Place, run: Run, left: dict[str, Case], tries: Counter[str]) -> None:
        self._client, self._place, self._run, self._left, self._tries = client, place, run, left, tries
        self._open: dict[str, tuple[Future, Case]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._told = False

    def rows(self) -> Generator[SummaryRow, None, None]:
        """Submit all scans and yield their rows.

        Raises:
            _SchedulerLost: there are scans left, and their tasks are forgotten.
        """
        tended = time.monotonic()
        try:
            with _lost_connections():
                self._client.register_plugin(WarmModel())
                self._submit(list(self._left.values()))
            while self._left:
                yield from self._ready_rows()
                stop_token().check()
                if self._client.status != "running":
                    raise _SchedulerLost
                if time.monotonic() - tended > _TEND_SECONDS:
                    tended = time.monotonic()
                    self._place.tend()
                    self._tell_if_alone()
        finally:
            self._leave()

    def _tell_if_alone(self) -> None:
        """Say once that there is no worker: jobs may wait in a queue, or end before they begin."""
        with _lost_connections():
            if not self._told and not self._client.scheduler_info()["workers"]:
                self._told = True
                warn(f"no worker has started yet: see the logs of Slurm workers in {self._run.job.output / _FOLDER}")

    def _submit(self, cases: Sequence[Case], avoid: str = "") -> None:
        """Submit scans; ``avoid`` is the address of a worker that had them before."""
        names = [f"heartseg-{self._run.token}-{self._tries[case.name]}-{case.name}" for case in cases]
        others = [w for w in self._client.scheduler_info()["workers"] if w != avoid] if avoid else []
        where: dict[str, Any] = {"workers": others, "allow_other_workers": True} if others else {}
        futures = self._client.map(_segment, cases, run=self._run, key=names, pure=False, **where)
        for future, case in zip(futures, cases, strict=True):
            self._open[str(future.key)] = future, case
            future.add_done_callback(self._note)

    def _note(self, future: Future) -> None:
        """Note that a task has ended; called on another thread."""
        self._ended.put(str(future.key))

    def _ready_rows(self) -> Iterator[SummaryRow]:
        """Wait a moment for a task to end, and yield its row unless the scan is tried again."""
        try:
            key = self._ended.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        future, case = self._open.get(key, (None, None))
        if future is None or case is None:  # noted twice
            return
        outcome = self._outcome(future, case)
        if outcome is None:
            return
        del self._open[key]
        self._tries[case.name] += 1
        if outcome.elsewhere and self._tries[case.name] < ATTEMPTS:
            with _lost_connections():
                self._submit([case], avoid=outcome.worker)
        else:
            del self._left[case.name]
            yield outcome.row

    def _outcome(self, future: Future, case: Case) -> Outcome | None:
        """Fetch the outcome; ``None`` if it went with its worker, so that the task runs again."""
        try:
            with _lost_connections():
                try:
                    return future.result(timeout=_RESULT_SECONDS)
                except (TimeoutError, asyncio.TimeoutError):
                    future.add_done_callback(self._note)
                    return None
        except KilledWorker as error:
            why = f"{error.allowed_failures + 1} workers died while they segmented this scan: see their logs"
            return Outcome(failed_row(case, self._run.job, 0.0, why), elsewhere=True)

    def _leave(self) -> None:
        """Stop running tasks, free the models in the workers, and close the connection."""
        client = self._client
        with contextlib.suppress(Exception):  # with a scheduler that is gone, all of it is in vain
            if client.status == "running":
                client.run(_stop, self._run.token, on_error="ignore")
        with contextlib.suppress(Exception):
            client.close(timeout=_CONNECT_SECONDS)  # the scheduler forgets the tasks that are left


@contextlib.contextmanager
def _lost_connections() -> Iterator[None]:
    """Turn errors of lost connections into one."""
    try:
        yield
    except (FutureCancelledError, CommClosedError, asyncio.TimeoutError, OSError) as error:
        raise _SchedulerLost from error
