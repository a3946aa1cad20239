"""Joining a video's segments into its output, and publishing it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cluster.digest import digest, digest_of
from cluster.manifest import Manifest
from cluster.memory import give_back
from cluster.plan import Input
from cluster.publish import publish
from cluster.report import FrameRange
from cluster.storage import MissingObjectError, Storage, open_storage
from cluster.storage.parallel import in_parallel
from cluster.tasks import AssembleTask, MissingParts, OutputReceipt, SegmentReceipt
from cluster.video.concat import JoinSettings, join
from cluster.video.info import VideoInfo
from cluster.video.timeline import PtsArray
from cluster.video.verify import verify
from sr_core.errors import MediaError, SourceChanged, StorageError

_MAX_ERRORS = 20


@dataclass(frozen=True)
class _Part:
    """One segment's part, with the times of its packets in decoding order, in the source's ticks."""

    key: str
    sha256: str
    packet_pts: PtsArray


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
        self.num_resized += receipt.num_resized

    def all_told(self) -> tuple[str, ...]:
        """What the segments have to tell, as one."""
        if not self.num_resized:
            return tuple(self.told)
        resized = (
            f"{self.num_resized} frames have another size or pixel format than the first, and were fitted"
        )
        return (*self.told, resized)


def assemble(task: AssembleTask, storage: Storage) -> OutputReceipt | MissingParts:
    """Joins and publishes one video; the segments whose parts are gone or damaged, if there are any.

    Raises:
        MediaError: Nothing of the video decodes.
        OutputError: What was joined does not hold what it must.
        SourceChanged: The source is not what was planned any more.
        SpecError: Something else has come to stand under the output's name.
        StorageError: The output could not be stored.
    """
    manifest = Manifest(storage)
    found = manifest.published(task.output_key) or _assembled(task, storage, manifest)
    if isinstance(found, OutputReceipt):
        for _ in in_parallel(manifest.delete_parts, _segment_keys(task)):
            pass
        manifest.delete_video(task.plan, task.output_key)
    return found


def _assembled(task: AssembleTask, storage: Storage, manifest: Manifest) -> OutputReceipt | MissingParts:
    """The receipt of the output, which was not published before."""
    treatment = task.video.treatment
    path = storage.scratch_dir() / f"{task.attempt}.{treatment.container}"
    try:
        sums = _join(task, storage, manifest, path)
        receipt = _receipt_of(task, path, sums)
        publish(path, receipt, treatment.input, task.video.replaces, storage)
    except MissingObjectError:
        return _without_parts(task, storage, manifest)
    finally:
        path.unlink(missing_ok=True)
    return receipt


def _segment_keys(task: AssembleTask) -> list[str]:
    return [segment.key for segment in task.video.segments]


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
    published = manifest.published(task.output_key)
    if published is not None:
        return published
    keys = _segment_keys(task)
    whole = in_parallel(lambda key: _is_whole(key, storage, manifest), keys)
    missing = tuple(key for key, is_whole in zip(keys, whole, strict=True) if not is_whole)
    for key in missing:
        manifest.take_back(key)
        manifest.delete_parts(key)
    return MissingParts(missing)


def _join(task: AssembleTask, storage: Storage, manifest: Manifest, path: Path) -> _Sums:
    """Writes the output to `path` and verifies it."""
    treatment = task.video.treatment
    sums, parts = _committed(task, manifest)
    if not parts:
        raise MediaError("nothing of this video decodes", where=treatment.input.source.key)
    _check_space(sums.part_bytes, path.parent)
    packet_pts = [part.packet_pts for part in parts]
    settings = JoinSettings(treatment.video, treatment.encode, treatment.container, treatment.carried)
    with _opened(treatment.input) as source:
        joined = join(_files(parts, storage), packet_pts, settings, source, treatment.input.source.key, path)
    give_back()
    not_kept = verify(path, treatment.encode, np.concatenate(packet_pts), joined)
    sums.told.extend((*joined.told, *not_kept))
    return sums


def _committed(task: AssembleTask, manifest: Manifest) -> tuple[_Sums, list[_Part]]:
    """What the segments' receipts say, and the parts that have frames."""
    sums, parts = _Sums(), list[_Part]()
    for receipt in in_parallel(manifest.receipt, _segment_keys(task)):
        if receipt is None:
            raise MissingObjectError("a receipt is gone", where=task.output_key)
        sums.add(receipt)
        if receipt.num_frames:
            key = manifest.part_key(receipt.key, receipt.part_name)
            parts.append(_Part(key, receipt.sha256, np.array(receipt.packet_pts, dtype=np.int64)))
    return sums, parts


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


def _files(parts: list[_Part], storage: Storage) -> Iterator[Path]:
    """The parts in order, each a local file while it is the current one."""
    for part in parts:
        with storage.as_file(part.key) as path:
            if digest_of(path) != part.sha256:
                raise MissingObjectError("a part is not what its receipt says", where=part.key)
            yield path


def _cut_off(video: VideoInfo) -> tuple[FrameRange, ...]:
    """The frames that the file promises behind its last one."""
    if video.promised_num_frames is None:
        return ()
    num_frames, end_s = video.promised_num_frames - video.num_frames, video.end_pts * video.time_base
    return (FrameRange(float(end_s), float(end_s + num_frames / video.frame_rate), num_frames),)


def _receipt_of(task: AssembleTask, path: Path, sums: _Sums) -> OutputReceipt:
    treatment = task.video.treatment
    return OutputReceipt(
        key=treatment.output_key,
        job_id=task.plan.job.id,
        source=treatment.input.source.key,
        output=treatment.input.output_name,
        size_bytes=path.stat().st_size,
        sha256=digest_of(path),
        num_segments=len(task.video.segments),
        num_frames=sums.num_frames,
        damage=treatment.damage,
        missing=(*sums.missing, *_cut_off(treatment.video)),
        corrupt=tuple(sums.corrupt),
        errors=tuple(sums.errors),
        told=(*treatment.told, *sums.all_told()),
        psnr_db=sums.psnr_db,
        seconds=sums.seconds,
    )
