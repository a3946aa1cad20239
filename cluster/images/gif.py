"""GIF files as blocks: whether all of them are there. Source: the GIF89a specification. Pure."""

from __future__ import annotations

_EXTENSION, _PICTURE, _TRAILER = 0x21, 0x2C, 0x3B
_HEADER_BYTES, _PICTURE_BYTES = 13, 10


def is_whole(data: bytes) -> bool:
    """Whether the blocks lead to the mark that ends the file; without it, frames may be missing."""
    position = _HEADER_BYTES + _table_bytes(data, 10)
    while position < len(data):
        kind = data[position]
        if kind == _TRAILER:
            return True
        if kind == _EXTENSION:
            position = _after_sub_blocks(data, position + 2)
        elif kind == _PICTURE:
            position = _after_sub_blocks(
                data, position + _PICTURE_BYTES + _table_bytes(data, position + _PICTURE_BYTES - 1) + 1
            )
        elif kind == 0:  # filling that some programs leave between blocks
            position += 1
        else:
            return False
    return False


def _table_bytes(data: bytes, flags: int) -> int:
    """Of the palette that the flags at an offset speak of."""
    if flags >= len(data) or not data[flags] & 0x80:
        return 0
    return 3 << ((data[flags] & 7) + 1)


def _after_sub_blocks(data: bytes, position: int) -> int:
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return position + 1
