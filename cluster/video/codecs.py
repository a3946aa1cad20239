"""How an output is encoded: the settings of its encoder, and what they do not keep. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from pydantic.dataclasses import dataclass

from cluster.job import VideoSettings
from cluster.video.choice import Choice, Conversion, choose, holders
from cluster.video.containers import Container
from cluster.video.encoder_options import Asked, Options, with_parameter
from cluster.video.encoders import PRESETS, Codec, CodecName, codec_named
from cluster.video.hdr import writable_display, writable_light
from cluster.video.info import ColorTags, ContentLight, MasteringDisplay, VideoInfo
from cluster.video.pixels import PixelFormat, pixel_format
from sr_core.errors import MediaError, SpecError

# A keyframe at least this often: players can seek, and an error in the stream does not last.
_KEYFRAME_INTERVAL_S = 10
# FFV1's encoder knows RGB of 8 bits only with the planes interleaved.
_INTERLEAVED = {("ffv1", "gbrp"): "bgr0", ("ffv1", "gbrap"): "bgra"}
_NO_MATRIX, _BT709, _BT2020 = 0, 1, 9  # ITU-T H.273 MatrixCoefficients; 9 stands for these primaries, too


@dataclass(frozen=True)
class EncodeSettings:
    """All that an encoder is told.

    Attributes:
        encoder: FFmpeg's name of it.
        options: Of the encoder, in the order in which they are given.
        pixel_format: Planar, with the code in the low bits. It may differ from the source's.
        time_base: The source's: an output frame has its source frame's pts.
        frame_rate: The nominal one.
        sample_aspect_ratio: None where the source does not say.
        color: With nothing left open.
        threads: Part of the settings, because some encoders' output depends on it.
        mastering_display: What the container must say, since the encoder does not; as is `content_light`.
    """

    codec: CodecName
    encoder: str
    options: Options
    pixel_format: str
    width: int
    height: int
    time_base: Fraction
    frame_rate: Fraction
    sample_aspect_ratio: Fraction | None
    color: ColorTags
    threads: int
    mastering_display: MasteringDisplay | None = None
    content_light: ContentLight | None = None

    @property
    def part_container(self) -> Literal["mp4", "mov", "mkv"]:
        """What parts are written in. MP4 keeps exact times, but not all that VP9 and FFV1 say of colour."""
        match self.codec:
            case "vp9" | "ffv1":
                return "mkv"
            case "prores":
                return "mov"
        return "mp4"

    @property
    def encoder_format(self) -> str:
        """The pixel format of the frames that the encoder is given."""
        return _INTERLEAVED.get((self.encoder, self.pixel_format), self.pixel_format)


def choose_encode(
    video: VideoInfo,
    color: ColorTags,
    settings: VideoSettings,
    container: Container,
    width: int,
    height: int,
    threads: int,
) -> EncodeSettings:
    """How the output of `video` is encoded.

    Args:
        color: Of the source, with nothing left open.
        width: Of the output.
        height: Of the output.
        threads: Of the encoder.

    Raises:
        MediaError: The source's pixel format is not known.
        SpecError: The codec, its preset or its quality does not go with the container or the frames.
    """
    choice = choose(_pixels_of(video), settings, container, width, height)
    codec, pixels = choice.codec, choice.conversion.target
    form = codec.written_hdr_form(container)
    display = writable_display(form, video.mastering_display)
    light = writable_light(form, video.content_light)
    asked = Asked(
        preset=_preset(codec, settings),
        quality=_quality(codec, settings),
        threads=threads,
        interval=max(1, round(_KEYFRAME_INTERVAL_S * video.frame_rate)),
        width_px=width,
        height_px=height,
        pixels=pixels,
        display=display,
        light=light,
    )
    color = _output_color(choice, color)
    options = codec.options(asked)
    if pixels.is_420 and color.chroma_location:
        options += (("chroma_sample_location", color.chroma_location),)
    return EncodeSettings(
        codec=codec.name,
        encoder=codec.encoder,
        options=options,
        pixel_format=pixels.name,
        width=width,
        height=height,
        time_base=video.time_base,
        frame_rate=video.frame_rate,
        sample_aspect_ratio=video.sample_aspect_ratio,
        color=color,
        threads=threads,
        mastering_display=display if codec.hdr_form is None else None,
        content_light=light if codec.hdr_form is None else None,
    )


def can_hold_codec(container: Container, codec: CodecName) -> bool:
    """Whether `container` holds `codec` with all that it says of colour."""
    return container in codec_named(codec).containers


def other_container(container: Container, codec: CodecName) -> Container:
    """The container nearest to `container` that holds `codec`."""
    is_open = container in ("mkv", "webm")
    nearest: tuple[Container, ...] = ("mkv", "mp4", "mov") if is_open else ("mp4", "mov", "mkv")
    return next(other for other in nearest if can_hold_codec(other, codec))


def limited_to_avx2(encode: EncodeSettings) -> EncodeSettings:
    """The settings with x264 kept from AVX-512, where its streams differ from run to run.

    Seen with x264 in PyAV 18.1 at 320x180 and 400x226: of four equal encodes up to three streams, and none of
    them that of the AVX2 routines, which are the same every time. For processors that have AVX2.
    """
    if encode.encoder != "libx264":
        return encode
    return replace(encode, options=with_parameter(encode.options, "x264-params", "asm=avx2"))


def not_kept(
    video: VideoInfo, color: ColorTags, encode: EncodeSettings, container: Container
) -> tuple[str, ...]:
    """What `container`'s video changes or does not keep of the source's: for the user to know.

    Args:
        color: Of the source, with nothing left open.
    """
    target = pixel_format(encode.pixel_format)
    assert target is not None, "only known formats are chosen"
    codec, conversion = codec_named(encode.codec), Conversion(_pixels_of(video), target)
    better = holders(conversion.source, encode.width, encode.height)
    instead = f"; {' or '.join(better)} would keep it" if better else ""
    return (
        *(f"{text}{instead}" for text in _lost(conversion, encode, container)),
        *_converted(conversion, color, encode),
        *_clock_and_shape_not_kept(encode, container),
        *_metadata_not_kept(video, codec, encode, container),
        *_beyond_level(codec, encode),
    )


def _pixels_of(video: VideoInfo) -> PixelFormat:
    pixels = pixel_format(video.pixel_format)
    if pixels is None:
        raise MediaError(
            "this pixel format is not supported",
            got=video.pixel_format,
            expected="YUV, RGB or grey of 8 to 16 bit, in integers",
        )
    return pixels


def _output_color(choice: Choice, color: ColorTags) -> ColorTags:
    """What the output's codes mean, where those of the source mean `color`."""
    source, target = choice.conversion.source, choice.conversion.target
    if choice.conversion.loses_rgb:
        matrix = _BT2020 if color.primaries == _BT2020 else _BT709
        color = replace(color, matrix=matrix, full_range=False, chroma_location="left")
    if target.is_rgb:
        color = replace(color, matrix=_NO_MATRIX)
    if not choice.codec.full_range:
        color = replace(color, full_range=False)
    if target.is_subsampled and not target.is_420 and not _has_sampling_of(source, target):
        color = replace(color, chroma_location="left")  # what decoders take for granted
    return color


def _has_sampling_of(source: PixelFormat, target: PixelFormat) -> bool:
    shifts = (target.chroma_w_shift, target.chroma_h_shift)
    return source.has_chroma == target.has_chroma and (source.chroma_w_shift, source.chroma_h_shift) == shifts


def _preset(codec: Codec, settings: VideoSettings) -> str:
    preset = codec.own_preset(settings.preset)
    if preset is None:
        raise SpecError(
            f"{codec.name} has no such preset",
            where="video.preset",
            got=str(settings.preset),
            expected=", ".join(dict.fromkeys([*codec.presets, *PRESETS])),
        )
    return preset


def _quality(codec: Codec, settings: VideoSettings) -> float | None:
    """The constant quality; None is lossless."""
    expected = codec.expected_quality(settings.quality)
    if expected is not None:
        raise SpecError(
            f"this is no quality of {codec.name}",
            where="video.quality",
            got=str(settings.quality),
            expected=expected,
        )
    if settings.quality == "lossless":
        return None
    return codec.quality if settings.quality == "auto" else settings.quality


def _lost(conversion: Conversion, encode: EncodeSettings, container: Container) -> Iterator[str]:
    """What of the samples is not kept, in words."""
    source, target, place = conversion.source, conversion.target, f"{encode.codec} in {container}"
    if conversion.loses_alpha:
        yield f"the alpha channel is dropped, as {place} cannot hold it"
    if conversion.lost_bits:
        yield f"samples of {source.bit_depth} bit are rounded to {target.bit_depth}, as {place} asks"
    if conversion.loses_chroma:
        kept = f", and the alpha channel is kept, which {place} has only so" if target.has_alpha else ""
        yield f"chroma of {sampling_name(source)} is reduced to {sampling_name(target)}{kept}"
    if conversion.loses_rgb:
        yield f"RGB is converted to YUV and rounded, as {place} asks"


def _converted(conversion: Conversion, color: ColorTags, encode: EncodeSettings) -> Iterator[str]:
    """What is stored in another way, with nothing lost, in words."""
    source, target = conversion.source, conversion.target
    if target.bit_depth > source.bit_depth:
        yield f"samples of {source.bit_depth} bit are stored in {target.bit_depth}, as {encode.codec} asks"
    is_same = source.is_rgb or _has_sampling_of(source, target)
    if not conversion.loses_chroma and not is_same:
        is_odd = target.name.startswith("yuv444") and (encode.width % 2 or encode.height % 2)
        why = "of the odd size" if is_odd else f"{encode.codec} has no other"
        yield f"{sampling_name(source)} is stored as {sampling_name(target)}, because {why}"
    if color.full_range and not encode.color.full_range and not source.is_rgb:
        yield f"full range is converted to limited range, which is all that {encode.codec} can say"


def sampling_name(pixels: PixelFormat) -> str:
    """`RGB`, `grey`, or chroma sampling as in `4:2:0`."""
    if pixels.is_rgb:
        return "RGB"
    if not pixels.has_chroma:
        return "grey"
    shifts = {(1, 1): "4:2:0", (1, 0): "4:2:2", (0, 0): "4:4:4", (0, 1): "4:4:0", (2, 0): "4:1:1"}
    return shifts.get((pixels.chroma_w_shift, pixels.chroma_h_shift), "4:1:0")


def _clock_and_shape_not_kept(encode: EncodeSettings, container: Container) -> Iterator[str]:
    aspect = encode.sample_aspect_ratio
    if container in ("mkv", "webm"):
        if aspect not in (None, 1) and encode.codec not in ("h264", "hevc"):
            yield f"the pixels' shape ({aspect}) cannot be written for {encode.codec} in {container}"
        if (1000 * encode.time_base).denominator != 1:
            yield f"frame times are rounded to {container}'s clock of 1 ms"
    is_said = dict(encode.options).get("chroma_sample_location", "left") != "left"
    if encode.codec == "vp9" and container == "mp4" and is_said:
        yield "the chroma siting cannot be written for vp9 in mp4"


def _metadata_not_kept(
    video: VideoInfo, codec: Codec, encode: EncodeSettings, container: Container
) -> Iterator[str]:
    form = codec.written_hdr_form(container)
    place = f"{encode.codec} in {container}"
    if writable_display(form, video.mastering_display) != video.mastering_display:
        yield f"HDR10 mastering display metadata are incomplete or out of range, and not all fits {place}"
    if writable_light(form, video.content_light) != video.content_light:
        yield f"HDR10 light levels are incomplete or out of range, and cannot be written for {place}"
    if "A53_CC" in video.side_data and not codec.captions:
        yield f"closed captions are dropped, as {encode.codec} has none here; h264 and hevc keep them"


def _beyond_level(codec: Codec, encode: EncodeSettings) -> Iterator[str]:
    if not codec.limits.are_usual(encode.width, encode.height):
        size = f"{encode.width}x{encode.height}"
        yield f"{size} is beyond level {codec.limits.usual_level} of {codec.name}: few decoders play it"
