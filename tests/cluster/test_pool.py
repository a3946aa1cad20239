"""The pool on workers that answer or stay silent as a test tells them."""

from __future__ import annotations

import pytest

from cluster.executor import TaskFailed, TaskProgress, WorkerEvent, WorkerLost, WorkerReady
from cluster.plan import Input, SourceRef
from cluster.pool import Failed, WorkerPool, WorkerSettings
from cluster.tasks import ProbeTask, Progress, Task
from sr_core.errors import FrameliftError, MediaError, WorkerError
from tests.cluster.simulation import DEVICE, JOB
from tests.cluster.test_schedule import PLAN

__all__ = ["JOB"]

SILENCE_S = 100.0


class QuietExecutor:
    """Workers that are there at once and say only what a test puts into `events`."""

    def __init__(self) -> None:
        self.events: list[WorkerEvent] = []
        self.killed: list[str] = []
        self._num_started = 0

    def start_worker(self) -> str:
        self._num_started += 1
        name = f"worker-{self._num_started}"
        self.events.append(WorkerReady(name, DEVICE))
        return name

    def submit(self, worker: str, task: Task) -> None:
        """It says nothing of it."""

    def kill(self, worker: str) -> None:
        self.killed.append(worker)

    def wait(self, timeout_s: float) -> list[WorkerEvent]:
        events, self.events = self.events, []
        return events

    def close(self) -> None:
        """Nothing is open."""


class Bench:
    """A pool of one worker at one task, and the time."""

    def __init__(self, size_bytes: int = 0) -> None:
        self.now_s = 0.0
        self.executor = QuietExecutor()
        settings = WorkerSettings(1, silence_s=SILENCE_S)
        self.pool = WorkerPool(self.executor, settings, clock=lambda: self.now_s)
        self.pool.first_device_class()
        self.task = ProbeTask(PLAN, Input(SourceRef("memory:", "a.mp4", size_bytes, "1"), "a.mp4"))
        self.give()

    def give(self) -> None:
        [worker] = self.pool.idle_workers()
        self.worker = worker
        self.pool.submit(worker, self.task)

    def fail(self, error: FrameliftError) -> None:
        self.executor.events.append(TaskFailed(self.worker, error))
        self.pool.wait(0)


def test_a_worker_that_is_silent_for_too_long_is_ended_and_replaced() -> None:
    bench = Bench()
    bench.now_s = SILENCE_S + 1
    [event] = bench.pool.wait(0)
    assert isinstance(event, Failed)
    assert event.task == bench.task
    assert "silent" in str(event.error)
    assert bench.executor.killed == ["worker-1"]
    bench.pool.wait(0)
    assert bench.pool.idle_workers() == ["worker-2"]


def test_a_worker_that_tells_of_its_progress_is_left_alone() -> None:
    bench = Bench()
    for _ in range(3):
        bench.now_s += SILENCE_S - 1
        bench.executor.events.append(TaskProgress(bench.worker, Progress(1, {})))
        bench.pool.wait(0)
    assert bench.executor.killed == []


def test_an_idle_worker_may_be_silent_for_ever() -> None:
    bench = Bench()
    bench.fail(MediaError("broken"))
    bench.now_s = 100 * SILENCE_S
    assert bench.pool.wait(0) == []


def test_reading_a_large_source_may_take_longer() -> None:
    bench = Bench(size_bytes=10**12)
    bench.now_s = 10 * SILENCE_S
    assert bench.pool.wait(0) == []
    bench.now_s = 10**6
    assert len(bench.pool.wait(0)) == 1


def test_silence_over_one_file_is_nothing_against_the_other_workers() -> None:
    bench = Bench()
    for _ in range(20):
        bench.now_s += SILENCE_S + 1
        assert len(bench.pool.wait(0)) == 1
        bench.pool.wait(0)
        bench.give()


@pytest.mark.parametrize(
    ("error", "is_refused"), [(MediaError("broken"), False), (WorkerError("gone"), True)]
)
def test_workers_that_answer_between_losses_are_not_at_fault(error: FrameliftError, is_refused: bool) -> None:
    bench = Bench()

    def lose_many() -> None:
        for _ in range(20):
            bench.executor.events.append(WorkerLost(bench.worker, WorkerError("gone")))
            bench.pool.wait(0)
            bench.pool.wait(0)
            bench.give()
            bench.fail(error)
            bench.give()

    if is_refused:
        with pytest.raises(WorkerError, match="one after the other"):
            lose_many()
    else:
        lose_many()
