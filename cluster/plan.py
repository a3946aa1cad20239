"""From an input to what will be done with it, and in which segments. Pure; no media is touched here."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from cluster.images.info import ImageInfo, is_image
from cluster.images.plan import ImageTreatment
from cluster.job import Deinterlace, Job, hash_of
from cluster.storage.base import ObjectInfo
from cluster.video.codecs import (
    EncodeSettings,
    can_hold_codec,
    choose_encode,
    limited_to_avx2,
    not_kept,
)
from cluster.video.containers import Container, carried_streams, container_of, output_name
from cluster.video.info import ColorTags, DeinterlaceMode, SourceInfo, VideoInfo
from cluster.video.pixels import pixel_format
from cluster.video.tags import MATRICES, assume_color, dropped_side_data
from cluster.video.timeline import Timeline
from sr_core.errors import MediaError, SpecError

# What a job does not say is fixed here by kind of device, and from then on by plan.json. The thread counts
# hold for any number of workers and cores, because x264's bitstream depends on them.
_PRECISIONS: dict[str, Literal["fp32", "bf16", "fp16"]] = {"cpu": "fp32", "cuda": "fp16"}
_TILES_PX = {"cpu": 256, "cuda": 512}
_BATCH_SIZES = {"cpu": 1, "cuda": 4}
_DECODER_THREADS = 4
_ENCODER_THREADS = 8
_DEFAULT_SCALE = 2
_MAX_OUTPUT_PX = 1 << 28  # of a frame, which is in memory as floats, several times
_CONTEXT_FRAMES = 2  # that bwdif looks at on either side, and one to spare


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
        context: The half-open range of pts that is decoded for it if it is deinterlaced, which needs each
            frame's neighbours; None on either side where there are none.
    """

    key: str
    start_pts: int | None
    end_pts: int | None
    num_frames: int
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


def plan_video(
    plan: JobPlan,
    input_: Input,
    info: SourceInfo,
    timeline: Timeline,
    model_scale: int | None,
    replaces: ObjectInfo | None = None,
) -> VideoPlan:
    """What will be done with one source.

    Args:
        plan: The job it belongs to.
        input_: The source.
        info: What the source is.
        timeline: When its frames are displayed.
        model_scale: Of the model's weights; None for models that take any scale.
        replaces: What may stand under the output's name already.

    Raises:
        MediaError: Nothing can be done with this source.
        SpecError: What the job asks for cannot be done with this source.
    """
    video, container = info.video, container_of(input_.output_name)
    color, color_told = assume_color(video)
    _refuse_unknown_samples(video, color, input_.source.key)
    damage = _damage(video)
    if damage and plan.job.policies.strict:
        raise MediaError("the file is damaged, and the job is strict", where=input_.source.key, got=damage)
    asked = plan.job.policies.deinterlace
    key, deinterlace = output_key(plan, input_), _deinterlace_mode(asked, video, input_)
    height, width = _output_size(plan.job, video, model_scale)
    _refuse_too_large(height, width, input_.source.key)
    scale = model_scale or -(-height // video.height)
    shown = _as_shown(video, deinterlace)
    encode = _encode_settings(plan, input_, shown, color, container, (height, width))
    carried, carry_told = carried_streams(info, container)
    treatment = Treatment(
        input=input_,
        output_key=key,
        info=info,
        model_scale=scale,
        assumed_color=color,
        encode=encode,
        deinterlace=deinterlace,
        container=container,
        carried=carried,
        told=(
            *color_told,
            *_sequence_told(input_.sequence, video),
            *_footage_told(video, asked, deinterlace),
            *((f"the timecode {info.timecode} is carried",) if info.timecode else ()),
            *dropped_side_data(video),
            *carry_told,
            *not_kept(video, color, encode, container),
            *_scale_told(video, height, width, scale),
            *_container_told(plan.job, input_, container),
        ),
        damage=damage,
    )
    return VideoPlan(treatment, _segments(treatment, timeline, plan.job.segments.seconds, asked), replaces)


def _encode_settings(
    plan: JobPlan,
    input_: Input,
    video: VideoInfo,
    color: ColorTags,
    container: Container,
    size: tuple[int, int],
) -> EncodeSettings:
    (height, width), settings = size, plan.job.video
    if input_.sequence is not None and settings.codec == "auto" and can_hold_codec(container, "ffv1"):
        settings = replace(settings, codec="ffv1")  # who keeps films as images does not want them coded
    encode = choose_encode(video, color, settings, container, width, height, plan.fixed.encoder_threads)
    return limited_to_avx2(encode) if plan.fixed.device_class.has_avx2 else encode


def _refuse_unknown_samples(video: VideoInfo, color: ColorTags, where: str) -> None:
    pixels = pixel_format(video.pixel_format)
    if pixels is None:
        raise MediaError(
            "this pixel format is not supported",
            where=where,
            got=video.pixel_format,
            expected="YUV, RGB or grey of 8 to 16 bit, in integers",
            next_step="convert it first, for example with ffmpeg -pix_fmt yuv444p16le",
        )
    if not pixels.is_rgb and pixels.has_chroma and color.matrix not in MATRICES:
        raise MediaError(
            "this colour matrix is not supported",
            where=where,
            got=f"MatrixCoefficients {color.matrix} of ITU-T H.273",
            expected=f"one of {', '.join(map(str, MATRICES))}",
            next_step="convert it first, for example with ffmpeg -vf scale=out_color_matrix=bt709",
        )


def _deinterlace_mode(asked: Deinterlace, video: VideoInfo, input_: Input) -> DeinterlaceMode:
    """Which frames of `video` are deinterlaced: `auto` goes by what they say of themselves."""
    if input_.sequence is not None:
        return "off"  # images are whole pictures
    if asked == "auto":
        return "flagged" if video.is_interlaced else "off"
    if asked == "field" and video.timestamp_problem:
        return "frame"  # between repaired times there is no middle to trust
    return asked


def _as_shown(video: VideoInfo, deinterlace: DeinterlaceMode) -> VideoInfo:
    """`video` with the clock and the rate of its output: twice the source's where fields become frames."""
    if deinterlace != "field":
        return video
    return replace(video, time_base=video.time_base / 2, frame_rate=video.frame_rate * 2)


def _sequence_told(sequence: SequenceRef | None, video: VideoInfo) -> tuple[str, ...]:
    if sequence is None:
        return ()
    told = [f"{len(sequence.numbers)} images are one video of {sequence.frame_rate} frames a second"]
    num_absent = sequence.numbers[-1] - sequence.numbers[0] + 1 - len(sequence.numbers)
    if num_absent:
        told.append(f"{num_absent} numbers have no image: the one before each gap is shown for longer")
    if video.codec == "exr":
        told.append(
            "its linear light is coded with the curve of sRGB, and what is brighter than 1 is cut off"
        )
    return tuple(told)


def _footage_told(video: VideoInfo, asked: Deinterlace, mode: DeinterlaceMode) -> tuple[str, ...]:
    """The policies that apply to what is not plain footage."""
    told = []
    match mode:
        case "flagged":
            told.append("it is interlaced: bwdif makes one frame of each frame that says so")
        case "frame":
            told.append("deinterlaced as asked: bwdif makes one frame of each frame")
        case "field":
            told.append("deinterlaced as asked: bwdif makes a frame of each field, at twice the frame rate")
        case "off" if video.is_interlaced:
            told.append("it is interlaced and stays woven, as asked: both fields are upscaled as one picture")
    if mode == "off" and asked in ("frame", "field"):
        told.append("it is not deinterlaced: a sequence of images has no fields")
    if asked == "field" and mode == "frame":
        told.append("its fields do not become frames, because its timestamps are repaired")
    if video.has_repeat_flags:
        told.append(
            "soft telecine: each coded frame is kept once and at its own time, fields are not repeated"
        )
    if video.timestamp_problem:
        told.append(f"its timestamps are repaired, in one segment: {video.timestamp_problem}")
    if video.display_matrix is not None:
        angle = (
            f"rotated by {video.rotation_deg % 360} degrees" if video.rotation_deg else "by a display matrix"
        )
        told.append(f"it is displayed {angle}: its pixels stay as they are stored, the matrix is carried")
    return tuple(told)


def _output_size(job: Job, video: VideoInfo, model_scale: int | None) -> tuple[int, int]:
    """(height, width) of the output. A height that is asked for keeps the aspect, on an even width."""
    if job.height is None:
        scale = job.scale or model_scale or _DEFAULT_SCALE
        return video.height * scale, video.width * scale
    if job.height < video.height:
        raise SpecError(
            "the target height is below the source's",
            got=f"height {job.height}",
            expected=f"at least {video.height}",
            next_step="leave this source out, or scale it down with another tool",
        )
    return job.height, 2 * round(Fraction(video.width * job.height, video.height * 2))


def _refuse_too_large(height: int, width: int, where: str) -> None:
    if height * width > _MAX_OUTPUT_PX:
        raise SpecError(
            "the output's frames would be larger than memory is for",
            where=where,
            got=f"{width}x{height}",
            expected=f"at most {_MAX_OUTPUT_PX} pixels",
            next_step="choose a smaller scale or height",
        )


def _scale_told(video: VideoInfo, height: int, width: int, scale: int) -> tuple[str, ...]:
    if (height, width) == (video.height * scale, video.width * scale):
        return ()
    return (f"the model's x{scale} result is resized to {width}x{height} with Lanczos",)


def _container_told(job: Job, input_: Input, container: Container) -> tuple[str, ...]:
    if input_.sequence is not None or is_image(input_.source.key):
        return ()
    family = container_of(output_name(input_.source.key, "auto"))
    if job.video.codec == "auto" or can_hold_codec(family, job.video.codec):
        return ()
    return (f"the container is {container}, as {family} cannot hold {job.video.codec}",)


def _damage(video: VideoInfo) -> str:
    if video.promised_num_frames is None:
        return ""
    return f"the file promises {video.promised_num_frames} frames and holds {video.num_frames}"


def _segments(
    treatment: Treatment, timeline: Timeline, seconds: float, asked: Deinterlace
) -> tuple[Segment, ...]:
    video, key = treatment.video, treatment.output_key
    step_pts = max(1, round(Fraction(seconds) / video.time_base))
    cuts = [] if video.timestamp_problem else _cuts(timeline, step_pts)
    bounds = np.searchsorted(timeline.pts, cuts).tolist()
    firsts, lasts = [0, *bounds], [*bounds, len(timeline.pts)]
    starts, ends = [None, *cuts], [*cuts, None]
    num_context = 0 if asked == "off" else _CONTEXT_FRAMES
    return tuple(
        Segment(
            key=f"{key}-{index:06d}",
            start_pts=start,
            end_pts=end,
            num_frames=last - first,
            context=_context(timeline, first, last, num_context),
        )
        for index, (start, end, first, last) in enumerate(zip(starts, ends, firsts, lasts, strict=True))
    )


def _context(timeline: Timeline, first: int, last: int, num_context: int) -> tuple[int | None, int | None]:
    """The range of pts from so many frames before the frame `first` to as many after those below `last`."""
    before, behind = first - num_context, last + num_context
    return (
        int(timeline.pts[before]) if before > 0 else None,
        int(timeline.pts[behind]) if behind < len(timeline.pts) else None,
    )


def _cuts(timeline: Timeline, step_pts: int) -> list[int]:
    """Where to cut: at keyframes about `step_pts` apart; where those are rarer than that, at any frame."""
    cuts: list[int] = []
    start = int(timeline.pts[0])
    while timeline.end_pts - start >= step_pts * 3 // 2:
        cut = _cut_near(timeline, start + step_pts, step_pts // 2)
        if cut is None:
            break
        cuts.append(cut)
        start = cut
    return cuts


def _cut_near(timeline: Timeline, target_pts: int, reach_pts: int) -> int | None:
    """The keyframe nearest to `target_pts` within `reach_pts`, else the next frame, else None."""
    keyframes = timeline.keyframe_pts
    low, high = np.searchsorted(keyframes, [target_pts - reach_pts, target_pts + reach_pts + 1])
    if low < high:
        near = keyframes[low:high]
        return int(near[np.argmin(np.abs(near - target_pts))])
    index = int(np.searchsorted(timeline.pts, target_pts))
    return int(timeline.pts[index]) if index < len(timeline.pts) else None
