"""Upscaling one segment: decode, network and encode at the same time, then the commit gate."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cluster.manifest import Manifest
from cluster.plan import Treatment
from cluster.prefetch import Prefetch
from cluster.report import MissingRange
from cluster.storage import Storage, open_storage
from cluster.tasks import Progress, SegmentReceipt, SegmentTask
from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.encode import EncodedPart, PartWriter
from cluster.video.pixels import pixel_format
from cluster.video.verify import check_part
from sr_core.color import ChromaLocation, ColorSpace, Matrix, PlaneFormat
from sr_core.errors import MediaError, OutputError
from sr_core.upscale import Upscaler

FramePlanes = tuple[npt.NDArray[Any], ...]
Upscaled = tuple[DecodedFrame, FramePlanes]

# H.273 MatrixCoefficients; 5 and 6 have the same numbers.
_MATRICES = {
    1: Matrix.BT709,
    4: Matrix.FCC,
    5: Matrix.BT601,
    6: Matrix.BT601,
    7: Matrix.SMPTE240M,
    9: Matrix.BT2020NC,
}
_QUEUE_FRAMES = 3
_PROGRESS_S = 1.0
_CHECKED_FRAMES = 48  # one frame in so many is compared with its source


@dataclass
class _Stopwatch:
    """Adds up the time spent in its `with` blocks."""

    seconds: float = 0.0
    _start_s: float = 0.0

    def __enter__(self) -> None:
        self._start_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start_s


@dataclass
class _Watch:
    """What is seen of the frames that pass, whose highest code is `peak`."""

    peak: int
    encode: _Stopwatch = field(default_factory=_Stopwatch)
    frame_pts: list[int] = field(default_factory=list)
    num_corrupt: int = 0
    psnrs_db: list[float] = field(default_factory=list)
    _told_s: float = field(default_factory=time.monotonic)

    def note(self, lr_frame: DecodedFrame, sr_planes: FramePlanes) -> None:
        """Counts a frame, and compares one in a while with its source."""
        if len(self.frame_pts) % _CHECKED_FRAMES == 0:
            self.psnrs_db += _psnr_db(lr_frame.planes[0], sr_planes[0], self.peak)
        self.frame_pts.append(lr_frame.pts)
        self.num_corrupt += lr_frame.is_corrupt

    def is_due(self) -> bool:
        """Whether it is time to tell how far the task is."""
        due = time.monotonic() - self._told_s >= _PROGRESS_S
        self._told_s = time.monotonic() if due else self._told_s
        return due

    def progress(self, decoded: Prefetch[DecodedFrame], upscaled: Prefetch[Upscaled]) -> Progress:
        """How far the task is."""
        return Progress(
            len(self.frame_pts),
            {
                "decode": decoded.busy_s,
                "network": max(0.0, upscaled.busy_s - decoded.waited_s),
                "encode": self.encode.seconds,
            },
        )


@dataclass
class _Made:
    """What came of one pass over a segment."""

    part: EncodedPart | None
    watch: _Watch
    stage_seconds: dict[str, float]
    errors: tuple[str, ...]
    missing_pts: list[int]

    @property
    def is_damaged(self) -> bool:
        return bool(self.watch.num_corrupt or self.errors or self.missing_pts)


def upscale_segment(
    task: SegmentTask, open_reader: Callable[[int], VideoReader], upscaler: Upscaler, storage: Storage
) -> Iterator[Progress | SegmentReceipt]:
    """Upscales one segment and commits it; tells about once a second how far it is.

    Args:
        task: What to do.
        open_reader: Opens the source with a number of decoder threads.
        upscaler: With the job's model and settings.
        storage: Where parts and receipts go.

    Raises:
        MediaError: Nothing of the segment decodes, or it is damaged and the job strict.
        OutputError: The commit gate refuses what was made.
        StorageError: The part could not be stored.
    """
    path = storage.scratch_dir() / f"{task.attempt}.{task.treatment.encode.part_container}"
    try:
        made = yield from _make(task, open_reader(task.plan.fixed.decoder_threads), upscaler, path)
        if made.is_damaged and task.plan.fixed.decoder_threads > 1:
            # What a decoder makes of damage depends on its threads, but for one.
            made = yield from _make(task, open_reader(1), upscaler, path)
        _refuse_damage(task, made)
        _check(task, made, path)
        yield _commit(task, made, upscaler, path, storage)
    finally:
        path.unlink(missing_ok=True)


def _make(
    task: SegmentTask, reader: VideoReader, upscaler: Upscaler, path: Path
) -> Generator[Progress, None, _Made]:
    """One pass over the segment: decoding and the network run ahead in threads of their own."""
    watch, segment = _Watch(2 ** formats_of(task.treatment)[0].bit_depth - 1), task.segment
    with (
        Prefetch(reader.frames(segment.start_pts, segment.end_pts), _QUEUE_FRAMES, "decode") as decoded,
        Prefetch(upscaled_frames(decoded, task.treatment, upscaler), _QUEUE_FRAMES, "network") as upscaled,
        PartWriter(path, task.treatment.encode) as writer,
    ):
        for lr_frame, sr_planes in upscaled:
            with watch.encode:
                writer.write(sr_planes, lr_frame.pts)
            watch.note(lr_frame, sr_planes)
            if watch.is_due():
                yield watch.progress(decoded, upscaled)
        with watch.encode:
            part = writer.close() if watch.frame_pts else None
        progress = watch.progress(decoded, upscaled)
        yield progress
    missing = sorted(set(reader.packet_pts) - set(watch.frame_pts))
    return _Made(part, watch, progress.stage_seconds, tuple(reader.errors), missing)


def upscaled_frames(
    decoded: Iterable[DecodedFrame], treatment: Treatment, upscaler: Upscaler
) -> Iterator[Upscaled]:
    """Every frame with its upscaled planes, in the format of its own."""
    plane_format, color_space = formats_of(treatment)
    size = (treatment.encode.height, treatment.encode.width)
    for frame in decoded:
        lr_planes = tuple(torch.from_numpy(plane) for plane in frame.planes)
        where = f"{treatment.input.source.key} at pts {frame.pts}"
        sr_planes = upscaler.upscale(lr_planes, plane_format, color_space, size, where=where)
        yield frame, tuple(plane.cpu().numpy() for plane in sr_planes)


def formats_of(treatment: Treatment) -> tuple[PlaneFormat, ColorSpace]:
    """How the planes of a video are stored, and what their codes mean."""
    stored, color = pixel_format(treatment.encode.pixel_format), treatment.assumed_color
    assert stored is not None, "only supported pixel formats are planned"
    plane_format = PlaneFormat(
        stored.bit_depth, stored.chroma_w_shift, stored.chroma_h_shift, stored.has_chroma
    )
    location = ChromaLocation(color.chroma_location or "left")
    return plane_format, ColorSpace(_MATRICES[color.matrix], bool(color.full_range), location)


def _refuse_damage(task: SegmentTask, made: _Made) -> None:
    where = f"{task.treatment.input.source.key}, segment {task.segment.key}"
    if made.is_damaged and task.plan.job.policies.strict:
        raise MediaError(
            "the source is damaged, and the job is strict",
            where=where,
            got=f"{len(made.missing_pts)} frames missing, {made.watch.num_corrupt} damaged",
            next_step="leave out --strict to keep what decodes",
        )


def _check(task: SegmentTask, made: _Made, path: Path) -> None:
    """The commit gate.

    Raises:
        OutputError: Frames, times or the part are not what they must be.
    """
    where = f"{task.treatment.input.source.key}, segment {task.segment.key}"
    num_frames = len(made.watch.frame_pts)
    if num_frames + len(made.missing_pts) != task.segment.num_frames:
        raise OutputError(
            "a segment does not have the frames that the plan found in the source",
            where=where,
            got=f"{num_frames} frames and {len(made.missing_pts)} that do not decode",
            expected=str(task.segment.num_frames),
        )
    if made.part is not None:
        if sorted(made.part.packet_pts.tolist()) != made.watch.frame_pts:
            raise OutputError("the encoder changed the frames' times", where=where)
        check_part(path, task.treatment.encode, num_frames)


def _commit(
    task: SegmentTask, made: _Made, upscaler: Upscaler, path: Path, storage: Storage
) -> SegmentReceipt:
    """Stores the part, then the receipt that makes it count."""
    manifest, source = Manifest(storage), task.treatment.input.source
    open_storage(source.store_url).open(source.key, source.version).close()  # raises if it changed
    if made.part is None:
        path.touch()  # an empty part stands for a segment of which nothing decodes
    size_bytes, sha256 = path.stat().st_size, _sha256(path)
    storage.put_file(manifest.part_key(task.segment.key, path.name), path)
    receipt = SegmentReceipt(
        key=task.segment.key,
        part_name=path.name,
        size_bytes=size_bytes,
        sha256=sha256,
        num_frames=len(made.watch.frame_pts),
        packet_pts=tuple(made.part.packet_pts.tolist()) if made.part else (),
        num_corrupt=made.watch.num_corrupt,
        missing=_ranges(made.missing_pts, task.treatment),
        errors=made.errors,
        told=tuple(upscaler.shrunk),
        stage_seconds=made.stage_seconds,
        psnr_db=min(made.watch.psnrs_db, default=None),
    )
    manifest.put_receipt(receipt)
    return receipt


def _ranges(missing_pts: Sequence[int], treatment: Treatment) -> tuple[MissingRange, ...]:
    """Missing frames as ranges of time; frames no more than two frame times apart are one range."""
    video, ranges = treatment.video, list[list[int]]()
    frame_pts = round(1 / (video.frame_rate * video.time_base))
    for pts in missing_pts:
        if ranges and pts - ranges[-1][-1] <= 2 * frame_pts:
            ranges[-1].append(pts)
        else:
            ranges.append([pts])
    return tuple(
        MissingRange(float(r[0] * video.time_base), float((r[-1] + frame_pts) * video.time_base), len(r))
        for r in ranges
    )


def _psnr_db(lr_luma: npt.NDArray[Any], sr_luma: npt.NDArray[Any], peak: int) -> list[float]:
    """Of an output frame, scaled down by area, against its source; nothing where the scale is not whole."""
    height, width = lr_luma.shape
    down, across = sr_luma.shape[0] // height, sr_luma.shape[1] // width
    if sr_luma.shape != (height * down, width * across):
        return []
    small = sr_luma.astype(np.float32).reshape(height, down, width, across).mean(axis=(1, 3))
    error = float(np.mean((small - lr_luma.astype(np.float32)) ** 2))
    return [100.0 if error == 0 else min(100.0, 10 * math.log10(peak**2 / error))]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
