"""Workers without pixels: they plan, commit and join for real, on bytes that stand for frames."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import io
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pytest

import cluster.assemble
import cluster.publish
from cluster.assemble import assemble
from cluster.driver import Driver
from cluster.executor import WorkerEvent, WorkerLost, WorkerReady, event_of
from cluster.inputs import InputSet
from cluster.job import Job, ModelRef, SegmentSettings
from cluster.machines import WorkerSettings
from cluster.manifest import Manifest
from cluster.plan import DeviceClass, Input, SourceRef, output_key
from cluster.plan_video import plan_video
from cluster.pool import WorkerPool
from cluster.publish import publish
from cluster.report import JobReport, Snapshot
from cluster.request import Request
from cluster.retry import RetryPolicy
from cluster.stills import upscale_stills
from cluster.storage import ObjectInfo
from cluster.storage.memory import MemoryStorage
from cluster.tasks import (
    AssembleTask,
    OutputReceipt,
    ProbeTask,
    Progress,
    SegmentReceipt,
    SegmentTask,
    Still,
    StillsTask,
    Task,
    TaskResult,
)
from cluster.video.concat import JoinResult
from cluster.video.info import ColorTags, SourceInfo, VideoInfo
from cluster.video.timeline import Timeline
from sr_core.errors import FrameliftError, StorageError, WorkerError

DEVICE = DeviceClass("cpu", "simulated", False, {"framelift": "0"})
JOB = Job(ModelRef("lanczos"), scale=2, segments=SegmentSettings(seconds=1.0))
NUM_FRAMES = 100  # at 25 fps: four segments


class Killed(BaseException):
    """The process is gone: nothing may catch this."""


class Lost(Exception):  # noqa: N818 - it names what happened to the worker
    """A worker's process is gone, or its machine was taken away."""

    def __init__(self, *, preempted: bool = False) -> None:
        super().__init__("lost")
        self.preempted = preempted


class FragileStorage(MemoryStorage):
    """A store whose process dies right before or right after its n-th change, or that is away for some keys.

    Attributes:
        is_away: Whether it does not answer for a key.
        before_put: Called before every object that is stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_changes = 0
        self.dies_before: int | None = None
        self.dies_after: int | None = None
        self.is_away: Callable[[str], bool] = lambda key: False
        self.before_put: Callable[[], None] = lambda: None

    def get(self, key: str) -> bytes | None:
        self._refuse(key)
        return super().get(key)

    def put(self, key: str, content: bytes) -> ObjectInfo:
        self.before_put()
        self._refuse(key)
        with self._change():
            return super().put(key, content)

    def delete(self, key: str) -> None:
        with self._change():
            super().delete(key)

    def _refuse(self, key: str) -> None:
        if self.is_away(key):
            raise StorageError("the store does not answer", where=key, unavailable=True)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        if self.num_changes == self.dies_before:
            raise Killed
        yield
        self.num_changes += 1
        if self.num_changes == self.dies_after:
            raise Killed


@dataclass
class World:
    """One store of sources, one of outputs, and workers that can be made to fail.

    Attributes:
        fail: Called with every task before it is done; raises what the worker is to tell, or `Lost`.
        fail_image: Called with every image of a task; raises what is to be told of that image.
        computed: How often each segment was computed.
        num_frames_of: How many frames a source has, at 25 a second.
        seconds_of: How long a worker is at a task.
        clock: Of the workers and of the driver that gives them tasks.
        snapshots: What the last run told of itself.
        executors: Those that runs had their workers from.
    """

    names: tuple[str, ...] = ("a.mp4", "b/c.mkv")
    output: FragileStorage = field(default_factory=FragileStorage)
    fail: Callable[[Task], None] = lambda task: None
    fail_image: Callable[[Still], None] = lambda still: None
    computed: Counter[str] = field(default_factory=Counter)
    job: Job = JOB
    source_url: str = "memory:in"
    num_frames_of: Callable[[str], int] = lambda name: NUM_FRAMES
    seconds_of: Callable[[str, Task], float] = lambda worker, task: 1.0
    clock: Clock = field(default_factory=lambda: Clock())
    snapshots: list[Snapshot] = field(default_factory=list)
    executors: list[SimulatedExecutor] = field(default_factory=list)

    @property
    def inputs(self) -> InputSet:
        inputs = tuple(Input(SourceRef(self.source_url, name, NUM_FRAMES, "1"), name) for name in self.names)
        return InputSet("memory:", "report.json", inputs, ())

    def run(
        self,
        *,
        num_workers: int = 2,
        overwrite: bool = False,
        again: bool = False,
        before_wait: Callable[[], None] = lambda: None,
    ) -> JobReport:
        """One run of the job. `before_wait` is called each time before the driver waits for workers."""

        def make_pool(sights: object) -> WorkerPool:
            executor = SimulatedExecutor(
                lambda: SimulatedWorker(self), self.seconds_of, self.clock, before_wait
            )
            self.executors.append(executor)
            return WorkerPool(executor, WorkerSettings(num_workers), self.clock)

        request = Request(self.job, RetryPolicy(), overwrite, again)
        self.snapshots = []
        driver = Driver(request, self.inputs, self.output, make_pool, self.snapshots.append, self.clock)
        return driver.run()

    def outputs(self) -> dict[str, bytes | None]:
        return {name: self.output.get(name) for name in self.names}

    def receipts(self) -> dict[str, bytes | None]:
        return {info.key: self.output.get(info.key) for info in self.output.list(".framelift/receipts/")}


@dataclass
class Clock:
    """Simulated seconds."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class AnyWorker(Protocol):
    """What the simulated executor asks of a worker."""

    device_class: DeviceClass

    def run(self, task: Task) -> Iterator[Progress | TaskResult | FrameliftError]: ...


class SimulatedExecutor:
    """Workers at the same time, in simulated time: each does its task at the end of the time that it takes.

    Attributes:
        busy_s: Seconds of CPU that this and the workers took of this process.
    """

    def __init__(
        self,
        make_worker: Callable[[], AnyWorker],
        seconds_of: Callable[[str, Task], float],
        clock: Clock,
        before_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._make_worker = make_worker
        self._seconds_of = seconds_of
        self._clock = clock
        self._before_wait = before_wait
        self._order = count()
        self._workers: dict[str, AnyWorker] = {}
        self._due: list[tuple[float, int, str, Task | None]] = []
        self.busy_s = 0.0
        self.is_closed = False

    def start_worker(self) -> str:
        with self._at_work():
            name = f"simulated-{next(self._order)}"
            self._workers[name] = self._make_worker()
            self._put(name, None, 0.0)
            return name

    def submit(self, worker: str, task: Task) -> None:
        with self._at_work():
            self._put(worker, task, self._seconds_of(worker, task))

    def kill(self, worker: str) -> None:
        del self._workers[worker]

    def wait(self, timeout_s: float) -> list[WorkerEvent]:
        with self._at_work():
            self._before_wait()
            until_s = self._clock.now_s + timeout_s
            while self._due and self._due[0][0] <= until_s:
                at_s, _, name, task = heapq.heappop(self._due)
                if name in self._workers:
                    self._clock.now_s = max(self._clock.now_s, at_s)
                    return self._events(name, task)
            self._clock.now_s = until_s
            return []

    def describe_machines(self) -> str:
        return "simulated machines"

    def close(self) -> None:
        self._workers.clear()
        self.is_closed = True

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        start_s = time.process_time()
        yield
        self.busy_s += time.process_time() - start_s

    def _put(self, worker: str, task: Task | None, seconds: float) -> None:
        heapq.heappush(self._due, (self._clock.now_s + seconds, next(self._order), worker, task))

    def _events(self, name: str, task: Task | None) -> list[WorkerEvent]:
        worker = self._workers[name]
        if task is None:
            return [WorkerReady(name, worker.device_class)]
        try:
            return [event_of(name, told) for told in worker.run(task)]
        except Lost as lost:
            self.kill(name)
            return [WorkerLost(name, WorkerError("its process is gone", preempted=lost.preempted))]


@dataclass
class SimulatedWorker:
    world: World
    device_class: DeviceClass = DEVICE

    def run(self, task: Task) -> Iterator[Progress | TaskResult | FrameliftError]:
        try:
            self.world.fail(task)
            yield from self._run(task)
        except FrameliftError as error:
            yield error

    def _run(self, task: Task) -> Iterator[Progress | TaskResult]:
        match task:
            case ProbeTask():
                num_frames = self.world.num_frames_of(task.input.source.key)
                info, times = source_info(num_frames), timeline(num_frames)
                yield plan_video(task.plan, task.input, info, times, None, task.replaces)
            case SegmentTask():
                yield Progress(task.segment.num_frames, {"network": 1.0})
                yield self._commit(task)
            case AssembleTask():
                yield assemble(task, self.world.output)
            case StillsTask():
                yield from upscale_stills(task, partial(self._upscale, task), self.world.output)

    def _upscale(self, task: StillsTask, still: Still) -> Generator[None, None, OutputReceipt]:
        yield
        self.world.fail_image(still)
        key, content = output_key(task.plan, still.input), f"{still.input.source.key} twice as large".encode()
        self.world.computed[key] += 1
        path = self.world.output.scratch_dir() / f"{task.attempt}-{key}"
        path.write_bytes(content)
        receipt = OutputReceipt(
            key=key,
            job_id=task.plan.job.id,
            source=still.input.source.key,
            output=still.input.output_name,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            num_segments=1,
            num_frames=1,
            damage="",
            missing=(),
            corrupt=(),
            errors=(),
            told=(),
            psnr_db=None,
            seconds=1.0,
        )
        publish(path, receipt, still.input, still.replaces, self.world.output)
        return receipt

    def _commit(self, task: SegmentTask) -> SegmentReceipt:
        manifest = Manifest(self.world.output)
        committed = manifest.receipt(task.segment.key)
        # A real worker looks before it computes: what is published meanwhile does not stop it.
        if committed and self.world.output.head(manifest.part_key(committed.key, committed.part_name)):
            return committed
        self.world.computed[task.segment.key] += 1
        content = f"pixels of {task.segment.key}\n".encode()
        part_name = f"{task.attempt}.mp4"
        self.world.output.put(manifest.part_key(task.segment.key, part_name), content)
        receipt = SegmentReceipt(
            key=task.segment.key,
            part_name=part_name,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            num_frames=task.segment.num_frames,
            packet_pts=(1,),
            missing=(),
            corrupt=(),
            errors=(),
            told=(),
            stage_seconds={"network": 1.0},
            psnr_db=None,
        )
        manifest.put_receipt(receipt)
        return receipt


def source_info(num_frames: int = NUM_FRAMES) -> SourceInfo:
    video = VideoInfo(
        stream_index=0,
        codec="h264",
        width=64,
        height=48,
        pixel_format="yuv420p",
        time_base=Fraction(1, 25),
        frame_rate=Fraction(25),
        sample_aspect_ratio=None,
        color=ColorTags(),
        rotation_deg=0,
        is_interlaced=False,
        num_frames=num_frames,
        promised_num_frames=None,
        start_pts=0,
        end_pts=num_frames,
    )
    return SourceInfo("mov,mp4", num_frames / 25, 0, (), video)


def timeline(num_frames: int = NUM_FRAMES) -> Timeline:
    pts = np.arange(num_frames, dtype=np.int64)
    return Timeline(pts, pts[::25], num_frames)


def simulate_media(patch: pytest.MonkeyPatch) -> None:
    """Has parts joined as bytes, for as long as `patch` holds."""

    def join(parts: Iterable[Path], packet_pts: object, treatment: object, *rest: object) -> JoinResult:
        out_path = rest[-1]
        assert isinstance(out_path, Path)
        out_path.write_bytes(b"".join(path.read_bytes() for path in parts))
        return JoinResult(0, (), frozenset(), ())

    class Sources:
        def open(self, key: str, version: str) -> BinaryIO:
            return io.BytesIO()

    patch.setattr(cluster.assemble, "open_storage", lambda url: Sources())
    patch.setattr(cluster.publish, "open_storage", lambda url: Sources())
    patch.setattr(cluster.assemble, "join", join)
    patch.setattr(cluster.assemble, "verify", lambda *arguments: ())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose parts are joined as bytes."""
    simulate_media(monkeypatch)
    return World()
