"""An executor whose workers run in the process of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Protocol

from cluster.executor import TaskProgress, WorkerEvent, WorkerReady, event_of
from cluster.plan import DeviceClass
from cluster.tasks import Progress, Task, TaskResult
from sr_core.errors import FrameliftError


class InlineWorker(Protocol):
    """What `cluster.worker.Worker` is to an executor."""

    device_class: DeviceClass

    def run(self, task: Task) -> Iterator[Progress | TaskResult | FrameliftError]: ...

    def close(self) -> None: ...


class InlineExecutor:
    """Runs workers in this process, one step of one task at a time."""

    def __init__(self, make_worker: Callable[[], InlineWorker]) -> None:
        self._make_worker = make_worker
        self._names = count()
        self._workers: dict[str, InlineWorker] = {}
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
