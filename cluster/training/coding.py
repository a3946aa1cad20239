"""How footage was coded, and coding other frames as strongly.

How strongly a video was coded is found by what it takes: the CRF, or quantiser, at which its own frames, at
their own size, take no more than they do in the source. That works for every codec that we have an encoder
of, and for others by the nearest. It was compared, on panned photographs coded with x264 (CRF 20, 28, 36;
presets ultrafast, veryfast, medium) and as MPEG-2, with the CRF at which clips of half the size get the mean
quantiser of the source, which only some decoders tell: of 14, all lay within 2. Both are 2 to 5 below the CRF
of a source of the preset medium (HEVC 3, AV1 5 to 7), since short clips of small frames are coded more
coarsely at the same CRF. As many bits for a pixel of a smaller frame as for one of the source, which has less
detail in a pixel, would be up to 9 coarser, and say nothing of the quantiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cluster.video.recode import MOST_QUALITY, LossyCodec, Recoding, recoded, recoded_bytes
from sr_core.jpeg import jpeg
from sr_core.train.crops import unit_frames

# By FFmpeg's names. What has no encoder here is coded as what is nearest to it: blocks of 8x8 cosines without
# a filter over their edges as MPEG-2, large blocks with one as HEVC, what is left as H.264.
_CODECS: dict[str, LossyCodec] = {
    **{codec.value: codec for codec in LossyCodec},
    **dict.fromkeys(("mpeg1video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "h263"), LossyCodec.MPEG2),
    **dict.fromkeys(("flv1", "wmv1", "wmv2", "theora", "mjpeg", "amv", "dvvideo"), LossyCodec.MPEG2),
    **dict.fromkeys(("prores", "dnxhd"), LossyCodec.MPEG2),
    **dict.fromkeys(("vp9", "vvc"), LossyCodec.HEVC),
}
_NEAREST = LossyCodec.H264
_LOSSLESS = ("ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "rawvideo", "qtrle", "png", "gif", "v210")


@dataclass(frozen=True)
class Measured:
    """Some frames of a source, and what they take there.

    Attributes:
        clip: (T, 3, H, W) uint8 R'G'B', of which the first is a keyframe.
        num_bytes: Of all of them.
    """

    clip: Tensor
    num_bytes: int


@dataclass(frozen=True)
class VideoCoding:
    """A video codec at one quality.

    Attributes:
        source_codec: FFmpeg's name of what the source is coded as.
        recoding: How to do as it does.
    """

    source_codec: str
    recoding: Recoding
    is_lossless = False

    def __str__(self) -> str:
        scale = "quantiser" if self.recoding.codec is LossyCodec.MPEG2 else "CRF"
        told = f"as coded by {self.recoding.codec} at {scale} {self.recoding.quality}"
        return told if self.source_codec == self.recoding.codec else f"{self.source_codec}, about {told}"

    def coded(self, clip: Tensor) -> Tensor:
        """(T, 3, H, W) uint8 as they come back.

        Raises:
            OutputError: The encoder fails.
        """
        return recoded(clip, self.recoding)


@dataclass(frozen=True)
class JpegCoding:
    """JPEG of a quality."""

    quality: int
    is_lossless = False

    def __str__(self) -> str:
        return f"JPEG of quality {self.quality}"

    def coded(self, clip: Tensor) -> Tensor:
        """(T, 3, H, W) uint8 as they come back."""
        return (jpeg(unit_frames(clip), self.quality) * 255).round().byte()


@dataclass(frozen=True)
class NoCoding:
    """Nothing is done.

    Attributes:
        told: Why.
        is_lossless: Whether frames of the source are as they were before it was coded.
    """

    told: str
    is_lossless: bool = True

    def __str__(self) -> str:
        return self.told

    def coded(self, clip: Tensor) -> Tensor:
        """The same clip."""
        return clip


Coding = VideoCoding | JpegCoding | NoCoding


def is_lossless(codec: str) -> bool:
    """Whether a video codec, by FFmpeg's name, loses nothing."""
    return codec in _LOSSLESS


def video_coding(codec: str, measured: Sequence[Measured]) -> VideoCoding:
    """How a source was coded.

    Args:
        codec: FFmpeg's name of its codec.
        measured: Some of its frames, of one clip at least.

    Raises:
        OutputError: An encoder fails.
    """
    ours = _CODECS.get(codec, _NEAREST)
    num_bytes = sum(each.num_bytes for each in measured)
    # The finest of all that take no more, as the coarser it is, the less it takes.
    low, high = 1, MOST_QUALITY[ours]
    while low < high:
        middle = (low + high) // 2
        recoding = Recoding(ours, middle)
        if sum(recoded_bytes(each.clip, recoding) for each in measured) > num_bytes:
            low = middle + 1
        else:
            high = middle
    return VideoCoding(codec, Recoding(ours, low))


def codes_of(frames: Tensor) -> Tensor:
    """8-bit codes of frames, 0..1 and a little beyond."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8)
