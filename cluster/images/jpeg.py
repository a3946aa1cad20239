"""JPEG files as segments: what stands before the pixels, read and written.

Sources: ITU-T T.81 annex B; JFIF 1.02; ICC.1:2022 annex B.4; Adobe's XMP specification, part 3. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Segment = tuple[int, bytes]
_SOI, _SOS, _DQT, _APP0, _APP1, _APP2, _APP13, _COM = 0xD8, 0xDA, 0xDB, 0xE0, 0xE1, 0xE2, 0xED, 0xFE
_NUM_STEPS = 64
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ICC = b"ICC_PROFILE\0"
_MAX_CONTENT = 65_533


def segments(data: bytes) -> Iterator[Segment]:
    """(marker, content) of every segment before the pixels, as far as they are whole."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _SOS or length < 2 or position + 2 + length > len(data):
            return
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + length


def comments(data: bytes) -> tuple[bytes, ...]:
    """The comments (COM)."""
    return tuple(content for marker, content in segments(data) if marker == _COM)


def luma_steps(data: bytes) -> tuple[int, ...]:
    """The 64 steps of the first quantiser, which is luma's, in the order of the file; empty where none is."""
    for marker, content in segments(data):
        size = 2 if content[:1] > b"\x0f" else 1
        if marker == _DQT and len(content) > _NUM_STEPS * size:
            steps = content[1 : 1 + _NUM_STEPS * size]
            return tuple(int.from_bytes(steps[at : at + size], "big") for at in range(0, len(steps), size))
    return ()


def has_more_pictures(data: bytes) -> bool:
    """Whether further pictures follow the first (CIPA DC-007): previews, second views, gain maps."""
    return any(marker == _APP2 and content.startswith(b"MPF\0") for marker, content in segments(data))


def has_density(data: bytes) -> bool:
    """Whether JFIF gives the pixels per unit of length, and not only their shape."""
    return any(
        marker == _APP0 and content.startswith(b"JFIF\0") and len(content) > 7 and content[7] in (1, 2)
        for marker, content in segments(data)
    )


def with_metadata(
    picture: bytes,
    per_mm: tuple[float, float] | None,
    icc: bytes,
    exif: bytes,
    xmp: bytes,
    iptc: bytes,
    comments: tuple[bytes, ...],
) -> tuple[bytes, tuple[str, ...]]:
    """`picture`, a JPEG without metadata, with it; and what was too large for it.

    Args:
        picture: A JPEG file without any, JFIF's included.
        per_mm: Pixels per millimetre, horizontally and vertically; None where not known.
        icc: ICC profile; empty where there is none, as the others.
        exif: EXIF block, beginning as a TIFF does.
        xmp: XMP packet.
        iptc: Photoshop's resources, as they stand in APP13.
        comments: Of COM.
    """
    wanted = [
        ("the density", _APP0, _jfif(per_mm)),
        ("the EXIF data", _APP1, _EXIF + exif if exif else b""),
        ("the XMP data", _APP1, _XMP + xmp if xmp else b""),
        *(("the ICC profile", _APP2, part) for part in _icc_parts(icc)),
        ("the IPTC data", _APP13, iptc),
        *(("a comment", _COM, comment) for comment in comments),
    ]
    fitting = [_packed(marker, content) for _, marker, content in wanted if 0 < len(content) <= _MAX_CONTENT]
    too_large = tuple(what for what, _, content in wanted if len(content) > _MAX_CONTENT)
    return b"".join((picture[:2], *fitting, picture[2:])), too_large


def _icc_parts(icc: bytes) -> list[bytes]:
    room = _MAX_CONTENT - len(_ICC) - 2
    if len(icc) > 255 * room:  # the number of parts is a byte
        return [icc]
    parts = [icc[start : start + room] for start in range(0, len(icc), room)]
    return [_ICC + bytes((number, len(parts))) + part for number, part in enumerate(parts, start=1)]


def _jfif(per_mm: tuple[float, float] | None) -> bytes:
    """The content of JFIF's segment, in the unit in which the density is nearest to whole numbers."""
    if per_mm is None:
        return b"JFIF\0\1\2\0\0\1\0\1\0\0"  # square pixels of no size
    units = {1: [each * 25.4 for each in per_mm], 2: [each * 10 for each in per_mm]}
    unit = min(units, key=lambda unit: sum(abs(each - round(each)) for each in units[unit]))
    density = (min(max(1, round(each)), 65_535) for each in units[unit])
    return struct.pack(">5s2BB2H2B", b"JFIF\0", 1, 2, unit, *density, 0, 0)


def _packed(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content
