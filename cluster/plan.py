"""What is planned: a job with all that decides its bytes, its inputs, and what becomes of each. Values."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from cluster.images.info import ImageInfo
from cluster.images.plan import ImageTreatment
from cluster.job import Job, hash_of
from cluster.storage.base import ObjectInfo
from cluster.video.codecs import (
    EncodeSettings,
)
from cluster.video.containers import Container
from cluster.video.info import ColorTags, DeinterlaceMode, SourceInfo, VideoInfo

# What a job does not say is fixed here by kind of device, and from then on by plan.json. The thread counts
# hold for any number of workers and cores, because x264's bitstream depends on them.
_PRECISIONS: dict[str, Literal["fp32", "bf16", "fp16"]] = {"cpu": "fp32", "cuda": "fp16"}
_TILES_PX = {"cpu": 256, "cuda": 512}
_BATCH_SIZES = {"cpu": 1, "cuda": 4}
_DECODER_THREADS = 4
_ENCODER_THREADS = 8


@dataclass(frozen=True)
class DeviceClass:
    """Machines on which the same work gives the same bytes.

    Attributes:
        kind: `cpu` or `cuda`.
        name: Instruction set of a CPU, name of a GPU.
        has_avx2: Of the CPU that encodes.
        versions: Of every library that can change a bit, by name.
    """

    kind: Literal["cpu", "cuda"]
    name: str
    has_avx2: bool
    versions: dict[str, str]


@dataclass(frozen=True)
class FixedSettings:
    """What can change a bit and is not in the job: fixed by the first driver, read by later ones."""

    device_class: DeviceClass
    precision: Literal["fp32", "bf16", "fp16"]
    tile_px: int
    batch_size: int
    decoder_threads: int
    encoder_threads: int


@dataclass(frozen=True)
class JobPlan:
    """A job with all that decides its bytes: the content of `plan.json`."""

    job: Job
    fixed: FixedSettings


@dataclass(frozen=True)
class SourceRef:
    """One object of a store, at one version."""

    store_url: str
    key: str
    size_bytes: int
    version: str


@dataclass(frozen=True)
class SequenceRef:
    """Numbered images that are the frames of one video: `prefix`, the number, `suffix`.

    Attributes:
        num_digits: Of a number, at least; smaller ones have zeros in front.
        numbers: Ascending. The time of an image is how far its number is from the first.
    """

    prefix: str
    suffix: str
    num_digits: int
    numbers: tuple[int, ...]
    frame_rate: Fraction

    def key(self, number: int) -> str:
        """Where one of the images lies."""
        return f"{self.prefix}{number:0{self.num_digits}}{self.suffix}"


@dataclass(frozen=True)
class Input:
    """One source and the name that its output will have, both relative to their stores.

    Attributes:
        source: Of a sequence, all its images together: its key is for people, and opens nothing.
        sequence: None for what is one file.
    """

    source: SourceRef
    output_name: str
    sequence: SequenceRef | None = None


@dataclass(frozen=True)
class Treatment:
    """What will be done with one video: all that a worker needs for any of its segments.

    Attributes:
        assumed_color: `info.video.color` with every unspecified value replaced by the assumed one.
        encode: How segments are encoded. Its clock is the source's, or twice as fast where fields become
            frames.
        deinterlace: Which frames are deinterlaced, and into how many.
        container: Of the output.
        carried: Indexes of the source's other streams that go into the output, ascending.
        told: What the user must know before and after: policies, assumptions, what is dropped.
        damage: What the container promises and does not hold; empty if nothing.
    """

    input: Input
    output_key: str
    info: SourceInfo
    model_scale: int
    assumed_color: ColorTags
    encode: EncodeSettings
    deinterlace: DeinterlaceMode
    container: Container
    carried: tuple[int, ...]
    told: tuple[str, ...]
    damage: str = ""

    @property
    def video(self) -> VideoInfo:
        """The stream that is upscaled."""
        return self.info.video

    @property
    def num_frames(self) -> int:
        """That the output will have."""
        return self.frames_of(self.video.num_frames)

    @property
    def num_output_pixels(self) -> int:
        """Of all frames together: what work is counted in."""
        return self.num_frames * self.encode.width * self.encode.height

    def frames_of(self, num_source_frames: int) -> int:
        """How many frames of the output so many frames of the source become."""
        return num_source_frames * (2 if self.deinterlace == "field" else 1)


@dataclass(frozen=True)
class Segment:
    """A half-open range `[start_pts, end_pts)` of one video.

    Attributes:
        start_pts: None for the first segment: from the first displayed frame on.
        end_pts: None for the last segment: to the end.
        num_frames: Displayed frames of the source whose pts lie in the range.
        window: The half-open range of pts whose frames the model sees: its own, and so many around as the
            model asks for; None on either side where there are no more.
        context: The half-open range of pts around that which is decoded if it is deinterlaced, which needs
            each frame's neighbours.
    """

    key: str
    start_pts: int | None
    end_pts: int | None
    num_frames: int
    window: tuple[int | None, int | None]
    context: tuple[int | None, int | None]


@dataclass(frozen=True)
class VideoPlan:
    """One video and its segments, which cover it from its first frame to its last.

    Attributes:
        replaces: What may stand under the output's name already, because the user said so.
    """

    treatment: Treatment
    segments: tuple[Segment, ...]
    replaces: ObjectInfo | None = None


@dataclass(frozen=True)
class StillPlan:
    """What will be done with one image."""

    input: Input
    output_key: str
    info: ImageInfo
    treatment: ImageTreatment


_FIXED = TypeAdapter(FixedSettings)


def fix_settings(job: Job, device_class: DeviceClass) -> FixedSettings:
    """What a job leaves open, settled for a class of devices."""
    precision = job.engine.precision
    return FixedSettings(
        device_class=device_class,
        precision=_PRECISIONS[device_class.kind] if precision == "auto" else precision,
        tile_px=job.engine.tile_px or _TILES_PX[device_class.kind],
        batch_size=job.engine.batch_size or _BATCH_SIZES[device_class.kind],
        decoder_threads=_DECODER_THREADS,
        encoder_threads=_ENCODER_THREADS,
    )


def output_key(plan: JobPlan, input_: Input) -> str:
    """Names the output of `input_` under `plan`. Outputs of one name share what stands before the `-`."""
    source = input_.source
    decides = [plan.job.id, _FIXED.dump_python(plan.fixed, mode="json")]
    decides += [source.key, source.size_bytes, source.version]
    return f"{name_key(input_.output_name)}-{hash_of(decides)}"


def name_key(output_name: str) -> str:
    """The part of an output key that the output's name alone decides."""
    return hash_of(output_name)[:12]
