"""Workers as Ray actors."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.executor import (
    TaskDone,
    TaskFailed,
    WorkerDraining,
    WorkerEvent,
    WorkerLost,
    WorkerReady,
    WorkerRefused,
    event_of,
)
from cluster.machines import Machine, WorkerRequest, WorkerSettings, describe
from cluster.plan import DeviceClass
from cluster.pool import WorkerPool
from cluster.sight import Sight, refusal
from cluster.storage import open_storage
from cluster.storage.base import SCRATCH_AGE_S
from cluster.tasks import Progress, Task, TaskResult
from sr_core.errors import FrameliftError, SpecError, WorkerError

if TYPE_CHECKING:
    from cluster.worker import Worker

_NODE_CONNECT_TIMEOUT_S = 1.0
_POLL_S = 1.0
_GET_TIMEOUT_S = 60.0  # of what is ready; longer only where it lies on a node that is gone
_CONNECT_TIMEOUT_S = 5.0
_OBJECT_STORE_BYTES = 128 * 2**20  # frames never go through it: tasks and receipts are small

# Threads that spin while they wait for each other take the cores from the decoder and the encoder.
WORKER_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}

_CHECK_ADDRESS = "check RAY_ADDRESS, or unset it to run on this machine"

_log = logging.getLogger(__name__)


def open_pool(request: WorkerRequest, address: str | None, sights: Sequence[Sight] = ()) -> WorkerPool:
    """A pool of Ray actors: on the cluster at `address`, or else on a Ray of its own in this machine.

    A Ray of our own ends with the pool. Who may call it, `RAY_AUTH_MODE` and a token say: Ray reads them when
    it is imported, so they are set before this module is.

    Args:
        sights: What the workers of a cluster must see; this machine's own see what the driver does.

    Raises:
        SpecError: The machines do not have what is asked for.
        WorkerError: There is no Ray at `address`.
    """
    is_ours = not ray.is_initialized()
    is_local = is_ours and address is None
    if is_ours:
        connect(request, address)
    nodes = RayNodes()
    try:
        settings = _settled(request, nodes.machines(), is_local=is_local)
    except SpecError:
        if is_ours:
            ray.shutdown()
        raise
    driver_pid = os.getpid() if is_local else None
    sights = () if is_local else sights
    executor = RayExecutor(settings, nodes, sights, ends_ray=is_ours, driver_pid=driver_pid)
    return WorkerPool(executor, settings)


def _settled(request: WorkerRequest, machines: Sequence[Machine], *, is_local: bool) -> WorkerSettings:
    if is_local and machines:
        return request.settle(machines[0].num_cpus, machines[0].num_gpus)
    return request.settle_on(machines)


def connect(request: WorkerRequest, address: str | None) -> None:
    """Joins the Ray cluster at `address`, or starts a Ray of this machine's own for what is asked for.

    Raises:
        SpecError: The address is none.
        WorkerError: No cluster answers there, or Ray cannot be started.
    """
    if address is not None:
        _refuse_deaf_address(address)
    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else request.num_local_cpus(os.cpu_count() or 1),
            object_store_memory=None if address else _OBJECT_STORE_BYTES,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except ValueError as error:
        raise SpecError(
            "this is no address of a Ray cluster",
            where="RAY_ADDRESS",
            got=address or "",
            expected="host:port, or auto",
            next_step=_CHECK_ADDRESS,
        ) from error
    except ConnectionError as error:
        raise _no_cluster(address or "this machine", error) from error
    except Exception as error:  # Ray raises just that where its processes do not come up in time
        raise WorkerError(
            "Ray could not be started",
            where=address or "this machine",
            got=first_line(error),
            next_step="see that the machine has memory and time to spare, and that RAY_TMPDIR or TMPDIR is "
            "a short path with room; then run the same command again",
        ) from error


def _refuse_deaf_address(address: str) -> None:
    """Raises `WorkerError` where nobody listens: Ray itself would try for more than a minute."""
    host, colon, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not colon or not port.isdigit():  # as `auto`, which Ray resolves
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: OSError) -> WorkerError:
    what = "there is no Ray cluster that answers"
    return WorkerError(what, where=address, got=first_line(error), next_step=_CHECK_ADDRESS)


class RayNodes:
    """What Ray tells of the machines of its cluster.

    Which of them drain is no public call of Ray's yet: where it is missing or fails, none does, and a machine
    that goes is noticed when it is gone.
    """

    def __init__(self) -> None:
        self._dead: set[str] = set()
        self._can_tell = True

    def machines(self) -> list[Machine]:
        """What each has that is there and is to stay."""
        leaving = self.draining()
        return [
            Machine(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"] and node["NodeID"] not in leaving
        ]

    def draining(self) -> dict[str, float | None]:
        """Nodes that are to be taken away, with the seconds left until then; None where Ray does not know."""
        if not self._can_tell:
            return {}
        try:
            from ray._private.state import state

            deadlines_ms: dict[str, int] = state.get_draining_nodes()
        except (ImportError, AttributeError) as error:
            self._can_tell = False
            _log.warning("this Ray does not tell which of its nodes are drained: %s", error)
            return {}
        except (RuntimeError, RayError) as error:
            _log.warning("Ray does not tell now which of its nodes are drained: %s", error)
            return {}
        return {node: ms / 1000 - time.time() if ms else None for node, ms in deadlines_ms.items()}

    def is_alive(self, node_id: str) -> bool:
        """Whether a node is still there.

        Ray may take ten seconds to notice that one is gone, so the node itself is asked as well.
        """
        if node_id in self._dead:
            return False
        nodes = {node["NodeID"]: node for node in ray.nodes()}  # type: ignore[no-untyped-call]
        node = nodes.get(node_id)
        if node is None or not node["Alive"] or not _answers(node):
            self._dead.add(node_id)
        return node_id not in self._dead


def _answers(node: dict[str, Any]) -> bool:
    address = (node["NodeManagerAddress"], node["NodeManagerPort"])
    try:
        socket.create_connection(address, timeout=_NODE_CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Arrival:
    """A worker is there, on this node, as this process."""

    device_class: DeviceClass
    node_id: str
    pid: int


class _WorkerActor:
    """A `Worker` in a process of its own, pinned to its GPU by Ray."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def arrive(
        self,
        device: Literal["cpu", "cuda"],
        num_threads: int,
        sights: Sequence[Sight],
        driver_pid: int | None,
    ) -> Arrival | FrameliftError:
        """Makes the worker, unless it would not see what it must: then that comes back.

        Args:
            sights: What it must see, the first of which lies in the output's store.
            driver_pid: Of a driver on this machine with which its workers end; None where Ray outlives it.
        """
        if driver_pid is not None:
            threading.Thread(target=end_with, args=(driver_pid,), name="driver", daemon=True).start()
        error = refusal(sights) or _sweep(sights[:1])
        if error is not None:
            return error
        from cluster.worker import Worker  # loads torch

        self._worker = Worker(device, num_threads)
        node_id = ray.get_runtime_context().get_node_id()
        return Arrival(self._worker.device_class, node_id, os.getpid())

    def run(self, task: Task) -> Iterator[Progress | TaskResult | FrameliftError]:
        assert self._worker is not None, "tasks are for workers that are there"
        yield from self._worker.run(task)


def _sweep(sights: Sequence[Sight]) -> FrameliftError | None:
    """Removes what earlier workers left on this machine on the way to these stores; an error if it cannot."""
    try:
        for sight in sights:
            open_storage(sight.store_url).sweep_scratch(SCRATCH_AGE_S)
    except FrameliftError as error:
        return error
    return None


def _end_process(pid: int) -> None:
    """Ends the process of a worker on this machine, if it is still there."""
    command = Path(f"/proc/{pid}/cmdline")
    with contextlib.suppress(OSError):
        if _WorkerActor.__name__.encode() in command.read_bytes():
            os.kill(pid, signal.SIGKILL)


def end_with(pid: int) -> None:
    """Ends this process soon after the process `pid`.

    Ray does so by itself, but not where something else than the machine's first process adopts orphans.
    """
    while True:
        time.sleep(_POLL_S)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os._exit(1)


class RayExecutor:
    """Starts workers as actors. A worker runs one task at a time and tells of it through a stream.

    Args:
        sights: What a worker must see to be of use.
        ends_ray: Whether Ray ends with this executor.
        driver_pid: See `_WorkerActor.arrive`.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        nodes: RayNodes,
        sights: Sequence[Sight],
        *,
        ends_ray: bool,
        driver_pid: int | None = None,
    ) -> None:
        self._nodes = nodes
        self._sights = sights
        self._ends_ray = ends_ray
        self._driver_pid = driver_pid
        self._device: Literal["cpu", "cuda"] = "cuda" if settings.num_gpus else "cpu"
        self._num_threads = max(1, round(settings.num_cpus))
        self._actor_class = ray.remote(
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": WORKER_ENVIRONMENT},
        )(_WorkerActor)
        self._names = count()
        self._actors: dict[str, Any] = {}
        self._waiting: dict[Any, str] = {}  # refs and streams that Ray will complete, with their workers
        self._awaited: dict[str, Any] = {}  # the same the other way round: each worker has at most one
        self._arrivals: dict[str, Arrival] = {}
        self._told_draining: set[str] = set()
        self._polled_s = time.monotonic()

    def start_worker(self) -> str:
        """See `Executor.start_worker`."""
        name = f"worker-{next(self._names)}"
        self._actors[name] = self._actor_class.remote()
        actor = self._actors[name]
        arrival = actor.arrive.remote(self._device, self._num_threads, self._sights, self._driver_pid)
        self._await(name, arrival)
        return name

    def submit(self, worker: str, task: Task) -> None:
        """See `Executor.submit`."""
        self._await(worker, self._actors[worker].run.options(num_returns="streaming").remote(task))

    def kill(self, worker: str) -> None:
        """See `Executor.kill`."""
        is_busy, arrival = worker in self._awaited, self._arrivals.pop(worker, None)
        self._heard(worker)
        self._told_draining.discard(worker)
        with contextlib.suppress(RayError):  # it is gone already
            ray.kill(self._actors.pop(worker))
        if is_busy and arrival is not None:
            self._end_from_outside(arrival)

    def wait(self, timeout_s: float) -> list[WorkerEvent]:
        """See `Executor.wait`."""
        drained = self._drained()
        try:
            ready = self._ready(0 if drained else timeout_s)
        except RayError as error:
            raise WorkerError("the Ray cluster does not answer any more", got=first_line(error)) from error
        return [*drained, *(self._event(found) for found in ready)]

    def describe_machines(self) -> str:
        """See `Executor.describe_machines`."""
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        unused = Machine(free.get("CPU", 0.0), free.get("GPU", 0.0))
        return f"{describe(self._nodes.machines())}, of which {unused} are free"

    def close(self) -> None:
        """See `Executor.close`."""
        for worker in list(self._actors):
            self.kill(worker)
        if self._ends_ray:
            ray.shutdown()

    def _end_from_outside(self, arrival: Arrival) -> None:
        """Ends a process that may be stopped or stuck, and would hold its part of the machine for ever.

        Ray asks the process itself.
        """
        there = NodeAffinitySchedulingStrategy(arrival.node_id, soft=False)
        end = ray.remote(num_cpus=0, max_retries=0)(_end_process)
        end.options(scheduling_strategy=there).remote(arrival.pid)

    def _await(self, worker: str, ref: Any) -> None:
        self._waiting[ref] = worker
        self._awaited[worker] = ref

    def _heard(self, worker: str) -> None:
        ref = self._awaited.pop(worker, None)
        if ref is not None:
            del self._waiting[ref]

    def _ready(self, timeout_s: float) -> list[Any]:
        """All that is ready now; else the first that is within `timeout_s`.

        Each call of Ray's looks at every ref, so a second one is made only where there is time for it.
        """
        if not self._waiting:
            time.sleep(timeout_s)  # all workers are idle: the next thing to happen is the caller's
            return []
        waiting = list(self._waiting)
        ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        if not ready and timeout_s > 0:
            ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout_s, fetch_local=False)
        return ready

    def _drained(self) -> list[WorkerEvent]:
        """Workers whose nodes are drained since this was asked last, which is about once a second."""
        now_s = time.monotonic()
        if now_s - self._polled_s < _POLL_S:
            return []
        self._polled_s = now_s
        leaving = self._nodes.draining()
        arrivals = self._arrivals.items() if leaving else ()
        found = [worker for worker, arrival in arrivals if arrival.node_id in leaving]
        new = [worker for worker in found if worker not in self._told_draining]
        self._told_draining.update(new)
        return [WorkerDraining(worker, leaving[self._arrivals[worker].node_id]) for worker in new]

    def _event(self, ready: Any) -> WorkerEvent:
        worker = self._waiting[ready]
        try:
            if isinstance(ready, ray.ObjectRefGenerator):
                return self._stream_event(worker, ready)
            self._heard(worker)
            return self._arrived(worker, ray.get(ready, timeout=_GET_TIMEOUT_S))
        except RayError as error:
            return self._lost(worker, error)

    def _arrived(self, worker: str, told: Arrival | FrameliftError) -> WorkerEvent:
        if isinstance(told, FrameliftError):
            self.kill(worker)
            return WorkerRefused(worker, told)
        self._arrivals[worker] = told
        return WorkerReady(worker, told.device_class)

    def _stream_event(self, worker: str, stream: ray.ObjectRefGenerator) -> WorkerEvent:
        event = event_of(worker, ray.get(next(stream), timeout=_GET_TIMEOUT_S))
        if isinstance(event, TaskDone | TaskFailed):
            self._heard(worker)
        return event

    def _lost(self, worker: str, error: RayError) -> WorkerLost:
        arrival = self._arrivals.pop(worker, None)
        is_leaving = arrival is not None and self._is_leaving(arrival.node_id)
        preempted = (isinstance(error, RayActorError) and error.preempted) or is_leaving
        self.kill(worker)
        what = "its node was taken away" if preempted else "the worker's process died"
        return WorkerLost(worker, WorkerError(what, preempted=preempted, where=worker, got=first_line(error)))

    def _is_leaving(self, node_id: str) -> bool:
        return not self._nodes.is_alive(node_id) or node_id in self._nodes.draining()


def first_line(error: Exception) -> str:
    """What an error says, without the rest of what Ray makes of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
