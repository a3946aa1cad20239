"""Frames of a source, by pts range, as planes in memory."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from cluster.video.info import VideoInfo
from cluster.video.pixels import PixelFormat, pixel_format, without_full_range
from cluster.video.source import ErrorNotes, only, open_source, read_packets, reason
from sr_core.errors import MediaError

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_FIRST_STEP_BACK_S = 1
_NUM_STEPS_BACK = 6
# Their decoders follow bugs of the encoder, whose version stands in the first packet alone.
_NEED_FIRST_PACKET = ("h264", "mpeg4")


@dataclass(frozen=True)
class DecodedFrame:
    """One frame of the source.

    Attributes:
        pts: In the source's ticks.
        planes: Y, Cb, Cr, or Y alone: (H, W) each, uint8 or, above 8 bits, uint16 with the code in the low
            bits. Rows may have gaps between them. To be read only: the decoder may still refer to them.
        is_corrupt: The decoder says that it is damaged.
    """

    pts: int
    planes: tuple[Plane, ...]
    is_corrupt: bool


class VideoReader:
    """Decodes ranges of one video stream, each as if nothing had been read before.

    Attributes:
        packet_pts: Of the last range: the pts of the displayed packets in it, in decoding order. Each should
            have given a frame.
    """

    def __init__(self, file: BinaryIO, video: VideoInfo, threads: int, name: str = "") -> None:
        """Takes `file`, which stays open, to read the stream that `video` describes.

        Args:
            threads: Of the decoder. With damaged streams more than one may change what is made of the damage.
            name: Names the source in errors.
        """
        found = pixel_format(video.pixel_format)
        if found is None:
            raise MediaError("this pixel format is not supported yet", where=name, got=video.pixel_format)
        self._pixels = found
        self._file = file
        self._video = video
        self._threads = threads
        self._name = name
        self._notes = ErrorNotes()
        self._container: InputContainer | None = None
        self._is_at_start = False
        self._first_packet: av.Packet[Any] | None = None
        self.packet_pts = array("q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives back what decoding took; frames stay valid."""
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def errors(self) -> list[str]:
        """What demuxer and decoder said was wrong in the last range: each thing once, not more than some."""
        return self._notes.texts

    def frames(self, start_pts: int | None, end_pts: int | None) -> Iterator[DecodedFrame]:
        """The displayed frames with `start_pts <= pts < end_pts`, in the order of their pts.

        Args:
            start_pts: None: from the file's first frame on.
            end_pts: None: to the file's end.

        Raises:
            MediaError: The file cannot be read, or its frames change their size or format.
        """
        for is_last_try in self._entries(start_pts):
            self._notes = ErrorNotes()
            self.packet_pts = array("q")
            frames = self._decode(start_pts, end_pts)
            first = next(frames, None)
            if first is not None and (is_last_try or start_pts is None or _pts(first) <= start_pts):
                yield from self._within(first, frames, start_pts, end_pts)
                return

    def _entries(self, start_pts: int | None) -> Iterator[bool]:
        """Sets the demuxer to places from which the range may decode, the last of which is the file's start.

        Demuxers seek by dts, by an incomplete index, or to packets that are no entry; so whether the place is
        right is seen from what comes out.
        """
        if start_pts is not None:
            for step in range(_NUM_STEPS_BACK):
                back_s = _FIRST_STEP_BACK_S << (step - 1) if step else 0
                target = start_pts - round(back_s / self._video.time_base)
                if target <= self._video.start_pts and step:
                    break
                if self._seek(target):
                    yield False
        self._reopen()
        yield True

    def _seek(self, pts: int) -> bool:
        if self._container is None:
            self._reopen()
        assert self._container is not None
        if self._is_at_start:
            self._keep_first_packet(next(read_packets(self._container, [self._stream], self._notes), None))
        self._is_at_start = False
        try:
            self._container.seek(pts, stream=self._stream, backward=True)
        except av.FFmpegError:
            return False
        return True

    def _reopen(self) -> None:
        if self._container is not None and self._is_at_start:
            return
        self.close()
        self._container = open_source(self._file, self._name)
        only(self._container, [self._stream])
        self._is_at_start = True

    @property
    def _stream(self) -> Any:
        assert self._container is not None
        if self._video.stream_index >= len(self._container.streams):
            raise MediaError("the video stream is gone", where=self._name)
        return self._container.streams[self._video.stream_index]

    def _decode(self, start_pts: int | None, end_pts: int | None) -> Iterator[VideoFrame]:
        """Frames from here on until one is not before `end_pts`; none where this is no place to start.

        Also notes the packets of the range.
        """
        is_from_start = self._is_at_start
        self._is_at_start = False
        assert self._container is not None
        decoder = _decoder(self._stream, self._threads)
        is_first = True
        for packet in read_packets(self._container, [self._stream], self._notes):
            if is_first and is_from_start:
                self._keep_first_packet(packet)
            elif is_first and not self._enters(decoder, packet, start_pts):
                return
            is_first = False
            self._note(packet, start_pts, end_pts)
            for frame in self._frames_of(decoder, packet):
                yield frame
                if end_pts is not None and _pts(frame) >= end_pts:
                    return
        yield from self._frames_of(decoder, None)

    def _keep_first_packet(self, packet: av.Packet[Any] | None) -> None:
        if packet is None or self._first_packet is not None or self._video.codec not in _NEED_FIRST_PACKET:
            return
        self._first_packet = av.Packet(bytes(packet))
        self._first_packet.pts, self._first_packet.dts = packet.pts, packet.dts
        self._first_packet.time_base = packet.time_base

    def _enters(self, decoder: VideoCodecContext, packet: av.Packet[Any], start_pts: int | None) -> bool:
        """Whether all frames from `start_pts` on decode from `packet` on; readies `decoder` for it."""
        if not packet.is_keyframe or packet.pts is None or (start_pts is not None and packet.pts > start_pts):
            return False
        if self._first_packet is not None:
            self._frames_of(decoder, self._first_packet)
            decoder.flush_buffers()
        return True

    def _note(self, packet: av.Packet[Any], start_pts: int | None, end_pts: int | None) -> None:
        if not packet.is_discard and packet.pts is not None and _is_within(packet.pts, start_pts, end_pts):
            self.packet_pts.append(packet.pts)

    def _frames_of(self, decoder: VideoCodecContext, packet: av.Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError as error:
            self._notes.add(f"decoding: {reason(error)}")
            return []
        if any(frame.pts is None for frame in frames):
            self._notes.add("decoding: a frame has no timestamp")
        return [frame for frame in frames if frame.pts is not None]

    def _within(
        self, first: VideoFrame, others: Iterator[VideoFrame], start_pts: int | None, end_pts: int | None
    ) -> Iterator[DecodedFrame]:
        frame: VideoFrame | None = first
        while frame is not None:
            pts = _pts(frame)
            if _is_within(pts, start_pts, end_pts):
                yield DecodedFrame(pts, self._planes(frame), frame.is_corrupt)
            frame = next(others, None)

    def _planes(self, frame: VideoFrame) -> tuple[Plane, ...]:
        video = self._video
        name = without_full_range(frame.format.name)[0]
        if (frame.width, frame.height, name) != (video.width, video.height, video.pixel_format):
            raise MediaError(
                "the frames change within the video",
                where=self._name,
                got=f"{frame.width}x{frame.height} {name}",
                expected=f"{video.width}x{video.height} {video.pixel_format}",
            )
        return planes_of(frame, self._pixels)


def planes_of(frame: VideoFrame, pixels: PixelFormat) -> tuple[Plane, ...]:
    """The planes of `frame` in the planar format of `pixels`, without a copy where it is in that format."""
    planar = frame if pixels.is_planar else frame.reformat(format=pixels.planar)
    dtype = np.dtype(np.uint8 if pixels.bit_depth == 8 else np.uint16)
    sizes = pixels.plane_sizes(frame.width, frame.height)
    return tuple(_view(planar, index, size, dtype) for index, size in enumerate(sizes))


def _view(frame: VideoFrame, index: int, size: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    """One plane of `frame`, which it keeps alive."""
    plane: Any = frame.planes[index]
    return np.ndarray(size, dtype, buffer=plane, strides=(plane.line_size, dtype.itemsize))


def _decoder(stream: Any, threads: int) -> VideoCodecContext:
    """A new decoder for `stream`.

    A decoder that was used remembers what it learned, as how deep frames are reordered, also behind a flush;
    PyAV makes a new one only with a new container, so it is taken from one that is never written.
    """
    with av.open(io.BytesIO(), "w", format="null") as container:
        try:
            decoder: VideoCodecContext = container.add_stream_from_template(stream, opaque=True).codec_context
        except ValueError as error:
            raise MediaError("this codec is not supported", got=str(stream.codec_context.name)) from error
        decoder.codec_tag = stream.codec_context.codec_tag
    decoder.thread_type = av.codec.context.ThreadType.AUTO
    decoder.thread_count = threads
    return decoder


def _pts(frame: VideoFrame) -> int:
    assert frame.pts is not None  # those without were left out
    return frame.pts


def _is_within(pts: int, start_pts: int | None, end_pts: int | None) -> bool:
    return (start_pts is None or pts >= start_pts) and (end_pts is None or pts < end_pts)
