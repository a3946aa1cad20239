"""The pool on workers that answer, stay silent or go as a test tells them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.executor import (
    TaskDone,
    TaskFailed,
    TaskProgress,
    WorkerDraining,
    WorkerEvent,
    WorkerLost,
    WorkerReady,
    WorkerRefused,
)
from cluster.machines import WorkerSettings
from cluster.plan import DeviceClass, Input, SourceRef
from cluster.pool import Failed, WorkerPool
from cluster.tasks import ProbeTask, Progress, Task
from sr_core.errors import FrameliftError, MediaError, SpecError, WorkerError
from tests.cluster.simulation import DEVICE, JOB
from tests.cluster.test_schedule import PLAN

__all__ = ["JOB"]

SILENCE_S = 100.0
START_S = 180.0
OTHER_DEVICE = DeviceClass("cuda", "another", False, {})
BLIND = SpecError("this is not seen by a worker", where="/films/a.mp4 on node-7")


def never(worker: str) -> None:
    """What happens where a worker does not come."""


class ScriptedExecutor:
    """Workers that are there at once, or when a test says so, and tell what it puts into `events`."""

    def __init__(self) -> None:
        self.events: list[WorkerEvent] = []
        self.started: list[str] = []
        self.killed: list[str] = []
        self.start_event: Callable[[str], WorkerEvent | None] = lambda worker: WorkerReady(worker, DEVICE)
        self.pass_time: Callable[[float], None] = lambda seconds: None

    def start_worker(self) -> str:
        worker = f"worker-{len(self.started) + 1}"
        self.started.append(worker)
        event = self.start_event(worker)
        if event is not None:
            self.events.append(event)
        return worker

    def submit(self, worker: str, task: Task) -> None:
        """It says nothing of it."""

    def kill(self, worker: str) -> None:
        self.killed.append(worker)

    def wait(self, timeout_s: float) -> list[WorkerEvent]:
        events, self.events = self.events, []
        if not events:
            self.pass_time(timeout_s)
        return events

    def describe_machines(self) -> str:
        return "2 machines of 1 CPU core"

    def close(self) -> None:
        """Nothing is open."""


class Bench:
    """A pool of workers, each at one task if not said otherwise, and the time."""

    def __init__(
        self, size_bytes: int = 0, num_workers: int = 1, *, starts: bool = True, **settings: float
    ) -> None:
        self.now_s = 0.0
        self.executor = ScriptedExecutor()
        if not starts:
            self.executor.start_event = never
        self.executor.pass_time = self.pass_time
        self.pool = WorkerPool(
            self.executor,
            WorkerSettings(num_workers, silence_s=SILENCE_S, start_timeout_s=START_S, **settings),  # type: ignore[arg-type]
            clock=lambda: self.now_s,
        )
        self.task = ProbeTask(PLAN, Input(SourceRef("memory:", "a.mp4", size_bytes, "1"), "a.mp4"))
        if starts:
            self.pool.first_device_class()
            self.give()

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    def give(self) -> None:
        for worker in self.pool.idle_workers():
            self.worker = worker
            self.pool.submit(worker, self.task)

    def tell(self, *events: WorkerEvent) -> list[object]:
        self.executor.events.extend(events)
        return list(self.pool.wait(0))

    def fail(self, error: FrameliftError) -> None:
        self.tell(TaskFailed(self.worker, error))

    def done(self, worker: str) -> None:
        self.tell(TaskDone(worker, ...))  # type: ignore[arg-type]  # the pool does not look at results

    def rest(self, seconds: float, num_tasks: int) -> None:
        """Lets time pass in the driver's loop, second by second."""
        for _ in range(round(seconds)):
            self.now_s += 1
            self.pool.want(num_tasks)
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
        bench.tell(TaskProgress(bench.worker, Progress(1, {})))
    assert bench.executor.killed == []


def test_an_idle_worker_may_be_silent_for_ever() -> None:
    bench = Bench()
    bench.fail(MediaError("broken"))
    bench.now_s = 100 * SILENCE_S
    assert bench.pool.wait(0) == []
    assert bench.executor.killed == []


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
            bench.tell(WorkerLost(bench.worker, WorkerError("gone")))
            bench.pool.wait(0)
            bench.give()
            bench.fail(error)
            bench.give()

    if is_refused:
        with pytest.raises(WorkerError, match="one after the other"):
            lose_many()
    else:
        lose_many()


def test_machines_that_are_taken_away_never_end_a_job() -> None:
    bench = Bench()
    for _ in range(50):
        [event] = bench.tell(WorkerLost(bench.worker, WorkerError("its node is gone", preempted=True)))
        assert isinstance(event, Failed)
        bench.pool.wait(0)
        bench.give()


def test_where_all_workers_are_gone_and_none_comes_the_job_ends() -> None:
    bench = Bench()
    bench.executor.start_event = never
    bench.tell(WorkerLost("worker-1", WorkerError("its node is gone", preempted=True)))
    bench.now_s += START_S - 1
    bench.pool.wait(0)
    bench.now_s += 2
    with pytest.raises(WorkerError, match="2 machines of 1 CPU core"):
        bench.pool.wait(0)


def test_a_worker_that_tells_its_machines_fault_three_times_is_replaced() -> None:
    bench = Bench(num_workers=2)
    bench.done("worker-1")
    for num_errors in range(1, 4):
        bench.give()
        assert bench.executor.killed == []
        [event] = bench.tell(TaskFailed("worker-1", WorkerError(f"disk full, {num_errors}")))
        assert isinstance(event, Failed)
    assert bench.executor.killed == ["worker-1"]
    assert bench.pool.take_gone() == ["worker-1"]
    bench.pool.wait(0)
    assert bench.pool.idle_workers() == ["worker-3"]


def test_what_a_worker_does_well_or_the_source_spoils_is_nothing_against_its_machine() -> None:
    bench = Bench()
    for error in 5 * [WorkerError("disk full"), WorkerError("disk full"), MediaError("broken")]:
        bench.fail(error)
        bench.give()
    for _ in range(5):
        bench.fail(WorkerError("disk full"))
        bench.give()
        bench.done(bench.worker)
        bench.give()
    assert bench.executor.killed == []


def test_a_bad_machine_does_not_get_worker_after_worker_while_others_work() -> None:
    bench = Bench(num_workers=2)
    for _ in range(3):
        bench.tell(TaskFailed("worker-1", WorkerError("disk full")))
        bench.give()

    def work_on(num_minutes: int) -> None:
        for _ in range(num_minutes):
            bench.rest(60, num_tasks=2)
            bench.tell(TaskProgress("worker-2", Progress(1, {})))

    work_on(4)
    assert bench.executor.started == ["worker-1", "worker-2"]
    work_on(2)
    assert bench.executor.started == ["worker-1", "worker-2", "worker-3"]


def test_a_machine_that_alone_is_left_is_tried_again_at_once() -> None:
    bench = Bench()
    for _ in range(3):
        bench.fail(WorkerError("disk full"))
        bench.give()
    assert bench.executor.started == ["worker-1", "worker-2"]


def test_a_job_whose_every_worker_fails_ends() -> None:
    bench = Bench()

    def fail_for_ever() -> None:
        for _ in range(100):
            bench.fail(WorkerError("disk full"))
            bench.pool.wait(0)
            bench.give()

    with pytest.raises(WorkerError, match="one after the other"):
        fail_for_ever()


def test_a_worker_that_drains_gets_no_more_work_and_ends_with_its_task() -> None:
    bench = Bench()
    bench.tell(WorkerDraining("worker-1", 120.0))
    assert bench.executor.killed == []
    assert bench.executor.started == ["worker-1", "worker-2"]
    [event] = bench.tell(TaskDone("worker-1", ...))  # type: ignore[arg-type]
    assert not isinstance(event, Failed)
    assert bench.executor.killed == ["worker-1"]
    assert bench.pool.take_gone() == ["worker-1"]
    assert bench.pool.idle_workers() == ["worker-2"]


def test_an_idle_worker_that_drains_ends_at_once() -> None:
    bench = Bench()
    bench.done("worker-1")
    bench.tell(WorkerDraining("worker-1", None))
    assert bench.executor.killed == ["worker-1"]
    bench.pool.wait(0)
    assert bench.pool.idle_workers() == ["worker-2"]


@pytest.mark.parametrize("progress", [True, False])
def test_a_task_is_handed_back_before_its_machine_goes(progress: bool) -> None:
    bench = Bench()
    bench.tell(WorkerDraining("worker-1", 30.0))
    for _ in range(20):
        bench.now_s += 1
        assert not any(isinstance(event, Failed) for event in bench.tell(*progresses(progress)))
    bench.now_s += 9
    [event] = bench.tell()
    assert isinstance(event, Failed)
    assert event.task == bench.task
    assert isinstance(event.error, WorkerError)
    assert event.error.preempted
    assert bench.executor.killed == ["worker-1"]


def progresses(is_told: bool) -> list[WorkerEvent]:
    return [TaskProgress("worker-1", Progress(1, {}))] if is_told else []


def test_a_worker_may_end_its_task_where_nobody_says_when_its_machine_goes() -> None:
    bench = Bench()
    bench.tell(WorkerDraining("worker-1", None))
    bench.now_s += SILENCE_S - 1
    assert bench.tell() == []
    assert bench.executor.killed == []


def test_draining_is_no_loss_in_a_row() -> None:
    bench = Bench()
    for _ in range(50):
        [event] = bench.tell(WorkerDraining(bench.worker, 0.0))
        assert isinstance(event, Failed)
        bench.pool.wait(0)
        bench.give()


def test_where_no_worker_sees_what_it_must_the_job_is_refused() -> None:
    bench = Bench(num_workers=3, starts=False)
    bench.executor.start_event = lambda worker: WorkerRefused(worker, BLIND)
    with pytest.raises(SpecError, match="node-7"):
        bench.pool.first_device_class()
    assert len(bench.executor.started) == 3


def test_workers_that_never_come_do_not_hide_that_the_others_see_nothing() -> None:
    bench = Bench(num_workers=3, starts=False)
    bench.executor.events = [WorkerRefused("worker-1", BLIND)]
    with pytest.raises(SpecError, match="node-7"):
        bench.pool.first_device_class()
    assert 0 < bench.now_s < START_S


def test_a_job_goes_on_with_the_workers_that_see() -> None:
    bench = Bench(num_workers=3, starts=False)
    bench.executor.events = [
        WorkerRefused("worker-1", BLIND),
        WorkerRefused("worker-2", BLIND),
        WorkerReady("worker-3", DEVICE),
    ]
    bench.pool.first_device_class()
    bench.give()
    bench.executor.start_event = lambda worker: WorkerReady(worker, DEVICE)
    bench.pool.wait(0)
    assert bench.pool.num_workers == 1
    assert bench.executor.started == ["worker-1", "worker-2", "worker-3"]


def test_many_machines_that_see_nothing_do_not_stop_the_one_that_does() -> None:
    bench = Bench(num_workers=30, starts=False)
    blind = [WorkerRefused(f"worker-{n}", BLIND) for n in range(2, 31)]
    bench.executor.events = [WorkerReady("worker-1", DEVICE), *blind]
    bench.pool.first_device_class()
    bench.give()
    bench.done("worker-1")
    assert bench.pool.idle_workers() == ["worker-1"]


def test_many_machines_of_another_class_do_not_stop_the_one_that_fits() -> None:
    bench = Bench(num_workers=30, starts=False)
    others = [WorkerReady(f"worker-{n}", OTHER_DEVICE) for n in range(2, 31)]
    bench.executor.events = [WorkerReady("worker-1", DEVICE), *others]
    assert bench.pool.first_device_class() == DEVICE
    assert bench.pool.idle_workers() == ["worker-1"]
    assert len(bench.executor.killed) == 29


def test_as_many_workers_are_kept_as_there_is_work_for() -> None:
    bench = Bench(num_workers=8, min_workers=2, machines_may_come=True)
    assert len(bench.executor.started) == 2
    bench.pool.want(5)
    bench.pool.wait(0)
    assert len(bench.executor.started) == 5
    bench.pool.want(100)
    bench.pool.wait(0)
    assert len(bench.executor.started) == 8


def test_idle_workers_that_are_too_many_end_after_a_minute() -> None:
    bench = Bench(num_workers=4, min_workers=2)
    for worker in ("worker-2", "worker-3", "worker-4"):
        bench.done(worker)
    bench.rest(58, num_tasks=1)
    assert bench.executor.killed == []
    bench.rest(4, num_tasks=1)
    assert bench.executor.killed == ["worker-2", "worker-3"]
    assert bench.pool.take_gone() == ["worker-2", "worker-3"]
    assert bench.pool.num_workers == 2


def test_workers_stay_while_a_few_tasks_come_and_go() -> None:
    bench = Bench(num_workers=4)
    bench.done("worker-2")
    for _ in range(10):
        bench.tell(*(TaskProgress(f"worker-{n}", Progress(1, {})) for n in (1, 3, 4)))
        bench.rest(40, num_tasks=3)
        bench.rest(10, num_tasks=4)
    assert bench.executor.killed == []


def test_workers_that_never_come_are_no_longer_asked_for_where_they_are_too_many() -> None:
    bench = Bench(num_workers=3, starts=False)
    bench.executor.events = [WorkerReady("worker-1", DEVICE)]
    bench.pool.first_device_class()
    bench.give()
    bench.rest(62, num_tasks=1)
    assert sorted(bench.executor.killed) == ["worker-2", "worker-3"]


def test_workers_that_never_come_do_not_stop_the_others() -> None:
    bench = Bench(num_workers=3, starts=False)
    bench.executor.events = [WorkerReady("worker-1", DEVICE)]
    assert bench.pool.first_device_class() == DEVICE
    for _ in range(10):
        bench.rest(START_S, num_tasks=3)
        bench.give()
        bench.done("worker-1")
    assert bench.pool.num_workers == 1


def test_where_no_worker_comes_the_error_says_what_there_is_and_what_was_asked() -> None:
    bench = Bench(num_workers=3, starts=False)
    with pytest.raises(WorkerError) as caught:
        bench.pool.first_device_class()
    assert "2 machines of 1 CPU core" in caught.value.got
    assert "3 workers of 1 CPU core each" in caught.value.expected
    assert bench.now_s >= START_S
