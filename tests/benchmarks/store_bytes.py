"""How often a job reads the bytes of a long film out of a store: to plan it, to upscale it, to assemble it.

    python -m tests.benchmarks.store_bytes [--megabytes N] [--workers N] [--container mp4|mkv]
                                           [--store folder|s3|ceph] [--no-audio]

Makes a film of noise with sound, and has the real tasks of a job run in processes of their own: one plans,
some upscale (nearest, x1) runs of neighbouring segments, one assembles. Prints what each phase read of it.

The store is a folder that is read as an S3 store is, by blocks of 4 MiB of which each reader keeps eight; or
a real S3 server behind a proxy that counts: moto's, which copies the whole object for each request, so that
a film of gigabytes takes it long; or Ceph's (see tests.stores.radosgw), with room for four such films.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import av
import numpy as np

from cluster.job import Job, ModelRef, VideoSettings
from cluster.plan import Input, JobPlan, SourceRef, VideoPlan, fix_settings
from cluster.storage import LocalStorage, open_storage
from cluster.storage.address import S3Address, S3Settings
from cluster.tasks import AssembleTask, OutputReceipt, ProbeTask, Progress, SegmentTask, Task
from cluster.worker import Worker
from sr_core.errors import FrameliftError
from tests.stores.fault_proxy import FaultProxy, fault_proxy
from tests.stores.radosgw import radosgw_server
from tests.stores.s3_server import client, credentials, new_bucket, s3_server

NAME = "film"
WIDTH, HEIGHT, RATE = 640, 360, 25
CLIP_FRAMES, SOUND_RATE = 200, 48_000
BLOCK_BYTES, NUM_BLOCKS = 4 << 20, 8
RUN_LENGTH = 8
JOB = Job(ModelRef("nearest"), scale=1, video=VideoSettings(preset="ultrafast", quality=40.0))


@dataclass(frozen=True)
class Reads:
    """What was read of the film."""

    num_requests: int = 0
    num_bytes: int = 0

    def __add__(self, other: Reads) -> Reads:
        return Reads(self.num_requests + other.num_requests, self.num_bytes + other.num_bytes)

    def __sub__(self, other: Reads) -> Reads:
        return Reads(self.num_requests - other.num_requests, self.num_bytes - other.num_bytes)


class BlockReader(io.RawIOBase):
    """Reads a file by whole blocks, of which it keeps the latest, and counts them."""

    total = Reads()  # of this process

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._at = 0
        self._num_bytes = path.stat().st_size
        self._blocks = OrderedDict[int, bytes]()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._num_bytes)[whence] + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        target, num_read = memoryview(buffer), 0
        while num_read < len(target) and self._at < self._num_bytes:
            index, start = divmod(self._at, BLOCK_BYTES)
            piece = self._block(index)[start : start + len(target) - num_read]
            target[num_read : num_read + len(piece)] = piece
            num_read += len(piece)
            self._at += len(piece)
        return num_read

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            self._file.seek(index * BLOCK_BYTES)
            self._blocks[index] = self._file.read(BLOCK_BYTES)
            BlockReader.total += Reads(1, len(self._blocks[index]))
            if len(self._blocks) > NUM_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def close(self) -> None:
        self._file.close()
        super().close()


def start_worker() -> None:
    """Gives this process its worker, and has it read the film by blocks where it lies in a folder."""
    global worker
    worker = Worker("cpu", 1)
    plain_open = LocalStorage.open

    def open_by_blocks(storage: LocalStorage, key: str, version: str) -> BinaryIO:
        file = plain_open(storage, key, version)
        if Path(key).stem != NAME:
            return file
        file.close()
        return cast(BinaryIO, BlockReader(Path(storage.url) / key))

    LocalStorage.open = open_by_blocks  # type: ignore[method-assign]


def run_tasks(tasks: Sequence[Task]) -> tuple[list[object], Reads]:
    """In the worker's process: the results of `tasks`, and what was read for them out of a folder."""
    before, results = BlockReader.total, list[object]()
    for task in tasks:
        for item in worker.run(task):
            if isinstance(item, FrameliftError):
                raise item
            if not isinstance(item, Progress):
                results.append(item)
    return results, BlockReader.total - before


class Workers:
    """Processes with a worker each."""

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = [
            ProcessPoolExecutor(1, mp_context=context, initializer=start_worker) for _ in range(number)
        ]

    def run(self, runs: Sequence[Sequence[Task]]) -> tuple[list[object], Reads]:
        """Hands `runs` out in turn; all results, in order, and what was read out of a folder for them."""
        handed_out: list[Future[tuple[list[object], Reads]]] = [
            self._processes[number % len(self._processes)].submit(run_tasks, tasks)
            for number, tasks in enumerate(runs)
        ]
        results, reads = list[object](), Reads()
        for future in handed_out:
            of_run, read = future.result()
            results += of_run
            reads += read
        return results, reads

    def close(self) -> None:
        for process in self._processes:
            process.shutdown()


def make_film(path: Path, num_bytes: int, *, with_audio: bool) -> None:
    """A film of about so many bytes: a clip of noise again and again, with sound where asked for."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, with_audio=with_audio)
        repeat(clip, path, max(1, round(num_bytes / clip.stat().st_size)))


def make_clip(path: Path, *, with_audio: bool) -> None:
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        video = output.add_stream(
            "libx264", rate=RATE, options={"preset": "ultrafast", "qp": "2", "g": "50", "bf": "2"}
        )
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = output.add_stream("aac", rate=SOUND_RATE, layout="stereo") if with_audio else None
        for number in range(CLIP_FRAMES):
            pixels = noise.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(video.encode(frame))
            if audio is not None:
                num_samples = SOUND_RATE // RATE
                samples = noise.uniform(-0.5, 0.5, (2, num_samples)).astype(np.float32)
                sound = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
                sound.sample_rate, sound.pts = SOUND_RATE, number * num_samples
                output.mux(audio.encode(sound))
        for stream in output.streams:
            output.mux(stream.encode(None))


def repeat(clip: Path, path: Path, num_times: int) -> None:
    """Copies the packets of `clip` into `path` so many times, one after the other."""
    last_dts: dict[int, int] = {}
    with av.open(str(path), "w") as output:
        with av.open(str(clip)) as source:
            targets = [output.add_stream_from_template(one, opaque=True) for one in source.streams]
        for number in range(num_times):
            with av.open(str(clip)) as source:
                for packet in source.demux():
                    if not packet.size:
                        continue
                    index, later = (
                        packet.stream.index,
                        number * Fraction(CLIP_FRAMES, RATE) / packet.time_base,
                    )
                    packet.pts, packet.dts = packet.pts + round(later), packet.dts + round(later)
                    packet.stream = targets[index]
                    if packet.dts > last_dts.get(index, packet.dts - 1):  # but for what primes the sound
                        last_dts[index] = packet.dts
                        output.mux(packet)


@dataclass(frozen=True)
class Place:
    """Where the film lies and where its output goes; `proxy` counts what is read of S3."""

    source_url: str
    output_url: str
    proxy: FaultProxy | None = None

    def reads(self) -> Reads:
        """Through the proxy, so far."""
        ranges = [
            request.range.removeprefix("bytes=").split("-")
            for request in (self.proxy.traffic.requests if self.proxy else ())
            if request.method == "GET" and request.range and f"/{NAME}." in request.path
        ]
        return Reads(len(ranges), sum(int(last) - int(first) + 1 for first, last in ranges))


@contextlib.contextmanager
def folder_place(film: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as output:
        yield Place(str(film.parent), output)


@contextlib.contextmanager
def s3_place(film: Path, server: AbstractContextManager[str]) -> Iterator[Place]:
    with credentials(), server as server_url, fault_proxy(server_url) as proxy:
        bucket = new_bucket(server_url)
        client(server_url).upload_file(str(film), bucket, f"in/{film.name}")
        settings = S3Settings(endpoint_url=proxy.url, region="us-east-1", addressing="path")
        urls = [S3Address(bucket, prefix, settings).url for prefix in ("in", "out")]
        yield Place(*urls, proxy)


def place_of(film: Path, store: str) -> AbstractContextManager[Place]:
    match store:
        case "s3":
            return s3_place(film, s3_server())
        case "ceph":
            return s3_place(film, radosgw_server(4 * film.stat().st_size))
    return folder_place(film)


def measure(place: Place, film: Path, num_workers: int) -> None:
    """Runs the job and prints what was read."""
    info = open_storage(place.source_url).head(film.name)
    assert info is not None
    input_ = Input(SourceRef(place.source_url, info.key, info.size_bytes, info.version), film.name)
    job_plan = JobPlan(JOB, fix_settings(JOB, Worker("cpu", 1).device_class))
    [video], planning = phase(place, 1, [[ProbeTask(job_plan, input_)]])
    assert isinstance(video, VideoPlan)
    show("plan", planning, info.size_bytes)
    tasks = [
        SegmentTask(job_plan, video.treatment, segment, f"attempt-{number}", place.output_url)
        for number, segment in enumerate(video.segments)
    ]
    runs = [tasks[first : first + RUN_LENGTH] for first in range(0, len(tasks), RUN_LENGTH)]
    _, upscaling = phase(place, num_workers, runs)
    show("segments", upscaling, info.size_bytes, f", {upscaling.num_requests / len(tasks):.1f} a segment")
    show("plan and segments", planning + upscaling, info.size_bytes)
    [receipt], assembling = phase(
        place, 1, [[AssembleTask(job_plan, video, "attempt-assemble", place.output_url)]]
    )
    assert isinstance(receipt, OutputReceipt)
    show("assembly", assembling, info.size_bytes)
    print(f"{receipt.num_frames} frames in {len(tasks)} segments, {len(runs)} runs, {num_workers} workers")


def phase(place: Place, num_workers: int, runs: Sequence[Sequence[Task]]) -> tuple[list[object], Reads]:
    """Has new processes do `runs`: their results and what they read of the film."""
    before, workers = place.reads(), Workers(num_workers)
    try:
        results, of_folder = workers.run(runs)
    finally:
        workers.close()
    return results, of_folder + (place.reads() - before)


def show(name: str, reads: Reads, num_bytes: int, more: str = "") -> None:
    share = f"{reads.num_bytes / 1e6:.0f} MB, {reads.num_bytes / num_bytes:.3f}x"
    print(f"{name}: {share}, {reads.num_requests} requests{more}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--container", choices=("mp4", "mkv"), default="mp4")
    parser.add_argument("--store", choices=("folder", "s3", "ceph"), default="folder")
    parser.add_argument("--no-audio", action="store_true")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="store-bytes-"))
    try:
        film, start_s = folder / f"{NAME}.{arguments.container}", time.monotonic()
        make_film(film, arguments.megabytes * 1_000_000, with_audio=not arguments.no_audio)
        made_s = time.monotonic() - start_s
        print(f"{film.name}: {film.stat().st_size / 1e6:.0f} MB, made in {made_s:.0f} s", flush=True)
        with place_of(film, arguments.store) as place:
            measure(place, film, arguments.workers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
