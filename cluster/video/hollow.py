"""Packets without their payload: what a scan asks of them stands in the index of MP4 and QuickTime files.

The demuxer takes times, sizes and flags of packets from that index, and makes nothing of their payload. So
once the file is open, it can as well be given zeros: a film is then scanned without being read. What of its
packets is to be decoded is read from where the index says that it lies.

One thing the demuxer does take from the payload, of `_PARSED` codecs: whether a packet is a keyframe. The
index says it too. Both are compared as long as packets are real, and in every place that is looked at later.
They differ where a stream can be entered at pictures that the index does not list: there no demuxer seeks to.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import av
from av.video.frame import VideoFrame

from cluster.video.source import codec_name

_PARSED = ("h264", "av1")
# Of these the demuxer looks at no payload. It cuts other codecs into packets, or finds their times, by it.
_NOT_PARSED = (
    *("hevc", "mpeg4", "mpeg2video", "h263", "prores", "dnxhd", "mjpeg", "jpeg2000", "cfhd", "dvvideo"),
    *("png", "qtrle", "rawvideo", "v210"),
)
_LENGTHS_BEFORE_UNITS = b"\1"  # of H.264: so begins the extradata of `avc1`; else fields may be packets
_ZEROS = bytes(1 << 18)


class WrongIndexError(Exception):
    """The index is not to be trusted, or does not say all: the file has to be read."""


class HollowFile(io.RawIOBase):
    """Reads another file, and once it is hollow nothing but zeros, which end where that file does.

    Attributes:
        is_hollow: Whether zeros come.
        num_bytes: Of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Takes `file`, which stays open and may be read by others in between."""
        self._file = file
        self._at = 0
        self.is_hollow = False
        self.num_bytes = file.seek(0, os.SEEK_END)

    def as_file(self) -> BinaryIO:
        """Itself, for what takes a file."""
        return cast(BinaryIO, self)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file; behind its end too."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.num_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"there is nothing at {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all that are left if `size` is negative; of zeros maybe fewer."""
        left = max(0, self.num_bytes - self._at)
        wanted = left if size < 0 else min(size, left)
        content = _ZEROS[:wanted] if self.is_hollow else self.content(self._at, wanted)
        self._at += len(content)
        return content

    def content(self, at: int, num_bytes: int) -> bytes:
        """What the file really holds from the byte `at` on."""
        self._file.seek(at)
        return self._file.read(num_bytes)


class Hollowing:
    """One stream's packets on the way of becoming hollow: first they are real, and held against the index.

    Attributes:
        has_begun: Whether packets may be hollow.
    """

    def __init__(self, file: HollowFile, stream: Any) -> None:
        """Takes the file that the container of `stream` reads, of which no packet was read yet."""
        self.has_begun = False
        self._file = file
        self._is_possible = _says_all(stream)
        self._is_parsed = codec_name(stream) in _PARSED
        self._entries: Iterator[Any] = (entry for entry in stream.index_entries if entry.size)

    def is_keyframe(self, packet: av.Packet[Any]) -> bool:
        """Whether `packet`, the stream's next one, is a keyframe.

        Raises:
            WrongIndexError: It is not what comes next in the index.
        """
        if not self._is_parsed or not self._is_possible:
            return packet.is_keyframe
        entry = next(self._entries, None)
        if entry is None or (entry.pos, entry.size) != (packet.pos, packet.size):
            raise WrongIndexError
        if not self.has_begun:
            self._is_possible = bool(entry.is_keyframe) == packet.is_keyframe
            return packet.is_keyframe
        return bool(entry.is_keyframe)

    def begin(self) -> None:
        """From now on packets are hollow, if they can be."""
        self._file.is_hollow = self.has_begun = self._is_possible

    def fill(self, packet: av.Packet[Any]) -> None:
        """Gives `packet` its payload.

        Raises:
            WrongIndexError: It is not there.
        """
        if not self.has_begun:
            return
        content = self._file.content(packet.pos or 0, packet.size)
        if len(content) != packet.size:
            raise WrongIndexError
        packet.update(content)

    def check(self, frames: Iterable[VideoFrame]) -> None:
        """Takes what a few packets from a keyframe on decode to.

        Raises:
            WrongIndexError: None of it is a keyframe, though the index alone says that this is one.
        """
        if self.has_begun and self._is_parsed and not any(frame.key_frame for frame in frames):
            raise WrongIndexError


def _says_all(stream: Any) -> bool:
    codec = codec_name(stream)
    if "mov" not in stream.container.format.name:
        return False
    if codec == "h264":
        return bytes(stream.codec_context.extradata or b"")[:1] == _LENGTHS_BEFORE_UNITS
    return codec in _PARSED or codec in _NOT_PARSED
