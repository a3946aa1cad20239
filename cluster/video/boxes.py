"""The boxes of MP4 and QuickTime files (ISO/IEC 14496-12, 4.2), as far as to find the index. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MOST_BOXES = 64  # at one level; each may be another block of a file far away
_HEADER_BYTES, _LONG_HEADER_BYTES = 8, 16
_IS_LONG, _GOES_ON_TO_THE_END = 1, 0  # sizes that are none
# Fragments have indexes of their own behind `moov`, which then has `mvex`; what is in `cmov` cannot be seen.
_OF_FRAGMENTS = {b"moof", b"mfra", b"sidx", b"ssix", b"styp", b"prft", b"emsg"}
_NOT_IN_MOOV = {b"mvex", b"cmov"}


@dataclass(frozen=True)
class _Box:
    """One box of a file.

    Attributes:
        content: Where what is in it begins.
        end: Behind its last byte.
    """

    kind: bytes
    content: int
    end: int


class _BrokenError(Exception):
    """What is there is no sequence of boxes, or not a whole one."""


def is_wholly_indexed(file: BinaryIO) -> bool:
    """Whether `file` is an MP4 or QuickTime file that is whole and lists all its packets in one `moov` box.

    Reads some bytes of every box at the top and in `moov`.

    Args:
        file: May be left at another position.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    try:
        top = list(_boxes(file, 0, num_bytes))
        movies = [box for box in top if box.kind == b"moov"]
        if len(movies) != 1 or {box.kind for box in top} & _OF_FRAGMENTS:
            return False
        kinds = {box.kind for box in _boxes(file, movies[0].content, movies[0].end)}
    except _BrokenError:
        return False
    return {b"mvhd", b"trak"} <= kinds and not kinds & _NOT_IN_MOOV


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    """The boxes that fill the half-open range of bytes exactly.

    Raises:
        _BrokenError: They do not, or there are too many.
    """
    for _ in range(_MOST_BOXES):
        if start == end:
            return
        box = _box(file, start, end)
        yield box
        start = box.end
    raise _BrokenError


def _box(file: BinaryIO, start: int, end: int) -> _Box:
    file.seek(start)
    header = file.read(min(_LONG_HEADER_BYTES, end - start))
    size, kind, content = int.from_bytes(header[:4], "big"), header[4:_HEADER_BYTES], start + _HEADER_BYTES
    if size == _IS_LONG:
        size = int.from_bytes(header[_HEADER_BYTES:_LONG_HEADER_BYTES], "big")
        content = start + _LONG_HEADER_BYTES
    elif size == _GOES_ON_TO_THE_END:
        size = end - start
    if not content <= start + size <= end:
        raise _BrokenError
    return _Box(kind, content, start + size)
