"""Workers as Ray actors."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError, RayError

from cluster.executor import TaskDone, TaskFailed, WorkerEvent, WorkerLost, WorkerReady, event_of
from cluster.plan import DeviceClass
from cluster.pool import WorkerPool, WorkerRequest, WorkerSettings
from cluster.tasks import Progress, Task, TaskResult
from sr_core.errors import FrameliftError, SpecError, WorkerError

_CONNECT_TIMEOUT_S = 5.0
_OBJECT_STORE_BYTES = 128 * 2**20  # frames never go through it: tasks and receipts are small

# Threads that spin while they wait for each other take the cores from the decoder and the encoder; SVT-AV1
# writes to stderr.
_WORKER_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "SVT_LOG": "1"}

_log = logging.getLogger(__name__)


def open_pool(request: WorkerRequest, address: str | None) -> WorkerPool:
    """A pool of Ray actors: on the cluster at `address`, or else on a Ray of its own in this machine.

    A Ray of our own ends with the pool. Who may call it, `RAY_AUTH_MODE` and a token say: Ray reads them when
    it is imported, so they are set before this module is.

    Raises:
        SpecError: The machines do not have what is asked for.
        WorkerError: There is no Ray at `address`.
    """
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(request, address)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    try:
        settings = request.settle(resources.get("CPU", 1.0), resources.get("GPU", 0.0))
    except SpecError:
        if is_ours:
            ray.shutdown()
        raise
    return WorkerPool(RayExecutor(settings, ends_ray=is_ours), settings)


def _connect(request: WorkerRequest, address: str | None) -> None:
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
            "this is no address of a Ray cluster", where="RAY_ADDRESS", got=address or ""
        ) from error
    except ConnectionError as error:
        raise WorkerError(
            "there is no Ray cluster that answers",
            where=address or "this machine",
            got=_first_line(error),
            next_step="check the address, or leave it out to run on this machine",
        ) from error
    except Exception as error:  # Ray raises just that where its processes do not come up in time
        raise WorkerError(
            "Ray could not be started",
            where=address or "this machine",
            got=_first_line(error),
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
        raise WorkerError(
            "there is no Ray cluster that answers",
            where=address,
            got=str(error),
            next_step="check RAY_ADDRESS, or unset it to run on this machine",
        ) from error


class _WorkerActor:
    """A `Worker` in a process of its own, pinned to its GPU by Ray."""

    def __init__(self, device: Literal["cpu", "cuda"], num_threads: int) -> None:
        from cluster.worker import Worker

        self._worker = Worker(device, num_threads)

    def device_class(self) -> DeviceClass:
        return self._worker.device_class

    def run(self, task: Task) -> Iterator[Progress | TaskResult | FrameliftError]:
        yield from self._worker.run(task)


class RayExecutor:
    """Starts workers as actors. A worker runs one task at a time and tells of it through a stream."""

    def __init__(self, settings: WorkerSettings, *, ends_ray: bool) -> None:
        self._ends_ray = ends_ray
        self._device: Literal["cpu", "cuda"] = "cuda" if settings.num_gpus else "cpu"
        self._num_threads = max(1, round(settings.num_cpus))
        self._actor_class = ray.remote(
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": _WORKER_ENVIRONMENT},
        )(_WorkerActor)
        self._names = count()
        self._actors: dict[str, Any] = {}
        self._waiting: dict[Any, str] = {}  # refs and streams that Ray will complete, with their workers

    def start_worker(self) -> str:
        """See `Executor.start_worker`."""
        name = f"worker-{next(self._names)}"
        self._actors[name] = self._actor_class.remote(self._device, self._num_threads)
        self._waiting[self._actors[name].device_class.remote()] = name
        return name

    def submit(self, worker: str, task: Task) -> None:
        """See `Executor.submit`."""
        stream = self._actors[worker].run.options(num_returns="streaming").remote(task)
        self._waiting[stream] = worker

    def kill(self, worker: str) -> None:
        """See `Executor.kill`."""
        self._waiting = {ref: name for ref, name in self._waiting.items() if name != worker}
        with contextlib.suppress(RayError):  # it is gone already
            ray.kill(self._actors.pop(worker))

    def wait(self, timeout_s: float) -> list[WorkerEvent]:
        """See `Executor.wait`."""
        if not self._waiting:
            return []
        waiting = list(self._waiting)
        try:
            ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout_s, fetch_local=False)
            more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        except RayError as error:
            raise WorkerError("the Ray cluster does not answer any more", got=_first_line(error)) from error
        return [self._event(found) for found in dict.fromkeys([*ready, *more])]

    def close(self) -> None:
        """See `Executor.close`."""
        for worker in list(self._actors):
            self.kill(worker)
        if self._ends_ray:
            ray.shutdown()

    def _event(self, ready: Any) -> WorkerEvent:
        worker = self._waiting[ready]
        try:
            if isinstance(ready, ray.ObjectRefGenerator):
                return self._stream_event(worker, ready)
            del self._waiting[ready]
            return WorkerReady(worker, ray.get(ready))
        except RayError as error:
            return self._lost(worker, error)

    def _stream_event(self, worker: str, stream: ray.ObjectRefGenerator) -> WorkerEvent:
        event = event_of(worker, ray.get(next(stream)))
        if isinstance(event, TaskDone | TaskFailed):
            del self._waiting[stream]
        return event

    def _lost(self, worker: str, error: RayError) -> WorkerLost:
        self.kill(worker)
        preempted = isinstance(error, RayActorError) and error.preempted
        what = "its node was taken away" if preempted else "the worker's process died"
        return WorkerLost(worker, WorkerError(what, where=worker, got=_first_line(error)))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
