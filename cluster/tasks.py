"""What the driver hands to workers and what comes back."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from cluster.plan import Input, JobPlan, Segment, Treatment, VideoPlan, output_key
from cluster.report import MissingRange
from cluster.storage.base import ObjectInfo


@dataclass(frozen=True)
class ProbeTask:
    """Look at one input and plan it. Comes back as a `VideoPlan`."""

    plan: JobPlan
    input: Input
    replaces: ObjectInfo | None = None

    @property
    def output_key(self) -> str:
        """Names the output that this is for."""
        return output_key(self.plan, self.input)

    @property
    def id(self) -> str:
        """Names this task among all tasks."""
        return f"{self.output_key}-probe"


@dataclass(frozen=True)
class SegmentTask:
    """Upscale one segment and store it. Comes back as a `SegmentReceipt`."""

    plan: JobPlan
    treatment: Treatment
    segment: Segment
    attempt: str
    output_url: str

    @property
    def output_key(self) -> str:
        """Names the output that this is for."""
        return self.treatment.output_key

    @property
    def id(self) -> str:
        """Names this task among all tasks."""
        return self.segment.key


@dataclass(frozen=True)
class AssembleTask:
    """Join one video's segments and publish it. Comes back as an `OutputReceipt` or as `MissingParts`."""

    plan: JobPlan
    video: VideoPlan
    attempt: str
    output_url: str

    @property
    def output_key(self) -> str:
        """Names the output that this is for."""
        return self.video.treatment.output_key

    @property
    def id(self) -> str:
        """Names this task among all tasks."""
        return f"{self.output_key}-assemble"


Task = ProbeTask | SegmentTask | AssembleTask


def input_of(task: Task) -> Input:
    """The input that a task works on."""
    match task:
        case ProbeTask():
            return task.input
        case SegmentTask():
            return task.treatment.input
        case AssembleTask():
            return task.video.treatment.input


@dataclass(frozen=True)
class SegmentReceipt:
    """Proof that one segment is stored.

    Attributes:
        part_name: File name of the part under `segments/<segment key>/`; it is empty where no frame decodes.
        packet_pts: pts of the part's packets in decoding order, in the source's ticks.
        num_corrupt: Frames that the decoder flagged as damaged, which are kept.
        missing: Ranges of the source that did not decode.
        errors: What the decoder said of them.
        told: What else the user must know of this segment, as a smaller tile after running out of memory.
        stage_seconds: Busy time by stage.
        psnr_db: Of the output scaled down against the source, luma: a measure of sanity, not of quality.
    """

    key: str
    part_name: str
    size_bytes: int
    sha256: str
    num_frames: int
    packet_pts: tuple[int, ...]
    num_corrupt: int
    missing: tuple[MissingRange, ...]
    errors: tuple[str, ...]
    told: tuple[str, ...]
    stage_seconds: dict[str, float]
    psnr_db: float | None


@dataclass(frozen=True)
class OutputReceipt:
    """Proof that one output is published and was verified.

    Attributes:
        damage: What the source promised and does not hold; empty if nothing.
        missing: Ranges of the source that did not decode.
        errors: What the decoder said.
        psnr_db: The lowest of the segments'.
        seconds: Busy time of all stages over all segments.
    """

    key: str
    job_id: str
    source: str
    output: str
    size_bytes: int
    sha256: str
    num_segments: int
    num_frames: int
    damage: str
    missing: tuple[MissingRange, ...]
    errors: tuple[str, ...]
    told: tuple[str, ...]
    psnr_db: float | None
    seconds: float

    @property
    def why_damaged(self) -> str:
        """What is not whole, in words; empty if the source is whole."""
        if self.missing and not self.errors and not self.damage:
            return f"{sum(each.num_frames for each in self.missing)} frames do not decode"
        return self.damage or "; ".join(self.errors[:3])


@dataclass(frozen=True)
class MissingParts:
    """Segments whose parts are gone or damaged: their receipts were taken back."""

    segment_keys: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How far a worker is with its task.

    Attributes:
        num_frames: Done of this task so far.
        stage_seconds: Busy time by stage so far.
    """

    num_frames: int
    stage_seconds: dict[str, float]


TaskResult = VideoPlan | SegmentReceipt | OutputReceipt | MissingParts
