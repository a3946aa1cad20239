"""Bits of MPEG-2 pictures that no encoder here sets (ISO/IEC 13818-2, 6.2.2.3 and 6.2.3.1)."""

from __future__ import annotations

_EXTENSION = b"\0\0\1\xb5"
_SEQUENCE, _PICTURE_CODING = 1, 8
# Bytes behind the start code, and bits in them.
_PROGRESSIVE_SEQUENCE = (1, 0x08)
_TOP_FIELD_FIRST = (3, 0x80)
_REPEAT_FIRST_FIELD = (3, 0x02)
_PROGRESSIVE_FRAME = (4, 0x80)


def with_pulldown(payload: bytes, top_field_first: bool, repeat_first_field: bool) -> bytes:
    """A progressive picture that is displayed as fields, the first of them maybe twice."""
    data = bytearray(payload)
    _set(data, _SEQUENCE, _PROGRESSIVE_SEQUENCE, False)
    _set(data, _PICTURE_CODING, _TOP_FIELD_FIRST, top_field_first)
    _set(data, _PICTURE_CODING, _REPEAT_FIRST_FIELD, repeat_first_field)
    return bytes(data)


def as_progressive_frame(payload: bytes) -> bytes:
    """A picture of an interlaced stream that says that its fields belong to one moment."""
    data = bytearray(payload)
    _set(data, _PICTURE_CODING, _PROGRESSIVE_FRAME, True)
    return bytes(data)


def _set(data: bytearray, extension: int, place: tuple[int, int], value: bool) -> None:
    """Sets a bit in every extension of a kind."""
    offset, bit = place
    at = data.find(_EXTENSION)
    while at >= 0:
        body = at + len(_EXTENSION)
        if data[body] >> 4 == extension:
            data[body + offset] = data[body + offset] | bit if value else data[body + offset] & ~bit
        at = data.find(_EXTENSION, body)
