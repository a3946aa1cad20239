"""Whether bytes are missing at the end of a file, by what its own container says of its size. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from cluster.video import matroska

_MXF_PARTITION = bytes.fromhex("060e2b34020501010d01020101")  # SMPTE ST 377-1, 7.1, up to the kind
_MXF_HEADER, _MXF_KEY_BYTES, _MXF_FOOTER_AT = 2, 16, 24
_MXF_RUN_IN_BYTES = 1 << 16
_FLV_TAG_BYTES = 11


def is_cut_off(file: BinaryIO, format_name: str) -> bool:
    """Whether the container says that the file goes on behind its end; False where it cannot say.

    Args:
        file: May be left at another position.
        format_name: FFmpeg's name of the demuxer.
    """
    return any(test(file) for name, test in _TESTS if name in format_name.split(","))


def _avi(file: BinaryIO) -> bool:
    """By the sizes of its RIFF chunks: one, or with OpenDML one for each GB or so."""
    num_bytes = file.seek(0, os.SEEK_END)
    at = 0
    while at + 8 <= num_bytes:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return False  # what somebody appended
        at += 8 + int.from_bytes(head[4:], "little")
    return at > num_bytes


def _flv(file: BinaryIO) -> bool:
    """By its last four bytes, which are the size of the tag before them."""
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, num_bytes - 4))
    size = int.from_bytes(file.read(4), "big")
    if not _FLV_TAG_BYTES <= size <= num_bytes - 4:
        return True
    file.seek(num_bytes - 4 - size + 1)
    return int.from_bytes(file.read(3), "big") != size - _FLV_TAG_BYTES


def _mxf(file: BinaryIO) -> bool:
    """By where its header says that the footer partition is; 0 there is not known."""
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(_MXF_RUN_IN_BYTES)
    at = start.find(_MXF_PARTITION + bytes([_MXF_HEADER]))
    if at < 0:
        return False
    value = start[at + _MXF_KEY_BYTES :]
    num_length_bytes = 1 + (value[0] & 0x7F if value[0] & 0x80 else 0)  # ISO 8825-1, 8.1.3
    footer = value[num_length_bytes + _MXF_FOOTER_AT :][:8]
    return at + int.from_bytes(footer, "big") >= num_bytes


def _matroska(file: BinaryIO) -> bool:
    return bool(matroska.missing_bytes(file))


_TESTS: tuple[tuple[str, Callable[[BinaryIO], bool]], ...] = (
    ("avi", _avi),
    ("flv", _flv),
    ("mxf", _mxf),
    ("matroska", _matroska),
)
