"""Workers on a real Ray cluster of several nodes, which come and go."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.job import Job, ModelRef, SegmentSettings, VideoSettings
from cluster.machines import WorkerRequest
from cluster.plan import JobPlan, VideoPlan
from cluster.pool import Done, Failed, PoolEvent, Running
from cluster.sight import Sight
from cluster.tasks import ProbeTask, SegmentReceipt, SegmentTask, Task
from jobs.sample import SAMPLE
from sr_core.errors import SpecError, WorkerError
from tests.cluster.plans import FIXED, video_plan

# Ray's own start-up leaves sockets and processes to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# A node that is gone is noticed sooner than by Ray's defaults, and one that is busy is not taken for gone.
WATCHFUL = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 4,
    "health_check_timeout_ms": 2000,
}
PATIENCE_S = 120.0
JOB = Job(
    ModelRef("lanczos"),
    scale=4,
    video=VideoSettings(preset="veryslow"),  # some seconds a segment: something happens meanwhile
    segments=SegmentSettings(seconds=1.0),
)


@dataclass
class Machines:
    """A cluster whose head does no work."""

    cluster: Any
    leaving: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def drain(self, node_id: str, seconds: float) -> None:
        """Gives notice that a node will be taken away."""
        from ray import _raylet
        from ray.core.generated import autoscaler_pb2

        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = round((time.time() + seconds) * 1000)
        client = _raylet.GcsClient(address=self.address)
        is_accepted, why_not = client.drain_node(node_id, reason, "test", deadline_ms)
        assert is_accepted, why_not
        self.leaving.add(node_id)

    def complete(self) -> None:
        """Has two nodes of one core each that are to stay, and no others."""
        for node in [node for node in self.cluster.worker_nodes if node.node_id in self.leaving]:
            self.cluster.remove_node(node, allow_graceful=False)
        for _ in range(2 - len(self.cluster.worker_nodes)):
            self.cluster.add_node(num_cpus=1)

    def remove(self, node_id: str) -> None:
        [node] = [node for node in self.cluster.worker_nodes if node.node_id == node_id]
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def head() -> Iterator[Machines]:
    """A head alone. Ray reads its environment when it is loaded, and needs a short path for its sockets."""
    folder = tempfile.mkdtemp(prefix="fl", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", folder)
        from ray.cluster_utils import Cluster

        logging.getLogger("ray").setLevel(logging.CRITICAL)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": WATCHFUL})
        yield Machines(cluster)
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def machines(head: Machines) -> Machines:
    """The head with two nodes of one core each."""
    head.complete()
    return head


class Bench:
    """A pool on a cluster, and tasks for it."""

    def __init__(self, machines: Machines, folder: Path, num_workers: int) -> None:
        from cluster.actor import open_pool

        self.video = video_plan(SAMPLE, JOB)
        self.output_url = str(folder)
        self._events: list[PoolEvent] = []
        source = self.video.treatment.input.source
        sights = [Sight(source.store_url, source.key, source.version)]
        self.pool = open_pool(WorkerRequest(count=num_workers, cpus=1), machines.address, sights)
        self.pool.first_device_class()
        self.wait_for_idle(num_workers)

    def long_task(self, number: int = 0) -> SegmentTask:
        plan, segment = JobPlan(JOB, FIXED), self.video.segments[number]
        return SegmentTask(plan, self.video.treatment, segment, f"try-{number}", self.output_url)

    @property
    def short_task(self) -> ProbeTask:
        return ProbeTask(JobPlan(JOB, FIXED), self.video.treatment.input)

    def wait_for_idle(self, num_workers: int) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while len(self.pool.idle_workers()) < num_workers:
            assert time.monotonic() < deadline_s, "no worker came"
            self.pool.wait(1.0)

    def next_event(self, kind: type[PoolEvent]) -> Any:
        """The next event of this kind; others are kept for later calls."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not any(isinstance(event, kind) for event in self._events):
            assert time.monotonic() < deadline_s, f"there was no {kind.__name__}"
            self._events += self.pool.wait(1.0)
        found = next(event for event in self._events if isinstance(event, kind))
        self._events.remove(found)
        return found

    def start(self, *tasks: Task) -> tuple[str, int]:
        """Gives idle workers tasks, and returns the first that tells of its own, with its process."""
        pids = {worker: self.pid_of(worker) for worker in self.pool.idle_workers()}
        for worker, task in zip(pids, tasks, strict=True):
            self.pool.submit(worker, task)
        worker = self.next_event(Running).worker
        return worker, pids[worker]

    def node_of(self, worker: str) -> str:
        return str(self.pool._executor._arrivals[worker].node_id)  # type: ignore[attr-defined]

    def pid_of(self, worker: str) -> int:
        import ray

        actor = self.pool._executor._actors[worker]  # type: ignore[attr-defined]
        return int(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())))


@contextmanager
def bench(machines: Machines, folder: Path, num_workers: int = 1) -> Iterator[Bench]:
    """A pool whose workers are there, for as long as a test takes."""
    made = Bench(machines, folder, num_workers)
    try:
        yield made
    finally:
        made.pool.close()


def test_a_job_goes_on_without_the_node_that_is_gone(machines: Machines, tmp_path: Path) -> None:
    with bench(machines, tmp_path, num_workers=2) as on:
        workers = on.pool.idle_workers()
        assert len({on.node_of(worker) for worker in workers}) == 2
        lost, pid = on.start(on.long_task(0), on.long_task(1))
        os.kill(pid, signal.SIGSTOP)  # so that it cannot end its task before the node is gone
        machines.remove(on.node_of(lost))
        os.kill(pid, signal.SIGKILL)
        failed = on.next_event(Failed)
        assert failed.worker == lost
        assert isinstance(failed.error, WorkerError)
        assert failed.error.preempted
        assert on.pool.take_gone() == [lost]
        done = on.next_event(Done)
        assert (done.worker in workers, type(done.result)) == (True, SegmentReceipt)
        on.pool.submit(done.worker, on.short_task)
        assert isinstance(on.next_event(Done).result, VideoPlan)


def test_a_process_that_dies_on_a_node_that_lives_is_not_taken_for_a_lost_node(
    machines: Machines, tmp_path: Path
) -> None:
    with bench(machines, tmp_path) as on:
        worker, pid = on.start(on.long_task())
        os.kill(pid, signal.SIGKILL)
        failed = on.next_event(Failed)
        assert isinstance(failed.error, WorkerError)
        assert not failed.error.preempted
        on.wait_for_idle(1)
        assert on.pool.idle_workers() != [worker]


def test_workers_that_are_stuck_give_their_machines_back(machines: Machines, tmp_path: Path) -> None:
    with bench(machines, tmp_path, num_workers=2) as on:
        pids = [on.pid_of(worker) for worker in on.pool.idle_workers()]
        stuck = on.pool.idle_workers()
        on.start(on.long_task(0), on.long_task(1))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for worker in stuck:
            on.pool._end_one_hung(worker)
        on.wait_for_idle(2)
        assert not set(stuck) & set(on.pool.idle_workers())


def test_the_task_of_a_node_that_is_drained_is_handed_back_in_time(
    machines: Machines, tmp_path: Path
) -> None:
    with bench(machines, tmp_path) as on:
        worker, pid = on.start(on.long_task())
        node = on.node_of(worker)
        os.kill(pid, signal.SIGSTOP)  # it would need longer than there is time
        machines.drain(node, seconds=8.0)
        failed = on.next_event(Failed)
        assert (failed.worker, failed.task) == (worker, on.long_task())
        assert isinstance(failed.error, WorkerError)
        assert failed.error.preempted
        on.wait_for_idle(1)
        assert on.node_of(on.pool.idle_workers()[0]) != node


def test_a_worker_that_drains_ends_its_task_and_gets_no_more(machines: Machines, tmp_path: Path) -> None:
    with bench(machines, tmp_path) as on:
        worker, pid = on.start(on.long_task())
        os.kill(pid, signal.SIGSTOP)  # so that it is still at its task when the pool is told
        machines.drain(on.node_of(worker), seconds=3600.0)
        on.wait_for_idle(1)  # for another in its place
        os.kill(pid, signal.SIGCONT)
        done = on.next_event(Done)
        assert (done.worker, type(done.result)) == (worker, SegmentReceipt)
        assert on.pool.take_gone() == [worker]
        assert on.pool.idle_workers() not in ([], [worker])


def test_what_no_node_has_is_refused_at_once(machines: Machines) -> None:
    from cluster.actor import open_pool

    for request in (WorkerRequest(device="cuda"), WorkerRequest(cpus=2)):
        with pytest.raises(SpecError, match="2 machines of 1 CPU core"):
            open_pool(request, machines.address)


def test_workers_that_do_not_come_in_time_end_the_job_with_what_there_is(machines: Machines) -> None:
    from cluster.actor import open_pool

    pool = open_pool(WorkerRequest(device="cuda", count=1, start_seconds=2), machines.address)
    try:
        with pytest.raises(WorkerError, match="2 machines of 1 CPU core") as caught:
            pool.first_device_class()
    finally:
        pool.close()
    assert "1 worker of 1 CPU core and 1 GPU" in caught.value.expected


def test_workers_that_do_not_see_the_job_end_it_with_the_path_and_the_machine(
    machines: Machines, tmp_path: Path
) -> None:
    from cluster.actor import open_pool

    sight = Sight(str(tmp_path), "films/a.mp4")
    pool = open_pool(WorkerRequest(count=2, cpus=1), machines.address, [sight])
    try:
        with pytest.raises(SpecError) as caught:
            pool.first_device_class()
    finally:
        pool.close()
    assert caught.value.where == f"{tmp_path}/films/a.mp4 on {socket.gethostname()}"


def test_a_ray_that_does_not_tell_of_draining_is_borne(
    head: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private.state import GlobalState

    from cluster.actor import RayNodes

    assert RayNodes().draining() == {}  # it is not connected
    monkeypatch.delattr(GlobalState, "get_draining_nodes")
    assert RayNodes().draining() == {}
