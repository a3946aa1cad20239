"""Whether an output on disk is what was written: the last look before it is published."""

from __future__ import annotations

from array import array
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


def verify(path: Path, encode: EncodeSettings, pts: PtsArray, joined: JoinResult) -> tuple[str, ...]:
    """Reads the whole file again; returns what it could not keep, for the user to know.

    Args:
        pts: Of all frames, in any order, in the source's ticks.
        joined: What was written to `path`.

    Raises:
        OutputError: A frame is not at its time, the video does not start with a keyframe or has another size,
            or another stream is not what was copied.
    """
    try:
        with av.open(str(path), "r", metadata_errors="replace") as output:
            return _verify(output, path, encode, pts, joined)
    except av.FFmpegError as error:
        raise OutputError("the output cannot be read", where=str(path), got=reason(error)) from error


def _verify(
    output: InputContainer, path: Path, encode: EncodeSettings, pts: PtsArray, joined: JoinResult
) -> tuple[str, ...]:
    streams, expected = _matched(output, joined)
    if len(streams) != len(expected) + 1:
        raise _unlike(path, "streams", len(streams), len(expected) + 1)
    video = streams.pop(joined.video_position)
    if (video.codec_context.width, video.codec_context.height) != (encode.width, encode.height):
        size = f"{video.codec_context.width}x{video.codec_context.height}"
        raise _unlike(path, "size", size, f"{encode.width}x{encode.height}")
    video_pts, makers = _read(output, path, video, streams)
    wanted_pts = rescale(np.sort(pts), encode.time_base, video.time_base)
    if len(video_pts) != len(wanted_pts):
        raise _unlike(path, "number of frames", len(video_pts), len(wanted_pts))
    wrong = np.flatnonzero(np.sort(video_pts) != wanted_pts)
    if len(wrong):
        frame = int(wrong[0])
        raise _unlike(path, f"time of frame {frame}", np.sort(video_pts)[frame], wanted_pts[frame])
    for wanted, stream, maker in zip(expected, streams, makers, strict=True):
        found = _digest(stream, maker, wanted)
        if found != wanted:
            raise _unlike(path, f"copy of stream {wanted.source_index}", found, wanted)
    lost = sorted(joined.metadata_keys - {key.lower() for key in output.metadata})
    return (f"metadata that the container does not keep: {', '.join(lost)}",) if lost else ()


def _matched(output: InputContainer, joined: JoinResult) -> tuple[list[Any], list[StreamDigest]]:
    """The output's streams and what was copied to those that are not the video.

    Chapters come back as a data stream from MP4, which leaves out streams without any packet.
    """
    streams = [stream for stream in output.streams if stream.type != "data"]
    keeps_empty = "mov" not in output.format.name
    expected = [digest for digest in joined.carried if keeps_empty or not digest.is_empty]
    return streams, expected


def _read(
    output: InputContainer, path: Path, video: Any, others: list[Any]
) -> tuple[PtsArray, list[DigestMaker]]:
    """pts of the video's displayed packets, and the makers of the other streams' digests."""
    makers = [
        DigestMaker(codec_name(stream), stream.codec_context and stream.codec_context.extradata)
        for stream in others
    ]
    by_index = {stream.index: maker for stream, maker in zip(others, makers, strict=True)}
    video_pts = array("q")
    notes = ErrorNotes()
    read = [stream for stream in (video, *others) if stream.type != "attachment"]
    for packet in read_packets(output, read, notes):
        if packet.stream.index != video.index:
            by_index[packet.stream.index].add(packet)
        elif not packet.is_discard and packet.pts is not None:
            if not video_pts and not packet.is_keyframe:
                raise _unlike(path, "first video packet", "no keyframe", "a keyframe")
            video_pts.append(packet.pts)
    if notes.texts:
        raise OutputError("the output is damaged", where=str(path), got="; ".join(notes.texts))
    return np.frombuffer(video_pts, dtype=np.int64), makers


def _digest(stream: Any, maker: DigestMaker, wanted: StreamDigest) -> StreamDigest:
    if stream.type == "attachment":
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
