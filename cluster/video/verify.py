"""Whether an output on disk is what was written: the last look before it is published."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from cluster.video.carry import DigestMaker, StreamDigest, digest_of_attachment, is_rewritten
from cluster.video.codecs import EncodeSettings
from cluster.video.concat import JoinResult
from cluster.video.source import ErrorNotes, codec_name, read_packets, reason
from cluster.video.timeline import PtsArray, rescale
from sr_core.errors import OutputError

_MAX_OFFSET_S = 0.01  # below what can be noticed, above what clocks round


def verify(path: Path, encode: EncodeSettings, pts: PtsArray, joined: JoinResult) -> tuple[str, ...]:
    """Reads the whole file again; returns what it could not keep, for the user to know.

    Args:
        pts: Of all frames, in any order, in ticks of what was encoded.
        joined: What was written to `path`.

    Raises:
        OutputError: A frame is not at its time, the video does not start with a keyframe or has another size,
            or another stream is not what was copied, or not when it was beside the video.
    """
    try:
        with av.open(str(path), "r", metadata_errors="replace") as output:
            found = _read(output, path, joined)
    except av.FFmpegError as error:
        raise OutputError("the output cannot be read", where=str(path), got=reason(error)) from error
    if found.size != (encode.width, encode.height):
        raise _unlike(path, "size", found.size, (encode.width, encode.height))
    _check_times(path, found, rescale(pts - joined.zero_pts, encode.time_base, found.time_base))
    video_start_s = float(int(np.min(pts)) * encode.time_base)
    for wanted, got in zip(found.expected, found.digests, strict=True):
        if got != wanted:
            raise _unlike(path, f"copy of stream {wanted.source_index}", got, wanted)
        _check_offset(path, wanted, got, found.start_s - video_start_s)
    lost = sorted(joined.metadata_keys - found.metadata_keys)
    return (f"metadata is dropped that the container does not keep: {', '.join(lost)}",) if lost else ()


def _check_offset(path: Path, wanted: StreamDigest, got: StreamDigest, video_shift_s: float) -> None:
    """Compares when a stream starts and ends beside the video, which containers may shift together."""
    if None in (wanted.start_s, wanted.end_s, got.start_s, got.end_s):
        return
    ends = [(wanted.start_s, got.start_s)]
    if wanted.num_packets is not None:  # else packets are cut in another way
        ends.append((wanted.end_s, got.end_s))
    for wanted_s, got_s in ends:
        assert wanted_s is not None
        assert got_s is not None
        if abs(got_s - wanted_s - video_shift_s) > _MAX_OFFSET_S:
            raise _unlike(
                path,
                f"time of stream {wanted.source_index} beside the video",
                f"{got_s - video_shift_s:.4f} s",
                f"{wanted_s:.4f} s",
            )


@dataclass
class _Found:
    """What an output on disk is."""

    size: tuple[int, int]
    time_base: Fraction
    pts: array[int]
    start_s: float
    expected: list[StreamDigest]
    digests: list[StreamDigest]
    metadata_keys: set[str]


def _check_times(path: Path, found: _Found, wanted_pts: PtsArray) -> None:
    if len(found.pts) != len(wanted_pts):
        raise _unlike(path, "number of frames", len(found.pts), len(wanted_pts))
    got_pts = np.sort(np.frombuffer(found.pts, dtype=np.int64))
    wanted_pts.sort()
    wrong = np.flatnonzero(got_pts != wanted_pts)
    if len(wrong):
        frame = int(wrong[0])
        raise _unlike(path, f"time of frame {frame}", got_pts[frame], wanted_pts[frame])


def _read(output: InputContainer, path: Path, joined: JoinResult) -> _Found:
    """Reads all of `output` and takes its streams' digests."""
    streams, expected = _matched(output, joined)
    if len(streams) != len(expected) + 1:
        raise _unlike(path, "streams", len(streams), len(expected) + 1)
    video = streams.pop(joined.video_position)
    makers = {
        stream.index: DigestMaker(codec_name(stream), stream.codec_context.extradata)
        for stream in streams
        if stream.type != "attachment"
    }
    pts = _read_packets(output, path, video, makers)
    return _Found(
        size=(video.codec_context.width, video.codec_context.height),
        time_base=video.time_base,
        pts=pts,
        start_s=float(min(pts, default=0) * video.time_base),
        expected=expected,
        digests=[
            _digest(stream, makers.get(stream.index), wanted)
            for stream, wanted in zip(streams, expected, strict=True)
        ],
        metadata_keys=_metadata_keys(output),
    )


def _metadata_keys(output: InputContainer) -> set[str]:
    """Of the whole file; a timecode counts as such, though Matroska and MP4 keep it with a stream."""
    keys = {key.lower() for key in output.metadata}
    of_streams = {key.lower() for stream in output.streams for key in stream.metadata}
    return keys | of_streams & {"timecode"}


def _matched(output: InputContainer, joined: JoinResult) -> tuple[list[Any], list[StreamDigest]]:
    """The output's streams and what was copied to those that are not the video.

    Chapters come back as a data stream from MP4, which leaves out streams without any packet.
    """
    streams = [stream for stream in output.streams if stream.type != "data"]
    keeps_empty = "mov" not in output.format.name
    expected = [digest for digest in joined.carried if keeps_empty or not digest.is_empty]
    return streams, expected


def _read_packets(
    output: InputContainer, path: Path, video: Any, makers: dict[int, DigestMaker]
) -> array[int]:
    """pts of the video's displayed packets; the other streams' packets go to their makers."""
    pts, notes = array("q"), ErrorNotes()
    streams = [output.streams[index] for index in (video.index, *makers)]
    for packet in read_packets(output, streams, notes):
        if packet.stream.index != video.index:
            makers[packet.stream.index].add(packet)
        elif not packet.is_discard and packet.pts is not None:
            if not pts and not packet.is_keyframe:
                raise _unlike(path, "first video packet", "no keyframe", "a keyframe")
            pts.append(packet.pts)
    if notes.texts:
        raise OutputError("the output is damaged", where=str(path), got="; ".join(notes.texts))
    return pts


def _digest(stream: Any, maker: DigestMaker | None, wanted: StreamDigest) -> StreamDigest:
    if maker is None:
        return digest_of_attachment(wanted.source_index, stream.data)
    return maker.digest(wanted.source_index, not wanted.sha256 or is_rewritten(stream))


def _unlike(path: Path, what: str, got: object, expected: object) -> OutputError:
    return OutputError(f"the output's {what} is wrong", where=str(path), got=str(got), expected=str(expected))


def check_part(path: Path, encode: EncodeSettings, num_frames: int) -> None:
    """The commit gate's look at a part on disk.

    Raises:
        OutputError: It cannot be opened, holds another number of frames or another size, or its first frame
            does not decode.
    """
    try:
        with av.open(str(path), "r") as part:
            stream = part.streams.video[0]
            num_packets = sum(packet.size > 0 for packet in part.demux(stream))
            part.seek(0, stream=stream, any_frame=False, backward=True)
            first = next(part.decode(stream))
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise OutputError("a part cannot be read back", where=str(path), got=reason(error)) from error
    if num_packets != num_frames:
        raise _unlike(path, "number of frames", num_packets, num_frames)
    if (first.width, first.height) != (encode.width, encode.height):
        raise _unlike(path, "size", f"{first.width}x{first.height}", f"{encode.width}x{encode.height}")
