"""Tags in directories, as in TIFF and in EXIF: read from bytes, changed in place, and TIFF files of pages.

Sources: TIFF 6.0; the BigTIFF proposal of libtiff; Exif 2.32 (CIPA DC-008). Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cluster.images.plan import MAX_FRAMES
from sr_core.errors import MediaError

IMAGE_WIDTH, IMAGE_LENGTH, ORIENTATION, EXIF_IFD, GPS_IFD = 256, 257, 274, 34665, 34853
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 513, 514
_PIXEL_X, _PIXEL_Y, _INTEROPERABILITY = 40962, 40963, 40965
_SUB_IFDS = (EXIF_IFD, GPS_IFD, _INTEROPERABILITY)
_SHORT, _LONG, _LONG8 = 3, 4, 16
# Bytes of a value, and of each number that its byte order concerns, by type.
_TYPES = {
    **{1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (8, 4), 6: (1, 1), 7: (1, 1), 8: (2, 2), 9: (4, 4)},
    **{10: (8, 4), 11: (4, 4), 12: (8, 8), 13: (4, 4), 16: (8, 8), 17: (8, 8), 18: (8, 8)},
}
# A tag of more numbers than this is damage: the largest real ones list the strips of a page.
_MAX_VALUE_BYTES = 1 << 28


@dataclass(frozen=True)
class Tag:
    """One value: its TIFF type, how many numbers, their bytes in little-endian order; or a directory."""

    type: int
    count: int
    data: bytes
    directory: Ifd | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The value as unsigned integers; rationals are two each."""
        size = _TYPES[self.type][1]
        return tuple(
            int.from_bytes(self.data[i : i + size], "little") for i in range(0, len(self.data), size)
        )


Ifd = dict[int, Tag]


def long(*values: int) -> Tag:
    """A tag of 32-bit numbers."""
    return Tag(_LONG, len(values), struct.pack(f"<{len(values)}I", *values))


def short(*values: int) -> Tag:
    """A tag of 16-bit numbers."""
    return Tag(_SHORT, len(values), struct.pack(f"<{len(values)}H", *values))


class _Reader:
    """Finds tags in the bytes of a TIFF structure, BigTIFF included."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.is_big = self._unpack("H", 2) == 43

    def first(self) -> int:
        return self._unpack("Q", 8) if self.is_big else self._unpack("I", 4)

    def entries(self, offset: int) -> tuple[list[int], int]:
        """Offsets of the entries of the directory at `offset`, and of the pointer to the next one."""
        count = self._unpack("Q" if self.is_big else "H", offset)
        start, size = (offset + 8, 20) if self.is_big else (offset + 2, 12)
        if start + count * size > len(self.data):
            raise struct.error("a directory reaches beyond the end")
        return [start + i * size for i in range(count)], start + count * size

    def next_of(self, pointer: int) -> int:
        if pointer + (8 if self.is_big else 4) > len(self.data):
            return 0
        return self._unpack("Q" if self.is_big else "I", pointer)

    def tag_at(self, entry: int) -> tuple[int, int, int, int]:
        """(tag, type, count, offset of the value) of the entry at an offset."""
        tag, type_ = self._unpack("H", entry), self._unpack("H", entry + 2)
        count = self._unpack("Q" if self.is_big else "I", entry + 4)
        field, room = (entry + 12, 8) if self.is_big else (entry + 8, 4)
        num_bytes = count * _TYPES.get(type_, (1, 1))[0]
        if num_bytes > room:
            field = self._unpack("Q" if self.is_big else "I", field)
        return tag, type_, count, field

    def ifd(self, offset: int, depth: int = 0) -> tuple[Ifd, int]:
        """The directory at `offset`, and where the next one lies (0: nowhere)."""
        entries, pointer = self.entries(offset)
        tags: Ifd = {}
        for entry in entries:
            tag, type_, count, field = self.tag_at(entry)
            size, unit = _TYPES.get(type_, (0, 1))
            num_bytes = count * size
            if not size or num_bytes > _MAX_VALUE_BYTES or field + num_bytes > len(self.data):
                continue
            raw = bytes(self.data[field : field + num_bytes])
            tags[tag] = Tag(type_, count, raw if self.order == "<" else _swapped(raw, unit))
            if tag in _SUB_IFDS and depth < 2 and num_bytes:
                tags[tag] = self._sub_ifd(tags[tag], depth)
        return tags, self.next_of(pointer)

    def _sub_ifd(self, tag: Tag, depth: int) -> Tag:
        try:
            return Tag(_LONG, 1, b"\0\0\0\0", self.ifd(tag.numbers[0], depth + 1)[0])
        except struct.error:
            return Tag(_LONG, 1, b"\0\0\0\0", {})

    def _unpack(self, code: str, offset: int) -> int:
        if offset > len(self.data):
            raise struct.error("an offset beyond the end")
        return int(struct.unpack_from(self.order + code, self.data, offset)[0])


def _swapped(raw: bytes, unit: int) -> bytes:
    return b"".join(raw[i : i + unit][::-1] for i in range(0, len(raw), unit)) if unit > 1 else raw


def read_ifds(data: bytes, name: str) -> tuple[list[Ifd], str]:
    """The directories of a TIFF file, one for each page, and what keeps further ones from being read, if so.

    Raises:
        MediaError: They cannot be followed.
    """
    ifds: list[Ifd] = []
    damage = ""
    try:
        reader = _Reader(data)
        offset, seen = reader.first(), set[int]()
        while offset and offset not in seen and len(ifds) <= MAX_FRAMES:
            seen.add(offset)
            try:
                tags, offset = reader.ifd(offset)
            except struct.error as error:
                if not ifds:
                    raise
                damage = f"the pages after number {len(ifds)} cannot be found: {error}"
                break
            ifds.append(tags)
    except struct.error as error:
        raise MediaError("the TIFF's directory cannot be read", where=name, got=str(error)) from error
    if not ifds:
        raise MediaError("the TIFF has no page", where=name)
    return ifds, damage


def read_exif(blob: bytes) -> Ifd:
    """The tags of an EXIF block, which begins as a TIFF does; empty where it cannot be read."""
    try:
        reader = _Reader(blob)
        return reader.ifd(reader.first())[0]
    except (struct.error, IndexError):
        return {}


def has_thumbnail(blob: bytes) -> bool:
    """Whether an EXIF block has a second directory, which describes a thumbnail."""
    try:
        reader = _Reader(blob)
        return reader.ifd(reader.first())[1] != 0
    except (struct.error, IndexError):
        return False


def updated_exif(blob: bytes, width: int, height: int, orientation: int) -> bytes:
    """An EXIF block that says the new size, without its thumbnail.

    It is changed in place: makers' notes refer to offsets in the block, which must not move. Empty where the
    block cannot be read.
    """
    data = bytearray(blob)
    try:
        reader = _Reader(data)
        entries, pointer = reader.entries(reader.first())
        _cut_thumbnail(reader, pointer)
        for entry in list(entries):
            tag, _, _, field = reader.tag_at(entry)
            if tag == EXIF_IFD:
                exif = int(struct.unpack_from(reader.order + "I", data, field)[0])
                entries += reader.entries(exif)[0]
        values = {IMAGE_WIDTH: width, IMAGE_LENGTH: height, _PIXEL_X: width, _PIXEL_Y: height}
        for entry in entries:
            _set_number(reader, entry, {**values, ORIENTATION: orientation})
    except (struct.error, IndexError):
        return b""
    return bytes(data)


def _set_number(reader: _Reader, entry: int, values: dict[int, int]) -> None:
    tag, type_, count, field = reader.tag_at(entry)
    if tag not in values or count != 1 or type_ not in (_SHORT, _LONG):
        return
    # A 32-bit number fits where the 16-bit one stood, as an entry has room for either.
    if tag == ORIENTATION:
        struct.pack_into(reader.order + ("H" if type_ == _SHORT else "I"), reader.data, field, values[tag])
    else:
        struct.pack_into(reader.order + "H", reader.data, entry + 2, _LONG)
        struct.pack_into(reader.order + "I", reader.data, field, values[tag])


def _cut_thumbnail(reader: _Reader, pointer: int) -> None:
    """Ends the chain after the first directory, and blanks the thumbnail or, at the end, cuts it off."""
    data, second = reader.data, reader.next_of(pointer)
    if not second:
        return
    assert isinstance(data, bytearray)
    struct.pack_into(reader.order + "I", data, pointer, 0)
    try:
        tags = reader.ifd(second)[0]
    except struct.error:
        return
    if _THUMBNAIL_OFFSET not in tags or _THUMBNAIL_BYTES not in tags:
        return
    start, length = tags[_THUMBNAIL_OFFSET].numbers[0], tags[_THUMBNAIL_BYTES].numbers[0]
    if start + length > len(data):
        return
    if start + length == len(data):
        del data[start:]
    else:
        data[start : start + length] = bytes(length)


def exif_of(tags: Ifd) -> bytes:
    """An EXIF block of `tags`; empty where there are none."""
    if not tags:
        return b""
    body = _serialised(tags, 8)
    return struct.pack("<2sHI", b"II", 42, body[1]) + body[0]


class TiffWriter:
    """Puts pages, each made as a TIFF file of its own, into one file.

    Pages may differ in size, and only one is in memory at a time.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pointer = 4
        file.write(struct.pack("<2sHI", b"II", 42, 0))

    def add(self, page: bytes, tags: Ifd) -> None:
        """Appends the first page of the TIFF file `page`, with `tags` in addition."""
        reader = _Reader(page)
        own = reader.ifd(reader.first())[0]
        own[_STRIP_OFFSETS] = long(*self._copy_strips(page, own))
        own[_STRIP_BYTES] = long(*own[_STRIP_BYTES].numbers)
        start = self._aligned()
        body, directory = _serialised({**own, **tags}, start)
        self._file.write(body)
        self._file.seek(self._pointer)
        self._file.write(struct.pack("<I", directory))
        self._pointer = directory + 2 + 12 * len({**own, **tags})
        self._file.seek(0, 2)

    def _copy_strips(self, page: bytes, own: Ifd) -> Iterator[int]:
        for start, length in zip(own[_STRIP_OFFSETS].numbers, own[_STRIP_BYTES].numbers, strict=True):
            yield self._aligned()
            self._file.write(page[start : start + length])

    def _aligned(self) -> int:
        """Where the file goes on: an even offset, as TIFF asks."""
        self._file.write(b"\0" * (self._file.tell() % 2))
        return self._file.tell()


def _serialised(tags: Ifd, start: int) -> tuple[bytes, int]:
    """Values, and after them their directory, for a file in which they begin at `start`.

    Returns:
        The bytes, and the offset of the directory in the file.
    """
    body, entries = bytearray(), bytearray()
    for number, tag in sorted(tags.items()):
        value = tag.data
        if tag.directory is not None:
            inner, offset = _serialised(tag.directory, start + len(body))
            body += inner
            value = struct.pack("<I", offset)
        entries += struct.pack("<HHI", number, tag.type, tag.count)
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", start + len(body))
            body += value + b"\0" * (len(value) % 2)
    directory = start + len(body)
    return bytes(body + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"), directory
