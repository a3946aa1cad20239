"""What the driver hands to workers and what comes back."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass

from pydantic.dataclasses import dataclass

from cluster.plan import Input, JobPlan, Segment, StillPlan, Treatment, VideoPlan, output_key
from cluster.report import FrameRange
from cluster.storage.base import ObjectInfo
from sr_core.errors import FrameliftError


@dataclass(frozen=True)
class ProbeTask:
    """Look at one input and plan it. Comes back as a `VideoPlan`, or for an image as a `StillPlan`."""

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


@dataclass(frozen=True)
class Still:
    """One image, and what may stand under its output's name already."""

    input: Input
    replaces: ObjectInfo | None = None


@dataclass(frozen=True)
class StillsTask:
    """Upscale images, each into an output of its own. Comes back as `StillsDone`.

    Which images share a task is a matter of scheduling alone.
    """

    plan: JobPlan
    stills: tuple[Still, ...]
    attempt: str
    output_url: str

    @property
    def output_key(self) -> str:
        """Names the output of the first image."""
        return output_key(self.plan, self.stills[0].input)

    @property
    def id(self) -> str:
        """Names this task among all tasks."""
        return f"{self.output_key}-stills"


Task = ProbeTask | SegmentTask | AssembleTask | StillsTask


def inputs_of(task: Task) -> tuple[Input, ...]:
    """The inputs that a task works on."""
    match task:
        case ProbeTask():
            return (task.input,)
        case SegmentTask():
            return (task.treatment.input,)
        case AssembleTask():
            return (task.video.treatment.input,)
        case StillsTask():
            return tuple(still.input for still in task.stills)


@dataclass(frozen=True)
class SegmentReceipt:
    """Proof that one segment is stored.

    Attributes:
        part_name: File name of the part under `segments/<segment key>/`; it is empty where no frame decodes.
        packet_pts: pts of the part's packets in decoding order, in the source's ticks.
        missing: Frames of the source that did not decode.
        corrupt: Frames that the decoder flagged as damaged, which are kept.
        errors: What the decoder said of them.
        num_resized: Frames that have another size or pixel format than the video's first ones.
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
    missing: tuple[FrameRange, ...]
    corrupt: tuple[FrameRange, ...]
    errors: tuple[str, ...]
    told: tuple[str, ...]
    stage_seconds: dict[str, float]
    psnr_db: float | None
    num_resized: int = 0


@dataclass(frozen=True)
class OutputReceipt:
    """Proof that one output is published and was verified.

    Attributes:
        damage: What the source promised and does not hold; empty if nothing.
        missing: Frames of the source that did not decode.
        corrupt: Frames of the source that the decoder flagged as damaged.
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
    missing: tuple[FrameRange, ...]
    corrupt: tuple[FrameRange, ...]
    errors: tuple[str, ...]
    told: tuple[str, ...]
    psnr_db: float | None
    seconds: float

    def is_of(self, info: ObjectInfo | None) -> bool:
        """Whether it tells of what stands under its output's name; None where nothing does."""
        return info is not None and info.size_bytes == self.size_bytes

    @property
    def why_damaged(self) -> str:
        """What is not whole, in words; empty if the source is whole."""
        if self.damage or self.errors:
            return self.damage or "; ".join(self.errors[:3])
        counts = {"do not decode": self.missing, "are damaged": self.corrupt}
        return "; ".join(
            f"{sum(each.num_frames for each in ranges)} frames {what}"
            for what, ranges in counts.items()
            if ranges
        )


@dataclass(frozen=True)
class MissingParts:
    """Segments whose parts are gone or damaged: their receipts were taken back."""

    segment_keys: tuple[str, ...]


@plain_dataclass(frozen=True)
class StillsDone:
    """What became of the images of a task: each has a receipt, or the error that ended it."""

    receipts: tuple[OutputReceipt, ...]
    failed: tuple[tuple[Still, FrameliftError], ...]


@dataclass(frozen=True)
class Progress:
    """How far a worker is with its task.

    Attributes:
        num_frames: Done of this task so far; images count as one each.
        stage_seconds: Busy time by stage so far.
    """

    num_frames: int
    stage_seconds: dict[str, float]


TaskResult = VideoPlan | StillPlan | SegmentReceipt | OutputReceipt | MissingParts | StillsDone
