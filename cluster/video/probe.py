"""What a source is: its streams, and when each frame of its main video stream is displayed."""

from __future__ import annotations

import struct
from array import array
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame

from cluster.video import matroska
from cluster.video.info import UNSPECIFIED, ColorTags, SourceInfo, StreamInfo, StreamKind, VideoInfo
from cluster.video.pixels import pixel_format, without_full_range
from cluster.video.source import ErrorNotes, codec_name, header_of, only, open_source, read_packets, reason
from cluster.video.timeline import PtsArray, Timeline
from sr_core.errors import MediaError

_NUM_LOOKED_AT = 8  # a flag of interlacing may come late
_MAX_PACKETS_WITHOUT_FRAME = 1000
_MAX_REORDERING = 64
_HIGHEST_RATE = 300
_USUAL_RATES = tuple(
    Fraction(number * 1000, per) for number in (24, 25, 30, 48, 50, 60, 100, 120) for per in (1000, 1001)
)
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_NO_PICTURE_STREAM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def probe(file: BinaryIO, name: str) -> tuple[SourceInfo, Timeline]:
    """What the source in `file` is, from one pass over the packets of its main video stream.

    The main stream is the first video stream that is no still picture, with those first that are flagged as
    default.

    Args:
        name: Names the source in errors.

    Raises:
        MediaError: It cannot be read, has no video, or nothing of it decodes.
    """
    with open_source(file, name) as container:
        stream = _main_video(container, name)
        only(container, [stream])
        scan = _Scan(container, stream)
        if not scan.frames or not scan.pts:
            raise _no_frame(name, stream, scan)
        info = SourceInfo(
            format_name=container.format.name,
            duration_s=_duration_s(container, stream, scan),
            num_chapters=len(container.chapters()),
            streams=tuple(_stream_info(stream) for stream in container.streams),
            video=_video_info(file, container, stream, scan),
        )
    # The demuxer's tables are gone by now: for a long film they are as large as all that follows.
    return info, scan.timeline()


class _Scan:
    """One pass over a stream's packets: every displayed packet's times, and the first frames."""

    def __init__(self, container: InputContainer, stream: Any) -> None:
        self.pts = array("q")
        self.keyframe_pts = array("q")
        self.num_without_pts = 0
        self.frames: list[VideoFrame] = []
        self.notes = ErrorNotes()
        self._last_duration = 0
        self._ordered_last: list[int] = []  # the last two pts
        self._stream = stream
        for num_before, packet in enumerate(read_packets(container, [stream], self.notes)):
            self._add(packet)
            wants_frames = len(self.frames) < _NUM_LOOKED_AT
            if wants_frames and (self.frames or num_before < _MAX_PACKETS_WITHOUT_FRAME):
                self._decode(packet)
        if len(self.frames) < _NUM_LOOKED_AT:
            self._decode(None)

    @property
    def start_pts(self) -> int:
        """pts of the first displayed frame."""
        return min(self.pts)

    @property
    def last_pts(self) -> int:
        """pts of the last displayed frame."""
        return self._ordered_last[-1]

    @property
    def end_pts(self) -> int:
        """Where the last frame ends: after what its packet says, or as long as the one before it lasts."""
        gap = self._ordered_last[-1] - self._ordered_last[0]
        return self.last_pts + max(self._last_duration or gap, 1)

    def timeline(self) -> Timeline:
        """What was seen, in display order."""
        in_decode_order = np.frombuffer(self.pts, dtype=np.int64)
        pts = np.sort(in_decode_order)
        return Timeline(
            pts=pts,
            keyframe_pts=np.sort(np.frombuffer(self.keyframe_pts, dtype=np.int64)),
            end_pts=self.end_pts,
            problem=self._problem(in_decode_order, pts),
        )

    def _add(self, packet: av.Packet[Any]) -> None:
        if packet.is_discard:
            return
        if packet.pts is None:
            self.num_without_pts += 1
            return
        self.pts.append(packet.pts)
        if not self._ordered_last or packet.pts > self._ordered_last[-1]:
            self._last_duration = packet.duration or 0
        self._ordered_last = sorted([*self._ordered_last, packet.pts])[-2:]
        if packet.is_keyframe:
            self.keyframe_pts.append(packet.pts)

    def _decode(self, packet: av.Packet[Any] | None) -> None:
        try:
            self.frames += self._stream.decode(packet)
        except av.FFmpegError as error:
            self.notes.add(f"decoding: {reason(error)}")

    def _problem(self, in_decode_order: PtsArray, ordered: PtsArray) -> str:
        if self.num_without_pts:
            return f"{self.num_without_pts} frames have no timestamp"
        num_repeated = int(np.count_nonzero(np.diff(ordered) == 0))
        if num_repeated:
            return f"{num_repeated} frames have the timestamp of another"
        lateness = np.arange(len(ordered)) - np.searchsorted(ordered, in_decode_order)
        if np.max(lateness, initial=0) > _MAX_REORDERING:
            return "timestamps jump back"
        return ""


def _main_video(container: InputContainer, name: str) -> Any:
    streams = [stream for stream in container.streams.video if not stream.disposition & _NO_PICTURE_STREAM]
    streams.sort(key=lambda stream: not stream.disposition & Disposition.default)
    if not streams:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream"
        raise MediaError("there is no video in this file", where=name, got=found, expected="a video stream")
    if streams[0].codec_context is None:
        raise MediaError(
            "no decoder knows this video",
            where=name,
            got=f"a stream without a known codec (stream {streams[0].index})",
        )
    return streams[0]


def _no_frame(name: str, stream: Any, scan: _Scan) -> MediaError:
    said = "; ".join(scan.notes.texts) or f"{len(scan.pts)} packets, none of which gives a frame"
    return MediaError(
        "no frame of this video decodes",
        where=name,
        got=f"{codec_name(stream)}: {said}",
        expected="a complete file that is not encrypted",
        next_step="check that it plays",
    )


def _stream_info(stream: Any) -> StreamInfo:
    kinds: dict[str, StreamKind] = {
        "video": "video",
        "audio": "audio",
        "subtitle": "subtitle",
        "attachment": "attachment",
    }
    metadata = {key.lower(): value for key, value in stream.metadata.items()}
    return StreamInfo(
        index=stream.index,
        kind=kinds.get(stream.type, "data"),
        codec=codec_name(stream),
        language=metadata.get("language", ""),
        title=metadata.get("title", ""),
        is_cover=bool(stream.disposition & Disposition.attached_pic),
    )


def _video_info(file: BinaryIO, container: InputContainer, stream: Any, scan: _Scan) -> VideoInfo:
    frame = scan.frames[0]
    rate = _frame_rate(stream, scan)
    matrix = _display_matrix(frame)
    return VideoInfo(
        stream_index=stream.index,
        codec=codec_name(stream),
        width=frame.width,
        height=frame.height,
        pixel_format=without_full_range(frame.format.name)[0],
        time_base=stream.time_base,
        frame_rate=rate,
        sample_aspect_ratio=stream.sample_aspect_ratio or None,
        color=_color(stream, frame),
        rotation_deg=frame.rotation,
        is_interlaced=any(frame.interlaced_frame for frame in scan.frames),
        num_frames=len(scan.pts) + scan.num_without_pts,
        promised_num_frames=_promised_num_frames(file, container, stream, scan, rate),
        start_pts=scan.start_pts,
        end_pts=scan.end_pts,
        side_data=_side_data(scan.frames),
        display_matrix=matrix,
    )


def _frame_rate(stream: Any, scan: _Scan) -> Fraction:
    """The nominal rate.

    FFmpeg's average is what the container claims, and may be its clock (FLV and Matroska say 1000); its guess
    is the densest spacing seen, which for a variable rate is far above the average.
    """
    span_s = (scan.last_pts - scan.start_pts) * stream.time_base
    measured = Fraction((len(scan.pts) - 1) / span_s) if span_s else None
    for claimed in (stream.average_rate, stream.guessed_rate):
        is_possible = claimed is not None and 0 < claimed <= _HIGHEST_RATE
        if is_possible and (measured is None or abs(claimed / measured - 1) < Fraction(1, 10)):
            return Fraction(claimed)
    if measured is None or measured > _HIGHEST_RATE:
        return Fraction(25)
    usual = min(_USUAL_RATES, key=lambda rate: abs(rate - measured))
    return usual if abs(usual / measured - 1) < Fraction(1, 1000) else measured.limit_denominator(1001)


def _color(stream: Any, frame: VideoFrame) -> ColorTags:
    """What the container says, or else the first frame; 0 is reserved in both, but for a matrix of RGB."""
    context = stream.codec_context

    def tag(field: str) -> int:
        said = (getattr(context, field), getattr(frame, field))
        return next((int(value) for value in said if value not in (0, UNSPECIFIED)), UNSPECIFIED)

    name, is_full = without_full_range(frame.format.name)
    range_ = context.color_range or frame.color_range
    pixels = pixel_format(name)
    is_subsampled = pixels is None or bool(pixels.chroma_w_shift or pixels.chroma_h_shift)
    return ColorTags(
        primaries=tag("color_primaries"),
        transfer=tag("color_trc"),
        matrix=tag("colorspace"),
        full_range=is_full or range_ == _FULL_RANGE if is_full or range_ else None,
        chroma_location=matroska.chroma_location(header_of(stream)) if is_subsampled else None,
    )


def _side_data(frames: list[VideoFrame]) -> tuple[str, ...]:
    """Names of all kinds, in the order of the alphabet."""
    every: list[Any] = [data for frame in frames for data in frame.side_data]  # PyAV's stubs say str
    return tuple(sorted({data.type.name for data in every}))


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int, int, int, int, int, int] | None:
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, u, c, d, v, x, y, w = struct.unpack("=9i", bytes(data))
    return a, b, u, c, d, v, x, y, w


def _promised_num_frames(
    file: BinaryIO, container: InputContainer, stream: Any, scan: _Scan, rate: Fraction
) -> int | None:
    """See `VideoInfo.promised_num_frames`."""
    num_frames = len(scan.pts)
    if "mov" in container.format.name:
        # `stream.frames` counts what an edit list takes away; the index is of what is left.
        promised = sum(not entry.is_discard for entry in stream.index_entries)
    elif "matroska" in container.format.name and container.duration and matroska.missing_bytes(file):
        missing_s = Fraction(container.duration, av.time_base) - scan.end_pts * stream.time_base
        promised = num_frames + max(1, round(missing_s * rate))
    else:
        return None
    return promised if promised > num_frames else None


def _duration_s(container: InputContainer, stream: Any, scan: _Scan) -> float:
    if container.duration:
        return container.duration / av.time_base
    return float((scan.end_pts - scan.start_pts) * stream.time_base)
