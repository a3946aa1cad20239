"""Upscaling one segment: decode, network and encode at the same time, then the commit gate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.digest import digest_of
from cluster.frames import FramePlanes, Upscaled, known_format, upscaled_frames
from cluster.manifest import Manifest
from cluster.plan import Treatment
from cluster.prefetch import Prefetch
from cluster.report import FrameRange
from cluster.sequences import refuse_changed
from cluster.storage import Storage, open_storage
from cluster.tasks import Progress, SegmentReceipt, SegmentTask
from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.encode import EncodedPart, PartWriter
from cluster.video.info import DeinterlaceMode
from cluster.video.sequence import SequenceReader
from cluster.video.verify import check_part
from sr_core.errors import MediaError, OutputError
from sr_core.upscale import Upscaler

Reader = VideoReader | SequenceReader
OpenReader = Callable[[int, DeinterlaceMode], Reader]
PtsRange = tuple[int | None, int | None]

_QUEUE_FRAMES = 3
_QUEUE_BYTES = 512 << 20  # frames of 8K are few
_PROGRESS_S = 1.0
_INTERLACED_IN_PLACES = "it is interlaced in places: bwdif makes one frame of each frame that says so"
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
    """What is seen of the frames that pass on their way into `treatment`'s output."""

    treatment: Treatment
    encode: _Stopwatch = field(default_factory=_Stopwatch)
    frame_pts: list[int] = field(default_factory=list)
    corrupt_pts: list[int] = field(default_factory=list)
    num_resized: int = 0
    psnrs_db: list[float] = field(default_factory=list)
    _told_s: float = field(default_factory=time.monotonic)

    def note(self, lr_frame: DecodedFrame, sr_planes: FramePlanes) -> None:
        """Counts a frame, and compares one in a while with its source."""
        if len(self.frame_pts) % _CHECKED_FRAMES == 0:
            self.psnrs_db += self._psnr_db(lr_frame, sr_planes)
        self.frame_pts.append(lr_frame.pts)
        if lr_frame.is_corrupt:
            self.corrupt_pts.append(lr_frame.pts)
        video = self.treatment.video
        usual = ((video.height, video.width), video.pixel_format)
        self.num_resized += (lr_frame.planes[0].shape, lr_frame.pixels.name) != usual

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

    def _psnr_db(self, lr_frame: DecodedFrame, sr_planes: FramePlanes) -> list[float]:
        """Of the first plane; nothing where source and output do not mean the same by it."""
        encode, assumed = self.treatment.encode, self.treatment.assumed_color
        made = known_format(encode.pixel_format)
        if made.is_rgb != lr_frame.pixels.is_rgb or encode.color.full_range != assumed.full_range:
            return []
        unit = 2.0 ** (made.bit_depth - lr_frame.pixels.bit_depth)
        lr_plane = lr_frame.planes[0].astype(np.float32) * unit
        return psnr_db(lr_plane, sr_planes[0], 2**made.bit_depth - 1)


@dataclass
class _Made:
    """What came of one pass over a segment."""

    part: EncodedPart | None
    watch: _Watch
    stage_seconds: dict[str, float]
    errors: tuple[str, ...]
    missing_pts: list[int]
    stopped_at_interlaced: bool = False
    told: tuple[str, ...] = ()

    @property
    def is_damaged(self) -> bool:
        return bool(self.watch.corrupt_pts or self.errors or self.missing_pts)


def upscale_segment(
    task: SegmentTask, open_reader: OpenReader, upscaler: Upscaler, storage: Storage
) -> Iterator[Progress | SegmentReceipt]:
    """Upscales one segment and commits it, unless it is; tells about once a second how far it is.

    Args:
        task: What to do.
        open_reader: Opens the source with a number of decoder threads and a mode of deinterlacing.
        upscaler: With the job's model and settings.
        storage: Where parts and receipts go.

    Raises:
        MediaError: Nothing of the segment decodes, or it is damaged and the job strict.
        OutputError: The commit gate refuses what was made.
        StorageError: The part could not be stored.
    """
    committed = Manifest(storage).committed(task.segment.key)
    if committed is not None:  # by another driver's worker meanwhile
        yield committed
        return
    path = storage.scratch_dir() / f"{task.attempt}.{task.treatment.encode.part_container}"
    num_threads, deinterlace = task.plan.fixed.decoder_threads, task.treatment.deinterlace
    try:
        while True:
            context = task.segment.window if deinterlace == "off" else task.segment.context
            made = yield from _make(task, open_reader(num_threads, deinterlace), context, upscaler, path)
            if made.stopped_at_interlaced:
                deinterlace = "flagged"
            elif made.is_damaged and num_threads > 1:
                # What a decoder makes of damage depends on its threads, but for one.
                num_threads, deinterlace = 1, task.treatment.deinterlace
            else:
                break
        made.told = () if deinterlace == task.treatment.deinterlace else (_INTERLACED_IN_PLACES,)
        _refuse_damage(task, made)
        _check(task, made, path)
        yield _commit(task, made, upscaler, path, storage)
    finally:
        path.unlink(missing_ok=True)


def _make(
    task: SegmentTask, reader: Reader, context: PtsRange, upscaler: Upscaler, path: Path
) -> Generator[Progress, None, _Made]:
    """One pass over the segment: decoding and the network run ahead in threads of their own.

    It stops at the first interlaced frame where such were not expected and are to be deinterlaced.
    """
    segment, treatment = task.segment, task.treatment
    watch, num_ahead = _Watch(treatment), _num_ahead(treatment)
    frames = reader.frames(segment.start_pts, segment.end_pts, context, segment.window)
    with (
        Prefetch(frames, num_ahead, "decode") as decoded,
        Prefetch(upscaled_frames(decoded, treatment, upscaler), num_ahead, "network") as upscaled,
        PartWriter(path, treatment.encode) as writer,
    ):
        for lr_frame, sr_planes in upscaled:
            if lr_frame.is_interlaced and task.plan.job.policies.deinterlace == "auto":
                return _Made(None, watch, {}, (), [], stopped_at_interlaced=True)
            with watch.encode:
                writer.write(sr_planes, lr_frame.pts, lr_frame.props)
            watch.note(lr_frame, sr_planes)
            if watch.is_due():
                yield watch.progress(decoded, upscaled)
        with watch.encode:
            part = writer.close() if watch.frame_pts else None
        progress = watch.progress(decoded, upscaled)
        yield progress
    return _Made(part, watch, progress.stage_seconds, tuple(reader.errors), list(reader.missing_pts))


def _num_ahead(treatment: Treatment) -> int:
    """How many frames may wait between two stages."""
    made = known_format(treatment.encode.pixel_format)
    sizes = made.plane_sizes(treatment.encode.width, treatment.encode.height)
    frame_bytes = sum(height * width for height, width in sizes) * (1 if made.bit_depth == 8 else 2)
    return max(1, min(_QUEUE_FRAMES, _QUEUE_BYTES // frame_bytes))


def _refuse_damage(task: SegmentTask, made: _Made) -> None:
    where = f"{task.treatment.input.source.key}, segment {task.segment.key}"
    if made.is_damaged and task.plan.job.policies.strict:
        raise MediaError(
            "the source is damaged, and the job is strict",
            where=where,
            got=f"{len(made.missing_pts)} frames missing, {len(made.watch.corrupt_pts)} damaged",
            next_step="leave out --strict to keep what decodes",
        )


def _check(task: SegmentTask, made: _Made, path: Path) -> None:
    """The commit gate.

    Raises:
        OutputError: Frames, times or the part are not what they must be.
    """
    where = f"{task.treatment.input.source.key}, segment {task.segment.key}"
    num_frames = len(made.watch.frame_pts)
    num_expected = task.treatment.frames_of(task.segment.num_frames - len(made.missing_pts))
    if num_frames != num_expected:
        raise OutputError(
            "a segment does not have the frames that the plan found in the source",
            where=where,
            got=f"{num_frames} frames, and {len(made.missing_pts)} of the source do not decode",
            expected=f"{num_expected}, from {task.segment.num_frames} of the source",
        )
    if made.part is not None:
        if sorted(made.part.packet_pts.tolist()) != made.watch.frame_pts:
            raise OutputError("the encoder changed the frames' times", where=where)
        check_part(path, task.treatment.encode, num_frames)


def _commit(
    task: SegmentTask, made: _Made, upscaler: Upscaler, path: Path, storage: Storage
) -> SegmentReceipt:
    """Stores the part, then the receipt that makes it count."""
    manifest, input_ = Manifest(storage), task.treatment.input
    video, encode = task.treatment.video, task.treatment.encode
    if input_.sequence is None:  # whose many images are looked at once, when the output is published
        refuse_changed(input_, open_storage(input_.source.store_url))
    if made.part is None:
        path.touch()  # an empty part stands for a segment of which nothing decodes
    size_bytes, sha256 = path.stat().st_size, digest_of(path)
    storage.put_file(manifest.part_key(task.segment.key, path.name), path)
    receipt = SegmentReceipt(
        key=task.segment.key,
        part_name=path.name,
        size_bytes=size_bytes,
        sha256=sha256,
        num_frames=len(made.watch.frame_pts),
        packet_pts=tuple(made.part.packet_pts.tolist()) if made.part else (),
        missing=_ranges(made.missing_pts, video.time_base, video.frame_rate),
        corrupt=_ranges(made.watch.corrupt_pts, encode.time_base, encode.frame_rate),
        errors=made.errors,
        told=(*made.told, *upscaler.shrunk),
        stage_seconds=made.stage_seconds,
        psnr_db=min(made.watch.psnrs_db, default=None),
        num_resized=made.watch.num_resized,
    )
    manifest.put_receipt(receipt)
    return receipt


def _ranges(frame_pts: Sequence[int], time_base: Fraction, frame_rate: Fraction) -> tuple[FrameRange, ...]:
    """Frames as ranges of time; those no more than two frame times apart are one range."""
    ranges = list[list[int]]()
    duration_pts = round(1 / (frame_rate * time_base))
    for pts in frame_pts:
        if ranges and pts - ranges[-1][-1] <= 2 * duration_pts:
            ranges[-1].append(pts)
        else:
            ranges.append([pts])
    return tuple(
        FrameRange(float(r[0] * time_base), float((r[-1] + duration_pts) * time_base), len(r)) for r in ranges
    )


def psnr_db(lr_plane: npt.NDArray[Any], sr_plane: npt.NDArray[Any], peak: int) -> list[float]:
    """Of an output plane, scaled down by area, against its source; nothing where the scale is not whole."""
    height, width = lr_plane.shape
    down, across = sr_plane.shape[0] // height, sr_plane.shape[1] // width
    if sr_plane.shape != (height * down, width * across):
        return []
    small = sr_plane.astype(np.float32).reshape(height, down, width, across).mean(axis=(1, 3))
    error = float(np.mean((small - lr_plane.astype(np.float32)) ** 2))
    return [100.0 if error == 0 else min(100.0, 10 * math.log10(peak**2 / error))]
