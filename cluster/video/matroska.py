"""What is read from Matroska's own bytes (RFC 8794, RFC 9559), where FFmpeg has no getter for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from cluster.video.info import ChromaLocation

_EBML = 0x1A45DFA3
_SEGMENT = 0x18538067
_TRACKS = 0x1654AE6B
_TRACK_ENTRY = 0xAE
_VIDEO = 0xE0
_COLOUR = 0x55B0
_SITING_ACROSS = 0x55B7  # 1: on the left luma column, 2: between two
_SITING_DOWN = 0x55B8  # 1: on the top luma row, 2: between two

_SITINGS: dict[tuple[int, int], ChromaLocation] = {
    (1, 2): "left",
    (2, 2): "center",
    (1, 1): "topleft",
    (2, 1): "top",
}


def chroma_location(header: bytes) -> ChromaLocation | None:
    """The chroma siting of the one stream whose header `header` is; None where it does not say."""
    found = header
    for wanted in (_SEGMENT, _TRACKS, _TRACK_ENTRY, _VIDEO, _COLOUR):
        found = dict(_elements(found)).get(wanted, b"")
    sitings = dict(_elements(found))
    across, down = (int.from_bytes(sitings.get(key, b"")) for key in (_SITING_ACROSS, _SITING_DOWN))
    return _SITINGS.get((across, down))


def missing_bytes(file: BinaryIO) -> int:
    """How many bytes a Matroska file lacks at its end, by its own account; 0 where it does not say."""
    file.seek(0)
    start = file.read(4096)
    position = 0
    for identifier, size, content in _heads(start):
        position = content
        if identifier == _SEGMENT:
            break
        if identifier != _EBML or size is None:
            return 0
    else:
        return 0
    return max(0, position + size - file.seek(0, 2)) if size is not None else 0


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    for identifier, size, content in _heads(data):
        yield identifier, data[content:] if size is None else data[content : content + size]


def _heads(data: bytes) -> Iterator[tuple[int, int | None, int]]:
    """(identifier, size, offset of the content) of every element in `data`; size is None where not known."""
    position = 0
    while position < len(data):
        id_bytes = _vint_bytes(data[position])
        size_at = position + id_bytes
        if size_at >= len(data):
            return
        size_bytes = _vint_bytes(data[size_at])
        content = size_at + size_bytes
        largest = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(data[size_at:content]) & largest
        yield int.from_bytes(data[position:size_at]), None if size == largest else size, content
        if size == largest:
            return
        position = content + size


def _vint_bytes(first: int) -> int:
    """Length of the variable-size integer that starts with the byte `first`."""
    return max(1, 9 - first.bit_length())
