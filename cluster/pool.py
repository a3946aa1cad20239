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

from cluster.executor import (
    Executor,
    TaskDone,
    TaskFailed,
    TaskProgress,
    WorkerDraining,
    WorkerEvent,
    WorkerLost,
    WorkerReady,
    WorkerRefused,
)
from cluster.machines import Machine, WorkerSettings
from cluster.plan import DeviceClass
from cluster.tasks import AssembleTask, Progress, SegmentTask, Task, TaskResult, inputs_of
from sr_core.errors import FrameliftError, WorkerError

_log = logging.getLogger(__name__)

# Workers that die one after the other without ending a single task in between: then the machine or the
# installation is at fault, and starting more of them would go on for ever.
# Losses that come all at once, as of a machine with many workers, are not yet that.
_FEWEST_LOSSES_IN_A_ROW = 10
_LOSSES_PER_WORKER = 2
_MAX_ERRORS_IN_A_ROW = 3  # of its machine that one worker tells: then that machine would eat the queue
_BAD_MACHINE_PAUSE_S = 300.0  # before the next worker is tried where the only free machine may be a bad one
_REFUSAL_GRACE_S = 20.0  # after a first worker was refused, for another to be there that is of use
_HAND_BACK_S = 5.0  # before a machine is taken away
_IDLE_S = 60.0
_CHECK_S = 1.0
_SLOWEST_DISK_BYTES_PER_S = 2e6  # planning and joining read a whole file without a word
_SLOWEST_JOIN_PX_PER_S = 1e7  # a joiner writes and reads again up to some bytes for each


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


@dataclass
class _Busy:
    """A worker's task, and when it was last heard of."""

    task: Task
    patience_s: float
    heard_s: float


class WorkerPool:
    """Workers of one device class, each with at most one task."""

    def __init__(
        self, executor: Executor, settings: WorkerSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._executor = executor
        self._settings = settings
        self._clock = clock
        self._num_lasting_wanted = self._clamped(0 if settings.machines_may_come else settings.num_workers)
        self._admitted: DeviceClass | None = None
        self._starting: dict[str, None] = {}
        self._idle: dict[str, float] = {}  # since when
        self._busy: dict[str, _Busy] = {}
        self._hand_back_s: dict[str, float] = {}  # of the busy ones that drain, when their tasks are taken
        self._num_errors_in_a_row: dict[str, int] = {}
        self._proven: set[str] = set()  # workers that ended a task well
        self._num_losses_in_a_row = 0
        self._last_loss = ""
        self._refusal: FrameliftError | None = None  # the first, and when it was
        self._refused_s = 0.0
        self._pauses_end_s: list[float] = []
        self._alone_since_s: float | None = None
        self._surplus_since_s: float | None = None
        self._checked_s = clock()
        self._gone: list[str] = []

    @property
    def num_wanted(self) -> int:
        """Workers that there are to be where there is work for all of them."""
        return self._settings.num_workers

    @property
    def max_losses_in_a_row(self) -> int:
        """How many workers may be lost one after the other, with nothing ended well in between."""
        return max(_FEWEST_LOSSES_IN_A_ROW, _LOSSES_PER_WORKER * self._settings.num_workers)

    @property
    def num_workers(self) -> int:
        """Workers that are there."""
        return len(self._idle) + len(self._busy)

    @property
    def running(self) -> list[Task]:
        """What workers are at."""
        return [busy.task for busy in self._busy.values()]

    def want(self, num_tasks: int) -> None:
        """Says how many tasks could run at once now: so many workers are kept, within the settings.

        Missing ones are started at the next `wait`; those that are too many end after a minute of idleness.
        """
        self._num_lasting_wanted = self._clamped(num_tasks)

    def first_device_class(self) -> DeviceClass:
        """Starts the workers, waits for the first, and returns its class: from now on the only one admitted.

        Raises:
            SpecError: The workers that came do not see what they must.
            WorkerError: No worker was there in time.
        """
        while self._admitted is None:
            self._top_up()
            self._take_in(self._executor.wait(1.0))
            self._raise_refusal()
            self._refuse_loneliness()
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
        """Workers that wait for a task, the one that waits longest first."""
        return list(self._idle)

    def submit(self, worker: str, task: Task) -> None:
        """Gives an idle worker a task."""
        del self._idle[worker]
        self._busy[worker] = _Busy(task, self._patience_s(task), self._clock())
        self._executor.submit(worker, task)

    def wait(self, timeout_s: float) -> list[PoolEvent]:
        """What became of tasks since the last call; replaces workers that were lost.

        Raises:
            WorkerError: Workers die one after the other, or none is there for too long.
        """
        events = self._take_in(self._executor.wait(timeout_s))
        events += self._take_from_draining()
        events += self._end_hung()
        self._let_go()
        self._top_up()
        self._refuse_loneliness()
        return events

    def take_gone(self) -> list[str]:
        """Workers that are gone since the last call."""
        gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        """Ends every worker."""
        self._executor.close()

    def _clamped(self, num_workers: int) -> int:
        most = self._settings.num_workers
        return min(max(num_workers, self._settings.min_workers, 1), most)

    @property
    def _num_lasting(self) -> int:
        """Workers that are there or asked for, and whose machines are not about to go."""
        return len(self._starting) + self.num_workers - len(self._hand_back_s)

    def _top_up(self) -> None:
        self._pauses_end_s = [end_s for end_s in self._pauses_end_s if end_s > self._clock()]
        is_urgent = self._admitted is not None and not self.num_workers
        num_paused = 0 if is_urgent else len(self._pauses_end_s)
        while self._num_lasting + num_paused < self._num_lasting_wanted:
            self._starting[self._executor.start_worker()] = None

    def _let_go(self) -> None:
        """Ends idle workers, and such as never came, that were too many for a while."""
        num_surplus = self._num_lasting - self._num_lasting_wanted
        if num_surplus <= 0:
            self._surplus_since_s = None
            return
        if self._surplus_since_s is None:
            self._surplus_since_s = self._clock()
        if self._clock() - self._surplus_since_s < _IDLE_S:
            return
        rested = [worker for worker, since_s in self._idle.items() if self._clock() - since_s >= _IDLE_S]
        for worker in [*reversed(self._starting), *rested][:num_surplus]:
            _log.info("worker %s is ended: there is nothing for it to do", worker)
            self._end(worker)

    def _take_from_draining(self) -> list[PoolEvent]:
        """Takes the tasks of workers whose machines go now, to be done elsewhere."""
        due = [worker for worker, at_s in self._hand_back_s.items() if self._clock() >= at_s]
        taken: list[PoolEvent] = []
        for worker in due:
            task = self._busy[worker].task
            error = WorkerError("its machine is being taken away", where=worker, preempted=True)
            _log.warning("worker %s is ended before its task: its machine is being taken away", worker)
            self._end(worker)
            taken.append(Failed(task, worker, error))
        return taken

    def _end_hung(self) -> list[PoolEvent]:
        """Ends the workers that were silent for too long. That says nothing against the others."""
        now_s = self._clock()
        if now_s - self._checked_s < _CHECK_S:
            return []
        self._checked_s = now_s
        hung = [worker for worker, busy in self._busy.items() if now_s - busy.heard_s > busy.patience_s]
        return [self._end_one_hung(worker) for worker in hung]

    def _end_one_hung(self, worker: str) -> Failed:
        busy = self._busy[worker]
        error = WorkerError(
            "a worker was silent for too long over its task, and was ended",
            where=inputs_of(busy.task)[0].source.key,
            got=f"nothing for {self._clock() - busy.heard_s:.0f} s",
            next_step="if a frame can take that long, raise workers.silence_seconds",
        )
        _log.warning("worker %s is ended: %s", worker, error)
        self._end(worker)
        return Failed(busy.task, worker, error)

    def _patience_s(self, task: Task) -> float:
        patience_s = self._settings.silence_s + _num_silent_bytes(task) / _SLOWEST_DISK_BYTES_PER_S
        if isinstance(task, AssembleTask):
            patience_s += task.video.treatment.num_output_pixels / _SLOWEST_JOIN_PX_PER_S
        return patience_s

    def _take_in(self, events: list[WorkerEvent]) -> list[PoolEvent]:
        return [event for found in events for event in self._take_in_one(found)]

    def _take_in_one(self, event: WorkerEvent) -> Iterator[PoolEvent]:
        match event:
            case WorkerReady(worker, device_class):
                self._admit(worker, device_class)
            case WorkerRefused(worker, error):
                self._refuse(worker, error)
            case WorkerDraining(worker, seconds_left):
                self._drain(worker, seconds_left)
            case WorkerLost(worker, error):
                yield from self._lose(worker, error)
            case TaskProgress(worker, progress):
                busy = self._busy[worker]
                busy.heard_s = self._clock()
                self._num_losses_in_a_row = 0
                yield Running(busy.task, worker, progress)
            case TaskDone(worker, result):
                self._num_losses_in_a_row = 0
                self._num_errors_in_a_row.pop(worker, None)
                self._proven.add(worker)
                yield Done(self._free(worker), worker, result)
            case TaskFailed(worker, error):
                yield Failed(self._free(worker), worker, error)
                self._judge(worker, error)

    def _admit(self, worker: str, device_class: DeviceClass) -> None:
        self._admitted = self._admitted or device_class
        if self._settings.mixed_classes or device_class == self._admitted:
            del self._starting[worker]
            self._idle[worker] = self._clock()
            return
        _log.warning("worker %s is not admitted: %s, not %s", worker, device_class, self._admitted)
        self._end(worker)
        self._do_without(WorkerError("a worker of another device class", got=str(device_class)))

    def _refuse(self, worker: str, error: FrameliftError) -> None:
        _log.warning("worker %s is of no use: %s", worker, error)
        self._forget(worker)
        self._do_without(error)
        if self._refusal is None:
            self._refusal, self._refused_s = error, self._clock()

    def _raise_refusal(self) -> None:
        """Raises why the first workers were of no use, once all have come or have had their time."""
        is_last = not self._starting or self._clock() - self._refused_s > _REFUSAL_GRACE_S
        if self._refusal is not None and self._admitted is None and is_last:
            raise self._refusal

    def _do_without(self, error: FrameliftError) -> None:
        """Lets some time pass before the next worker is tried in the place of one that was of no use.

        Where others work, that its machine is of no use says nothing against the job.
        """
        self._pauses_end_s.append(self._clock() + _BAD_MACHINE_PAUSE_S)
        self._last_loss = str(error)
        if self._admitted is not None and not self.num_workers:
            self._count_loss(error)

    def _drain(self, worker: str, seconds_left: float | None) -> None:
        _log.info("worker %s gets no more work: its machine is taken away, in %s s", worker, seconds_left)
        if worker in self._busy:
            left_s = math.inf if seconds_left is None else seconds_left
            self._hand_back_s[worker] = self._clock() + left_s - _HAND_BACK_S
        elif worker in self._idle or worker in self._starting:
            self._end(worker)

    def _lose(self, worker: str, error: WorkerError) -> Iterator[Failed]:
        busy = self._busy.get(worker)
        _log.warning("worker %s is lost: %s", worker, error)
        self._forget(worker)
        if not error.preempted:
            self._count_loss(error)
        if busy is not None:
            yield Failed(busy.task, worker, error)

    def _judge(self, worker: str, error: FrameliftError) -> None:
        """Replaces a worker whose machine fails again and again, at first at once.

        What fails from its first task on may well have got the same machine again: then others go first.
        """
        if not isinstance(error, WorkerError):
            self._num_losses_in_a_row = 0
            self._num_errors_in_a_row.pop(worker, None)
            return
        num_errors = self._num_errors_in_a_row.get(worker, 0) + 1
        self._num_errors_in_a_row[worker] = num_errors
        if num_errors < _MAX_ERRORS_IN_A_ROW or worker not in self._idle:
            return
        is_proven = worker in self._proven
        _log.warning(
            "worker %s is replaced, as %d tasks in a row failed on it: %s", worker, num_errors, error
        )
        self._end(worker)
        if not is_proven:
            self._pauses_end_s.append(self._clock() + _BAD_MACHINE_PAUSE_S)
        self._count_loss(error)

    def _end(self, worker: str) -> None:
        self._executor.kill(worker)
        self._forget(worker)

    def _forget(self, worker: str) -> None:
        self._gone.append(worker)
        self._starting.pop(worker, None)
        self._idle.pop(worker, None)
        self._busy.pop(worker, None)
        self._hand_back_s.pop(worker, None)
        self._num_errors_in_a_row.pop(worker, None)
        self._proven.discard(worker)

    def _count_loss(self, error: FrameliftError) -> None:
        self._num_losses_in_a_row += 1
        self._last_loss = str(error)
        if self._num_losses_in_a_row > self.max_losses_in_a_row:
            raise WorkerError(
                f"{self._num_losses_in_a_row} workers were lost one after the other",
                got=str(error),
                next_step="look at the workers' logs; the job goes on where it stopped when it is run again",
            )

    def _refuse_loneliness(self) -> None:
        """Raises `WorkerError` where no worker is there for too long."""
        now_s = self._clock()
        if self.num_workers:
            self._alone_since_s = None
            return
        if self._alone_since_s is None:
            self._alone_since_s = now_s
        if now_s - self._alone_since_s <= self._settings.start_timeout_s:
            return
        worker = Machine(self._settings.num_cpus, self._settings.num_gpus)
        wanted = self._num_lasting_wanted
        last_loss = f"; the last one: {self._last_loss}" if self._last_loss else ""
        raise WorkerError(
            "no worker was there in time",
            got=f"none for {self._settings.start_timeout_s:g} s on {self._executor.describe_machines()}"
            f"{last_loss}",
            expected=f"{wanted} worker{'s' * (wanted != 1)} of {worker}{' each' * (wanted != 1)}",
            next_step="ask for less per worker, free what others hold of the cluster, or raise "
            "workers.start_seconds where machines take longer to come",
        )

    def _free(self, worker: str) -> Task:
        """Takes a worker's ended task from it: it is idle now, or ended where its machine goes."""
        is_draining = worker in self._hand_back_s
        task = self._busy.pop(worker).task
        self._idle[worker] = self._clock()
        if is_draining:
            self._end(worker)
        return task


def _num_silent_bytes(task: Task) -> float:
    """How much of its sources a task may have to read before it can tell anything."""
    num_bytes = sum(input_.source.size_bytes for input_ in inputs_of(task))
    if not isinstance(task, SegmentTask) or task.treatment.video.timestamp_problem:
        return num_bytes
    return num_bytes * task.segment.num_frames / max(1, task.treatment.video.num_frames)
