"""Training on several workers at once, through Ray Train.

Ray Train starts the workers as one group, joins them into a process group of torch's and starts all of them
again when one is lost. What they go on from are our own checkpoints, in the job's output: of Ray's there are
none. What driver and workers tell each other goes through a small actor, the line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, Literal

import ray
import ray.train
import torch
from ray.exceptions import RayActorError, RayError
from ray.train.torch import TorchConfig
from ray.train.v2.api.callback import UserCallback
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.actor import WORKER_ENVIRONMENT, RayNodes, connect, end_with, first_line
from cluster.machines import Machine, WorkerRequest, describe
from cluster.training import TrainJob, train
from cluster.training.line import Line, News
from sr_core.errors import FrameliftError, SpecError, StorageError, WorkerError
from sr_core.train.group import Group

Tell = Callable[[str], None]

_POLL_S = 0.5  # how soon the driver acts upon what it is asked, and Ray Train upon a worker's end
_DRAIN_POLL_S = 1.0
_START_S = 180.0
_WAITING_S = 30.0  # so long without workers is worth a sentence


@dataclass(frozen=True)
class TrainRequest:
    """Who is to train.

    Attributes:
        count: Workers, each with an equal share of every batch. Another count gives other weights.
        device: `auto` takes GPUs where there are any.
        cpus: CPU cores of each worker; by default an equal share.
        gpus: GPUs of each worker: 0, 1, or a part of one for a single worker; by default 1 on GPUs.
        max_failures: How often the workers start again after one of them is lost or fails. Machines that were
            taken away with notice do not count.
        start_seconds: How long to wait for room for all workers. Where it is given, machines may still come,
            as with an autoscaler: nothing is refused for what the cluster has now.
        address: Of the Ray cluster to train on; None trains on a Ray of its own in this machine.

    Raises:
        SpecError: One of them makes no sense.
    """

    count: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus: float | None = None
    gpus: float | None = None
    max_failures: int = 3
    start_seconds: float | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        most_gpus = 1.0
        _refuse_unless(self.count >= 1, "count", self.count, "1 or more")
        _refuse_unless(self.device in ("auto", "cpu", "cuda"), "device", self.device, "auto, cpu or cuda")
        _refuse_unless(self.cpus is None or self.cpus > 0, "cpus", self.cpus, "more than 0")
        _refuse_unless(
            self.gpus is None or 0 <= self.gpus <= most_gpus,
            "gpus",
            self.gpus,
            "0 to 1: a worker trains on one GPU, and more workers on more",
        )
        _refuse_unless(
            self.count == 1 or self.gpus in (None, 0, most_gpus),
            "gpus",
            self.gpus,
            f"0 or 1 for {self.count} workers, as NCCL lets no two share a GPU",
        )
        _refuse_unless(self.device != "cpu" or not self.gpus, "gpus", self.gpus, "none, as device is cpu")
        _refuse_unless(
            self.device != "cuda" or self.gpus != 0, "gpus", self.gpus, "more than 0, as device is cuda"
        )
        _refuse_unless(self.max_failures >= 0, "max_failures", self.max_failures, "0 or more")
        _refuse_unless(
            self.start_seconds is None or self.start_seconds > 0,
            "start_seconds",
            self.start_seconds,
            "more than 0",
        )

    def workers(self) -> WorkerRequest:
        """The same as what upscaling asks for its workers."""
        return WorkerRequest(
            device=self.device,
            count=self.count,
            cpus=self.cpus,
            gpus=self.gpus,
            start_seconds=self.start_seconds,
        )


def _refuse_unless(is_fine: bool, key: str, got: object, expected: str) -> None:
    if not is_fine:
        raise SpecError(
            "workers cannot be asked for like this", where=f"workers.{key}", got=str(got), expected=expected
        )


def train_on(
    job: TrainJob,
    request: TrainRequest,
    is_over: Callable[[], bool] = lambda: False,
    tell: Tell = lambda sentence: None,
) -> bool:
    """Trains on workers from the last checkpoint on, or from the start; whatever was lost on the way.

    With as many workers as before, it is the same to the bit as if it had never been interrupted. It keeps
    the caller's handler of SIGTERM, which Ray would take.

    Args:
        job: What to do. Its folders must be seen by every worker: on a cluster, paths are absolute.
        request: Who is to do it.
        is_over: Asked about twice a second, here, whether to stop for now: after the batch that the workers
            are at, with a checkpoint.
        tell: Gets sentences for the user, here and in order.

    Returns:
        Whether all is done; else the same call goes on: it was over, or machines are being
        taken away and the others have no room.

    Raises:
        SpecError: The machines do not have what is asked for, or the job contradicts itself.
        ModelError, StorageError, TrainError: As `train` raises them in a worker.
        WorkerError: No Ray answers, no room came free, or workers were lost too often.
    """
    with _joined(request) as is_local:
        nodes = RayNodes()
        worker = _worker_of(request, nodes, is_local=is_local)
        run = _Run(job, request, worker, nodes, os.getpid() if is_local else None, tell)
        return run.to_end(is_over)


@contextlib.contextmanager
def _joined(request: TrainRequest) -> Iterator[bool]:
    """Within it there is Ray: what it gives says whether it is one of our own, which ends with it."""
    is_ours = not ray.is_initialized()
    if is_ours:
        with _sigterm_kept():
            connect(request.workers(), request.address)
    try:
        yield is_ours and request.address is None
    finally:
        if is_ours:
            ray.shutdown()


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Undoes that Ray takes SIGTERM for itself as it starts, which it does in the main thread alone."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _worker_of(request: TrainRequest, nodes: RayNodes, *, is_local: bool) -> Machine:
    """What each worker holds.

    Raises:
        SpecError: There is no room for all workers, and no machines are to come.
    """
    machines, asked = nodes.machines(), request.workers()
    settings = (
        asked.settle(machines[0].num_cpus, machines[0].num_gpus) if is_local else asked.settle_on(machines)
    )
    worker = Machine(settings.num_cpus, settings.num_gpus)
    if request.start_seconds is None and not _has_room(machines, worker, request.count):
        raise SpecError(
            "there is no room for all workers at once",
            where="workers",
            got=f"{request.count} workers of {worker} each",
            expected=f"at most what these have: {describe(machines)}",
            next_step="ask for fewer or smaller workers; where machines are still to come, say with "
            "start_seconds how long to wait for them",
        )
    return worker


def _has_room(machines: list[Machine], worker: Machine, count: int) -> bool:
    return sum(machine.num_fitting(worker) for machine in machines) >= count


def _work(job: TrainJob, line: Any, worker: Machine, driver_pid: int | None) -> bool:
    """What each worker does."""
    if driver_pid is not None:
        threading.Thread(target=end_with, args=(driver_pid,), name="driver", daemon=True).start()
    torch.set_num_threads(max(1, round(worker.num_cpus)))
    # Asked on a machine with GPUs, Ray Train names one also to workers that hold none.
    device = ray.train.torch.get_device() if worker.num_gpus else torch.device("cpu")
    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), device)
    ray.get(line.arrive.remote(group.rank, ray.get_runtime_context().get_node_id()))
    over = line.until_over.remote()
    return train(
        job,
        group,
        lambda: bool(ray.wait([over], timeout=0)[0]),
        lambda sentence: ray.get(line.tell.remote(sentence)),
    )


class _Failures(UserCallback):
    """Tells of failures where Ray Train runs the group, and ends it where starting again changes nothing."""

    def __init__(self, line: Any) -> None:
        self._line = line

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        """See `UserCallback`. What it raises is not tried again."""
        for error in worker_exceptions.values():
            if isinstance(error, FrameliftError) and not _may_pass(error):
                raise error
        rank, error = min(worker_exceptions.items(), key=lambda found: _is_after_effect(found[1]))
        self._line.tell.remote(
            f"worker {rank} failed, and all go back to the last checkpoint: {_told(error)}"
        )


def _may_pass(error: FrameliftError) -> bool:
    """Whether it may go well when the workers start again."""
    return isinstance(error, WorkerError) or (isinstance(error, StorageError) and error.unavailable)


def _is_after_effect(error: Exception) -> bool:
    """Whether it may be what a worker sees when another one is gone."""
    return isinstance(error, RuntimeError)


def _told(error: Exception) -> str:
    """What happened to a worker, in a line."""
    cause = getattr(error, "health_check_failure", error)  # in which Ray Train wraps what befell an actor
    if isinstance(cause, FrameliftError):
        return str(cause)
    if isinstance(cause, RayActorError):
        return "its machine was taken away" if cause.preempted else "its process died"
    return first_line(cause)


class _Run:
    """One call of `train_on`, on a Ray that is there.

    Args:
        worker: What each worker holds.
        driver_pid: Of this process, with which workers on this machine end; None where Ray sees to that.
    """

    def __init__(
        self,
        job: TrainJob,
        request: TrainRequest,
        worker: Machine,
        nodes: RayNodes,
        driver_pid: int | None,
        tell: Tell,
    ) -> None:
        self._job = job
        self._request = request
        self._worker = worker
        self._nodes = nodes
        self._driver_pid = driver_pid
        self._tell = tell

    def to_end(self, is_over: Callable[[], bool]) -> bool:
        """Trains until all is done, or it is over for now; on other machines where some are taken away."""
        while not self._once(is_over):
            if is_over():
                return False
            if not self._has_room():
                self._tell("machines are being taken away, and the others have no room for all workers")
                return False
        return True

    def _has_room(self) -> bool:
        may_come = self._request.start_seconds is not None
        return may_come or _has_room(self._nodes.machines(), self._worker, self._request.count)

    def _once(self, is_over: Callable[[], bool]) -> bool:
        """Starts the workers and stays until they end.

        Returns:
            Whether all is done; else it is over, or machines are being taken away.
        """
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        line: Any = ray.remote(num_cpus=0)(Line).options(scheduling_strategy=here).remote()
        try:
            with TemporaryDirectory(prefix="framelift-") as folder, _ray_train_environment(self._start_s()):
                end = _in_thread(self._trainer(line, folder).fit)
                self._follow(line, end, is_over)
                return bool(end.result().return_value)
        except (RayError, ray.train.TrainingFailedError) as error:
            raise _as_ours(error) from error
        finally:
            line.stop.remote()  # where this ends before the workers do

    def _start_s(self) -> float:
        """How long one try to start may wait for room: all of them share the time."""
        return (self._request.start_seconds or _START_S) / (self._request.max_failures + 1)

    def _trainer(self, line: Any, folder: str) -> TorchTrainer:
        worker, request = self._worker, self._request
        resources = {"CPU": worker.num_cpus}
        if worker.num_gpus:
            resources["GPU"] = worker.num_gpus
        return TorchTrainer(
            partial(_work, self._job, line, worker, self._driver_pid),
            torch_config=TorchConfig(backend="nccl" if worker.num_gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=request.count, use_gpu=bool(worker.num_gpus), resources_per_worker=resources
            ),
            run_config=RunConfig(
                storage_path=folder,
                failure_config=FailureConfig(
                    max_failures=request.max_failures, controller_failure_limit=request.max_failures
                ),
                callbacks=[_Failures(line)],
                worker_runtime_env={"env_vars": WORKER_ENVIRONMENT},
                logging_config=LoggingConfig("ERROR"),
            ),
        )

    def _follow(self, line: Any, end: Future[Any], is_over: Callable[[], bool]) -> None:
        """Tells what the workers tell until they end, and stops them when it is time."""
        is_stopped = has_waited = False
        start_s = polled_s = time.monotonic()
        while not end.done():
            news = self._hear(line, _POLL_S)
            is_leaving, now_s = False, time.monotonic()
            if now_s - polled_s >= _DRAIN_POLL_S:
                polled_s, is_leaving = now_s, bool(news.nodes & self._nodes.draining().keys())
            if not is_stopped and (is_leaving or is_over()):
                ray.get(line.stop.remote())
                is_stopped = True
            if not (has_waited or news.nodes) and now_s - start_s >= _WAITING_S:
                has_waited = True
                self._tell(self._waits())
        self._hear(line, 0)

    def _hear(self, line: Any, timeout_s: float) -> News:
        news: News = ray.get(line.news.remote(timeout_s))
        for sentence in news.sentences:
            self._tell(sentence)
        return news

    def _waits(self) -> str:
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        unused = Machine(free.get("CPU", 0.0), free.get("GPU", 0.0))
        return (
            f"no worker is there yet of the {self._request.count} that are to have {self._worker} each: "
            f"{unused} are free of {describe(self._nodes.machines())}"
        )


def _in_thread(fit: Callable[[], Any]) -> Future[Any]:
    """Calls it in a thread that ends with this process: Ray Train would take the main thread's Ctrl-C."""
    end: Future[Any] = Future()

    def call() -> None:
        try:
            end.set_result(fit())
        except BaseException as error:
            end.set_exception(error)

    threading.Thread(target=call, name="ray-train", daemon=True).start()
    return end


@contextlib.contextmanager
def _ray_train_environment(start_s: float) -> Iterator[None]:
    """What Ray Train has no arguments for: where the environment says otherwise, that holds."""
    wanted = {
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths mean in a worker what they mean here
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(_POLL_S),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(start_s),
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # it would end workers that are to stop by themselves
    }
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _as_ours(error: Exception) -> FrameliftError:
    """The error of a worker that was ours from the start, or else one that says what to do."""
    if isinstance(error, ray.train.ControllerError):
        cause = error.controller_failure
        if isinstance(cause, FrameliftError):
            return cause
        return WorkerError(
            "the workers could not be started",
            got=first_line(cause),
            next_step="free what others hold of the cluster, ask for less per worker, or raise start_seconds",
        )
    if isinstance(error, ray.train.WorkerGroupError):
        causes = sorted(error.worker_failures.values(), key=_is_after_effect)
        ours = [cause for cause in causes if isinstance(cause, FrameliftError)]
        if ours:
            return ours[0]
        return WorkerError(
            "workers failed too often",
            got=_told(causes[0]),
            next_step="see their logs for the reason, memory among them; the same command goes on from the "
            "last checkpoint",
        )
    return WorkerError(
        "Ray does not answer any more",
        got=first_line(error),
        next_step="the same command goes on from the last checkpoint",
    )
