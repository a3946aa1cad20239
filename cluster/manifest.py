"""The state of jobs, as objects under `.framelift/` of the output's store.

    plans/<job>/plan.json                    the job and what was fixed for it      (JobPlan)
    plans/<job>/videos/<output key>.json     a video that was begun, and its segments (VideoPlan)
    plans/<job>/stills/<attempt>.json        images that a worker is at             (their output keys)
    segments/<segment key>/<attempt>.<ext>   parts, one name for every attempt
    receipts/<segment key>.json              which attempt counts                   (SegmentReceipt)
    failures/<task id>/<attempt>.json        why an attempt failed                  (FailureRecord)
    outputs/<output key>.json                the output is published and verified   (OutputReceipt)
    runs/<run>.json                          heartbeat                              (Snapshot)

Every object is written whole and never changed in place. Two drivers that write one name write equal content,
or content of which either serves, so the last writer wins without harm. Keys are prefix-structured:
segment keys begin with their output's key, and output keys with a hash of the output's name.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from cluster.job import Job
from cluster.plan import JobPlan, VideoPlan, name_key
from cluster.report import Snapshot
from cluster.retry import FailureRecord
from cluster.storage import ObjectInfo, Storage
from cluster.tasks import OutputReceipt, SegmentReceipt, Task
from sr_core.errors import StorageError

T = TypeVar("T")

_ROOT = ".framelift"
_PLAN = TypeAdapter(JobPlan)
_VIDEO = TypeAdapter(VideoPlan)
_SEGMENT = TypeAdapter(SegmentReceipt)
_FAILURE = TypeAdapter(FailureRecord)
_OUTPUT = TypeAdapter(OutputReceipt)
_SNAPSHOT = TypeAdapter(Snapshot)
_KEYS = TypeAdapter(tuple[str, ...])


@dataclass
class Survey:
    """What there is, from one listing of the state and a look at each output's name.

    Attributes:
        outputs: What stands under the names that were asked for.
        finished: Output keys that have a receipt.
        planned: Output keys of what was begun and is not finished.
        stills: Where it is written down which images were begun by workers that never ended them.
        receipts: Segment keys that have a receipt, by output key.
        parts: Segment keys that have a part, by output key.
        failures: Attempts that failed, by task id.
    """

    outputs: dict[str, ObjectInfo] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    planned: set[str] = field(default_factory=set)
    stills: list[str] = field(default_factory=list)
    receipts: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    parts: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def committed(self, output_key: str) -> set[str]:
        """Segment keys that need no work. A receipt without its part is worth nothing."""
        return self.receipts.get(output_key, set()) & self.parts.get(output_key, set())

    def note(self, info: ObjectInfo) -> None:
        """Takes in one object of the listing."""
        match info.key.split("/"):
            case [".framelift", "outputs", name]:
                self.finished.add(_stem(name))
            case [".framelift", "plans", _, "videos", name]:
                self.planned.add(_stem(name))
            case [".framelift", "plans", _, "stills", _]:
                self.stills.append(info.key)
            case [".framelift", "receipts", name]:
                self.receipts[_output_key(_stem(name))].add(_stem(name))
            case [".framelift", "segments", segment_key, _]:
                self.parts[_output_key(segment_key)].add(segment_key)
            case [".framelift", "failures", task_id, name]:
                self.failures[task_id].append(_stem(name))
            case _:
                pass


class Manifest:
    """Typed reading and writing of the state in `storage`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def plan(self, job: Job) -> JobPlan | None:
        """The plan that the first driver of `job` fixed; None where there was none."""
        return self._read(f"plans/{job.id}/plan.json", _PLAN)

    def fix_plan(self, plan: JobPlan) -> JobPlan:
        """Fixes `plan` for its job. Returns the plan to use: where two drivers race, the one that stays."""
        self._write(f"plans/{plan.job.id}/plan.json", _PLAN, plan)
        return self.plan(plan.job) or plan

    def video(self, plan: JobPlan, output_key: str) -> VideoPlan | None:
        """The plan of one video; None where it was not probed yet."""
        return self._read(f"plans/{plan.job.id}/videos/{output_key}.json", _VIDEO)

    def put_video(self, plan: JobPlan, video: VideoPlan) -> None:
        """Stores the plan of one video."""
        self._write(f"plans/{plan.job.id}/videos/{video.treatment.output_key}.json", _VIDEO, video)

    def delete_video(self, plan: JobPlan, output_key: str) -> None:
        """Removes the plan of a video that is finished, or will never be."""
        self._storage.delete(f"{_ROOT}/plans/{plan.job.id}/videos/{output_key}.json")

    def videos(self, job_id: str) -> Iterator[VideoPlan]:
        """Every video of a job that was begun and is not finished."""
        for info in self._storage.list(f"{_ROOT}/plans/{job_id}/videos/"):
            video = self._read(info.key.removeprefix(f"{_ROOT}/"), _VIDEO)
            if video is not None:
                yield video

    def survey(self, output_names: Iterable[str]) -> Survey:
        """What there is now of the state, and under `output_names`."""
        heads = ((name, self._storage.head(name)) for name in output_names)
        survey = Survey({name: info for name, info in heads if info is not None})
        for info in self._storage.list(f"{_ROOT}/"):
            survey.note(info)
        for key in survey.stills:
            begun = self._read(key.removeprefix(f"{_ROOT}/"), _KEYS)
            survey.planned.update(begun or ())
        return survey

    @contextlib.contextmanager
    def begun_stills(self, plan: JobPlan, attempt: str, output_keys: Sequence[str]) -> Iterator[None]:
        """Writes down for as long as the block lasts that these images were begun.

        Who finds it later knows that what stands under their names may be theirs, also without a receipt.
        """
        self._write(f"plans/{plan.job.id}/stills/{attempt}.json", _KEYS, tuple(output_keys))
        yield
        self.end_stills(plan, attempt)

    def end_stills(self, plan: JobPlan, attempt: str) -> None:
        """Removes what an attempt wrote down of the images that it began."""
        self._storage.delete(f"{_ROOT}/plans/{plan.job.id}/stills/{attempt}.json")

    def forget_begun_stills(self, survey: Survey) -> None:
        """Removes what is written down of images that were begun by workers that are gone."""
        for key in survey.stills:
            self._storage.delete(key)

    def receipt(self, segment_key: str) -> SegmentReceipt | None:
        """The receipt of one segment; None where it is not committed."""
        return self._read(f"receipts/{segment_key}.json", _SEGMENT)

    def put_receipt(self, receipt: SegmentReceipt) -> None:
        """Commits a segment whose part is stored."""
        self._write(f"receipts/{receipt.key}.json", _SEGMENT, receipt)

    def take_back(self, segment_key: str) -> None:
        """Removes a receipt whose part is gone or damaged, so that the segment is computed again."""
        self._storage.delete(f"{_ROOT}/receipts/{segment_key}.json")

    def part_key(self, segment_key: str, part_name: str) -> str:
        """Where a part is stored."""
        return f"{_ROOT}/segments/{segment_key}/{part_name}"

    def delete_parts(self, segment_key: str) -> None:
        """Removes every part of a segment, of all attempts."""
        for info in list(self._storage.list(f"{_ROOT}/segments/{segment_key}/")):
            self._storage.delete(info.key)

    def failures(self, task_id: str, attempts: list[str]) -> list[FailureRecord]:
        """The records of a task's failed attempts, oldest first."""
        records = [self._read(f"failures/{task_id}/{attempt}.json", _FAILURE) for attempt in attempts]
        return sorted((record for record in records if record is not None), key=lambda record: record.time_s)

    def put_failure(self, task: Task, failure: FailureRecord) -> None:
        """Stores why an attempt failed."""
        self._write(f"failures/{task.id}/{failure.attempt}.json", _FAILURE, failure)

    def forget_failures(self, task_id: str, attempts: list[str]) -> None:
        """Removes a task's failure records, so that it is tried afresh."""
        for attempt in attempts:
            self._storage.delete(f"{_ROOT}/failures/{task_id}/{attempt}.json")

    def output(self, output_key: str) -> OutputReceipt | None:
        """The receipt of one output; None where it is not finished."""
        return self._read(f"outputs/{output_key}.json", _OUTPUT)

    def put_output(self, receipt: OutputReceipt) -> None:
        """Commits an output that is published."""
        self._write(f"outputs/{receipt.key}.json", _OUTPUT, receipt)

    def forget_outputs(self, output_name: str) -> None:
        """Removes the receipts of whatever stood under a name: something else comes to stand there."""
        for info in list(self._storage.list(f"{_ROOT}/outputs/{name_key(output_name)}-")):
            self._storage.delete(info.key)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Stores a run's heartbeat."""
        self._write(f"runs/{snapshot.run_id}.json", _SNAPSHOT, snapshot)

    def snapshots(self) -> list[Snapshot]:
        """The last heartbeat of every run, oldest first."""
        found = [self._read(f"runs/{path.name}", _SNAPSHOT) for path in self._list("runs/")]
        return sorted((snapshot for snapshot in found if snapshot), key=lambda snapshot: snapshot.updated_s)

    def _list(self, prefix: str) -> Iterator[PurePosixPath]:
        for info in self._storage.list(f"{_ROOT}/{prefix}"):
            yield PurePosixPath(info.key)

    def _read(self, key: str, adapter: TypeAdapter[T]) -> T | None:
        content = self._storage.get(f"{_ROOT}/{key}")
        if content is None:
            return None
        try:
            return adapter.validate_json(content)
        except ValidationError as error:
            raise StorageError(
                "this state cannot be read",
                where=f"{self._storage.url}/{_ROOT}/{key}",
                got=f"{error.error_count()} errors, the first: {error.errors()[0]['msg']}",
                expected=f"what this version of Framelift writes as {key.partition('/')[0]}",
                next_step="delete that file: what it stood for is made again",
            ) from error

    def _write(self, key: str, adapter: TypeAdapter[T], value: T) -> None:
        self._storage.put(f"{_ROOT}/{key}", adapter.dump_json(value))


def _output_key(segment_key: str) -> str:
    return segment_key.rpartition("-")[0]


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
