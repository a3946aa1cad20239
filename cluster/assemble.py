"""Joining a video's segments into its output, and publishing it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cluster.manifest import Manifest
from cluster.memory import give_back
from cluster.report import MissingRange
from cluster.storage import MissingObjectError, Storage, open_storage
from cluster.tasks import AssembleTask, MissingParts, OutputReceipt, SegmentReceipt
from cluster.video.concat import JoinSettings, join
from cluster.video.timeline import PtsArray
from cluster.video.verify import verify
from sr_core.errors import MediaError, SourceChanged, SpecError, StorageError

_MAX_ERRORS = 20
_BLOCK_BYTES = 1 << 20


@dataclass
class _Sums:
    """What the receipts of a video's segments add up to. Receipts themselves are not kept."""

    num_frames: int = 0
    part_bytes: int = 0
    psnr_db: float | None = None
    missing: list[MissingRange] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, receipt: SegmentReceipt) -> None:
        self.num_frames += receipt.num_frames
        self.part_bytes += receipt.size_bytes
        self.psnr_db = min((db for db in (self.psnr_db, receipt.psnr_db) if db is not None), default=None)
        self.missing.extend(receipt.missing)
        self.errors.extend(receipt.errors[: max(0, _MAX_ERRORS - len(self.errors))])
        self.told.extend(told for told in receipt.told if told not in self.told)
        self.seconds += sum(receipt.stage_seconds.values())
        if receipt.num_corrupt:
            self.errors.append(f"{receipt.num_corrupt} frames of {receipt.key} are damaged in the source")


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
        receipt = _publish(task, storage, manifest, path, sums)
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
            return _digest(part) == receipt.sha256
    except SourceChanged:  # gone meanwhile
        return False


def _without_parts(task: AssembleTask, storage: Storage, manifest: Manifest) -> OutputReceipt | MissingParts:
    """The output's receipt, where another driver has published it and deleted the parts meanwhile.

    Else takes back the receipts of the segments whose parts are not what they say.
    """
    published = manifest.output(task.output_key)
    if published is not None and _is_there(published, storage):
        return published
    missing = [s.key for s in task.video.segments if not _is_whole(s.key, storage, manifest)]
    for key in missing:
        manifest.take_back(key)
        manifest.delete_parts(key)
    return MissingParts(tuple(missing))


def _is_there(receipt: OutputReceipt, storage: Storage) -> bool:
    info = storage.head(receipt.output)
    return info is not None and info.size_bytes == receipt.size_bytes


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
    source = treatment.input.source
    with open_storage(source.store_url).open(source.key, source.version) as file:
        settings = JoinSettings(treatment.video, treatment.encode, treatment.container, treatment.carried)
        joined = join(_files(parts, storage), packet_pts, settings, file, source.key, path)
    give_back()
    not_kept = verify(path, treatment.encode, np.concatenate(packet_pts), joined)
    sums.told.extend((*joined.told, *not_kept))
    return sums


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


def _publish(
    task: AssembleTask, storage: Storage, manifest: Manifest, path: Path, sums: _Sums
) -> OutputReceipt:
    """Puts the output under its name, then its receipt."""
    treatment = task.video.treatment
    name, source = treatment.input.output_name, treatment.input.source
    open_storage(source.store_url).open(source.key, source.version).close()  # raises if it changed
    with path.open("rb") as file:
        sha256 = _digest(file)
    receipt = OutputReceipt(
        key=treatment.output_key,
        job_id=task.plan.job.id,
        source=source.key,
        output=name,
        size_bytes=path.stat().st_size,
        sha256=sha256,
        num_segments=len(task.video.segments),
        num_frames=sums.num_frames,
        damage=treatment.damage,
        missing=tuple(sums.missing),
        errors=tuple(sums.errors),
        told=(*treatment.told, *sums.told),
        psnr_db=sums.psnr_db,
        seconds=sums.seconds,
    )
    _refuse_to_replace(task, storage, receipt)
    manifest.forget_outputs(name)
    storage.put_file(name, path)
    manifest.put_output(receipt)
    return receipt


def _refuse_to_replace(task: AssembleTask, storage: Storage, receipt: OutputReceipt) -> None:
    """Lets stand what somebody else put under the output's name while the job ran."""
    there = storage.head(receipt.output)
    if there is None or there == task.video.replaces:
        return
    with storage.open(receipt.output, there.version) as file:
        if _digest(file) == receipt.sha256:  # an earlier driver was lost before it could say so
            return
    raise SpecError(
        "something else was put under the output's name while the job ran",
        where=receipt.output,
        next_step="move it away, or run again with --overwrite",
    )


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
