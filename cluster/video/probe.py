"""What a source is: its streams, and when each frame of its main video stream is displayed."""

from __future__ import annotations

import contextlib
import struct
from array import array
from fractions import Fraction
from itertools import islice
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame

from cluster.video import matroska
from cluster.video.deinterlace import repeats_field
from cluster.video.field_pairs import whole_frames
from cluster.video.info import (
    UNSPECIFIED,
    ColorTags,
    ContentLight,
    MasteringDisplay,
    SourceInfo,
    StreamInfo,
    StreamKind,
    VideoInfo,
)
from cluster.video.pixels import pixel_format, without_full_range
from cluster.video.repair import (
    BACK_S,
    GAP_S,
    MOSTLY_MISSING,
    NOT_IN_DISPLAY_ORDER,
    FrameTimes,
    may_jump,
    repaired_times,
)
from cluster.video.source import (
    MAX_PIXELS,
    ErrorNotes,
    alpha_decoder,
    check_size,
    codec_name,
    header_of,
    limit_decoder,
    new_decoder,
    only,
    open_source,
    read_packets,
    reason,
)
from cluster.video.tags import RGB
from cluster.video.timeline import PtsArray, Timeline
from sr_core.errors import MediaError

# Interlacing may begin late: frames are looked at again from a keyframe on after this many packets, then
# after twice as many, and so on.
_NUM_LOOKED_AT = 8
_FIRST_LOOK_AGAIN = 64
_NUM_LOOKED_AT_AGAIN = 4
_MAX_PACKETS_WITHOUT_FRAME = 1000
_MAX_REORDERING = 64
_HIGHEST_RATE = 300
_USUAL_RATES = tuple(
    Fraction(number * 1000, per) for number in (24, 25, 30, 48, 50, 60, 100, 120) for per in (1000, 1001)
)
_JUMPS = "timestamps jump ahead"
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_NUM_PACKETS_TRIED = 100
# As Matroska stores the kind of a block addition, by which it carries Dolby Vision's configuration record.
_DOVI_RECORDS = (b"\x41\xe7\x84dvcC", b"\x41\xe7\x84dvvC", b"\x41\xe7\x84dvwC")
_NO_PICTURE_STREAM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def probe(file: BinaryIO, name: str) -> tuple[SourceInfo, Timeline]:
    """What the source in `file` is, from one pass over the packets of its main video stream.

    Where the stream's times cannot be used as they are, another pass over all streams repairs them, and what
    comes back holds the repaired ones. The main stream is the first video stream that is no still picture,
    with those first that are flagged as default.

    Args:
        name: Names the source in errors.

    Raises:
        MediaError: It cannot be read, has no video, or nothing of it decodes.
    """
    with open_source(file, name) as container:
        stream = _main_video(container, name)
        only(container, [stream])
        check_size(stream.codec_context.width, stream.codec_context.height, name)
        scan = _Scan(container, stream)
        if scan.is_encrypted:
            raise _encrypted(name, stream)
        if not scan.frames or not scan.num_frames:
            raise _no_frame(file, name, stream, scan)
        check_size(scan.frames[0].width, scan.frames[0].height, name)
        _repair(file, name, stream, scan)
        info = SourceInfo(
            format_name=container.format.name,
            duration_s=_duration_s(container, stream, scan),
            num_chapters=len(container.chapters()),
            streams=tuple(_stream_info(stream) for stream in container.streams),
            timecode=_timecode(container, stream),
            video=_video_info(file, container, stream, scan),
        )
    # The demuxer's tables are gone by now: for a long film they are as large as all that follows.
    return info, scan.timeline()


def _repair(file: BinaryIO, name: str, stream: Any, scan: _Scan) -> None:
    """Has the times of `scan` repaired where they are a problem."""
    if not scan.problem and not scan.has_gap:
        return
    times, repair = repaired_times(file, name, stream.index, scan.problem)
    if scan.problem or repair.num_jumps:
        scan.replace_times(times, scan.problem or _JUMPS)


class _Scan:
    """One pass over a stream's packets: every displayed packet's times, the first frames, some later ones.

    Attributes:
        is_interlaced: A frame that was looked at says so.
        has_repeat_flags: A frame that was looked at says that a field is shown once more.
        is_encrypted: So says a packet; then the pass ends early.
        problem: Why its times need repair, or were repaired; empty if they are good.
        has_gap: The times are ahead once by so much that this may be a jump, which only all streams can tell.
    """

    def __init__(self, container: InputContainer, stream: Any) -> None:
        self.pts = array("q")
        self.keyframe_pts = array("q")
        self.num_without_pts = 0
        self.frames: list[VideoFrame] = []
        self.is_interlaced = False
        self.has_repeat_flags = False
        self.is_encrypted = False
        self.problem = ""
        self.has_gap = False
        self.notes = ErrorNotes()
        self._goes_back = False
        self._last_dts: int | None = None
        self._looked_at_again: list[av.Packet[Any]] = []
        self._next_look = _FIRST_LOOK_AGAIN
        self._last_duration = 0
        self._ordered_last: list[int] = []  # the last two pts
        self._stream = stream
        self._decoder = alpha_decoder(stream) or stream.codec_context
        limit_decoder(self._decoder)
        packets = whole_frames(read_packets(container, [stream], self.notes), stream)
        for num_before, packet in enumerate(packets):
            self.is_encrypted = packet.has_sidedata("encryption_info")
            if self.is_encrypted:
                return
            self._add(packet)
            self._look_again(packet, num_before)
            wants_frames = len(self.frames) < _NUM_LOOKED_AT
            if wants_frames and (self.frames or num_before < _MAX_PACKETS_WITHOUT_FRAME):
                self._decode(packet)
        if len(self.frames) < _NUM_LOOKED_AT:
            self._decode(None)
        self._decode_looked_at_again()
        self.has_gap = self.has_gap and may_jump(container)
        self.problem = self._problem(is_without_pts=container.format.name == "avi")

    @property
    def num_frames(self) -> int:
        """Displayed packets."""
        return len(self.pts) + self.num_without_pts

    @property
    def sample_aspect_ratio(self) -> Fraction | None:
        """What the container says, or else the frames."""
        return self._stream.sample_aspect_ratio or self._decoder.sample_aspect_ratio or None

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
        return Timeline(
            pts=np.sort(np.frombuffer(self.pts, dtype=np.int64)),
            keyframe_pts=np.sort(np.frombuffer(self.keyframe_pts, dtype=np.int64)),
            end_pts=self.end_pts,
            problem=self.problem,
        )

    def replace_times(self, times: FrameTimes, problem: str) -> None:
        """Puts repaired times in the place of those that were seen."""
        self.problem = problem
        self.num_without_pts = 0
        self.pts = array("q", times.pts.tobytes())
        self.keyframe_pts = array("q", times.keyframe_pts.tobytes())
        self._ordered_last = times.pts[-2:].tolist()
        self._last_duration = times.end_pts - self.last_pts

    def _add(self, packet: av.Packet[Any]) -> None:
        self._compare_dts(packet)
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
            frames = self._decoder.decode(packet)
        except av.FFmpegError as error:
            self.notes.add(f"decoding: {reason(error)}")
            return
        self.frames += frames
        self._look_at(frames)

    def _look_again(self, packet: av.Packet[Any], num_before: int) -> None:
        if self._looked_at_again or (packet.is_keyframe and num_before >= self._next_look):
            self._looked_at_again.append(packet)
        if len(self._looked_at_again) == _NUM_LOOKED_AT_AGAIN:
            self._decode_looked_at_again()
            while self._next_look <= num_before:
                self._next_look *= 2

    def _decode_looked_at_again(self) -> None:
        if not self._looked_at_again:
            return
        decoder = new_decoder(self._stream, threads=1)
        for packet in [*self._looked_at_again, None]:
            try:
                self._look_at(decoder.decode(packet))
            except av.FFmpegError:  # damage there is found when it is decoded to be used
                continue
        self._looked_at_again = []

    def _look_at(self, frames: list[VideoFrame]) -> None:
        self.is_interlaced = self.is_interlaced or any(frame.interlaced_frame for frame in frames)
        self.has_repeat_flags = self.has_repeat_flags or any(repeats_field(frame) for frame in frames)

    def _compare_dts(self, packet: av.Packet[Any]) -> None:
        if packet.dts is None:
            return
        if self._last_dts is not None:
            step_s = (packet.dts - self._last_dts) * packet.time_base
            self._goes_back = self._goes_back or step_s < -BACK_S
            self.has_gap = self.has_gap or step_s > GAP_S
        self._last_dts = packet.dts

    def _problem(self, is_without_pts: bool) -> str:
        in_decode_order = np.frombuffer(self.pts, dtype=np.int64)
        ordered = np.sort(in_decode_order)
        if self._is_out_of_order(in_decode_order, is_without_pts):
            return NOT_IN_DISPLAY_ORDER
        if 2 * self.num_without_pts > self.num_frames:
            return MOSTLY_MISSING
        if self.num_without_pts:
            return f"{self.num_without_pts} frames have no timestamp"
        num_repeated = int(np.count_nonzero(np.diff(ordered) == 0))
        if num_repeated:
            return f"{num_repeated} frames have the timestamp of another"
        if len(ordered) and ordered[0] < 0:
            return "timestamps start before zero"
        lateness = np.arange(len(ordered)) - np.searchsorted(ordered, in_decode_order)
        if self._goes_back or np.max(lateness, initial=0) > _MAX_REORDERING:
            return "timestamps jump back"
        return ""

    def _is_out_of_order(self, in_decode_order: PtsArray, is_without_pts: bool) -> bool:
        """Whether pts are the times of decoding, although frames are displayed in another order.

        AVI has no other times, and the demuxer makes pts of them.
        """
        if np.any(np.diff(in_decode_order) <= 0):
            return False
        seen = [frame.pts for frame in self.frames if frame.pts is not None]
        return (is_without_pts and self._decoder.has_b_frames) or seen != sorted(seen)


def _main_video(container: InputContainer, name: str) -> Any:
    streams = _pictures(container)
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


def _pictures(container: InputContainer) -> list[Any]:
    return [stream for stream in container.streams.video if not stream.disposition & _NO_PICTURE_STREAM]


def _encrypted(name: str, stream: Any) -> MediaError:
    return MediaError(
        "this video is encrypted",
        where=name,
        got=f"{codec_name(stream)} (stream {stream.index}) that needs a key",
        expected="a file without copy protection",
        next_step="decrypt it, if you may",
    )


def _no_frame(file: BinaryIO, name: str, stream: Any, scan: _Scan) -> MediaError:
    if {key.lower() for key in stream.metadata} & {"enc_key_id"}:
        return _encrypted(name, stream)
    said = "; ".join(scan.notes.texts) or f"{len(scan.pts)} packets, none of which gives a frame"
    return MediaError(
        "no frame of this video decodes",
        where=name,
        got=f"{codec_name(stream)} (stream {stream.index}): {said}",
        expected=f"a complete file that is not encrypted, with frames of {MAX_PIXELS} pixels at most",
        next_step="check that it plays" + _others_that_decode(file, name, stream.index),
    )


def _others_that_decode(file: BinaryIO, name: str, index: int) -> str:
    """Says which video streams other than `index` have a frame, to end a sentence with; empty if none has."""
    with open_source(file, name) as container:
        others = [stream for stream in _pictures(container) if stream.index != index and stream.codec_context]
        found: set[int] = set()
        for packet in islice(read_packets(container, others, ErrorNotes()), _NUM_PACKETS_TRIED):
            with contextlib.suppress(av.FFmpegError):
                found |= {packet.stream.index} if packet.decode() else set()
    listed = ", ".join(map(str, sorted(found)))
    return f", or copy the video of stream {listed}, which decodes, to a file of its own" if listed else ""


def _timecode(container: InputContainer, stream: Any) -> str:
    """What is carried with the tags of the file and the video; FFmpeg copies it there from its own track."""
    tags = {**container.metadata, **stream.metadata}
    return str({key.lower(): value for key, value in tags.items()}.get("timecode", ""))


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
    header = header_of(stream)
    return VideoInfo(
        stream_index=stream.index,
        codec=codec_name(stream),
        width=frame.width,
        height=frame.height,
        pixel_format=without_full_range(frame.format.name)[0],
        time_base=stream.time_base,
        frame_rate=rate,
        sample_aspect_ratio=scan.sample_aspect_ratio,
        color=_color(stream, frame, header),
        rotation_deg=frame.rotation,
        is_interlaced=scan.is_interlaced,
        num_frames=scan.num_frames,
        promised_num_frames=_promised_num_frames(file, container, stream, scan, rate),
        start_pts=scan.start_pts,
        end_pts=scan.end_pts,
        side_data=_side_data(scan.frames, header),
        display_matrix=_display_matrix(frame),
        has_repeat_flags=scan.has_repeat_flags,
        mastering_display=_mastering_display(frame),
        content_light=_content_light(frame),
        timestamp_problem=scan.problem,
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


def _color(stream: Any, frame: VideoFrame, header: bytes) -> ColorTags:
    """What the container says, or else the first frame; 0 is reserved in both, but for a matrix of RGB."""
    context = stream.codec_context

    def tag(field: str) -> int:
        said = (getattr(context, field), getattr(frame, field))
        return next((int(value) for value in said if value not in (0, UNSPECIFIED)), UNSPECIFIED)

    name, is_full = without_full_range(frame.format.name)
    range_ = context.color_range or frame.color_range
    pixels = pixel_format(name)
    is_rgb = pixels is not None and pixels.is_rgb and RGB in (context.colorspace, frame.colorspace)
    return ColorTags(
        primaries=tag("color_primaries"),
        transfer=tag("color_trc"),
        matrix=RGB if is_rgb else tag("colorspace"),
        full_range=is_full or range_ == _FULL_RANGE if is_full or range_ else None,
        chroma_location=matroska.chroma_location(header) if pixels is None or pixels.is_subsampled else None,
    )


def _side_data(frames: list[VideoFrame], header: bytes) -> tuple[str, ...]:
    """Names of all kinds, in the order of the alphabet."""
    every: list[Any] = [data for frame in frames for data in frame.side_data]  # PyAV's stubs say str
    has_dovi = any(record in header for record in _DOVI_RECORDS)
    return tuple(sorted({data.type.name for data in every} | ({"DOVI_CONF"} if has_dovi else set())))


def _mastering_display(frame: VideoFrame) -> MasteringDisplay | None:
    """From FFmpeg's AVMasteringDisplayMetadata, whose first three colours are red, green and blue."""
    data: Any = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if data is None:
        return None
    *numbers, has_primaries, has_luminance = struct.unpack("=22i", bytes(data))
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    ratios = [Fraction(num, den) if den else Fraction(0) for num, den in pairs]
    red, green, blue, white = ((ratios[at], ratios[at + 1]) if has_primaries else None for at in (0, 2, 4, 6))
    low, high = ratios[8:] if has_luminance else (None, None)
    known = bool(has_primaries or has_luminance)
    return MasteringDisplay(red, green, blue, white, low, high) if known else None


def _content_light(frame: VideoFrame) -> ContentLight | None:
    """From FFmpeg's AVContentLightMetadata."""
    data: Any = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    return ContentLight(*struct.unpack("=2I", bytes(data)[:8])) if data is not None else None


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
    if container.duration and not scan.problem:
        return container.duration / av.time_base
    return float((scan.end_pts - scan.start_pts) * stream.time_base)
