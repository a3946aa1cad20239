"""Frames of a source, by pts range, as planes in memory."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from cluster.video.deinterlace import Picture, pictures
from cluster.video.field_pairs import whole_frames
from cluster.video.frame_times import FrameTimes, counted
from cluster.video.info import DeinterlaceMode, VideoInfo
from cluster.video.losses import NEAR_FRAMES, Losses
from cluster.video.pixels import PixelFormat, pixel_format, without_full_range
from cluster.video.placement import Placement
from cluster.video.planes import Plane, planes_of
from cluster.video.repair import may_jump, repaired_times
from cluster.video.source import ErrorNotes, check_size, new_decoder, only, open_source, read_packets, reason
from sr_core.errors import MediaError

_FIRST_STEP_BACK_S = 1
_NUM_STEPS_BACK = 6
_MAX_GAPS = 20
_LONGEST_FRAMES = Fraction(3, 2)  # between two frames of which none is lost in between
_Range = tuple[int | None, int | None]  # half-open, in pts; None is open

# Their decoders follow bugs of the encoder, whose version stands in the first packet alone.
_NEED_FIRST_PACKET = ("h264", "mpeg4")
# Their decoder forgets the frame that it holds back where a new sequence has another size or shape.
_LOSE_A_FRAME = ("mpeg1video", "mpeg2video")
_SEQUENCE_HEADER_BYTES = 256  # with two matrices and the extension


@dataclass(frozen=True)
class DecodedFrame:
    """One frame of the source, or, in the mode of deinterlacing that makes two of each, of one field.

    Attributes:
        pts: In the source's ticks; of fields in half ticks.
        planes: Y, Cb, Cr, or R, G, B, each followed by alpha if there is one; or Y alone. (H, W) each, uint8
            or, above 8 bits, uint16 with the code in the low bits. Rows may have gaps between them. To be
            read only: the decoder may still refer to them.
        pixels: The format of this very frame; a few videos change it, or their size, in the middle.
        is_corrupt: The decoder or the demuxer says that it is damaged, or it refers to frames that are lost.
        is_interlaced: It says that it is made of two fields, and still is.
        is_context: It is no frame of the range, but one around it that a network wants to see.
        props: The decoded frame itself where it carries closed captions; of two fields the first has it.
    """

    pts: int
    planes: tuple[Plane, ...]
    pixels: PixelFormat
    is_corrupt: bool
    is_interlaced: bool
    props: VideoFrame | None
    is_context: bool = False


class VideoReader:
    """Decodes ranges of one video stream, each as if nothing had been read before.

    Attributes:
        packet_pts: Of the last range, without its context: the pts of the displayed packets in it, in
            decoding order. Each should have given a frame.
    """

    def __init__(
        self,
        file: BinaryIO,
        video: VideoInfo,
        threads: int,
        name: str = "",
        deinterlace: DeinterlaceMode = "off",
    ) -> None:
        """Takes `file`, which stays open, to read the stream that `video` describes.

        Args:
            threads: Of the decoder. With damaged streams more than one may change what is made of the damage.
            name: Names the source in errors.
        """
        self._file = file
        self._video = video
        self._threads = threads
        self._name = name
        self._deinterlace: DeinterlaceMode = deinterlace
        self._container: InputContainer | None = None
        self._is_at_start = False
        self._first_packet: av.Packet[Any] | None = None
        self._repaired: FrameTimes | None = None
        self._begin()

    def _begin(self) -> None:
        self._notes = ErrorNotes()
        self._suspect_pts: list[int] = []
        self._losses = Losses(self._longest_pts)
        self._hurt_pts: set[int] = set()
        self.packet_pts = array("q")
        self._frame_pts = array("q")
        self._coming_pts: list[int] = []  # a heap, of packets that were read
        self._placement: Placement | None = None
        if self._repaired is not None:
            self._placement = Placement(self._repaired)
            self.packet_pts.frombytes(self._repaired.pts.tobytes())

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
        return [*self._notes.texts, *islice(self._gaps(), _MAX_GAPS)]

    @property
    def missing_pts(self) -> list[int]:
        """Of the last range, which was read to its end: the source's pts that gave no frame, ascending."""
        if self._placement is not None:
            return self._placement.missing_pts
        missing: list[int] = np.setdiff1d(
            np.frombuffer(self.packet_pts, np.int64), np.frombuffer(self._frame_pts, np.int64)
        ).tolist()
        return missing

    def frames(
        self,
        start_pts: int | None,
        end_pts: int | None,
        context: tuple[int | None, int | None] | None = None,
        window: tuple[int | None, int | None] | None = None,
    ) -> Iterator[DecodedFrame]:
        """The displayed frames with `start_pts <= pts < end_pts`, in the order of their pts.

        A video whose times need repair is read from its start, and its range should be the whole.

        Args:
            start_pts: None: from the file's first frame on.
            end_pts: None: to the file's end.
            context: The half-open range around both that is decoded, for deinterlacing needs a frame on each
                side to give what it gives in the whole file; None: no more than them.
            window: The half-open range around it whose frames come too, marked; None: no more than the range.

        Raises:
            MediaError: The file cannot be read, or has frames of a kind that is not supported.
        """
        window = (start_pts, end_pts) if window is None else window
        decode_start, decode_end = window if context is None else context
        if self._video.timestamp_problem:
            decode_start = None
            self._repair()
        for is_last_try in self._entries(decode_start):
            self._begin()
            frames = self._decode((start_pts, end_pts), (decode_start, decode_end))
            first = next(frames, None)
            if first is not None and (is_last_try or decode_start is None or _pts(first) <= decode_start):
                all_frames = chain([first], frames)
                read = (frame for frame in all_frames if is_within(_pts(frame), decode_start, decode_end))
                yield from self._within(read, (start_pts, end_pts), window)
                return

    def _gaps(self) -> Iterator[str]:
        """Where packets were lost. Demuxers suspect it also where recordings were joined, without a gap."""
        pts = np.sort(np.frombuffer(self.packet_pts, np.int64))
        gaps: dict[tuple[int, int], None] = {}
        for suspect in self._suspect_pts:
            index = int(np.searchsorted(pts, suspect))
            around = pts[max(0, index - NEAR_FRAMES) : index + NEAR_FRAMES + 1]
            steps = np.diff(around)
            if len(steps) and steps.max() > self._longest_pts:
                at = int(steps.argmax())
                gaps[int(around[at]), int(around[at + 1])] = None
        # Where packets are lost, the nominal rate may be too low.
        frame_pts = max(1, int(np.median(np.diff(pts)))) if gaps else 1
        yield from (self._described(before + frame_pts, after, frame_pts) for before, after in gaps)

    def _described(self, start_pts: int, end_pts: int, frame_pts: int) -> str:
        """Says what is lost in the half-open range, where a frame lasts `frame_pts`."""
        start_s, end_s = start_pts * self._video.time_base, end_pts * self._video.time_base
        lost = counted(max(1, round((end_pts - start_pts) / frame_pts)), "frame")
        return f"reading: packets are lost, about {lost} from {float(start_s):.3f} to {float(end_s):.3f} s"

    @property
    def _longest_pts(self) -> Fraction:
        return _LONGEST_FRAMES / (self._video.frame_rate * self._video.time_base)

    def _repair(self) -> None:
        """Finds the times that the frames get, once; then the file is to be opened again."""
        self.close()
        if self._repaired is None:
            self._repaired, _ = repaired_times(
                self._file, self._name, self._video.stream_index, self._video.timestamp_problem
            )

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
        except MemoryError:
            raise
        except av.FFmpegError:
            return False
        return True

    def _reopen(self) -> None:
        if self._container is not None and self._is_at_start:
            return
        self.close()
        self._container = open_source(self._file, self._name)
        if not self._video.timestamp_problem:  # such a file is read as it was when its times were repaired
            only(self._container, [self._stream])
        self._is_at_start = True

    @property
    def _stream(self) -> Any:
        assert self._container is not None
        if self._video.stream_index >= len(self._container.streams):
            raise MediaError("the video stream is gone", where=self._name)
        return self._container.streams[self._video.stream_index]

    def _decode(self, wanted: _Range, decoded: _Range) -> Iterator[VideoFrame]:
        """Frames from here on to behind the range `decoded`; none where this is no place to start.

        Also notes the packets of the range `wanted`.
        """
        decode_start, decode_end = decoded
        is_from_start = self._is_at_start
        self._is_at_start = False
        assert self._container is not None
        decoder = new_decoder(self._stream, self._threads)
        sequence = b""
        is_first = True
        for packet in self._packets(self._container):
            if is_first and is_from_start:
                self._keep_first_packet(packet)
            elif is_first and _is_before_entry(packet, decode_start):
                continue
            elif is_first and not self._enters(decoder, packet, decode_start):
                return
            is_first = False
            self._note(packet, wanted)
            held_back: list[VideoFrame] = []
            before, sequence = sequence, self._sequence(packet) or sequence
            if before not in (sequence, b""):
                held_back = self._frames_of(decoder, None)
                decoder = new_decoder(self._stream, self._threads)
            for frame in [*held_back, *self._frames_of(decoder, packet)]:
                yield frame
                if decode_end is not None and _pts(frame) >= decode_end:
                    return
        yield from self._frames_of(decoder, None)

    def _packets(self, container: InputContainer) -> Iterator[av.Packet[Any]]:
        if self._placement is None:
            return whole_frames(read_packets(container, [self._stream], self._notes), self._stream)
        index = self._stream.index
        every = read_packets(container, tuple(container.streams), self._notes)
        packets = (packet for packet in every if packet.stream.index == index)
        return self._placement.numbered(whole_frames(packets, self._stream))

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

    def _note(self, packet: av.Packet[Any], wanted: _Range) -> None:
        if packet.is_corrupt and packet.pts is not None and is_within(packet.pts, *wanted):
            self._suspect_pts.append(packet.pts)
        is_flagged = packet.is_corrupt and self._trusts_demuxer()
        if self._losses.hurts(packet) or is_flagged or self._ends_behind_file(packet):
            self._hurt_pts |= self._frame_pts_of(packet)
        if packet.is_discard or packet.pts is None or self._placement is not None:
            return
        if self._deinterlace == "field":
            heapq.heappush(self._coming_pts, packet.pts)
        if is_within(packet.pts, *wanted):
            self.packet_pts.append(packet.pts)

    def _trusts_demuxer(self) -> bool:
        """Whether packets that the demuxer flags are damaged.

        Where clocks may be set anew it flags what is beside every joint too, of which decoders say more; but
        a decoder of pictures that stand alone may say nothing of one that is half there.
        """
        assert self._container is not None
        context = self._stream.codec_context
        return bool(context.codec.intra_only) or not may_jump(self._container)

    def _ends_behind_file(self, packet: av.Packet[Any]) -> bool:
        """Whether the demuxer of DV made up the end of `packet`: it leaves there what the last frame had."""
        assert self._container is not None
        if self._container.format.name != "dv" or packet.pos is None:
            return False
        return packet.pos + packet.size > self._container.size

    def _frame_pts_of(self, packet: av.Packet[Any]) -> set[int]:
        """When the frame of `packet` is shown; empty where that is not known before it is decoded."""
        if packet.pts is None or packet.is_discard:
            return set()
        if self._repaired is None:
            return {packet.pts}
        if not self._repaired.is_in_display_order:
            return set()
        return {int(self._repaired.pts[self._repaired.place_of[packet.pts]])}

    def _sequence(self, packet: av.Packet[Any]) -> bytes:
        """What the sequence header in `packet` says of size, shape, rate and format; empty without one."""
        if self._video.codec not in _LOSE_A_FRAME or not packet.is_keyframe:
            return b""
        start = bytes(memoryview(packet)[:_SEQUENCE_HEADER_BYTES])
        header, extension = start.find(b"\0\0\1\xb3"), start.find(b"\0\0\1\xb5")
        said = start[header + 4 : header + 8] if header >= 0 else b""
        return said + start[extension + 4 : extension + 6] if extension > header >= 0 else said

    def _frames_of(self, decoder: VideoCodecContext, packet: av.Packet[Any] | None) -> list[VideoFrame]:
        try:
            frames = decoder.decode(packet)
        except MemoryError:  # that is no damage: the same packet decodes elsewhere
            raise
        except av.FFmpegError as error:
            self._notes.add(f"decoding: {reason(error)}")
            return []
        if self._placement is not None:
            return self._placement.placed(frames)
        if any(frame.pts is None for frame in frames):
            self._notes.add("decoding: a frame has no timestamp")
        return [frame for frame in frames if frame.pts is not None]

    def _within(self, frames: Iterable[VideoFrame], wanted: _Range, window: _Range) -> Iterator[DecodedFrame]:
        start_pts, end_pts = window
        for picture in pictures(self._checked(frames), self._deinterlace, self._name):
            pts = _pts(picture.source)
            if end_pts is not None and pts >= end_pts:
                return
            if start_pts is None or pts >= start_pts:
                if not picture.is_second_field:
                    self._frame_pts.append(pts)
                yield self._decoded(picture, is_context=not is_within(pts, *wanted))

    def _checked(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            check_size(frame.width, frame.height, self._name)
            yield frame

    def _decoded(self, picture: Picture, is_context: bool) -> DecodedFrame:
        frame = picture.source
        pixels = pixel_format(without_full_range(frame.format.name)[0])
        assert pixels is not None  # or there would be no picture
        has_captions = not picture.is_second_field and frame.side_data.get("A53_CC") is not None
        return DecodedFrame(
            pts=self._display_pts(picture),
            planes=planes_of(picture.image, picture.pixels),
            pixels=pixels,
            is_corrupt=frame.is_corrupt or _pts(frame) in self._hurt_pts,
            is_interlaced=frame.interlaced_frame and not picture.is_deinterlaced,
            props=frame if has_captions else None,
            is_context=is_context,
        )

    def _display_pts(self, picture: Picture) -> int:
        """When a picture is shown: the second field in the middle between its frame's pts and the next."""
        pts = _pts(picture.source)
        if self._deinterlace != "field":
            return pts
        if not picture.is_second_field:
            return 2 * pts
        while self._coming_pts and self._coming_pts[0] <= pts:
            heapq.heappop(self._coming_pts)
        return pts + (self._coming_pts[0] if self._coming_pts else max(self._video.end_pts, pts + 1))


def _pts(frame: VideoFrame) -> int:
    assert frame.pts is not None  # those without were left out
    return frame.pts


def _is_before_entry(packet: av.Packet[Any], start_pts: int | None) -> bool:
    """Whether an entry for `start_pts` may follow: in transport streams, seeking ends at any packet."""
    if packet.is_keyframe:
        return False
    return packet.pts is None or start_pts is None or packet.pts < start_pts


def is_within(pts: int, start_pts: int | None, end_pts: int | None) -> bool:
    """Whether `pts` lies in the half-open range; None is open."""
    return (start_pts is None or pts >= start_pts) and (end_pts is None or pts < end_pts)
