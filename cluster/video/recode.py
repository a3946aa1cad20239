"""Short clips through real video codecs and back: what compression does to frames, to train on.

Everything stays in memory, without a container. Encoders and decoders have one thread each, so that equal
clips and settings give equal frames; on another version of an encoder they may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from torch import Tensor
from torch.nn import functional as F

from cluster.video.encoder_options import LEAST_CU_TREE_PX
from cluster.video.opening import opening_encoder
from cluster.video.pixels import pixel_format
from cluster.video.planes import planes_of
from cluster.video.source import reason
from sr_core.color import ColorSpace, Matrix, PlaneFormat, planes_to_rgb, rgb_to_planes
from sr_core.errors import OutputError, SpecError
from sr_core.train.degradations.draws import check_range, check_shares, choice, whole

_FRAME_RATE = Fraction(25)
_BT709_CODE = 1
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
_EVEN_PX = 2
_LEAST_PX = 16  # SVT-AV1 takes nothing smaller
_YUV420P = PlaneFormat()
_SPACE = ColorSpace(Matrix.BT709)


class LossyCodec(StrEnum):
    """Codecs that sources of our time come in; the values are FFmpeg's names of the formats."""

    H264 = "h264"
    HEVC = "hevc"
    AV1 = "av1"
    MPEG2 = "mpeg2video"


@dataclass(frozen=True)
class _Coder:
    """An encoder and a decoder.

    Attributes:
        encoder: FFmpeg's name, as is `decoder`.
        options: Of the encoder, but for what follows from the quality.
    """

    encoder: str
    decoder: str
    options: tuple[tuple[str, str], ...]

    def options_at(self, quality: int) -> dict[str, str]:
        """All options of the encoder."""
        rate = {"crf": str(quality)}
        if self.encoder == "mpeg2video":
            rate = {"qmin": str(quality), "qmax": str(quality), "flags": "+qscale"}
        return {**dict(self.options), **rate}

    def least_width_px(self, num_frames: int) -> int:
        """Of clips of so many frames."""
        return LEAST_CU_TREE_PX if self.encoder == "libx265" and num_frames > 1 else _LEAST_PX


_CODERS = {
    # With AVX-512 its streams differ from run to run; see `cluster.video.codecs.limited_to_avx2`.
    LossyCodec.H264: _Coder("libx264", "h264", (("preset", "medium"), ("x264-params", "asm=avx2"))),
    LossyCodec.HEVC: _Coder(
        "libx265",
        "hevc",
        (("preset", "medium"), ("x265-params", "log-level=none:pools=none:frame-threads=1")),
    ),
    LossyCodec.AV1: _Coder("libsvtav1", "libdav1d", (("preset", "8"), ("svtav1-params", "lp=1"))),
    LossyCodec.MPEG2: _Coder("mpeg2video", "mpeg2video", (("g", "15"), ("bf", "2"))),
}
# The coarsest that each encoder takes.
MOST_QUALITY = {
    LossyCodec.H264: 51,
    LossyCodec.HEVC: 51,
    LossyCodec.AV1: 63,
    LossyCodec.MPEG2: 31,
}


@dataclass(frozen=True)
class Recoding:
    """How one clip is encoded.

    Attributes:
        codec: As what.
        quality: CRF of H.264, HEVC and AV1, quantiser of MPEG-2: the larger, the worse.
    """

    codec: LossyCodec
    quality: int

    def __post_init__(self) -> None:
        check_range(f"quality of {self.codec}", (self.quality, self.quality), 1, MOST_QUALITY[self.codec])


@dataclass(frozen=True)
class RecodingSettings:
    """How recodings are drawn.

    Attributes:
        probabilities: Of each `LossyCodec`, in their order.
        h264: The least and the largest CRF, all whole numbers alike, as for the others.
        hevc: CRF.
        av1: CRF, whose scale goes to 63.
        mpeg2: Quantiser.
    """

    probabilities: tuple[float, float, float, float] = (0.4, 0.25, 0.2, 0.15)
    h264: tuple[int, int] = (18, 38)
    hevc: tuple[int, int] = (20, 40)
    av1: tuple[int, int] = (24, 56)
    mpeg2: tuple[int, int] = (2, 16)

    def __post_init__(self) -> None:
        check_shares("probabilities", self.probabilities, len(LossyCodec))
        for codec, qualities in self.qualities.items():
            check_range(codec, qualities, 1, MOST_QUALITY[codec])

    @property
    def qualities(self) -> dict[LossyCodec, tuple[int, int]]:
        """The least and the largest of each codec."""
        return dict(zip(LossyCodec, (self.h264, self.hevc, self.av1, self.mpeg2), strict=True))

    def drawn(self, generator: torch.Generator) -> Recoding:
        """How a clip is encoded, drawn from `generator`."""
        codec = choice(generator, tuple(LossyCodec), self.probabilities)
        return Recoding(codec, whole(generator, *self.qualities[codec]))


def recoded(clip: Tensor, recoding: Recoding) -> Tensor:
    """The frames of a clip as they come back from a codec: BT.709, limited range, 4:2:0, one keyframe.

    Args:
        clip: (T, 3, H, W) uint8 R'G'B', in the order of time.
        recoding: How.

    Returns:
        The same shape and type.

    Raises:
        SpecError: There is no frame.
        OutputError: The encoder or decoder failed, or gave another number of frames.
    """
    height, width = clip.shape[-2:]
    coder = _CODERS[recoding.codec]
    packets = _packets(clip, recoding)
    try:
        decoded = _decoded(coder, packets)
    except av.FFmpegError as error:
        raise OutputError("a clip cannot be decoded", where=coder.decoder, got=reason(error)) from error
    if len(decoded) != len(clip):
        raise OutputError(
            "a codec gave other frames than it got",
            where=coder.encoder,
            got=f"{len(decoded)} frames",
            expected=f"{len(clip)}",
        )
    return torch.stack([_rgb_codes(frame)[:, :height, :width] for frame in decoded])


def recoded_bytes(clip: Tensor, recoding: Recoding) -> int:
    """How large a clip becomes, without what a container adds. See `recoded`.

    Raises:
        SpecError: There is no frame.
        OutputError: The encoder failed.
    """
    return sum(packet.size for packet in _packets(clip, recoding))


def _packets(clip: Tensor, recoding: Recoding) -> list[av.Packet[Any]]:
    if clip.dim() != 4 or clip.shape[1] != 3 or not clip.numel() or clip.dtype != torch.uint8:
        raise SpecError(
            "this is no clip", got=f"{tuple(clip.shape)} of {clip.dtype}", expected="(T, 3, H, W) uint8"
        )
    coder = _CODERS[recoding.codec]
    try:
        padded = _padded(clip, coder.least_width_px(len(clip)))
        return _encoded(coder, coder.options_at(recoding.quality), padded)
    except av.FFmpegError as error:
        raise OutputError("a clip cannot be encoded", where=coder.encoder, got=reason(error)) from error


def _padded(clip: Tensor, least_width_px: int) -> Tensor:
    """The clip continued to the right and below, to sides that are even and large enough."""
    height, width = clip.shape[-2:]
    least_px = ((width, least_width_px), (height, _LEAST_PX))
    more = [max(-side % _EVEN_PX, least - side) for side, least in least_px]
    return F.pad(clip.float(), (0, more[0], 0, more[1]), mode="replicate").div_(255)


def _encoded(coder: _Coder, options: dict[str, str], clip: Tensor) -> list[av.Packet[Any]]:
    encoder = av.CodecContext.create(coder.encoder, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = clip.shape[-2:]
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = _FRAME_RATE, 1 / _FRAME_RATE
    encoder.color_primaries = encoder.color_trc = encoder.colorspace = _BT709_CODE
    encoder.color_range = _LIMITED_RANGE
    encoder.thread_count = 1
    encoder.options = options
    with opening_encoder():
        encoder.open()
    packets = []
    for number, frame in enumerate(clip):
        packets += encoder.encode(_video_frame(frame, number))
    return packets + encoder.encode(None)


def _video_frame(frame: Tensor, number: int) -> VideoFrame:
    height, width = frame.shape[-2:]
    made = VideoFrame(width, height, "yuv420p")
    for plane, codes in zip(made.planes, rgb_to_planes(frame[None], _YUV420P, _SPACE), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = codes.numpy()
        plane.update(rows.tobytes())
    made.pts, made.time_base = number, 1 / _FRAME_RATE
    return made


def _decoded(coder: _Coder, packets: Sequence[av.Packet[Any]]) -> list[VideoFrame]:
    """The frames in the order in which they are shown."""
    decoder = av.CodecContext.create(coder.decoder, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    frames = []
    for packet in (*packets, None):
        frames += decoder.decode(packet)
    return frames


def _rgb_codes(frame: VideoFrame) -> Tensor:
    """(3, H, W) uint8."""
    pixels = pixel_format(frame.format.name)
    if pixels is None or pixels.name != "yuv420p":
        raise OutputError("a codec changed the format", got=frame.format.name, expected="yuv420p")
    planes = tuple(torch.from_numpy(plane.copy()) for plane in planes_of(frame, pixels))
    return (planes_to_rgb(planes, _YUV420P, _SPACE)[0] * 255).round_().clamp_(0, 255).byte()
