"""What is said in Matroska's own bytes (RFC 8794, RFC 9559), where FFmpeg has no getter or setter. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

from cluster.video.hdr import points
from cluster.video.info import ChromaLocation, ContentLight, MasteringDisplay

_EBML = 0x1A45DFA3
_DOC_TYPE = 0x4282
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
_CLUSTER_TIME = 0xE7
_TRACKS = 0x1654AE6B
_TRACK_ENTRY = 0xAE
_TRACK_NUMBER = 0xD7
_TRACK_UID = 0x73C5
_TRACK_TYPE = 0x83
_IS_VIDEO = 1
_CODEC_ID = 0x86
_CODEC_PRIVATE = 0x63A2
_VIDEO = 0xE0
_WIDTH = 0xB0
_HEIGHT = 0xBA
_COLOUR = 0x55B0
_SITING_ACROSS = 0x55B7  # 1: on the left luma column, 2: between two
_SITING_DOWN = 0x55B8  # 1: on the top luma row, 2: between two
_MAX_CLL = 0x55BC
_MAX_FALL = 0x55BD
_MASTERING = 0x55D0
_MASTERING_POINTS = 0x55D1  # and the next seven: x and y of red, green, blue and white
_MAX_LUMINANCE = 0x55D9
_MIN_LUMINANCE = 0x55DA

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


def stream_header(
    codec_id: str,
    private: bytes,
    size: tuple[int, int],
    location: ChromaLocation | None,
    display: MasteringDisplay | None,
    light: ContentLight | None,
) -> bytes:
    """A Matroska file of one video stream without frames, that says what FFmpeg lets nobody set.

    Args:
        private: What decoders need beforehand.
        size: (width, height).
    """
    width, height = size
    video = _number(_WIDTH, width) + _number(_HEIGHT, height)
    video += _element(_COLOUR, _siting(location) + _mastering(display) + _light(light))
    track = _number(_TRACK_NUMBER, 1) + _number(_TRACK_UID, 1) + _number(_TRACK_TYPE, _IS_VIDEO)
    track += _element(_CODEC_ID, codec_id.encode()) + _element(_CODEC_PRIVATE, private) * bool(private)
    tracks = _element(_TRACKS, _element(_TRACK_ENTRY, track + _element(_VIDEO, video)))
    cluster = _element(_CLUSTER, _number(_CLUSTER_TIME, 0))
    return _element(_EBML, _element(_DOC_TYPE, b"matroska")) + _element(_SEGMENT, tracks + cluster)


def _siting(location: ChromaLocation | None) -> bytes:
    for (across, down), name in _SITINGS.items():
        if name == location:
            return _number(_SITING_ACROSS, across) + _number(_SITING_DOWN, down)
    return b""


def _mastering(display: MasteringDisplay | None) -> bytes:
    if display is None:
        return b""
    content = b""
    for index, point in enumerate(points(display) or ()):
        for axis, value in enumerate(point):
            content += _float(_MASTERING_POINTS + 2 * index + axis, value)
    if display.max_luminance is not None and display.min_luminance is not None:
        content += _float(_MAX_LUMINANCE, display.max_luminance)
        content += _float(_MIN_LUMINANCE, display.min_luminance)
    return _element(_MASTERING, content)


def _light(light: ContentLight | None) -> bytes:
    return _number(_MAX_CLL, light.max_cll) + _number(_MAX_FALL, light.max_fall) if light else b""


def _element(identifier: int, content: bytes) -> bytes:
    size = len(content) | 1 << 56  # in eight bytes, as is always right
    return identifier.to_bytes((identifier.bit_length() + 7) // 8) + size.to_bytes(8) + content


def _number(identifier: int, value: int) -> bytes:
    return _element(identifier, value.to_bytes(8))


def _float(identifier: int, value: Fraction) -> bytes:
    return _element(identifier, struct.pack(">d", float(value)))


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
