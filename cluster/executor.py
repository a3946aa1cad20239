"""How workers are started and called: what the pool asks of Ray, and the same in this process.

An executor knows nothing of jobs. It starts workers, gives them tasks and tells what happened, as events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from cluster.plan import DeviceClass
from cluster.tasks import Progress, Task, TaskResult
from sr_core.errors import FrameliftError, WorkerError


@dataclass(frozen=True)
class WorkerReady:
    """A worker is there."""

    worker: str
    device_class: DeviceClass


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


WorkerEvent = WorkerReady | WorkerLost | TaskProgress | TaskDone | TaskFailed


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

    def close(self) -> None:
        """See `Executor.close`."""
        self._running.clear()
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


def event_of(worker: str, told: Progress | TaskResult | FrameliftError) -> WorkerEvent:
    """What a worker tells while it runs a task, as an event."""
    match told:
        case Progress():
            return TaskProgress(worker, told)
        case FrameliftError():
            return TaskFailed(worker, told)
        case _:
            return TaskDone(worker, told)
