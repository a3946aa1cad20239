"""What a source is: its streams, and when each frame of its main video stream is displayed."""

from __future__ import annotations

import contextlib
import struct
from fractions import Fraction
from itertools import islice
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from cluster.video import matroska
from cluster.video.boxes import is_wholly_indexed
from cluster.video.cut_off import is_cut_off
from cluster.video.hollow import HollowFile, Hollowing, WrongIndexError
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
from cluster.video.repair import repaired_times
from cluster.video.scan import Scan
from cluster.video.source import (
    MAX_PIXELS,
    ErrorNotes,
    check_size,
    codec_name,
    header_of,
    only,
    open_source,
    read_packets,
)
from cluster.video.tags import RGB
from cluster.video.timeline import Timeline
from sr_core.errors import MediaError

_LOWEST_RATE, _HIGHEST_RATE = Fraction(1, 1001), 300
_USUAL_RATES = tuple(
    Fraction(number * 1000, per) for number in (24, 25, 30, 48, 50, 60, 100, 120) for per in (1000, 1001)
)
_JUMPS = "timestamps jump ahead"
_NUM_PACKETS_TRIED = 100
_MOST_APART_S = Fraction(1, 2)  # where a file breaks off, between the ends of streams that would both go on
# As Matroska stores the kind of a block addition, by which it carries Dolby Vision's configuration record.
_DOVI_RECORDS = (b"\x41\xe7\x84dvcC", b"\x41\xe7\x84dvvC", b"\x41\xe7\x84dvwC")
_NO_PICTURE_STREAM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def probe(file: BinaryIO, name: str) -> tuple[SourceInfo, Timeline]:
    """What the source in `file` is, from one pass over the packets of its main video stream.

    Where the file lists all packets in an index, that is a pass over the index, and only a few of them are
    read; what comes back is the same.

    Where the stream's times cannot be used as they are, another pass over all streams repairs them, and what
    comes back holds the repaired ones. The main stream is the first video stream that is no still picture,
    with those first that are flagged as default.

    Args:
        name: Names the source in errors.

    Raises:
        MediaError: It cannot be read, has no video, or nothing of it decodes.
    """
    if is_wholly_indexed(file):
        with contextlib.suppress(WrongIndexError):
            return _probed(file, name, HollowFile(file))
    return _probed(file, name, None)


def _probed(file: BinaryIO, name: str, hollow: HollowFile | None) -> tuple[SourceInfo, Timeline]:
    """As `probe`, through `hollow` where there is one.

    Raises:
        MediaError: See there.
        WrongIndexError: `hollow` does not do.
    """
    with open_source(file if hollow is None else hollow.as_file(), name) as container:
        stream = _main_video(container, name)
        only(container, [stream])
        check_size(stream.codec_context.width, stream.codec_context.height, name)
        scan = Scan(stream, None if hollow is None else Hollowing(hollow, stream))
        scan.read(container)
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


def _repair(file: BinaryIO, name: str, stream: Any, scan: Scan) -> None:
    """Has the times of `scan` repaired where they are a problem."""
    if not scan.problem and not scan.has_gap:
        return
    times, repair = repaired_times(file, name, stream.index, scan.problem)
    if scan.problem or repair.num_jumps:
        scan.replace_times(times, scan.problem or _JUMPS)


def _main_video(container: InputContainer, name: str) -> Any:
    streams = _pictures(container)
    streams.sort(key=lambda stream: not stream.disposition & Disposition.default)
    if not streams:
        found = _listed_kinds(container)
        raise MediaError("there is no video in this file", where=name, got=found, expected="a video stream")
    if streams[0].codec_context is None:
        raise MediaError(
            "no decoder knows this video",
            where=name,
            got=f"a stream without a known codec (stream {streams[0].index})",
        )
    return streams[0]


def _listed_kinds(container: InputContainer) -> str:
    """What is there, in words, where there is no video."""
    if not container.streams:
        return "no stream"
    words = {"video": "a cover picture", "audio": "sound", "subtitle": "subtitles"}
    found = dict.fromkeys(words.get(stream.type, stream.type) for stream in container.streams)
    return f"only {' and '.join(sorted(found))}"


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


def _no_frame(file: BinaryIO, name: str, stream: Any, scan: Scan) -> MediaError:
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
        codec=codec_name(stream) or ("tmcd" if stream.type == "data" and "timecode" in metadata else ""),
        language=metadata.get("language", ""),
        title=metadata.get("title", ""),
        is_cover=bool(stream.disposition & Disposition.attached_pic),
    )


def _video_info(file: BinaryIO, container: InputContainer, stream: Any, scan: Scan) -> VideoInfo:
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


def _frame_rate(stream: Any, scan: Scan) -> Fraction:
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
    if abs(usual / measured - 1) < Fraction(1, 1000):
        return usual
    return max(_LOWEST_RATE, measured.limit_denominator(1001))


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
        full_range=is_full or range_ == ColorRange.JPEG if is_full or range_ else None,
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
    file: BinaryIO, container: InputContainer, stream: Any, scan: Scan, rate: Fraction
) -> int | None:
    """See `VideoInfo.promised_num_frames`."""
    num_frames = len(scan.pts)
    if "mov" in container.format.name:
        # `stream.frames` counts what an edit list takes away; the index is of what is left.
        promised = sum(not entry.is_discard for entry in stream.index_entries)
    elif not is_cut_off(file, container.format.name):
        return None
    elif container.format.name == "avi":
        # Also counts frames without data, which repeat the one before; decoding times count them too.
        promised = num_frames + stream.frames - scan.end_of_decoding if stream.frames else 0
    elif not container.duration:
        return None
    elif "matroska" in container.format.name:
        missing_s = Fraction(container.duration, av.time_base) - scan.end_pts * stream.time_base
        promised = num_frames + max(1, round(missing_s * rate))
    else:
        promised = num_frames + round(_missing_s(file, container, stream, scan) * rate)
    return promised if promised > num_frames else None


def _missing_s(file: BinaryIO, container: InputContainer, stream: Any, scan: Scan) -> Fraction:
    """How much of the duration is behind the last packet of any stream, where the video goes on so far."""
    end_s = scan.end_pts * stream.time_base
    last_s = end_s
    with open_source(file, "") as every:
        for packet in read_packets(every, tuple(every.streams), ErrorNotes()):
            if packet.pts is not None:
                last_s = max(last_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
    has_ended = last_s - end_s > _MOST_APART_S
    return Fraction(0) if has_ended else Fraction(container.duration or 0, av.time_base) - last_s


def _duration_s(container: InputContainer, stream: Any, scan: Scan) -> float:
    if container.duration and not scan.problem:
        return container.duration / av.time_base
    return float((scan.end_pts - scan.start_pts) * stream.time_base)
