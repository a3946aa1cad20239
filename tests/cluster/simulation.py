"""Workers without pixels: they plan, commit and join for real, on bytes that stand for frames."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

import cluster.assemble
import cluster.publish
from cluster.assemble import assemble
from cluster.driver import Driver, Request
from cluster.executor import InlineExecutor
from cluster.inputs import InputSet
from cluster.job import Job, ModelRef, SegmentSettings
from cluster.manifest import Manifest
from cluster.plan import DeviceClass, Input, SourceRef, output_key, plan_video
from cluster.pool import WorkerPool, WorkerSettings
from cluster.publish import publish
from cluster.report import JobReport, Snapshot
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
from sr_core.errors import FrameliftError

DEVICE = DeviceClass("cpu", "simulated", False, {"framelift": "0"})
JOB = Job(ModelRef("lanczos"), scale=2, segments=SegmentSettings(seconds=1.0))
NUM_FRAMES = 100  # at 25 fps: four segments


class Killed(BaseException):
    """The process is gone: nothing may catch this."""


class FragileStorage(MemoryStorage):
    """A store whose process dies right before or right after its n-th change."""

    def __init__(self) -> None:
        super().__init__()
        self.num_changes = 0
        self.dies_before: int | None = None
        self.dies_after: int | None = None

    def put(self, key: str, content: bytes) -> ObjectInfo:
        with self._change():
            return super().put(key, content)

    def delete(self, key: str) -> None:
        with self._change():
            super().delete(key)

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
        fail: Called with every task before it is done; raises what the worker is to tell.
        fail_image: Called with every image of a task; raises what is to be told of that image.
        computed: How often each segment was computed.
    """

    names: tuple[str, ...] = ("a.mp4", "b/c.mkv")
    output: FragileStorage = field(default_factory=FragileStorage)
    fail: Callable[[Task], None] = lambda task: None
    fail_image: Callable[[Still], None] = lambda still: None
    computed: Counter[str] = field(default_factory=Counter)
    job: Job = JOB

    @property
    def inputs(self) -> InputSet:
        inputs = tuple(Input(SourceRef("memory:in", name, NUM_FRAMES, "1"), name) for name in self.names)
        return InputSet("memory:", "report.json", inputs, ())

    def run(self, *, num_workers: int = 2, overwrite: bool = False, again: bool = False) -> JobReport:
        snapshots: list[Snapshot] = []
        driver = Driver(
            Request(self.job, RetryPolicy(), overwrite, again),
            self.inputs,
            self.output,
            lambda: WorkerPool(InlineExecutor(lambda: SimulatedWorker(self)), WorkerSettings(num_workers)),
            snapshots.append,
        )
        return driver.run()

    def outputs(self) -> dict[str, bytes | None]:
        return {name: self.output.get(name) for name in self.names}

    def receipts(self) -> dict[str, bytes | None]:
        return {info.key: self.output.get(info.key) for info in self.output.list(".framelift/receipts/")}


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

    def close(self) -> None:
        """Nothing is open."""

    def _run(self, task: Task) -> Iterator[Progress | TaskResult]:
        match task:
            case ProbeTask():
                yield plan_video(task.plan, task.input, source_info(), timeline(), None, task.replaces)
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
        self.world.computed[task.segment.key] += 1
        manifest, content = Manifest(self.world.output), f"pixels of {task.segment.key}\n".encode()
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


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose parts are joined as bytes."""

    def join(parts: Iterable[Path], packet_pts: object, treatment: object, *rest: object) -> JoinResult:
        out_path = rest[-1]
        assert isinstance(out_path, Path)
        out_path.write_bytes(b"".join(path.read_bytes() for path in parts))
        return JoinResult(0, (), frozenset(), ())

    class Sources:
        def open(self, key: str, version: str) -> BinaryIO:
            return io.BytesIO()

    monkeypatch.setattr(cluster.assemble, "open_storage", lambda url: Sources())
    monkeypatch.setattr(cluster.publish, "open_storage", lambda url: Sources())
    monkeypatch.setattr(cluster.assemble, "join", join)
    monkeypatch.setattr(cluster.assemble, "verify", lambda *arguments: ())
    return World()
