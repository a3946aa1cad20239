"""The state of jobs, as objects in the output's store, under the keys of `cluster.layout`.

Every object is written whole and never changed in place. Two drivers that write one name write equal content,
or content of which either serves, so the last writer wins without harm.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from cluster import layout
from cluster.job import Job
from cluster.layout import BegunStills, BegunVideo, Failure, FinishedOutput, Heartbeat, Part, Receipt
from cluster.plan import JobPlan, VideoPlan, name_key
from cluster.report import Snapshot
from cluster.retry import FailureRecord
from cluster.storage import ObjectInfo, Storage
from cluster.storage.parallel import in_parallel
from cluster.tasks import OutputReceipt, SegmentReceipt, Task
from sr_core.errors import StorageError

T = TypeVar("T")

_PLAN = TypeAdapter(JobPlan)
_VIDEO = TypeAdapter(VideoPlan)
_SEGMENT = TypeAdapter(SegmentReceipt)
_FAILURE = TypeAdapter(FailureRecord)
_OUTPUT = TypeAdapter(OutputReceipt)
_SNAPSHOT = TypeAdapter(Snapshot)
_KEYS = TypeAdapter(tuple[str, ...])

# What is called after outputs begins with a hexadecimal digit there, so that a long listing can be read in so
# many parts at once.
_MANY = ("outputs", "receipts", "segments")
_FEW = ("plans", "failures", "runs")
_NEWEST_RUNS = 16
_MANY_THREADS = 32  # as many as a client keeps connections
_ALIVE = ("starting", "running")


@dataclass
class Survey:
    """What there is, from listings of the state and a look at each output's name.

    Attributes:
        outputs: What stands under the names that were asked for.
        finished: Output keys that have a receipt.
        planned: Output keys of what was begun and is not finished.
        stills: Where it is written down which images were begun by workers that never ended them.
        parts: Segment keys that have a part, by output key.
        failures: Attempts that failed, by task id.
        list_receipts: Lists the receipts of segments. Finished outputs keep theirs, so that there may be far
            more of them than of anything else, and who has nothing to do never looks at one.
    """

    outputs: dict[str, ObjectInfo] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    planned: set[str] = field(default_factory=set)
    stills: list[str] = field(default_factory=list)
    parts: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    list_receipts: Callable[[], Iterable[ObjectInfo]] = tuple

    @cached_property
    def receipts(self) -> dict[str, set[str]]:
        """Segment keys that have a receipt, by output key; listed when they are first asked for."""
        found: dict[str, set[str]] = defaultdict(set)
        for info in self.list_receipts():
            match layout.parse(info.key):
                case Receipt() as receipt:
                    found[receipt.output_key].add(receipt.segment_key)
        return found

    def committed(self, output_key: str) -> set[str]:
        """Segment keys that need no work. A receipt without its part is worth nothing."""
        return self.receipts.get(output_key, set()) & self.parts.get(output_key, set())

    def note(self, info: ObjectInfo) -> None:
        """Takes in one object of the listing."""
        match layout.parse(info.key):
            case FinishedOutput(output_key):
                self.finished.add(output_key)
            case BegunVideo(output_key):
                self.planned.add(output_key)
            case BegunStills():
                self.stills.append(info.key)
            case Part() as part:
                self.parts[part.output_key].add(part.segment_key)
            case Failure(task_id, attempt):
                self.failures[task_id].append(attempt)
            case _:
                pass


class Manifest:
    """Typed reading and writing of the state in `storage`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def plan(self, job: Job) -> JobPlan | None:
        """The plan that the first driver of `job` fixed; None where there was none."""
        return self._read(layout.plan(job.id), _PLAN)

    def fix_plan(self, plan: JobPlan) -> JobPlan:
        """Fixes `plan` for its job. Returns the plan to use: where two drivers race, the one that stays."""
        self._write(layout.plan(plan.job.id), _PLAN, plan)
        return self.plan(plan.job) or plan

    def video(self, plan: JobPlan, output_key: str) -> VideoPlan | None:
        """The plan of one video; None where it was not probed yet."""
        return self._read(layout.video(plan.job.id, output_key), _VIDEO)

    def put_video(self, plan: JobPlan, video: VideoPlan) -> None:
        """Stores the plan of one video."""
        self._write(layout.video(plan.job.id, video.treatment.output_key), _VIDEO, video)

    def delete_video(self, plan: JobPlan, output_key: str) -> None:
        """Removes the plan of a video that is finished, or will never be."""
        self._storage.delete(layout.video(plan.job.id, output_key))

    def videos(self, job_id: str) -> Iterator[VideoPlan]:
        """Every video of a job that was begun and is not finished."""
        keys = [info.key for info in self._storage.list(layout.videos(job_id))]
        found = in_parallel(lambda key: self._read(key, _VIDEO), keys)
        return (video for video in found if video is not None)

    def survey(self, output_names: Iterable[str]) -> Survey:
        """What there is now of the state, and under `output_names`."""
        outputs = self._storage.find(output_names)
        survey = Survey(outputs, list_receipts=lambda: self._listed("receipts"))
        # Whoever publishes meanwhile writes the receipt before the plan goes: so plans are listed first.
        for info in self._listed("plans"):
            survey.note(info)
        for begun in in_parallel(self.begun_of, survey.stills):
            survey.planned.update(begun)
        for info in self._listed("outputs", "segments", "failures"):
            survey.note(info)
        return survey

    def listed(self) -> Iterator[ObjectInfo]:
        """Every object of the state but weights, in no order."""
        return self._listed(*_MANY, *_FEW)

    def _listed(self, *folders: str) -> Iterator[ObjectInfo]:
        prefixes = [prefix for folder in folders for prefix in self._prefixes(folder)]
        for infos in in_parallel(lambda prefix: list(self._storage.list(prefix)), prefixes):
            yield from infos

    def _prefixes(self, folder: str) -> list[str]:
        """What the keys of a folder of the state begin with."""
        whole = layout.folder(folder)
        # A disk reads a folder whole for any part of it.
        if folder in _FEW or self._storage.is_on_scratch_disk:
            return [whole]
        return [f"{whole}{digit:x}" for digit in range(16)]

    @contextlib.contextmanager
    def begun_stills(self, plan: JobPlan, attempt: str, output_keys: Sequence[str]) -> Iterator[None]:
        """Writes down for as long as the block lasts that these images were begun.

        Who finds it later knows that what stands under their names may be theirs, also without a receipt.
        """
        self._write(self.stills_key(plan, attempt), _KEYS, tuple(output_keys))
        yield
        self.end_stills(plan, attempt)

    def begun_of(self, stills_key: str) -> tuple[str, ...]:
        """Output keys of the images that the object under a key of `Survey.stills` says were begun."""
        return self._read(stills_key, _KEYS) or ()

    def end_stills(self, plan: JobPlan, attempt: str) -> None:
        """Removes what an attempt wrote down of the images that it began."""
        self._storage.delete(self.stills_key(plan, attempt))

    def stills_key(self, plan: JobPlan, attempt: str) -> str:
        """Where an attempt writes down which images it began."""
        return layout.stills(plan.job.id, attempt)

    def forget_begun_stills(self, stills_keys: Iterable[str]) -> None:
        """Removes what is written down, under some of `Survey.stills`, of images that were begun."""
        self._delete(stills_keys)

    def receipt(self, segment_key: str) -> SegmentReceipt | None:
        """The receipt of one segment; None where it is not committed."""
        return self._read(layout.receipt(segment_key), _SEGMENT)

    def committed(self, segment_key: str) -> SegmentReceipt | None:
        """The receipt of one segment that needs no work; None where it has to be computed.

        Its part is there, or its output is published, after which parts are deleted.
        """
        receipt = self.receipt(segment_key)
        if receipt is None:
            return None
        part = self._storage.head(self.part_key(segment_key, receipt.part_name))
        is_there = part is not None and part.size_bytes == receipt.size_bytes
        return receipt if is_there or self.published(layout.output_of(segment_key)) is not None else None

    def put_receipt(self, receipt: SegmentReceipt) -> None:
        """Commits a segment whose part is stored."""
        self._write(layout.receipt(receipt.key), _SEGMENT, receipt)

    def take_back(self, segment_key: str) -> None:
        """Removes a receipt whose part is gone or damaged, so that the segment is computed again."""
        self._storage.delete(layout.receipt(segment_key))

    def part_key(self, segment_key: str, part_name: str) -> str:
        """Where a part is stored."""
        return layout.part(segment_key, part_name)

    def delete_parts(self, segment_key: str) -> None:
        """Removes every part of a segment, of all attempts."""
        self._delete([info.key for info in self._storage.list(layout.parts(segment_key))])

    def failures(self, task_id: str, attempts: list[str]) -> list[FailureRecord]:
        """The records of a task's failed attempts, oldest first."""
        keys = [layout.failure(task_id, attempt) for attempt in attempts]
        records = in_parallel(lambda key: self._read(key, _FAILURE), keys)
        return sorted((record for record in records if record is not None), key=lambda record: record.time_s)

    def put_failure(self, task: Task, failure: FailureRecord) -> None:
        """Stores why an attempt failed."""
        self._write(layout.failure(task.id, failure.attempt), _FAILURE, failure)

    def forget_failures(self, task_id: str, attempts: list[str]) -> None:
        """Removes a task's failure records, so that it is tried afresh."""
        self._delete([layout.failure(task_id, attempt) for attempt in attempts])

    def output(self, output_key: str) -> OutputReceipt | None:
        """The receipt of one output; None where it is not finished."""
        return self._read(layout.output(output_key), _OUTPUT)

    def published(self, output_key: str) -> OutputReceipt | None:
        """The receipt of one output that stands under its name; None where none does."""
        receipt = self.output(output_key)
        is_there = receipt is not None and receipt.is_of(self._storage.head(receipt.output))
        return receipt if is_there else None

    def outputs(self, output_keys: Iterable[str]) -> Iterator[OutputReceipt]:
        """The receipts of those of many outputs that are finished."""
        found = in_parallel(self.output, output_keys, _MANY_THREADS)
        return (receipt for receipt in found if receipt is not None)

    def put_output(self, receipt: OutputReceipt) -> None:
        """Commits an output that is published."""
        self._write(layout.output(receipt.key), _OUTPUT, receipt)

    def forget_outputs(self, output_name: str, spare: str = "") -> None:
        """Removes the receipts of whatever stood under a name: something else comes to stand there.

        Args:
            spare: The output key whose receipt stays, as that very output comes to stand there. Another
                driver may have published it just now, and deleted the parts that it was made of.
        """
        infos = self._storage.list(layout.outputs_named(name_key(output_name)))
        self._delete([info.key for info in infos if layout.parse(info.key) != FinishedOutput(spare)])

    def snapshot_key(self, run_id: str) -> str:
        """Where a run's heartbeat is stored."""
        return layout.heartbeat(run_id)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Stores a run's heartbeat."""
        self._write(self.snapshot_key(snapshot.run_id), _SNAPSHOT, snapshot)

    def snapshot(self, run_id: str) -> Snapshot | None:
        """The last heartbeat of one run; None where it left none."""
        return self._read(self.snapshot_key(run_id), _SNAPSHOT)

    def run_ids(self) -> list[str]:
        """The runs that left a heartbeat, in the order in which they began."""
        places = [layout.parse(info.key) for info in self._storage.list(layout.folder("runs"))]
        return [place.run_id for place in places if isinstance(place, Heartbeat)]

    def snapshots(self) -> list[Snapshot]:
        """The last heartbeats of the runs that began last, the oldest heartbeat first."""
        found = in_parallel(self.snapshot, self.run_ids()[-_NEWEST_RUNS:])
        return sorted((snapshot for snapshot in found if snapshot), key=lambda snapshot: snapshot.updated_s)

    def live_runs(self, job_id: str, now_s: float, within_s: float) -> list[str]:
        """The runs of a job that are at work: they said so no longer than `within_s` before `now_s`."""
        return [
            snapshot.run_id
            for snapshot in self.snapshots()
            if snapshot.job_id == job_id and is_alive(snapshot, now_s, within_s)
        ]

    def _delete(self, keys: Iterable[str]) -> None:
        for _ in in_parallel(self._storage.delete, keys):
            pass

    def _read(self, key: str, adapter: TypeAdapter[T]) -> T | None:
        content = self._storage.get(key)
        if content is None:
            return None
        try:
            return adapter.validate_json(content)
        except ValidationError as error:
            raise StorageError(
                "this state cannot be read",
                where=f"{self._storage.url}/{key}",
                got=f"{error.error_count()} errors, the first: {error.errors()[0]['msg']}",
                expected=f"what this version of Framelift writes as {key.split('/')[1]}",
                next_step="delete that file: what it stood for is made again",
            ) from error

    def _write(self, key: str, adapter: TypeAdapter[T], value: T) -> None:
        self._storage.put(key, adapter.dump_json(value))


def is_alive(snapshot: Snapshot, now_s: float, within_s: float) -> bool:
    """Whether a run did not end, and gave a sign of life no longer than `within_s` before `now_s`."""
    return snapshot.state in _ALIVE and now_s - snapshot.updated_s <= within_s
