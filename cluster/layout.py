"""Where the state of jobs lies in the output's store: its keys, built and read. Pure.

    plans/<job>/plan.json                    the job and what was fixed for it      (JobPlan)
    plans/<job>/videos/<output key>.json     a video that was begun, and its segments (VideoPlan)
    plans/<job>/stills/<attempt>.json        images that a worker is at             (their output keys)
    segments/<segment key>/<attempt>.<ext>   parts, one name for every attempt
    receipts/<segment key>.json              which attempt counts                   (SegmentReceipt)
    failures/<task id>/<attempt>.json        why an attempt failed                  (FailureRecord)
    outputs/<output key>.json                the output is published and verified   (OutputReceipt)
    runs/<run>.json                          heartbeat                              (Snapshot)
    weights/<SHA-256>.<ext>                  weights that every worker of a cluster must see
    report.json                              the report of a job whose output is a single file
    scratch/                                 what is on its way into a store that is a folder

Keys are prefix-structured: segment keys and ids of tasks begin with their output's key, output keys with a
hash of the output's name, and attempts with their run.
"""

from __future__ import annotations

from dataclasses import dataclass

ROOT = ".framelift"
REPORT = f"{ROOT}/report.json"
SCRATCH = f"{ROOT}/scratch"


@dataclass(frozen=True)
class FinishedOutput:
    """The receipt of an output."""

    output_key: str


@dataclass(frozen=True)
class BegunVideo:
    """The plan of a video."""

    output_key: str


@dataclass(frozen=True)
class BegunStills:
    """What an attempt wrote down of the images that it began."""


@dataclass(frozen=True)
class Part:
    """A part of a segment, of one attempt."""

    segment_key: str

    @property
    def output_key(self) -> str:
        """Of the output that it is a part of."""
        return output_of(self.segment_key)


@dataclass(frozen=True)
class Receipt:
    """The receipt of a segment."""

    segment_key: str

    @property
    def output_key(self) -> str:
        """Of the output that the segment belongs to."""
        return output_of(self.segment_key)


@dataclass(frozen=True)
class Failure:
    """The record of an attempt that failed."""

    task_id: str
    attempt: str

    @property
    def output_key(self) -> str:
        """Of the output that the task was for."""
        return output_of(self.task_id)


@dataclass(frozen=True)
class Heartbeat:
    """What a run told of itself last."""

    run_id: str


Place = FinishedOutput | BegunVideo | BegunStills | Part | Receipt | Failure | Heartbeat


def parse(key: str) -> Place | None:
    """What lies under a key; None where that is nothing of one output or run."""
    root, *rest = key.split("/")
    if root != ROOT:
        return None
    match rest:
        case ["outputs", name]:
            return FinishedOutput(_stem(name))
        case ["plans", _, "videos", name]:
            return BegunVideo(_stem(name))
        case ["plans", _, "stills", _]:
            return BegunStills()
        case ["segments", segment_key, _]:
            return Part(segment_key)
        case ["receipts", name]:
            return Receipt(_stem(name))
        case ["failures", task_id, name]:
            return Failure(task_id, _stem(name))
        case ["runs", name]:
            return Heartbeat(_stem(name))
        case _:
            return None


def run_of(key: str) -> str:
    """The run whose attempt a part, a failure or begun images are named by; empty where they are of none."""
    return _stem(key.rpartition("/")[2]).rpartition("-")[0]


def output_of(segment_key: str) -> str:
    """The key of the output that a segment belongs to; so of the id of a task."""
    return segment_key.rpartition("-")[0]


def folder(name: str) -> str:
    """What the keys of a whole folder of the state begin with."""
    return f"{ROOT}/{name}/"


def plan(job_id: str) -> str:
    """Of a job's plan."""
    return f"{ROOT}/plans/{job_id}/plan.json"


def videos(job_id: str) -> str:
    """What the keys of a job's begun videos begin with."""
    return f"{ROOT}/plans/{job_id}/videos/"


def video(job_id: str, output_key: str) -> str:
    """Of a begun video."""
    return f"{videos(job_id)}{output_key}.json"


def stills(job_id: str, attempt: str) -> str:
    """Of the images that an attempt began."""
    return f"{ROOT}/plans/{job_id}/stills/{attempt}.json"


def parts(segment_key: str) -> str:
    """What the keys of a segment's parts begin with."""
    return f"{ROOT}/segments/{segment_key}/"


def part(segment_key: str, part_name: str) -> str:
    """Of one part."""
    return f"{parts(segment_key)}{part_name}"


def receipt(segment_key: str) -> str:
    """Of a segment's receipt."""
    return f"{ROOT}/receipts/{segment_key}.json"


def failure(task_id: str, attempt: str) -> str:
    """Of an attempt's failure."""
    return f"{ROOT}/failures/{task_id}/{attempt}.json"


def output(output_key: str) -> str:
    """Of an output's receipt."""
    return f"{ROOT}/outputs/{output_key}.json"


def outputs_named(name_key: str) -> str:
    """What the keys of the receipts of all that ever stood under an output's name begin with."""
    return f"{ROOT}/outputs/{name_key}-"


def heartbeat(run_id: str) -> str:
    """Of a run's heartbeat."""
    return f"{ROOT}/runs/{run_id}.json"


def weights(sha256: str, suffix: str) -> str:
    """Of weights that every worker must see."""
    return f"{ROOT}/weights/{sha256}{suffix}"


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
