"""What parts of a video take in their file."""

from __future__ import annotations

from typing import BinaryIO

from cluster.video.info import VideoInfo
from cluster.video.source import ErrorNotes, only, open_source, read_packets


def coded_bytes(file: BinaryIO, video: VideoInfo, start_pts: int, end_pts: int, name: str) -> int:
    """What the frames with `start_pts <= pts < end_pts` take, without what the container adds.

    Args:
        file: The source.
        video: Its stream, whose times need no repair.
        start_pts: Of a keyframe.
        end_pts: Where the range ends.
        name: Names the source in errors.

    Raises:
        MediaError: It cannot be read.
    """
    num_bytes = 0
    with open_source(file, name) as container:
        stream = container.streams[video.stream_index]
        only(container, [stream])
        container.seek(start_pts, stream=stream)
        for packet in read_packets(container, [stream], ErrorNotes()):
            if packet.pts is not None and start_pts <= packet.pts < end_pts:
                num_bytes += packet.size
            # No packet that is decoded from here on is shown before.
            if packet.dts is not None and packet.dts >= end_pts:
                break
    return num_bytes
