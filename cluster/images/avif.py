"""AVIF files as boxes: what libvips does not tell of them, and colour codes that it does not write.

Sources: ISO/IEC 14496-12 (boxes), 23008-12 (items and their properties), AV1-ISOBMFF (av1C). Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

Box = tuple[bytes, int, int]
_CONTAINERS = (b"iprp", b"ipco")
_IDENTITY_MATRIX = 0
# What libheif encodes in where nothing else is asked of it: BT.601 of full range.
_ENCODER_MATRIX, _FULL_RANGE = 6, 0x80


@dataclass(frozen=True)
class AvifFacts:
    """What the boxes say of the first picture in colour.

    Attributes:
        bit_depth: 8, 10 or 12.
        subsampling: `4:2:0`, `4:2:2`, `4:4:4`, or empty for grey.
        color_codes: Primaries and transfer of ITU-T H.273; None where they are not given.
        is_identity: Whether the planes are G, B, R themselves, as only lossless encoding wants it.
        is_sequence: Whether there are pictures that follow each other in time.
    """

    bit_depth: int = 8
    subsampling: str = "4:4:4"
    color_codes: tuple[int, int] | None = None
    is_identity: bool = False
    is_sequence: bool = False


def read_facts(data: bytes) -> AvifFacts:
    """What is said; the usual values for what is not."""
    codes, is_identity = None, False
    color = next(
        (data[a:b] for k, a, b in _properties(data) if k == b"colr" and data[a : a + 4] == b"nclx"), b""
    )
    if len(color) >= 10:
        primaries, transfer, matrix = struct.unpack_from(">3H", color, 4)
        codes, is_identity = (primaries, transfer), matrix == _IDENTITY_MATRIX
    depth, subsampling = _samples(data)
    return AvifFacts(
        bit_depth=depth,
        subsampling=subsampling,
        color_codes=codes,
        is_identity=is_identity,
        is_sequence=any(kind == b"moov" for kind, _, _ in _boxes(data, 0, len(data))),
    )


def _samples(data: bytes) -> tuple[int, str]:
    """(bit depth, subsampling) of the first picture with chroma, else of the first."""
    flags = [
        data[start + 2] for kind, start, stop in _properties(data) if kind == b"av1C" and stop - start > 2
    ]
    if not flags:
        return 8, "4:4:4"
    flag = next((flag for flag in flags if not flag & 0x10), flags[0])
    depth = (12 if flag & 0x20 else 10) if flag & 0x40 else 8
    if flag & 0x10:
        return depth, ""
    return depth, {0: "4:4:4", 0x08: "4:2:2", 0x0C: "4:2:0"}.get(flag & 0x0C, "4:4:4")


def with_color_codes(picture: bytes, primaries: int, transfer: int) -> bytes:
    """`picture`, as libheif has encoded it, with these codes: changed where it has some, else added.

    The matrix, which says how the encoder has stored the planes, stays.
    """
    for kind, start, _ in _properties(picture):
        if kind == b"colr" and picture[start : start + 4] == b"nclx":
            return picture[: start + 4] + struct.pack(">2H", primaries, transfer) + picture[start + 8 :]
    codes = struct.pack(">3HB", primaries, transfer, _ENCODER_MATRIX, _FULL_RANGE)
    return _with_property(picture, _box(b"colr", b"nclx" + codes))


def _with_property(picture: bytes, added: bytes) -> bytes:
    """`picture` with one more property of its main item; what lies behind it moves, and is said to."""
    boxes = {kind: picture[start:stop] for kind, start, stop in _boxes(picture, 0, len(picture))}
    meta = boxes[b"meta"]
    parts = {kind: meta[start:stop] for kind, start, stop in _boxes(meta, 4, len(meta))}
    properties = parts[b"iprp"]
    inner = {kind: properties[start:stop] for kind, start, stop in _boxes(properties, 0, len(properties))}
    main = int.from_bytes(parts[b"pitm"][4:], "big")
    number = sum(1 for _ in _boxes(inner[b"ipco"], 0, len(inner[b"ipco"]))) + 1
    associations = _associated(inner[b"ipma"], main, number)
    growth = len(added) + len(associations) - len(inner[b"ipma"])
    inner |= {b"ipco": inner[b"ipco"] + added, b"ipma": associations}
    parts |= {b"iprp": _joined(inner), b"iloc": _moved(parts[b"iloc"], growth)}
    boxes[b"meta"] = meta[:4] + _joined(parts)
    return _joined(boxes)


def _associated(ipma: bytes, item: int, number: int) -> bytes:
    """The associations of items and properties, with property `number` for `item`."""
    id_bytes, width = (4 if ipma[0] else 2), (2 if ipma[3] & 1 else 1)
    made, position = bytearray(ipma[:8]), 8
    for _ in range(int.from_bytes(ipma[4:8], "big")):
        item_id = ipma[position : position + id_bytes]
        count = ipma[position + id_bytes]
        listed = ipma[position + id_bytes + 1 : position + id_bytes + 1 + count * width]
        position += id_bytes + 1 + len(listed)
        if int.from_bytes(item_id, "big") == item:
            count, listed = count + 1, listed + number.to_bytes(width, "big")
        made += item_id + bytes((count,)) + listed
    return bytes(made)


def _moved(iloc: bytes, distance: int) -> bytes:
    """The places of items in the file, those that are counted from its beginning that much later."""
    version, made = iloc[0], bytearray(iloc)
    offset_bytes, length_bytes = iloc[4] >> 4, iloc[4] & 15
    base_bytes, index_bytes = iloc[5] >> 4, iloc[5] & 15 if version else 0
    id_bytes = 4 if version == 2 else 2
    count, position = int.from_bytes(iloc[6 : 6 + id_bytes], "big"), 6 + id_bytes

    def add(start: int, size: int) -> None:
        value = int.from_bytes(made[start : start + size], "big") + distance
        made[start : start + size] = value.to_bytes(size, "big")

    for _ in range(count):
        position += id_bytes
        method = iloc[position + 1] & 15 if version else 0
        position += (2 if version else 0) + 2
        has_base = base_bytes and any(iloc[position : position + base_bytes])
        if has_base and method == 0:
            add(position, base_bytes)
        position += base_bytes
        num_extents = int.from_bytes(iloc[position : position + 2], "big")
        position += 2
        for _ in range(num_extents):
            position += index_bytes
            if not has_base and method == 0:
                add(position, offset_bytes)
            position += offset_bytes + length_bytes
    return bytes(made)


def _joined(boxes: dict[bytes, bytes]) -> bytes:
    return b"".join(_box(kind, content) for kind, content in boxes.items())


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def _properties(data: bytes) -> Iterator[Box]:
    for kind, start, stop in _boxes(data, 0, len(data)):
        if kind == b"meta":
            yield from _within(data, start + 4, stop)


def _within(data: bytes, start: int, stop: int) -> Iterator[Box]:
    for kind, inner_start, inner_stop in _boxes(data, start, stop):
        if kind in _CONTAINERS:
            yield from _within(data, inner_start, inner_stop)
        else:
            yield kind, inner_start, inner_stop


def _boxes(data: bytes, start: int, stop: int) -> Iterator[Box]:
    """(type, start and stop of the content) of the boxes from `start` to `stop`, as far as they are whole."""
    while start + 8 <= stop:
        size, header = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = stop - start
        if size < header or start + size > stop:
            return
        yield data[start + 4 : start + 8], start + header, start + size
        start += size
