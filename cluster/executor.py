"""How workers are started and called: what the pool asks of Ray, and the same in this process.

An executor knows nothing of jobs. It starts workers, gives them tasks and tells what happened, as events.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from cluster.plan import DeviceClass
from cluster.storage import open_storage
from cluster.storage.address import join_url
from cluster.tasks import Progress, Task, TaskResult
from sr_core.errors import FrameliftError, SpecError, WorkerError


@dataclass(frozen=True)
class Sight:
    """An object that every worker must see to be of use.

    Attributes:
        version: That it must have; None takes any.
    """

    store_url: str
    key: str
    version: str | None = None

    def look(self) -> None:
        """Looks from this process.

        Raises:
            SpecError: The object is not seen, or something else is seen in its place.
            StorageError: The store refuses or fails.
        """
        found = open_storage(self.store_url).head(self.key)
        if found is None:
            self._refuse("this is not seen by a worker", "nothing")
        elif self.version not in (None, found.version):
            self._refuse("a worker sees something else here", f"version {found.version}")

    def _refuse(self, what: str, got: str) -> None:
        raise SpecError(
            what,
            where=f"{join_url(self.store_url, self.key)} on {socket.gethostname()}",
            got=got,
            expected=f"version {self.version}" if self.version else "what the driver sees there",
            next_step="use a shared folder that all nodes have under the same path, or s3://",
        )


@dataclass(frozen=True)
class WorkerReady:
    """A worker is there."""

    worker: str
    device_class: DeviceClass


@dataclass(frozen=True)
class WorkerRefused:
    """A worker came up and cannot do this job's work, as it does not see what it must; it is gone again."""

    worker: str
    error: FrameliftError


@dataclass(frozen=True)
class WorkerDraining:
    """A worker's machine will be taken away: it is to get no more work. Told once of each worker.

    Attributes:
        seconds_left: Until then; None where nobody said.
    """

    worker: str
    seconds_left: float | None


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone, with whatever it was at."""

    worker: str
    error: WorkerError


@dataclass(frozen=True)
class TaskProgress:
    """A worker is this far with its task."""

    worker: str
    progress: Progress


@dataclass(frozen=True)
class TaskDone:
    """A worker ended its task well."""

    worker: str
    result: TaskResult


@dataclass(frozen=True)
class TaskFailed:
    """A worker ended its task with an error, and can take the next."""

    worker: str
    error: FrameliftError


WorkerEvent = WorkerReady | WorkerRefused | WorkerDraining | WorkerLost | TaskProgress | TaskDone | TaskFailed


class Executor(Protocol):
    """Starts workers and calls them. Names of workers are never used twice."""

    def start_worker(self) -> str:
        """Asks for a new worker; `WorkerReady` follows when it is there."""

    def submit(self, worker: str, task: Task) -> None:
        """Gives a ready worker without a task its next one."""

    def kill(self, worker: str) -> None:
        """Ends a worker now; nothing more is heard of it."""

    def wait(self, timeout_s: float) -> list[WorkerEvent]:
        """What happened since the last call; waits up to `timeout_s` for something to happen."""

    def describe_machines(self) -> str:
        """What the machines that workers run on have, in words for an error."""

    def close(self) -> None:
        """Ends every worker."""


class _InlineWorker(Protocol):
    """What `cluster.worker.Worker` is to an executor."""

    device_class: DeviceClass

    def run(self, task: Task) -> Iterator[Progress | TaskResult | FrameliftError]: ...

    def close(self) -> None: ...


class InlineExecutor:
    """Runs workers in this process, one step of one task at a time: for dry runs and tests."""

    def __init__(self, make_worker: Callable[[], _InlineWorker]) -> None:
        self._make_worker = make_worker
        self._names = count()
        self._workers: dict[str, _InlineWorker] = {}
        self._running: dict[str, Iterator[Progress | TaskResult | FrameliftError]] = {}
        self._events: list[WorkerEvent] = []

    def start_worker(self) -> str:
        """See `Executor.start_worker`."""
        name = f"inline-{next(self._names)}"
        self._workers[name] = self._make_worker()
        self._events.append(WorkerReady(name, self._workers[name].device_class))
        return name

    def submit(self, worker: str, task: Task) -> None:
        """See `Executor.submit`."""
        self._running[worker] = self._workers[worker].run(task)

    def kill(self, worker: str) -> None:
        """See `Executor.kill`."""
        self._running.pop(worker, None)
        del self._workers[worker]

    def wait(self, timeout_s: float) -> list[WorkerEvent]:
        """See `Executor.wait`."""
        events, self._events = self._events, []
        if not events and self._running:
            worker = next(iter(self._running))
            events = [event_of(worker, next(self._running[worker]))]
            if not isinstance(events[0], TaskProgress):
                self._running.pop(worker)
        return events

    def describe_machines(self) -> str:
        """See `Executor.describe_machines`."""
        return "this process"

    def close(self) -> None:
        """See `Executor.close`."""
        self._running.clear()
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


def refusal(sights: Iterable[Sight]) -> FrameliftError | None:
    """Why this process is of no use where all `sights` must be seen; None where it sees them."""
    for sight in sights:
        try:
            sight.look()
        except SpecError as error:
            return error
        except FrameliftError as error:  # of a store, which does not know on which machine that is
            error.where = f"{error.where or join_url(sight.store_url, sight.key)} on {socket.gethostname()}"
            return error
    return None


def event_of(worker: str, told: Progress | TaskResult | FrameliftError) -> WorkerEvent:
    """What a worker tells while it runs a task, as an event."""
    match told:
        case Progress():
            return TaskProgress(worker, told)
        case FrameliftError():
            return TaskFailed(worker, told)
        case _:
            return TaskDone(worker, told)
