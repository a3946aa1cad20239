"""What it costs the driver to hear of its workers, apart from all that they do and that it does with it.

    python -m tests.benchmarks.wait [--actors N] [--workers N] [--events N]

First real actors, each a hundredth of a core, that answer at once and are asked again at once, through
`RayExecutor`. Then `ray.wait` alone on as many streams as a large job has workers. Then the pool alone, in
this process, with as many. Times are milliseconds, medians per call; those of the CPU are of the calling
thread, which a busy machine stretches less. The last lines are JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.executor import TaskDone, WorkerEvent, WorkerReady
from cluster.job import Job, ModelRef
from cluster.machines import WorkerSettings
from cluster.plan import DeviceClass, FixedSettings, Input, JobPlan, SourceRef
from cluster.pool import WorkerPool
from cluster.sight import Sight
from cluster.tasks import ProbeTask, StillsDone, Task

DEVICE = DeviceClass("cpu", "none", False, {})
PLAN = JobPlan(Job(ModelRef("lanczos")), FixedSettings(DEVICE, "fp32", 256, 1, 2, 2))
TASK = ProbeTask(PLAN, Input(SourceRef("memory:", "a.mp4", 1, "1"), "a.mp4"))
RESULT = StillsDone((), ())


@dataclass
class Calls:
    """Calls of one function, and how many events they brought."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    num_events: int = 0

    def time(self, function: Callable[[], Any]) -> Any:
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        result = function()
        self.wall_s.append(time.perf_counter() - wall_s)
        self.cpu_s.append(time.thread_time() - cpu_s)
        return result

    def figures(self) -> dict[str, float]:
        per_call = {
            "calls": len(self.wall_s),
            "ms_per_call": _ms(statistics.median(self.wall_s)),
            "cpu_ms_per_call": _ms(statistics.median(self.cpu_s)),
        }
        if not self.num_events:
            return per_call
        per_event = {"ms_per_event": sum(self.wall_s), "cpu_ms_per_event": sum(self.cpu_s)}
        return per_call | {name: _ms(seconds / self.num_events) for name, seconds in per_event.items()}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 4)


class EchoActor:
    """What `RayExecutor` calls, with nothing behind it."""

    def arrive(self, device: str, num_threads: int, sights: Sequence[Sight]) -> Any:
        import ray

        from cluster.actor import Arrival

        return Arrival(DEVICE, ray.get_runtime_context().get_node_id())

    def run(self, task: Task) -> Iterator[StillsDone]:
        yield RESULT


def through_ray(num_actors: int, num_events: int) -> dict[str, Any]:
    """Of `RayExecutor.wait` and `submit`, with real actors."""
    import ray

    from cluster.actor import RayExecutor, RayNodes

    executor = RayExecutor(WorkerSettings(num_actors, 0.01), RayNodes(), (), ends_ray=False)
    executor._actor_class = ray.remote(num_cpus=0.01, max_restarts=0)(EchoActor)
    waits, submits = Calls(), Calls()
    for _ in range(num_actors):
        executor.start_worker()
    ready: list[str] = []
    while len(ready) < num_actors:
        ready += [event.worker for event in executor.wait(1.0) if isinstance(event, WorkerReady)]
    for worker in ready:
        executor.submit(worker, TASK)
    while waits.num_events < num_events:
        events: list[WorkerEvent] = waits.time(lambda: executor.wait(1.0))
        waits.num_events += len(events)
        for event in events:
            assert isinstance(event, TaskDone), event
            submits.time(lambda worker=event.worker: executor.submit(worker, TASK))  # type: ignore[misc]
            submits.num_events += 1
    executor.close()
    return {"wait": waits.figures(), "submit": submits.figures()}


def ray_wait_alone(num_streams: int) -> dict[str, Any]:
    """Of `ray.wait` on so many streams of which none is ready, and which one call has to look at."""
    import ray

    class Sleeper:
        def sleep(self) -> Iterator[None]:
            time.sleep(3600)
            yield

    actor = ray.remote(num_cpus=0.01)(Sleeper).remote()
    streams = [actor.sleep.options(num_returns="streaming").remote() for _ in range(num_streams)]
    calls = Calls()
    for _ in range(100):
        calls.time(lambda: ray.wait(streams, num_returns=num_streams, timeout=0, fetch_local=False))
    ray.kill(actor)
    return calls.figures()


class SteadyExecutor:
    """Workers that end their tasks in the order in which they got them, some at each call."""

    def __init__(self, num_at_once: int) -> None:
        self._num_at_once = num_at_once
        self._num_started = 0
        self._events: deque[WorkerEvent] = deque()

    def start_worker(self) -> str:
        self._num_started += 1
        self._events.append(WorkerReady(f"worker-{self._num_started}", DEVICE))
        return f"worker-{self._num_started}"

    def submit(self, worker: str, task: Task) -> None:
        self._events.append(TaskDone(worker, RESULT))

    def wait(self, timeout_s: float) -> list[WorkerEvent]:
        num = (
            self._num_started
            if self._events and isinstance(self._events[0], WorkerReady)
            else self._num_at_once
        )
        return [self._events.popleft() for _ in range(min(num, len(self._events)))]

    def kill(self, worker: str) -> None:
        raise AssertionError("no worker is at fault here")

    def describe_machines(self) -> str:
        return "none"

    def close(self) -> None:
        """Nothing is open."""


def pool_alone(num_workers: int, num_events: int, num_at_once: int) -> dict[str, float]:
    """Of one turn of the driver's loop as far as the pool goes, with so many events in each."""
    pool = WorkerPool(SteadyExecutor(num_at_once), WorkerSettings(num_workers))
    pool.first_device_class()
    calls = Calls()

    def turn() -> int:
        for worker in pool.idle_workers():
            pool.submit(worker, TASK)
        pool.want(num_workers)
        num_ended = len(pool.wait(0))
        assert len(pool.running) == num_workers - num_ended
        pool.take_gone()
        return num_ended

    turn()
    while calls.num_events < num_events:
        calls.num_events += calls.time(turn)
    return calls.figures()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--actors", type=int, default=50, help="that are real")
    parser.add_argument("--workers", type=int, default=1000, help="of a large job")
    parser.add_argument("--events", type=int, default=5000)
    options = parser.parse_args()
    figures: dict[str, Any] = {
        f"pool of {options.workers}, {num_at_once} at once": pool_alone(
            options.workers, options.events, num_at_once
        )
        for num_at_once in (1, 10, 100)
    }
    with tempfile.TemporaryDirectory(prefix="fl", dir="/tmp") as folder:
        os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_TMPDIR=folder)
        import ray

        ray.init(
            "local", num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=128 * 2**20
        )
        figures[f"RayExecutor, {options.actors} actors"] = through_ray(options.actors, options.events)
        for num_streams in (options.actors, options.workers):
            figures[f"ray.wait on {num_streams} streams"] = ray_wait_alone(num_streams)
        ray.shutdown()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
