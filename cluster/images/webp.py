"""WebP files as chunks: what they hold, and stills and animations put together.

Source: the WebP container specification (RFC 9649). Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO

Chunk = tuple[bytes, bytes]
_ICC, _ALPHA, _EXIF, _XMP, _ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02
_PIXELS = (b"ALPH", b"VP8 ", b"VP8L")
_NO_BLEND = 2


def chunks(data: bytes, start: int = 12) -> Iterator[Chunk]:
    """(type, content) of every chunk, as far as they are whole."""
    position = start
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        if position + 8 + length > len(data):
            return
        yield data[position : position + 4], data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def is_lossless(data: bytes) -> bool:
    """Whether every picture in the file is stored exactly."""
    kinds = [kind for kind, _ in _pictures(data)]
    return bool(kinds) and all(kind == b"VP8L" for kind in kinds)


def _pictures(data: bytes) -> Iterator[Chunk]:
    for kind, content in chunks(data):
        if kind == b"ANMF":
            yield from (chunk for chunk in chunks(content, 16) if chunk[0] in (b"VP8 ", b"VP8L"))
        elif kind in (b"VP8 ", b"VP8L"):
            yield kind, content


class WebpWriter:
    """Writes a still, or the frames of an animation one after the other, each a picture of the full size."""

    def __init__(
        self,
        file: BinaryIO,
        size: tuple[int, int],
        has_alpha: bool,
        metadata: tuple[bytes, bytes, bytes],
        delays_s: Sequence[Fraction],
        loop: int,
    ) -> None:
        """Begin a file.

        Args:
            file: Where it goes; seekable.
            size: (height, width).
            has_alpha: Of any frame.
            metadata: ICC profile, EXIF block and XMP packet, each empty where there is none.
            delays_s: Of every frame, in whole milliseconds; empty for a still.
            loop: How often it is played; 0 for ever.
        """
        self._file, self._size, self._delays_s = file, size, delays_s
        self._icc, self._exif, self._xmp = metadata
        self._num_frames = 0
        flags = [(_ICC, self._icc), (_EXIF, self._exif), (_XMP, self._xmp), (_ALPHA, has_alpha)]
        mask = sum(flag for flag, there in [*flags, (_ANIMATION, delays_s)] if there)
        file.write(b"RIFF\0\0\0\0WEBP")
        self._write(b"VP8X", struct.pack("<I", mask) + _size24(size))
        if self._icc:
            self._write(b"ICCP", self._icc)
        if delays_s:
            self._write(b"ANIM", struct.pack("<IH", 0, min(loop, 65_535)))

    def add(self, picture: bytes) -> None:
        """Appends the pixels of a WebP file."""
        pixels = [chunk for chunk in chunks(picture) if chunk[0] in _PIXELS]
        if not self._delays_s:
            for chunk in pixels:
                self._write(*chunk)
            return
        delay_ms = int(self._delays_s[self._num_frames] * 1000)
        place = bytes(6) + _size24(self._size) + delay_ms.to_bytes(3, "little") + bytes([_NO_BLEND])
        self._write(b"ANMF", place + b"".join(_packed(*chunk) for chunk in pixels))
        self._num_frames += 1

    def end(self) -> None:
        """Writes what ends the file, and its length."""
        for kind, content in ((b"EXIF", self._exif), (b"XMP ", self._xmp)):
            if content:
                self._write(kind, content)
        length = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", length - 8))

    def _write(self, kind: bytes, content: bytes) -> None:
        self._file.write(_packed(kind, content))


def _packed(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _size24(size: tuple[int, int]) -> bytes:
    return (size[1] - 1).to_bytes(3, "little") + (size[0] - 1).to_bytes(3, "little")
