"""Which codec and which pixel format an output gets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cluster.job import VideoSettings
from cluster.video.containers import Container
from cluster.video.encoders import AV1, CODECS, FFV1, H264, HEVC, PRORES, VP9, Codec, codec_named
from cluster.video.pixels import PixelFormat
from sr_core.errors import SpecError

_MP4_MAX_PX = (1 << 16) - 1  # ISO 14496-12: 16 bits for each edge in the sample entry

# What `auto` tries, in this order.
_AUTO: dict[Container, tuple[Codec, ...]] = {
    "mp4": (H264, HEVC, AV1, VP9),
    "mov": (H264, HEVC, PRORES),
    "mkv": (H264, HEVC, AV1, VP9, FFV1),
    "webm": (AV1, VP9),
}
_AUTO_WITH_ALPHA: dict[Container, Codec] = {"mov": PRORES, "mkv": FFV1, "webm": VP9}


@dataclass(frozen=True)
class Conversion:
    """What becomes of samples when they are stored in another planar format."""

    source: PixelFormat
    target: PixelFormat

    @property
    def loses_alpha(self) -> bool:
        """The opacity is gone."""
        return self.source.has_alpha and not self.target.has_alpha

    @property
    def lost_bits(self) -> int:
        """By how many bits samples are rounded."""
        return max(0, self.source.bit_depth - self.target.bit_depth)

    @property
    def loses_chroma(self) -> bool:
        """There are fewer chroma samples, or none."""
        source, target = self.source, self.target
        is_coarser = (
            target.chroma_w_shift > source.chroma_w_shift or target.chroma_h_shift > source.chroma_h_shift
        )
        return source.has_chroma and (is_coarser or not target.has_chroma)

    @property
    def loses_rgb(self) -> bool:
        """Red, green and blue become luma and chroma, which rounds them."""
        return self.source.is_rgb and not self.target.is_rgb

    @property
    def loses_samples(self) -> bool:
        """Depth or chroma is lost."""
        return bool(self.lost_bits) or self.loses_chroma

    def keeps_all(self, settings: VideoSettings) -> bool:
        """Whether nothing is lost that a codec of that quality would have kept."""
        is_rounded = self.loses_rgb and settings.quality == "lossless"
        return not (self.loses_alpha or self.loses_samples or is_rounded)

    @property
    def is_sensible(self) -> bool:
        """Whether nothing is made up: no opacity, and no RGB of anything else."""
        source, target = self.source, self.target
        return source.has_alpha >= target.has_alpha and source.is_rgb >= target.is_rgb

    @property
    def losses(self) -> tuple[int, ...]:
        """What is lost, the worst first."""
        return self.loses_alpha, self.lost_bits, self.loses_chroma, self.loses_rgb

    @property
    def cost(self) -> tuple[tuple[int, ...], float]:
        """What is lost, then the bits of a pixel."""
        target = self.target
        num_planes = 1 + 2 * target.has_chroma * 0.5 ** (target.chroma_w_shift + target.chroma_h_shift)
        return self.losses, target.bit_depth * (num_planes + target.has_alpha)


@dataclass(frozen=True)
class Choice:
    """A codec, and what is to be stored in it."""

    codec: Codec
    conversion: Conversion


@dataclass(frozen=True)
class _Frames:
    """What is to be stored, and where."""

    source: PixelFormat
    width: int
    height: int
    container: Container


def choose(
    source: PixelFormat, settings: VideoSettings, container: Container, width: int, height: int
) -> Choice:
    """The codec and the pixel format of an output.

    Args:
        source: Planar or not.
        width: Of the output.
        height: Of the output.

    Raises:
        SpecError: The codec that was named, or every codec of the container, cannot hold such frames.
    """
    frames = _Frames(source, width, height, container)
    if settings.codec == "auto":
        return _automatic(frames, settings)
    codec = codec_named(settings.codec)
    _check(codec, frames, settings)
    return Choice(codec, _named_conversion(codec, frames))


def holders(source: PixelFormat, width: int, height: int) -> list[str]:
    """Codecs and their containers that keep all of `source`, for texts."""
    found = []
    for codec in CODECS:
        frames = _Frames(source, width, height, codec.containers[0])
        best = _best_of_size(codec, frames)
        if codec.limits.fit(width, height) and best and best.keeps_all(VideoSettings(quality="lossless")):
            found.append(f"{codec.name} in {frames.container}")
    return found


def _automatic(frames: _Frames, settings: VideoSettings) -> Choice:
    codecs, refusal = _possible(frames, settings)
    keepers = [c for c in codecs if frames.source.has_alpha and c is _AUTO_WITH_ALPHA.get(frames.container)]
    usual = [c for c in codecs if c is not H264 or _is_for_h264(frames)]
    chosen = (
        _first(keepers, frames, lambda conversion: not conversion.loses_alpha)
        or _first(usual, frames, lambda conversion: conversion.keeps_all(settings))
        or _first(usual, frames, lambda conversion: not conversion.loses_samples)
        or _least_bad(codecs, frames)
    )
    if chosen is None:
        assert refusal is not None, "every codec takes some format of every size"
        raise refusal
    return chosen


def _possible(frames: _Frames, settings: VideoSettings) -> tuple[list[Codec], SpecError | None]:
    """The container's codecs whose size and quality are right, and why the last other one is not."""
    codecs, refusal = [], None
    for codec in _AUTO[frames.container]:
        try:
            _check(codec, frames, settings)
        except SpecError as error:
            refusal = error
        else:
            codecs.append(codec)
    return codecs, refusal


def _first(codecs: Iterable[Codec], frames: _Frames, is_good: Callable[[Conversion], bool]) -> Choice | None:
    """The first codec whose best format is good; if none takes the odd size in that, in another format."""
    for best_of in (_best, _best_of_size):
        for codec in codecs:
            best = best_of(codec, frames)
            if best and is_good(best) and codec.takes_size(best.target, frames.width, frames.height):
                return Choice(codec, best)
    return None


def _least_bad(codecs: Iterable[Codec], frames: _Frames) -> Choice | None:
    bests = ((codec, _best_of_size(codec, frames)) for codec in codecs)
    choices = [Choice(codec, best) for codec, best in bests if best]
    return min(choices, key=lambda choice: choice.conversion.losses, default=None)


def _is_for_h264(frames: _Frames) -> bool:
    """Few players decode h264 above 8 bit, or above level 5.2."""
    return frames.source.bit_depth == 8 and H264.limits.are_usual(frames.width, frames.height)


def _conversions(codec: Codec, frames: _Frames) -> list[Conversion]:
    every = (Conversion(frames.source, target) for target in codec.formats_in(frames.container))
    return [conversion for conversion in every if conversion.is_sensible]


def _best(codec: Codec, frames: _Frames) -> Conversion | None:
    """Into the format of `codec` that loses least, and of these the smallest."""
    return min(_conversions(codec, frames), key=lambda conversion: conversion.cost, default=None)


def _best_of_size(codec: Codec, frames: _Frames) -> Conversion | None:
    """As `_best`, of those formats in which `codec` takes the size."""
    every = _conversions(codec, frames)
    fitting = [c for c in every if codec.takes_size(c.target, frames.width, frames.height)]
    return min(fitting, key=lambda conversion: conversion.cost, default=None)


def _named_conversion(codec: Codec, frames: _Frames) -> Conversion:
    """As `_best`, but refuses to lose depth or chroma, which another codec would keep."""
    every, source = _conversions(codec, frames), frames.source
    best = min(every, key=lambda conversion: conversion.cost)
    tolerated_bits = max(0, min(source.bit_depth, codec.rounded_depth) - best.target.bit_depth)
    if all(conversion.lost_bits > tolerated_bits or conversion.loses_chroma for conversion in every):
        raise SpecError(
            f"{codec.name} in {frames.container} cannot hold the source's samples",
            where="video.codec",
            got=source.name,
            expected=f"what goes into one of {', '.join(c.target.name for c in every)}",
            next_step=_try(holders(source, frames.width, frames.height)),
        )
    if not codec.takes_size(best.target, frames.width, frames.height):
        raise SpecError(
            f"{codec.name} cannot hold subsampled frames of an odd size",
            where="video.codec",
            got=f"{frames.width}x{frames.height}",
            expected="an even width and height",
            next_step="choose an even scale, or codec av1, vp9, ffv1 or prores",
        )
    return best


def _check(codec: Codec, frames: _Frames, settings: VideoSettings) -> None:
    """Raises `SpecError` where the container cannot hold `codec`, or that not the quality or the size."""
    container, width, height = frames.container, frames.width, frames.height
    if container not in codec.containers:
        raise SpecError(
            f"{codec.name} does not go into {container}",
            where="video.codec",
            got=f"{codec.name} in {container}",
            expected=f"a container among {', '.join(codec.containers)}",
            next_step=f"set video.container to {codec.containers[0]}, or choose another codec",
        )
    if settings.quality == "lossless" and not codec.lossless:
        raise SpecError(
            f"{codec.name} is not lossless here",
            where="video.quality",
            got="lossless",
            expected=str(codec.expected_quality("lossless")),
            next_step=f"choose a codec among {', '.join(other.name for other in CODECS if other.lossless)}",
        )
    is_mp4 = container in ("mp4", "mov")
    if not codec.limits.fit(width, height) or (is_mp4 and max(width, height) > _MP4_MAX_PX):
        fitting: list[str] = [other.name for other in CODECS if other.limits.fit(width, height)]
        raise SpecError(
            f"{codec.name} in {container} cannot hold frames of this size",
            where="video.codec",
            got=f"{width}x{height}",
            expected=str(codec.limits) + f"; {container}: edges up to {_MP4_MAX_PX}" * is_mp4,
            next_step=_try(fitting) if fitting else "choose another scale",
        )


def _try(codecs: list[str]) -> str:
    return f"choose among the codecs {', '.join(codecs)}" if codecs else "choose codec auto"
