"""Codecs: which one an output gets, and with which options of its encoder. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from pydantic.dataclasses import dataclass

from cluster.job import VideoSettings
from cluster.video.containers import Container
from cluster.video.info import ColorTags, VideoInfo
from cluster.video.pixels import PixelFormat, pixel_format
from sr_core.errors import MediaError, SpecError

CodecName = Literal["h264", "hevc", "av1", "vp9", "ffv1", "prores"]
Options = tuple[tuple[str, str], ...]

# A keyframe at least this often: players can seek, and an error in the stream does not last.
_KEYFRAME_INTERVAL_S = 10
_X26X_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# x264's names are understood for every codec, so that one preset serves a folder of many containers.
_SVT_AV1_EFFORTS = dict(
    zip(_X26X_PRESETS, ["13", "12", "11", "10", "9", "8", "6", "4", "2", "0"], strict=True)
)
_VP9_EFFORTS = dict(zip(_X26X_PRESETS, ["8", "8", "7", "6", "5", "4", "3", "2", "1", "0"], strict=True))
_FFV1_EFFORTS = dict.fromkeys(_X26X_PRESETS, "")


@dataclass(frozen=True)
class EncodeSettings:
    """All that an encoder is told.

    Attributes:
        encoder: FFmpeg's name of it.
        options: Of the encoder, in the order in which they are given.
        pixel_format: Planar, with the code in the low bits.
        time_base: The source's: an output frame has its source frame's pts.
        frame_rate: The nominal one.
        sample_aspect_ratio: None where the source does not say.
        color: With nothing left open.
        threads: Part of the settings, because some encoders' output depends on it.
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

    @property
    def part_container(self) -> Literal["mp4", "mkv"]:
        """What parts are written in. MP4 keeps exact times, but not all that VP9 and FFV1 say of colour."""
        return "mkv" if self.codec in ("vp9", "ffv1") else "mp4"


@plain_dataclass(frozen=True)
class _Codec:
    """One encoder and what it can do.

    Attributes:
        formats: Planar pixel formats.
        containers: That hold the codec with all that it says of colour.
        presets: The encoder's own names, of which `preset` is the default.
        efforts: What stands for x264's names of presets, where they are not the encoder's own.
        quality: The default of the constant quality, which has a range and may need to be an integer.
        lossless: Whether a decoder gives back the very samples.
        odd_sizes: Whether subsampled frames may have odd sizes.
        min_px: Of either edge.
        options: From preset, quality (None is lossless), threads and keyframe interval in frames.
    """

    name: CodecName
    encoder: str
    formats: frozenset[str]
    containers: tuple[Container, ...]
    presets: tuple[str, ...]
    efforts: dict[str, str]
    preset: str
    quality: float
    quality_range: tuple[float, float]
    integer_quality: bool
    lossless: bool
    odd_sizes: bool
    min_px: int
    options: Callable[[str, float | None, int, int], Options]

    def own_preset(self, name: str | None) -> str | None:
        """The encoder's own name of a preset; None where it has none of that name."""
        if name is None:
            return self.preset
        return name if name in self.presets else self.efforts.get(name)

    def expected_quality(self, quality: float | str) -> str | None:
        """What is right in place of `quality`; None where it is right itself."""
        lowest, highest = self.quality_range
        numbers = f"{lowest:g} to {highest:g}" + " in whole numbers" * self.integer_quality
        match quality:
            case "auto":
                return None
            case "lossless":
                return None if self.lossless else numbers
            case float() if lowest == highest:
                return "auto or lossless"
            case float() if lowest <= quality <= highest:
                return numbers if self.integer_quality and not quality.is_integer() else None
        return numbers


def _x264(preset: str, quality: float | None, threads: int, interval: int) -> Options:
    rate = ("qp", "0") if quality is None else ("crf", f"{quality:g}")
    return (("preset", preset), rate, ("g", str(interval)))


def _x265(preset: str, quality: float | None, threads: int, interval: int) -> Options:
    # Without info=0 the version and all settings stand in the extradata, which would differ between machines.
    params = (
        f"log-level=none:info=0:open-gop=0:keyint={interval}:pools={threads}:frame-threads={min(threads, 16)}"
    )
    if quality is None:
        return (("preset", preset), ("x265-params", f"{params}:lossless=1"))
    return (("preset", preset), ("crf", f"{quality:g}"), ("x265-params", params))


def _svt_av1(preset: str, quality: float | None, threads: int, interval: int) -> Options:
    return (("preset", preset), ("crf", f"{quality:g}"), ("g", str(interval)))


def _vpx_vp9(preset: str, quality: float | None, threads: int, interval: int) -> Options:
    rate = ("lossless", "1") if quality is None else ("crf", f"{quality:g}")
    speed = (("deadline", "good"), ("cpu-used", preset), ("row-mt", "1"))
    return (*speed, rate, ("b", "0"), ("g", str(interval)))


def _ffv1(preset: str, quality: float | None, threads: int, interval: int) -> Options:
    # Every frame by itself, with checksums: what archives ask for.
    return (("level", "3"), ("g", "1"), ("slices", "4"), ("slicecrc", "1"))


def _formats(
    *depths: int, samplings: tuple[str, ...] = ("420", "422", "444"), gray: bool = True
) -> frozenset[str]:
    names = [f"yuv{sampling}p" for sampling in samplings] + ["gray"] * gray
    return frozenset(name + ("" if depth == 8 else f"{depth}le") for name in names for depth in depths)


H264 = _Codec(
    name="h264",
    encoder="libx264",
    formats=_formats(8, 10),
    containers=("mp4", "mov", "mkv"),
    presets=_X26X_PRESETS,
    efforts={},
    preset="medium",
    quality=17,
    quality_range=(0, 51),
    integer_quality=False,
    lossless=True,
    odd_sizes=False,
    min_px=2,
    options=_x264,
)
HEVC = _Codec(
    name="hevc",
    encoder="libx265",
    formats=_formats(8, 10, 12),
    containers=("mp4", "mov", "mkv"),
    presets=_X26X_PRESETS,
    efforts={},
    preset="medium",
    quality=18,
    quality_range=(0, 51),
    integer_quality=False,
    lossless=True,
    odd_sizes=False,
    min_px=32,
    options=_x265,
)
AV1 = _Codec(
    name="av1",
    encoder="libsvtav1",
    formats=_formats(8, 10, samplings=("420",), gray=False),
    containers=("mp4", "mkv", "webm"),
    presets=tuple(str(preset) for preset in range(14)),
    efforts=_SVT_AV1_EFFORTS,
    preset="8",
    quality=24,
    quality_range=(1, 63),
    integer_quality=True,
    lossless=False,  # SVT-AV1 4.1 says that it is, but changes 10-bit samples
    odd_sizes=True,
    min_px=16,
    options=_svt_av1,
)
VP9 = _Codec(
    name="vp9",
    encoder="libvpx-vp9",
    formats=_formats(8, gray=False),
    containers=("mkv", "webm", "mp4"),
    presets=tuple(str(speed) for speed in range(9)),
    efforts=_VP9_EFFORTS,
    preset="4",
    quality=24,
    quality_range=(0, 63),
    integer_quality=True,
    lossless=True,
    odd_sizes=True,
    min_px=2,
    options=_vpx_vp9,
)
FFV1 = _Codec(
    name="ffv1",
    encoder="ffv1",
    formats=_formats(8, 10, 12),
    containers=("mkv",),
    presets=(),
    efforts=_FFV1_EFFORTS,
    preset="",
    quality=0,
    quality_range=(0, 0),
    integer_quality=True,
    lossless=True,
    odd_sizes=True,
    min_px=4,
    options=_ffv1,
)
CODECS = (H264, HEVC, AV1, VP9, FFV1)

# What `auto` tries, in this order; the first that can hold the frames is taken.
_AUTO: dict[Container, tuple[_Codec, ...]] = {
    "mp4": (H264, HEVC, AV1, VP9),
    "mov": (H264, HEVC),
    "mkv": (H264, HEVC, AV1, VP9, FFV1),
    "webm": (AV1, VP9),
}


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
        color: Of the output, with nothing left open.
        width: Of the output.
        height: Of the output.
        threads: Of the encoder.

    Raises:
        MediaError: No codec takes the source's pixel format.
        SpecError: The codec, its preset or its quality does not go with the container or the frames.
    """
    pixels = pixel_format(video.pixel_format)
    if pixels is None:
        raise MediaError(
            "this pixel format is not supported yet",
            got=video.pixel_format,
            expected="planar YUV 4:2:0, 4:2:2 or 4:4:4, NV12, P010 or grey, of 8, 10 or 12 bit",
        )
    codec = _choose_codec(pixels, settings, container, width, height)
    interval = max(1, round(_KEYFRAME_INTERVAL_S * video.frame_rate))
    options = codec.options(_preset(codec, settings), _quality(codec, settings), threads, interval)
    if pixels.is_420 and color.chroma_location:
        options += (("chroma_sample_location", color.chroma_location),)
    return EncodeSettings(
        codec=codec.name,
        encoder=codec.encoder,
        options=options,
        pixel_format=pixels.planar,
        width=width,
        height=height,
        time_base=video.time_base,
        frame_rate=video.frame_rate,
        sample_aspect_ratio=video.sample_aspect_ratio,
        color=color,
        threads=threads,
    )


def can_hold_codec(container: Container, codec: CodecName) -> bool:
    """Whether `container` holds `codec` with all that it says of colour."""
    return container in _named(codec).containers


def other_container(container: Container, codec: CodecName) -> Container:
    """The container nearest to `container` that holds `codec`."""
    nearest: tuple[Container, ...] = ("mkv", "mp4") if container in ("mkv", "webm") else ("mp4", "mkv")
    return next(other for other in nearest if can_hold_codec(other, codec))


def limited_to_avx2(encode: EncodeSettings) -> EncodeSettings:
    """The settings with x264 kept from AVX-512, where its streams differ from run to run.

    Seen with x264 in PyAV 18.1 at 320x180 and 400x226: of four equal encodes up to three streams, and none of
    them that of the AVX2 routines, which are the same every time. For processors that have AVX2.
    """
    if encode.encoder != "libx264":
        return encode
    return replace(encode, options=(*encode.options, ("x264-params", "asm=avx2")))


def not_kept(encode: EncodeSettings, container: Container) -> tuple[str, ...]:
    """What the source's video says and the output, in `container`, cannot: for the user to know."""
    told = []
    aspect = encode.sample_aspect_ratio
    if container in ("mkv", "webm"):
        if aspect not in (None, 1) and encode.codec not in ("h264", "hevc"):
            told.append(f"the pixels' shape ({aspect}) cannot be written for {encode.codec} in {container}")
        if (1000 * encode.time_base).denominator != 1:
            told.append(f"frame times are rounded to {container}'s clock of 1 ms")
    if encode.codec == "vp9" and container == "mp4" and encode.color.chroma_location not in ("left", None):
        told.append("the chroma siting cannot be written for vp9 in mp4")
    return tuple(told)


def _choose_codec(
    pixels: PixelFormat, settings: VideoSettings, container: Container, width: int, height: int
) -> _Codec:
    if settings.codec != "auto":
        codec = _named(settings.codec)
        _check(codec, pixels, settings, container, width, height)
        return codec
    # An odd size or a rare format rules out the first choices.
    refusal: SpecError | None = None
    for codec in _AUTO[container]:
        if codec is H264 and pixels.bit_depth > 8:
            continue  # few players decode h264 above 8 bit
        try:
            _check(codec, pixels, settings, container, width, height)
        except SpecError as error:
            refusal = error
        else:
            return codec
    assert refusal is not None
    raise refusal


def _named(codec: CodecName) -> _Codec:
    return next(known for known in CODECS if known.name == codec)


def _check(
    codec: _Codec, pixels: PixelFormat, settings: VideoSettings, container: Container, width: int, height: int
) -> None:
    """Raises `SpecError` where `codec` cannot hold such frames, or `container` not the codec."""
    if container not in codec.containers:
        raise SpecError(
            f"{codec.name} does not go into {container}",
            where="video.codec",
            got=f"{codec.name} in {container}",
            expected=f"a container among {', '.join(codec.containers)}",
            next_step=f"set video.container to {codec.containers[0]}, or choose another codec",
        )
    if pixels.planar not in codec.formats:
        fitting = [other.name for other in CODECS if pixels.planar in other.formats]
        raise SpecError(
            f"{codec.name} cannot hold the source's samples",
            where="video.codec",
            got=pixels.planar,
            expected=f"one of {', '.join(sorted(codec.formats))}",
            next_step=f"choose a codec among {', '.join(fitting)}, and a container that holds it",
        )
    if settings.quality == "lossless" and not codec.lossless:
        raise SpecError(
            f"{codec.name} is not lossless here",
            where="video.quality",
            got="lossless",
            expected=f"a quality from {codec.quality_range[0]:g} to {codec.quality_range[1]:g}",
            next_step=f"choose a codec among {', '.join(other.name for other in CODECS if other.lossless)}",
        )
    _check_size(codec, pixels, width, height)


def _check_size(codec: _Codec, pixels: PixelFormat, width: int, height: int) -> None:
    odd = width % (1 << pixels.chroma_w_shift) or height % (1 << pixels.chroma_h_shift)
    if odd and not codec.odd_sizes:
        raise SpecError(
            f"{codec.name} cannot hold subsampled frames of an odd size",
            where="video.codec",
            got=f"{width}x{height}",
            expected="an even width and height",
            next_step="choose an even scale, or codec av1, vp9 or ffv1",
        )
    if min(width, height) < codec.min_px:
        raise SpecError(
            f"{codec.name} cannot hold frames as small as these",
            where="video.codec",
            got=f"{width}x{height}",
            expected=f"at least {codec.min_px} pixels on either edge",
            next_step="choose another codec",
        )


def _preset(codec: _Codec, settings: VideoSettings) -> str:
    preset = codec.own_preset(settings.preset)
    if preset is None:
        raise SpecError(
            f"{codec.name} has no such preset",
            where="video.preset",
            got=str(settings.preset),
            expected=", ".join(dict.fromkeys([*codec.presets, *_X26X_PRESETS])),
        )
    return preset


def _quality(codec: _Codec, settings: VideoSettings) -> float | None:
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
