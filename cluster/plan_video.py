"""From a video to what will be done with it. Pure; no media is touched here."""

from __future__ import annotations

from dataclasses import replace

from cluster.images.info import is_image
from cluster.job import Deinterlace, Job
from cluster.output_size import output_size
from cluster.plan import Input, JobPlan, SequenceRef, Treatment, VideoPlan, output_key
from cluster.segments import segments_of
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

_MAX_OUTPUT_PX = 1 << 28  # of a frame, which is in memory as floats, several times


def plan_video(
    plan: JobPlan,
    input_: Input,
    info: SourceInfo,
    timeline: Timeline,
    model_scale: int | None,
    replaces: ObjectInfo | None = None,
    *,
    seen: tuple[int, int] = (0, 0),
) -> VideoPlan:
    """What will be done with one source.

    Args:
        plan: The job it belongs to.
        input_: The source.
        info: What the source is.
        timeline: When its frames are displayed.
        model_scale: Of the model's weights; None for models that take any scale.
        replaces: What may stand under the output's name already.
        seen: How many frames before and after each the model sees with it.

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
    height, width = _output_size(plan.job, video, model_scale, input_.source.key)
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
            *_seen_told(*seen),
            *_container_told(plan.job, input_, container),
        ),
        damage=damage,
    )
    segments = segments_of(key, video, timeline, plan.job.segments.seconds, asked, seen)
    return VideoPlan(treatment, segments, replaces)


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


def _output_size(job: Job, video: VideoInfo, model_scale: int | None, where: str) -> tuple[int, int]:
    """(height, width) of the output. Widths that we choose are even, as most codecs need."""
    size = (video.height, video.width)
    return output_size(size, job.scale, job.height, model_scale, where, width_multiple_px=2)


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


def _seen_told(num_before: int, num_after: int) -> tuple[str, ...]:
    if not num_before and not num_after:
        return ()
    return (f"the model sees {num_before} frames before and {num_after} after each, of the same scene",)


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
