"""Numbered images as a video: the same promises as for one file, with a frame in every file."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from cluster.video.decode import DecodedFrame, is_within
from cluster.video.info import ColorTags, SourceInfo, StreamInfo, VideoInfo
from cluster.video.pixels import PixelFormat, pixel_format, without_full_range
from cluster.video.planes import Plane, planes_of
from cluster.video.source import ErrorNotes, check_size, reason
from cluster.video.timeline import Timeline
from sr_core.errors import MediaError

OpenFrame = Callable[[int], BinaryIO]

_MAGIC = {
    b"\x89PNG": "png",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"SDPX": "dpx",
    b"XPDS": "dpx",
    b"v/1\x01": "exr",
    b"\xff\xd8\xff": "mjpeg",
    b"BM": "bmp",
}
# Light is linear in OpenEXR; networks and codecs expect codes that are spaced as eyes see.
_OPTIONS = {"exr": {"apply_trc": "iec61966_2_1"}}
_SRGB_TRANSFER = 13  # ITU-T H.273
# What float samples become, whose codes are 0 to 65535 for 0 to 1.
_OF_FLOAT = {
    "gbrpf32le": "gbrp16le",
    "gbrapf32le": "gbrap16le",
    "grayf32le": "gray16le",
    "gbrpf16le": "gbrp16le",
    "gbrapf16le": "gbrap16le",
    "grayf16le": "gray16le",
}


def probe_sequence(
    open_frame: OpenFrame, numbers: Sequence[int], frame_rate: Fraction, name: str
) -> tuple[SourceInfo, Timeline]:
    """What the images `numbers` are as a video, from the first of them; the times of all.

    An image's time is how far its number is from the first, in ticks of 1 / `frame_rate`.

    Raises:
        MediaError: The first image cannot be read.
    """
    codec, frame = _first(open_frame, numbers[0], name)
    check_size(frame.width, frame.height, name)
    pixels = _pixels_of(frame, name)
    pts = np.array(numbers, dtype=np.int64) - numbers[0]
    video = VideoInfo(
        stream_index=0,
        codec=codec,
        width=frame.width,
        height=frame.height,
        pixel_format=pixels.name,
        time_base=1 / frame_rate,
        frame_rate=frame_rate,
        sample_aspect_ratio=None,
        color=_color(frame, pixels, codec),
        rotation_deg=0,
        is_interlaced=False,
        num_frames=len(pts),
        promised_num_frames=None,
        start_pts=0,
        end_pts=int(pts[-1]) + 1,
    )
    streams = (StreamInfo(0, "video", codec),)
    info = SourceInfo("image sequence", float(video.duration_s), 0, streams, video)
    return info, Timeline(pts, pts, video.end_pts)


class SequenceReader:
    """Reads ranges of a sequence as `VideoReader` reads those of a file.

    Attributes:
        packet_pts: Of the last range: the pts of its images. Each should have given a frame.
        missing_pts: Those that gave none, when the range was read to its end.
    """

    def __init__(self, open_frame: OpenFrame, numbers: Sequence[int], name: str) -> None:
        """Takes the images `numbers`, each of which `open_frame` opens; `name` names them in errors."""
        self._open_frame = open_frame
        self._numbers = numbers
        self._name = name
        self._notes = ErrorNotes()
        self.packet_pts = array("q")
        self.missing_pts: list[int] = []

    def close(self) -> None:
        """Nothing stays open between images."""

    @property
    def errors(self) -> list[str]:
        """What was wrong in the last range: each thing once, not more than some."""
        return self._notes.texts

    def frames(
        self,
        start_pts: int | None,
        end_pts: int | None,
        context: tuple[int | None, int | None] | None = None,
        window: tuple[int | None, int | None] | None = None,
    ) -> Iterator[DecodedFrame]:
        """The images with `start_pts <= pts < end_pts`, in their order; none of them needs a context.

        Args:
            window: The half-open range around it whose images come too, marked; None: no more than the range.
        """
        window = (start_pts, end_pts) if window is None else window
        self._notes, self.packet_pts, self.missing_pts = ErrorNotes(), array("q"), []
        for number in self._numbers:
            pts = number - self._numbers[0]
            if not is_within(pts, *window):
                continue
            is_context = not is_within(pts, start_pts, end_pts)
            if not is_context:
                self.packet_pts.append(pts)
            try:
                _, frame = _first(self._open_frame, number, self._name)
            except MediaError as error:
                if not is_context:
                    self._notes.add(str(error))
                    self.missing_pts.append(pts)
                continue
            pixels = _pixels_of(frame, self._name)
            yield DecodedFrame(
                pts=pts,
                planes=_planes(frame, pixels),
                pixels=pixels,
                is_corrupt=frame.is_corrupt,
                is_interlaced=False,
                props=None,
                is_context=is_context,
            )


def _first(open_frame: OpenFrame, number: int, name: str) -> tuple[str, VideoFrame]:
    """(codec, picture) of one image."""
    where = f"{name}, number {number}"
    with open_frame(number) as file:
        content = file.read()
    codec = next((codec for magic, codec in _MAGIC.items() if content.startswith(magic)), None)
    if codec is None:
        raise MediaError(
            "this image cannot be a frame of a sequence",
            where=where,
            got=f"a file that begins with {content[:8]!r}",
            expected="PNG, TIFF, DPX, OpenEXR, JPEG or BMP",
        )
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.options = _OPTIONS.get(codec, {})
    try:
        frames = [*decoder.decode(av.Packet(content)), *decoder.decode(None)]
    except (av.FFmpegError, MemoryError) as error:
        raise MediaError("this image does not decode", where=where, got=reason(error)) from error
    if not frames:
        raise MediaError("this image does not decode", where=where, got=f"no picture in {len(content)} bytes")
    return codec, frames[0]


def _pixels_of(frame: VideoFrame, name: str) -> PixelFormat:
    stored = without_full_range(frame.format.name)[0]
    found = pixel_format(_OF_FLOAT.get(stored, stored))
    if found is None:
        raise MediaError("this pixel format is not supported", where=name, got=stored)
    return found


def _planes(frame: VideoFrame, pixels: PixelFormat) -> tuple[Plane, ...]:
    if frame.format.name not in _OF_FLOAT:
        return planes_of(frame, pixels)
    dtype = np.dtype(np.float32 if "f32" in frame.format.name else np.float16)
    codes: list[Plane] = []
    for plane in frame.planes:
        buffer: Any = plane
        samples = np.ndarray(
            (plane.height, plane.width), dtype, buffer, strides=(plane.line_size, dtype.itemsize)
        )
        unit = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
        codes.append(np.rint(unit.clip(0.0, 1.0) * 65535.0).astype(np.uint16))
    if not pixels.is_rgb:
        return tuple(codes)
    green, blue, red, *alpha = codes
    return red, green, blue, *alpha


def _color(frame: VideoFrame, pixels: PixelFormat, codec: str) -> ColorTags:
    is_full = without_full_range(frame.format.name)[1] or frame.color_range == ColorRange.JPEG
    return ColorTags(
        primaries=int(frame.color_primaries) or 2,
        transfer=_SRGB_TRANSFER if codec == "exr" else int(frame.color_trc) or 2,
        matrix=int(frame.colorspace) if not pixels.is_rgb and frame.colorspace else 2,
        full_range=True if is_full or pixels.is_rgb or not pixels.has_chroma else None,
        chroma_location="center" if codec == "mjpeg" and pixels.is_subsampled else None,  # as JFIF has it
    )
