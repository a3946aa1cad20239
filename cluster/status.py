"""How far a job is, from what lies in its output's store alone: while it runs, and after it died."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic.dataclasses import dataclass

from cluster.manifest import Manifest, Survey
from cluster.plan import VideoPlan
from cluster.report import Snapshot
from cluster.storage import Storage
from cluster.storage.parallel import in_parallel
from cluster.tasks import OutputReceipt


@dataclass(frozen=True)
class FileStatus:
    """How far one output is.

    Attributes:
        state: done; running (some segments are committed); waiting (none is); damaged (it is done as far as
            its source decodes); failed (a segment is set aside).
        reason: Why it is damaged or failed; empty otherwise.
    """

    name: str
    state: Literal["done", "running", "waiting", "damaged", "failed"]
    reason: str = ""
    num_segments: int = 0
    num_segments_done: int = 0
    num_frames: int = 0
    num_frames_done: int = 0


@dataclass(frozen=True)
class JobStatus:
    """How far a job is.

    Attributes:
        snapshot: The last heartbeat of the last run; None where no run came that far.
        files: Those that were begun.
    """

    snapshot: Snapshot | None
    files: tuple[FileStatus, ...]


def read_status(storage: Storage) -> JobStatus:
    """How far the last job is that wrote to `storage`."""
    manifest = Manifest(storage)
    snapshots = manifest.snapshots()
    if not snapshots:
        return JobStatus(None, ())
    job_id, survey = snapshots[-1].job_id, manifest.survey(())
    files = [_of_plan(video, manifest, survey) for video in manifest.videos(job_id)]
    receipts = [r for r in manifest.outputs(survey.finished) if r.job_id == job_id]
    standing = storage.find(receipt.output for receipt in receipts)
    files += [_of_receipt(receipt) for receipt in receipts if receipt.output in standing]
    known = {file.name for file in files}
    files += [file for file in _failed(manifest, survey, snapshots[-1].run_id) if file.name not in known]
    return JobStatus(snapshots[-1], tuple(sorted(files, key=lambda file: file.name)))


def _failed(manifest: Manifest, survey: Survey, run_id: str) -> Iterator[FileStatus]:
    """Outputs of the last run that failed before anything of them was planned, and images."""
    failed = [
        (task_id, attempts)
        for task_id, attempts in survey.failures.items()
        if task_id.endswith(("-probe", "-stills")) and any(run_id in each for each in attempts)
    ]
    for failures in in_parallel(lambda each: manifest.failures(*each), failed):
        if failures and failures[-1].is_final:
            yield FileStatus(failures[-1].output, "failed", str(failures[-1].error()))


def _of_receipt(receipt: OutputReceipt) -> FileStatus:
    return FileStatus(
        name=receipt.output,
        state="damaged" if receipt.why_damaged else "done",
        reason=receipt.why_damaged,
        num_segments=receipt.num_segments,
        num_segments_done=receipt.num_segments,
        num_frames=receipt.num_frames,
        num_frames_done=receipt.num_frames,
    )


def _of_plan(video: VideoPlan, manifest: Manifest, survey: Survey) -> FileStatus:
    committed = survey.committed(video.treatment.output_key)
    reason = next(_set_aside(video, manifest, survey), "")
    return FileStatus(
        name=video.treatment.input.output_name,
        state="failed" if reason else "running" if committed else "waiting",
        reason=reason,
        num_segments=len(video.segments),
        num_segments_done=len(committed),
        num_frames=video.treatment.num_frames,
        num_frames_done=video.treatment.frames_of(
            sum(segment.num_frames for segment in video.segments if segment.key in committed)
        ),
    )


def _set_aside(video: VideoPlan, manifest: Manifest, survey: Survey) -> Iterator[str]:
    """Why segments of a video are set aside, or could not be joined."""
    task_ids = [*(segment.key for segment in video.segments), f"{video.treatment.output_key}-assemble"]
    for task_id in task_ids:
        attempts = survey.failures.get(task_id, [])
        failures = manifest.failures(task_id, attempts) if attempts else []
        if failures and failures[-1].is_final:
            yield str(failures[-1].error())
