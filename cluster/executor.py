"""How workers are started and called: what the pool asks of Ray.

An executor knows nothing of jobs. It starts workers, gives them tasks and tells what happened, as events.
"""

from __future__ import annotations

from dataclasses import dataclass
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


def event_of(worker: str, told: Progress | TaskResult | FrameliftError) -> WorkerEvent:
    """What a worker tells while it runs a task, as an event."""
    match told:
        case Progress():
            return TaskProgress(worker, told)
        case FrameliftError():
            return TaskFailed(worker, told)
        case _:
            return TaskDone(worker, told)
