"""Workers as a pool: started, watched, replaced.

Three things are kept apart: an `Executor` starts workers and calls them, the pool knows which of them live
and what each is at, and what to do next is the driver's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_dataclass

from cluster.executor import (
    Executor,
    TaskDone,
    TaskFailed,
    TaskProgress,
    WorkerEvent,
    WorkerLost,
    WorkerReady,
)
from cluster.plan import DeviceClass
from cluster.tasks import AssembleTask, Progress, Task, TaskResult, inputs_of
from sr_core.errors import FrameliftError, SpecError, WorkerError

_log = logging.getLogger(__name__)

# Workers that die one after the other without ending a single task in between: then the machine or the
# installation is at fault, and starting more of them would go on for ever.
_MAX_LOSSES_IN_A_ROW = 10
_CPUS_PER_WORKER = 4  # beyond that, threads of one worker wait for each other more than they work
_SMALLEST_SHARE = 0.01  # of a core, as Ray counts
_SILENCE_S = 900.0
_SLOWEST_DISK_BYTES_PER_S = 2e6  # planning and joining read a whole file without a word
_SLOWEST_JOIN_PX_PER_S = 1e7  # a joiner writes and reads again up to some bytes for each


@settings_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class WorkerSettings:
    """How many workers there are and what each holds.

    Attributes:
        num_workers: Workers at the same time.
        num_cpus: CPU cores that each holds; torch uses so many threads.
        num_gpus: GPUs that each holds; 0 runs networks on the CPU.
        mixed_classes: Also workers of another device class than the job was planned for may work on it, at
            the price that its bytes then depend on who did what.
        start_timeout_s: How long the first worker may take to be there.
        silence_s: How long a worker may tell nothing of its task, beside the time that reading the task's
            sources takes on a slow disk, before it is taken for hung and replaced.
    """

    num_workers: int = Field(ge=1, le=10_000)
    num_cpus: float = Field(default=1, gt=0)
    num_gpus: float = Field(default=0, ge=0)
    mixed_classes: bool = False
    start_timeout_s: float = Field(default=180.0, gt=0)
    silence_s: float = Field(default=_SILENCE_S, gt=0)


@settings_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class WorkerRequest:
    """Who is to do the work, as a person asks for it.

    Attributes:
        device: `auto` takes GPUs where there are any.
        count: Number of workers; by default one for each GPU, or one for every four CPU cores.
        cpus: CPU cores of each worker; by default an equal share.
        gpus: GPUs of each worker; 0.5 puts two workers on one.
        mixed_classes: See `WorkerSettings`.
        silence_seconds: How long a worker may be silent over one frame before it is taken for hung.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    count: int | None = Field(default=None, ge=1, le=10_000)
    cpus: float | None = Field(default=None, gt=0)
    gpus: float | None = Field(default=None, ge=0)
    mixed_classes: bool = False
    silence_seconds: float = Field(default=_SILENCE_S, ge=10)

    def settle(self, num_cpus: float, num_gpus: float) -> WorkerSettings:
        """What is started on machines that have so many CPU cores and GPUs together.

        Raises:
            SpecError: They do not have what is asked for.
        """
        gpus = self._gpus_each(num_gpus)
        default_count = num_gpus // gpus if gpus else num_cpus // _CPUS_PER_WORKER
        count = self.count or max(1, int(default_count))
        cpus = self.cpus or max(_SMALLEST_SHARE, num_cpus // count if count <= num_cpus else num_cpus / count)
        if cpus > num_cpus:
            raise _too_much("CPU cores", cpus, num_cpus)
        if gpus > num_gpus:
            raise _too_much("GPUs", gpus, num_gpus)
        return WorkerSettings(count, cpus, gpus, self.mixed_classes, silence_s=self.silence_seconds)

    def num_local_cpus(self, num_cores: int) -> int:
        """CPU cores that a Ray of our own is told to have: at least what is asked for."""
        return max(num_cores, math.ceil((self.count or 1) * (self.cpus or 0)))

    def _gpus_each(self, num_gpus: float) -> float:
        if self.device == "cuda" and not num_gpus:
            raise _too_much("GPUs", (self.count or 1) * (self.gpus or 1), 0)
        if self.device == "cpu" or not num_gpus:
            return 0.0
        return self.gpus if self.gpus is not None else 1.0


def _too_much(what: str, asked: float, there: float) -> SpecError:
    return SpecError(
        f"the machines do not have so many {what}",
        where="workers",
        got=f"{asked:g} asked for",
        expected=f"at most {there:g}",
        next_step="ask for less, or for --device cpu",
    )


@dataclass(frozen=True)
class Done:
    """A task ended well."""

    task: Task
    worker: str
    result: TaskResult


@dataclass(frozen=True)
class Failed:
    """An attempt of a task failed."""

    task: Task
    worker: str
    error: FrameliftError


@dataclass(frozen=True)
class Running:
    """A task is this far."""

    task: Task
    worker: str
    progress: Progress


PoolEvent = Done | Failed | Running


class WorkerPool:
    """Workers of one device class, each with at most one task."""

    def __init__(
        self, executor: Executor, settings: WorkerSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._executor = executor
        self._settings = settings
        self._clock = clock
        self._heard_s: dict[str, float] = {}
        self._admitted: DeviceClass | None = None
        self._starting: set[str] = set()
        self._tasks: dict[str, Task | None] = {}
        self._num_losses_in_a_row = 0
        self._last_loss = ""
        self._gone: list[str] = []

    @property
    def num_wanted(self) -> int:
        """Workers that there are to be."""
        return self._settings.num_workers

    @property
    def num_workers(self) -> int:
        """Workers that are there."""
        return len(self._tasks)

    @property
    def running(self) -> list[Task]:
        """What workers are at."""
        return [task for task in self._tasks.values() if task is not None]

    def first_device_class(self) -> DeviceClass:
        """Starts the workers, waits for the first, and returns its class: from now on the only one admitted.

        Raises:
            WorkerError: No worker was there in time.
        """
        deadline_s = time.monotonic() + self._settings.start_timeout_s
        while self._admitted is None:
            if time.monotonic() > deadline_s:
                raise WorkerError(
                    "no worker could be started in time",
                    got=self._last_loss or f"none after {self._settings.start_timeout_s:g} s",
                    expected=f"{self._settings.num_workers} workers of {self._settings.num_cpus:g} CPUs and "
                    f"{self._settings.num_gpus:g} GPUs each",
                    next_step="ask for fewer CPUs or GPUs per worker, or for what the cluster has",
                )
            self._top_up()
            self._take_in(self._executor.wait(1.0))
        return self._admitted

    def admit_only(self, device_class: DeviceClass) -> None:
        """Refuses workers of any other class from now on, also those that are there.

        Raises:
            WorkerError: None of the workers that are there is of this class.
        """
        if self._admitted not in (None, device_class) and not self._settings.mixed_classes:
            raise WorkerError(
                "these workers are not of the class that the job was planned for, and would change its bytes",
                got=str(self._admitted),
                expected=str(device_class),
                next_step="use machines and versions like those, or set workers.mixed_classes",
            )
        self._admitted = device_class

    def idle_workers(self) -> list[str]:
        """Workers that wait for a task."""
        return [worker for worker, task in self._tasks.items() if task is None]

    def submit(self, worker: str, task: Task) -> None:
        """Gives an idle worker a task."""
        self._tasks[worker] = task
        self._heard_s[worker] = self._clock()
        self._executor.submit(worker, task)

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        """What became of tasks since the last call; replaces workers that were lost.

        Raises:
            WorkerError: Workers die one after the other.
        """
        events = self._take_in(self._executor.wait(timeout_s))
        events += self._end_hung()
        self._top_up()
        return events

    def take_gone(self) -> list[str]:
        """Workers that are gone since the last call."""
        gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        """Ends every worker."""
        self._executor.close()

    def _top_up(self) -> None:
        while len(self._starting) + len(self._tasks) < self._settings.num_workers:
            self._starting.add(self._executor.start_worker())

    def _end_hung(self) -> list[PoolEvent]:
        """Ends the workers that were silent for too long. That says nothing against the others."""
        ended: list[PoolEvent] = []
        for worker, task in list(self._tasks.items()):
            silent_s = self._clock() - self._heard_s.get(worker, self._clock())
            if task is None or silent_s <= self._patience_s(task):
                continue
            self._executor.kill(worker)
            error = WorkerError(
                "a worker was silent for too long over its task, and was ended",
                where=inputs_of(task)[0].source.key,
                got=f"nothing for {silent_s:.0f} s",
                next_step="if a frame can take that long, raise workers.silence_seconds",
            )
            self._forget(worker, error)
            ended.append(Failed(task, worker, error))
        return ended

    def _patience_s(self, task: Task) -> float:
        num_bytes = sum(input_.source.size_bytes for input_ in inputs_of(task))
        patience_s = self._settings.silence_s + num_bytes / _SLOWEST_DISK_BYTES_PER_S
        if isinstance(task, AssembleTask):
            patience_s += task.video.treatment.num_output_pixels / _SLOWEST_JOIN_PX_PER_S
        return patience_s

    def _take_in(self, events: list[WorkerEvent]) -> list[PoolEvent]:
        return [event for found in events for event in self._take_in_one(found)]

    def _take_in_one(self, event: WorkerEvent) -> Iterator[PoolEvent]:
        match event:
            case WorkerReady(worker, device_class):
                self._admit(worker, device_class)
            case WorkerLost(worker, error):
                task = self._lose(worker, error)
                if task is not None:
                    yield Failed(task, worker, error)
            case TaskProgress(worker, progress):
                running = self._tasks[worker]
                assert running is not None, "only workers at a task tell progress"
                self._heard_s[worker] = self._clock()
                self._num_losses_in_a_row = 0
                yield Running(running, worker, progress)
            case TaskDone(worker, result):
                self._num_losses_in_a_row = 0
                yield Done(self._free(worker), worker, result)
            case TaskFailed(worker, error):
                if not isinstance(error, WorkerError):
                    self._num_losses_in_a_row = 0
                yield Failed(self._free(worker), worker, error)

    def _admit(self, worker: str, device_class: DeviceClass) -> None:
        self._starting.discard(worker)
        self._admitted = self._admitted or device_class
        if self._settings.mixed_classes or device_class == self._admitted:
            self._tasks[worker] = None
            return
        _log.warning("worker %s is not admitted: %s, not %s", worker, device_class, self._admitted)
        self._executor.kill(worker)
        self._count_loss(WorkerError("a worker of another device class", got=str(device_class)))

    def _lose(self, worker: str, error: WorkerError) -> Task | None:
        task = self._forget(worker, error)
        self._count_loss(error)
        return task

    def _forget(self, worker: str, error: WorkerError) -> Task | None:
        _log.warning("worker %s is lost: %s", worker, error)
        self._starting.discard(worker)
        self._gone.append(worker)
        self._heard_s.pop(worker, None)
        return self._tasks.pop(worker, None)

    def _count_loss(self, error: WorkerError) -> None:
        self._num_losses_in_a_row += 1
        self._last_loss = str(error)
        if self._num_losses_in_a_row > _MAX_LOSSES_IN_A_ROW:
            raise WorkerError(
                f"{self._num_losses_in_a_row} workers were lost one after the other",
                got=str(error),
                next_step="look at the workers' logs; the job goes on where it stopped when it is run again",
            )

    def _free(self, worker: str) -> Task:
        task = self._tasks[worker]
        assert task is not None, "only workers at a task end one"
        self._tasks[worker] = None
        return task
