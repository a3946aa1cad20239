"""PNG files as chunks: what they say beside their pixels, and animations taken apart and put together.

Source: the PNG specification, third edition (W3C), whose section 11.3.6 is on animation. Pure.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import BinaryIO

from sr_core.errors import MediaError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]
# What says how colours are meant; an ICC profile is read and written by other means.
COLOR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI")
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD = b"XML:com.adobe.xmp"
_MAX_ICC_BYTES = 1 << 24
_OF_PIXELS = (b"PLTE", b"tRNS")


@dataclass(frozen=True)
class FrameControl:
    """Where and when a frame of an animation is drawn (fcTL).

    Attributes:
        dispose: What becomes of its area afterwards: 0 it stays, 1 it is cleared, 2 what was there before.
        blend: 0 it replaces what is there, 1 it is drawn over it.
    """

    width: int
    height: int
    left: int
    top: int
    delay_s: Fraction
    dispose: int
    blend: int


@dataclass(frozen=True)
class Animation:
    """The frames of an animated PNG: how each is drawn, and its pixels as a PNG of its own.

    Attributes:
        num_plays: 0 for ever.
        num_promised: Frames that the file says it has.
        has_default_picture: Whether there is a picture that is no frame.
    """

    width: int
    height: int
    num_plays: int
    num_promised: int
    frames: tuple[tuple[FrameControl, bytes], ...]
    has_default_picture: bool

    @property
    def shows_nothing_somewhere(self) -> bool:
        """Whether a part of the canvas may be empty, although the pictures have no transparency."""
        first = self.frames[0][0]
        is_partial = (first.width, first.height) != (self.width, self.height)
        return is_partial or any(control.dispose == 1 for control, _ in self.frames[:-1])


def chunks(data: bytes) -> Iterator[Chunk]:
    """(type, content) of every chunk up to IEND or to where the file is cut off."""
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if position + 12 + length > len(data):
            return
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def is_animated(data: bytes) -> bool:
    """Whether there is an acTL chunk before the pixels."""
    for kind, _ in chunks(data):
        if kind in (b"acTL", b"IDAT"):
            return kind == b"acTL"
    return False


def read_animation(data: bytes, name: str) -> Animation:
    """The frames of an animated PNG, as far as they are whole.

    Raises:
        MediaError: There is none, or one lies outside of the canvas.
    """
    header, shared, has_default = b"", list[Chunk](), False
    num_promised, num_plays = 0, 0
    frames: list[tuple[FrameControl, list[bytes]]] = []
    for kind, content in chunks(data):
        if kind == b"IHDR":
            header = content
        elif kind == b"acTL" and len(content) == 8:
            num_promised, num_plays = struct.unpack(">2I", content)
        elif kind in (*_OF_PIXELS, b"sBIT"):
            shared.append((kind, content))
        elif kind == b"fcTL" and len(content) == 26:
            frames.append((_frame_control(content), []))
        elif kind == b"IDAT" and frames:
            frames[-1][1].append(content)
        elif kind == b"IDAT":  # pixels before the first fcTL are no part of the animation
            has_default = True
        elif kind == b"fdAT" and frames:
            frames[-1][1].append(content[4:])
    width, height = struct.unpack(">2I", header[:8])
    for control, _ in frames:
        if control.left + control.width > width or control.top + control.height > height:
            raise MediaError("a frame of the animated PNG lies outside of it", where=name, got=str(control))
    whole = tuple(
        (control, _standalone(header, control, shared, parts)) for control, parts in frames if parts
    )
    if not whole:
        raise MediaError("the animated PNG has no frame", where=name)
    return Animation(width, height, num_plays, num_promised, whole, has_default)


def _frame_control(content: bytes) -> FrameControl:
    _, width, height, left, top, numerator, denominator, dispose, blend = struct.unpack(">5I2H2B", content)
    delay_s = Fraction(numerator, denominator or 100)
    return FrameControl(width, height, left, top, delay_s, dispose, blend)


def _standalone(header: bytes, control: FrameControl, shared: list[Chunk], parts: list[bytes]) -> bytes:
    own_header = struct.pack(">2I", control.width, control.height) + header[8:]
    pieces = [SIGNATURE, _packed(b"IHDR", own_header), *(_packed(*chunk) for chunk in shared)]
    return b"".join((*pieces, *(_packed(b"IDAT", part) for part in parts), _packed(b"IEND", b"")))


def mended(data: bytes) -> bytes:
    """A PNG with as many pixels as its header promises: those that cannot be read any more are zeros.

    Decoders give up on interlaced pictures that are cut off, although every pass before that is there.
    Empty where not even the header is whole.
    """
    found = dict[bytes, bytes]()
    before, packed = list[Chunk](), bytearray()
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        if kind == b"IDAT":
            packed += content
        elif kind in (b"IHDR", *_OF_PIXELS):
            before.append((kind, content))
            found[kind] = content
        position += 12 + length
    if len(found.get(b"IHDR", b"")) != 13:
        return b""
    num_bytes = _num_raw_bytes(found[b"IHDR"])
    raw = _inflated(bytes(packed), num_bytes)
    pixels = zlib.compress(raw + bytes(num_bytes - len(raw)), 1)
    whole = (*before, (b"IDAT", pixels), (b"IEND", b""))
    return SIGNATURE + b"".join(_packed(*chunk) for chunk in whole)


def _num_raw_bytes(header: bytes) -> int:
    """Of all rows with their filter bytes, in one pass or in the seven of Adam7."""
    width, height, depth, color, _, _, interlace = struct.unpack(">2I5B", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 4)
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    total = 0
    for left, top, across, down in passes if interlace else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


def _inflated(packed: bytes, num_bytes: int) -> bytes:
    """The first `num_bytes`, as far as they can be had."""
    stream, raw = zlib.decompressobj(), bytearray()
    try:
        for start in range(0, len(packed), 4096):  # in steps: an error loses only its own
            raw += stream.decompress(packed[start : start + 4096], num_bytes - len(raw) + 1)
            if len(raw) >= num_bytes:
                break
    except zlib.error:
        pass
    return bytes(raw[:num_bytes])


def first_frame_first(animation: Animation) -> Animation:
    """The same, with a first frame that clears what cannot have been drawn yet, as readers do."""
    control, pixels = animation.frames[0]
    control = replace(control, dispose=min(control.dispose, 1), blend=0)
    return replace(animation, frames=((control, pixels), *animation.frames[1:]))


class PngWriter:
    """Writes a still, or the frames of an animation one after the other, each a picture of the full size."""

    def __init__(
        self, file: BinaryIO, before: Sequence[Chunk], delays_s: Sequence[Fraction], num_plays: int
    ) -> None:
        """Begin a file.

        Args:
            file: Where it goes.
            before: Chunks that stand between the header and the pixels.
            delays_s: Of every frame; empty for a still.
            num_plays: 0 for ever.
        """
        self._file = file
        self._before = before
        self._delays_s = delays_s
        self._num_plays = num_plays
        self._num_frames = 0
        self._sequence = 0

    def add(self, picture: bytes) -> None:
        """Appends the pixels of a PNG file."""
        first = self._num_frames == 0
        header = b""
        for kind, content in chunks(picture):
            if kind == b"IHDR":
                header = content
                if first:
                    self._begin(content)
            elif kind == b"IDAT":
                if header:
                    self._control(header)
                    header = b""
                self._write(*((b"IDAT", content) if first else (b"fdAT", self._numbered(content))))
        self._num_frames += 1

    def end(self) -> None:
        """Writes what ends the file."""
        self._write(b"IEND", b"")

    def _begin(self, header: bytes) -> None:
        self._file.write(SIGNATURE)
        self._write(b"IHDR", header)
        for chunk in self._before:
            self._write(*chunk)
        if self._delays_s:
            self._write(b"acTL", struct.pack(">2I", len(self._delays_s), self._num_plays))

    def _control(self, header: bytes) -> None:
        if not self._delays_s:
            return
        width, height = struct.unpack(">2I", header[:8])
        delay_s = self._delays_s[self._num_frames]
        times = struct.pack(">2H2B", delay_s.numerator, delay_s.denominator, 0, 0)
        self._write(b"fcTL", self._numbered(struct.pack(">4I", width, height, 0, 0) + times))

    def _numbered(self, content: bytes) -> bytes:
        self._sequence += 1
        return struct.pack(">I", self._sequence - 1) + content

    def _write(self, kind: bytes, content: bytes) -> None:
        self._file.write(_packed(kind, content))


def _packed(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def icc_chunk(profile: bytes) -> Chunk:
    """An ICC profile."""
    return b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile, 9)


def icc_of(content: bytes) -> bytes:
    """The profile in an iCCP chunk; empty where it cannot be unpacked."""
    _, _, packed = content.partition(b"\0")
    return _inflated(packed[1:], _MAX_ICC_BYTES)


def xmp_chunk(xmp: bytes) -> Chunk:
    """An XMP packet."""
    return b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + xmp


def density_chunk(x_per_mm: float, y_per_mm: float) -> Chunk:
    """The pixels per unit of length."""
    return b"pHYs", struct.pack(">2IB", round(x_per_mm * 1000), round(y_per_mm * 1000), 1)
