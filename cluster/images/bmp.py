"""BMP files: what their headers say, and writing them. Reading pixels is Pillow's.

Source: Microsoft's documentation of BITMAPINFOHEADER and BITMAPV5HEADER. Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sr_core.errors import MediaError

_FILE_HEADER_BYTES, _V5_BYTES = 14, 124
_BITFIELDS = 3
_SRGB, _EMBEDDED = 0x73524742, 0x4D424544
_INTENT_PERCEPTUAL = 4
Plane = npt.NDArray[Any]


@dataclass(frozen=True)
class BmpHeader:
    """What the headers say.

    Attributes:
        bits: Of a pixel.
        per_m: Pixels per metre, horizontally and vertically; 0 where not stated.
        num_bytes: That the file must have for all its pixels; 0 where they are compressed.
        icc: The profile; empty where there is none.
    """

    width: int
    height: int
    bits: int
    per_m: tuple[int, int]
    num_bytes: int
    icc: bytes


def read_header(data: bytes, name: str) -> BmpHeader:
    """The headers of a BMP file.

    Raises:
        MediaError: They make no sense.
    """
    try:
        offset, size = struct.unpack_from("<2I", data, 10)
        if size == 12:
            width, height, _, bits = struct.unpack_from("<4H", data, 18)
            compression, per_m = 0, (0, 0)
        else:
            width, height, _, bits, compression = struct.unpack_from("<2i2HI", data, 18)
            per_m = struct.unpack_from("<2i", data, 38)
    except struct.error as error:
        raise MediaError("the BMP's header is cut off", where=name, got=f"{len(data)} bytes") from error
    if width < 1 or height == 0:
        raise MediaError("the BMP's header makes no sense", where=name, got=f"size {width}x{height}")
    is_plain = compression in (0, _BITFIELDS)
    num_bytes = offset + -(-width * bits // 32) * 4 * abs(height) if is_plain else 0
    return BmpHeader(width, abs(height), bits, per_m, num_bytes, _icc(data, size))


def _icc(data: bytes, header_size: int) -> bytes:
    if header_size != _V5_BYTES or struct.unpack_from("<I", data, 70)[0] != _EMBEDDED:
        return b""
    offset, length = struct.unpack_from("<2I", data, _FILE_HEADER_BYTES + 112)
    return data[_FILE_HEADER_BYTES + offset : _FILE_HEADER_BYTES + offset + length]


def write_bmp(
    file: BinaryIO, planes: tuple[Plane, ...], has_alpha: bool, per_m: tuple[int, int], icc: bytes
) -> None:
    """Writes a BMP of version 5: grey as a palette of greys, RGB in 24 bit, alpha in 32 bit.

    Args:
        file: Where it goes.
        planes: Y or R, G, B, and A where `has_alpha`; (H, W) uint8 each.
        has_alpha: Whether the last plane is alpha.
        per_m: Pixels per metre, horizontally and vertically; 0 where not known.
        icc: The profile; empty where there is none.
    """
    height, width = planes[0].shape
    if has_alpha and len(planes) == 2:
        planes = (planes[0], planes[0], planes[0], planes[1])
    bits = 8 * len(planes)
    row_bytes = -(-width * bits // 32) * 4
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256)) if bits == 8 else b""
    offset = _FILE_HEADER_BYTES + _V5_BYTES + len(palette)
    num_bytes = row_bytes * height
    file.write(struct.pack("<2sI2HI", b"BM", offset + num_bytes + len(icc), 0, 0, offset))
    compression = _BITFIELDS if has_alpha else 0
    file.write(
        struct.pack("<I2i2H2I2i2I", _V5_BYTES, width, height, 1, bits, compression, num_bytes, *per_m, 0, 0)
    )
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000) if has_alpha else (0, 0, 0, 0)
    profile = (len(palette) + _V5_BYTES + num_bytes, len(icc)) if icc else (0, 0)
    file.write(struct.pack("<4I", *masks))
    file.write(struct.pack("<I36x3I", _EMBEDDED if icc else _SRGB, 0, 0, 0))
    file.write(struct.pack("<3II", _INTENT_PERCEPTUAL, *profile, 0))
    file.write(palette)
    order = (2, 1, 0, 3)[: len(planes)] if len(planes) > 1 else (0,)
    row = np.zeros(row_bytes, np.uint8)
    for y in range(height - 1, -1, -1):
        for index, plane in enumerate(order):
            row[index : width * len(planes) : len(planes)] = planes[plane][y]
        file.write(row.tobytes())
    file.write(icc)
