"""Joining a video's segments into its output, and publishing it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cluster.job import Deinterlace
from cluster.manifest import Manifest
from cluster.memory import give_back
from cluster.plan import Input
from cluster.publish import digest, is_published, publish
from cluster.report import FrameRange
from cluster.storage import MissingObjectError, Storage, open_storage
from cluster.tasks import AssembleTask, MissingParts, OutputReceipt, SegmentReceipt
from cluster.video.concat import JoinSettings, join
from cluster.video.info import VideoInfo
from cluster.video.timeline import PtsArray
from cluster.video.verify import verify
from sr_core.errors import MediaError, SourceChanged, StorageError

_MAX_ERRORS = 20


@dataclass
class _Sums:
    """What the receipts of a video's segments add up to. Receipts themselves are not kept."""

    num_frames: int = 0
    part_bytes: int = 0
    psnr_db: float | None = None
    missing: list[FrameRange] = field(default_factory=list)
    corrupt: list[FrameRange] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    seconds: float = 0.0
    num_interlaced: int = 0
    num_resized: int = 0

    def add(self, receipt: SegmentReceipt) -> None:
        self.num_frames += receipt.num_frames
        self.part_bytes += receipt.size_bytes
        self.psnr_db = min((db for db in (self.psnr_db, receipt.psnr_db) if db is not None), default=None)
        self.missing.extend(receipt.missing)
        self.corrupt.extend(receipt.corrupt)
        self.errors.extend(receipt.errors[: max(0, _MAX_ERRORS - len(self.errors))])
        self.told.extend(told for told in receipt.told if told not in self.told)
        self.seconds += sum(receipt.stage_seconds.values())
        self.num_interlaced += receipt.num_interlaced
        self.num_resized += receipt.num_resized

    def all_told(self, asked: Deinterlace) -> tuple[str, ...]:
        """What the segments have to tell, as one."""
        told = list(self.told)
        if self.num_interlaced and asked != "off":
            told.append(
                f"{self.num_interlaced} frames say that they are interlaced and were upscaled as they are; "
                "deinterlace frame would treat them"
            )
        if self.num_resized:
            told.append(
                f"{self.num_resized} frames have another size or pixel format than the first, and were fitted"
            )
        return tuple(told)


def assemble(task: AssembleTask, storage: Storage) -> OutputReceipt | MissingParts:
    """Joins and publishes one video; the segments whose parts are gone or damaged, if there are any.

    Raises:
        MediaError: Nothing of the video decodes.
        OutputError: What was joined does not hold what it must.
        SourceChanged: The source is not what was planned any more.
        SpecError: Something else has come to stand under the output's name.
        StorageError: The output could not be stored.
    """
    manifest, treatment = Manifest(storage), task.video.treatment
    if not all(_is_whole(segment.key, storage, manifest) for segment in task.video.segments):
        return _without_parts(task, storage, manifest)
    path = storage.scratch_dir() / f"{task.attempt}.{treatment.container}"
    try:
        sums = _join(task, storage, manifest, path)
        receipt = _receipt_of(task, path, sums)
        publish(path, receipt, treatment.input, task.video.replaces, storage)
    except MissingObjectError:
        return _without_parts(task, storage, manifest)
    finally:
        path.unlink(missing_ok=True)
    for segment in task.video.segments:
        manifest.delete_parts(segment.key)
    manifest.delete_video(task.plan, treatment.output_key)
    return receipt


def _is_whole(segment_key: str, storage: Storage, manifest: Manifest) -> bool:
    """Whether a segment's part is what its receipt says."""
    receipt = manifest.receipt(segment_key)
    if receipt is None:
        return False
    key = manifest.part_key(segment_key, receipt.part_name)
    info = storage.head(key)
    if info is None or info.size_bytes != receipt.size_bytes:
        return False
    try:
        with storage.open(key, info.version) as part:
            return digest(part) == receipt.sha256
    except SourceChanged:  # gone meanwhile
        return False


def _without_parts(task: AssembleTask, storage: Storage, manifest: Manifest) -> OutputReceipt | MissingParts:
    """The output's receipt, where another driver has published it and deleted the parts meanwhile.

    Else takes back the receipts of the segments whose parts are not what they say.
    """
    published = manifest.output(task.output_key)
    if published is not None and is_published(published, storage):
        return published
    missing = [s.key for s in task.video.segments if not _is_whole(s.key, storage, manifest)]
    for key in missing:
        manifest.take_back(key)
        manifest.delete_parts(key)
    return MissingParts(tuple(missing))


def _join(task: AssembleTask, storage: Storage, manifest: Manifest, path: Path) -> _Sums:
    """Writes the output to `path` and verifies it."""
    treatment, sums, parts = task.video.treatment, _Sums(), list[tuple[str, PtsArray]]()
    for segment in task.video.segments:
        receipt = manifest.receipt(segment.key)
        if receipt is None:
            raise MissingObjectError("a receipt is gone", where=segment.key)
        sums.add(receipt)
        if receipt.num_frames:
            key = manifest.part_key(receipt.key, receipt.part_name)
            parts.append((key, np.array(receipt.packet_pts, dtype=np.int64)))
    if not parts:
        raise MediaError("nothing of this video decodes", where=treatment.input.source.key)
    _check_space(sums.part_bytes, path.parent)
    packet_pts = [pts for _, pts in parts]
    settings = JoinSettings(treatment.video, treatment.encode, treatment.container, treatment.carried)
    with _opened(treatment.input) as source:
        joined = join(_files(parts, storage), packet_pts, settings, source, treatment.input.source.key, path)
    give_back()
    not_kept = verify(path, treatment.encode, np.concatenate(packet_pts), joined)
    sums.told.extend((*joined.told, *not_kept))
    return sums


def _opened(input_: Input) -> AbstractContextManager[BinaryIO | None]:
    """The source, for what there is beside its frames; None for a sequence, which has nothing."""
    if input_.sequence is not None:
        return nullcontext()
    return open_storage(input_.source.store_url).open(input_.source.key, input_.source.version)


def _check_space(num_bytes: int, folder: Path) -> None:
    """Raises `StorageError` where an output of so many bytes does not fit."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < num_bytes:
        raise StorageError(
            "there is no room for the output",
            where=str(folder),
            got=f"{free_bytes / 1e6:.0f} MB free",
            expected=f"{num_bytes / 1e6:.0f} MB",
            next_step="free some disk space and run the same command again; what is done stays done",
        )


def _files(parts: list[tuple[str, PtsArray]], storage: Storage) -> Iterator[Path]:
    """The parts in order, each a local file while it is the current one."""
    for key, _ in parts:
        with storage.as_file(key) as path:
            yield path


def _cut_off(video: VideoInfo) -> tuple[FrameRange, ...]:
    """The frames that the file promises behind its last one."""
    if video.promised_num_frames is None:
        return ()
    num_frames, end_s = video.promised_num_frames - video.num_frames, video.end_pts * video.time_base
    return (FrameRange(float(end_s), float(end_s + num_frames / video.frame_rate), num_frames),)


def _receipt_of(task: AssembleTask, path: Path, sums: _Sums) -> OutputReceipt:
    treatment = task.video.treatment
    with path.open("rb") as file:
        sha256 = digest(file)
    return OutputReceipt(
        key=treatment.output_key,
        job_id=task.plan.job.id,
        source=treatment.input.source.key,
        output=treatment.input.output_name,
        size_bytes=path.stat().st_size,
        sha256=sha256,
        num_segments=len(task.video.segments),
        num_frames=sums.num_frames,
        damage=treatment.damage,
        missing=(*sums.missing, *_cut_off(treatment.video)),
        corrupt=tuple(sums.corrupt),
        errors=tuple(sums.errors),
        told=(*treatment.told, *sums.all_told(task.plan.job.policies.deinterlace)),
        psnr_db=sums.psnr_db,
        seconds=sums.seconds,
    )
