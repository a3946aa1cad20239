"""Tags in directories, as in TIFF and in EXIF: read from bytes, changed in place, and TIFF files of pages.

Sources: TIFF 6.0; the BigTIFF proposal of libtiff; Exif 2.32 (CIPA DC-008). Pure.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from cluster.images.plan import MAX_FRAMES
from sr_core.errors import MediaError

NEW_SUBFILE, IMAGE_WIDTH, IMAGE_LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
DOCUMENT_NAME, DESCRIPTION, MAKE, MODEL, ORIENTATION = 269, 270, 271, 272, 274
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_BYTES = 273, 278, 279
X_RESOLUTION, Y_RESOLUTION, PAGE_NAME, RESOLUTION_UNIT, PAGE_NUMBER = 282, 283, 285, 296, 297
TRANSFER_FUNCTION, SOFTWARE, DATE_TIME, ARTIST, HOST = 301, 305, 306, 315, 316
WHITE_POINT, PRIMARIES = 318, 319
TILE_OFFSETS, TILE_BYTES, SUB_IFDS, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT = 324, 325, 330, 332, 338, 339
JPEG_TABLES, THUMBNAIL_OFFSET, THUMBNAIL_BYTES, XMP, RATING = 347, 513, 514, 700, 18246
COPYRIGHT, IPTC, PHOTOSHOP, EXIF_IFD, ICC, GEO_KEYS = 33432, 33723, 34377, 34665, 34675, 34735
GPS_IFD, PHOTOSHOP_LAYERS, PIXEL_X, PIXEL_Y, INTEROPERABILITY = 34853, 37724, 40962, 40963, 40965
_LINKS = (EXIF_IFD, GPS_IFD, INTEROPERABILITY)
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
# Bytes of a value, and of each number that its byte order concerns, by type.
_TYPES = {
    **{1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (8, 4), 6: (1, 1), 7: (1, 1), 8: (2, 2), 9: (4, 4)},
    **{10: (8, 4), 11: (4, 4), 12: (8, 8), 13: (4, 4), 16: (8, 8), 17: (8, 8), 18: (8, 8)},
}
# Directories and values of a real file lie beside each other. Those of a hostile one lie over each other, and
# together are larger than memory: more than this times the file's bytes is not read.
_MAX_SHARE = 2
# Values from here on are written once, however many pages have them.
_SHARED_BYTES = 256
_ARRAY_CODES = {2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True)
class Tag:
    """One value: its TIFF type, how many numbers, their bytes in little-endian order; or a directory."""

    type: int
    count: int
    data: bytes
    directory: Ifd | None = None

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The value as unsigned integers; rationals are two each."""
        size = _TYPES[self.type][1]
        return tuple(
            int.from_bytes(self.data[i : i + size], "little") for i in range(0, len(self.data), size)
        )


Ifd = dict[int, Tag]


def long(*values: int) -> Tag:
    """A tag of 32-bit numbers."""
    return Tag(LONG, len(values), struct.pack(f"<{len(values)}I", *values))


def short(*values: int) -> Tag:
    """A tag of 16-bit numbers."""
    return Tag(SHORT, len(values), struct.pack(f"<{len(values)}H", *values))


class _Reader:
    """Finds tags in the bytes of a TIFF structure, BigTIFF included."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self._bytes_left = _MAX_SHARE * len(data)
        self._values: dict[tuple[int, int, int, int], Tag] = {}
        self._links: dict[int, Ifd] = {}
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
        """The directory at `offset`, and where its pointer to the next one lies."""
        entries, pointer = self.entries(offset)
        if not self._pay(pointer - offset):
            raise struct.error("directories lie over each other")
        tags: Ifd = {}
        for entry in entries:
            tag, type_, count, field = self.tag_at(entry)
            value = self._value(tag, type_, count, field)
            if value is None:
                continue
            is_link = tag in _LINKS and depth < 2 and value.count
            tags[tag] = Tag(LONG, 1, b"\0\0\0\0", self._linked(value.numbers[0], depth)) if is_link else value
        return tags, pointer

    def _value(self, tag: int, type_: int, count: int, field: int) -> Tag | None:
        """The value, which pages share that refer to the same bytes; None where it is damage."""
        size, unit = _TYPES.get(type_, (0, 1))
        num_bytes = count * size
        if not size or field + num_bytes > len(self.data):
            return None
        place = (tag, type_, count, field)
        if place not in self._values:
            if not self._pay(num_bytes):
                return None
            raw = bytes(self.data[field : field + num_bytes])
            self._values[place] = Tag(type_, count, raw if self.order == "<" else _swapped(raw, unit))
        return self._values[place]

    def _linked(self, offset: int, depth: int) -> Ifd:
        """A directory that a tag refers to; empty where it cannot be read."""
        if offset not in self._links:
            self._links[offset] = {}
            with suppress(struct.error):
                self._links[offset] = self.ifd(offset, depth + 1)[0]
        return self._links[offset]

    def _pay(self, num_bytes: int) -> bool:
        """Whether that much more may be read."""
        self._bytes_left -= num_bytes
        return self._bytes_left >= 0

    def _unpack(self, code: str, offset: int) -> int:
        if offset > len(self.data):
            raise struct.error("an offset beyond the end")
        return int(struct.unpack_from(self.order + code, self.data, offset)[0])


def _swapped(raw: bytes, unit: int) -> bytes:
    if unit == 1:
        return raw
    numbers = array(_ARRAY_CODES[unit], raw)
    numbers.byteswap()
    return numbers.tobytes()


@dataclass(frozen=True)
class TiffFile:
    """A TIFF file, of which one page at a time can be the only one.

    Whoever reads pages follows the chain of directories from the first to the wanted one, so that reading
    all would take the square of their number.

    Attributes:
        ifds: The directories, one for each page.
        damage: What keeps further pages from being read; empty where nothing does.
        data: The file, in which `show` changes pointers.
        places: Where each directory lies, and its pointer to the next one.
    """

    ifds: tuple[Ifd, ...]
    damage: str
    data: bytearray
    places: tuple[tuple[int, int], ...]

    def show(self, page: int) -> bytearray:
        """`data`, with this page as the first and last. It holds until the next call."""
        reader = _Reader(self.data)
        offset, pointer = self.places[page]
        width = 8 if reader.is_big else 4
        for place, target in ((8 if reader.is_big else 4, offset), (pointer, 0)):
            if place + width <= len(self.data):
                struct.pack_into(reader.order + ("Q" if reader.is_big else "I"), self.data, place, target)
        return self.data


def read_tiff(data: bytes, name: str) -> TiffFile:
    """The pages of a TIFF file.

    Raises:
        MediaError: They cannot be followed.
    """
    ifds: list[Ifd] = []
    places: list[tuple[int, int]] = []
    damage = ""
    try:
        reader = _Reader(data)
        offset, seen = reader.first(), set[int]()
        while offset and offset not in seen and len(ifds) <= MAX_FRAMES:
            seen.add(offset)
            tags, pointer = reader.ifd(offset)
            ifds.append(tags)
            places.append((offset, pointer))
            offset = reader.next_of(pointer)
    except struct.error as error:
        if not ifds:
            raise MediaError("the TIFF's directory cannot be read", where=name, got=str(error)) from error
        damage = f"the pages after number {len(ifds)} cannot be found: {error}"
    if not ifds:
        raise MediaError("the TIFF has no page", where=name)
    return TiffFile(tuple(ifds), damage, bytearray(data), tuple(places))


def read_exif(blob: bytes | bytearray) -> Ifd:
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
        return reader.next_of(reader.entries(reader.first())[1]) != 0
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
        values = {IMAGE_WIDTH: width, IMAGE_LENGTH: height, PIXEL_X: width, PIXEL_Y: height}
        for entry in entries:
            _set_number(reader, entry, {**values, ORIENTATION: orientation})
    except (struct.error, IndexError):
        return b""
    return bytes(data)


def _set_number(reader: _Reader, entry: int, values: dict[int, int]) -> None:
    tag, type_, count, field = reader.tag_at(entry)
    if tag not in values or count != 1 or type_ not in (SHORT, LONG):
        return
    # A 32-bit number fits where the 16-bit one stood, as an entry has room for either.
    if tag == ORIENTATION:
        struct.pack_into(reader.order + ("H" if type_ == SHORT else "I"), reader.data, field, values[tag])
    else:
        struct.pack_into(reader.order + "H", reader.data, entry + 2, LONG)
        struct.pack_into(reader.order + "I", reader.data, field, values[tag])


def _cut_thumbnail(reader: _Reader, pointer: int) -> None:
    """Ends the chain after the first directory, and blanks the thumbnail or, at the end, cuts it off.

    Only where it lies behind its directory, as cameras write it, and over none of the tags that stay.
    """
    data, second = reader.data, reader.next_of(pointer)
    if not second:
        return
    assert isinstance(data, bytearray)
    struct.pack_into(reader.order + "I", data, pointer, 0)
    try:
        tags, end = reader.ifd(second)
    except struct.error:
        return
    start, length = (
        next(iter(tags[tag].numbers), 0) if tag in tags else 0 for tag in (THUMBNAIL_OFFSET, THUMBNAIL_BYTES)
    )
    if start < end + 4 or start + length > len(data):
        return
    without = data[:start] + (bytes(length) + data[start + length :] if start + length < len(data) else b"")
    if read_exif(without) == read_exif(data):
        data[:] = without


def exif_of(tags: Ifd) -> bytes:
    """An EXIF block of `tags`; empty where there are none."""
    if not tags:
        return b""
    body = _serialised(tags, 8, {})
    return struct.pack("<2sHI", b"II", 42, body[1]) + body[0]


class TiffWriter:
    """Puts pages, each made as a TIFF file of its own, into one file.

    Pages may differ in size, and only one is in memory at a time.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pointer = 4
        self._placed: dict[bytes, int] = {}
        file.write(struct.pack("<2sHI", b"II", 42, 0))

    def add(self, page: bytes, tags: Ifd) -> None:
        """Appends the first page of the TIFF file `page`, with `tags` in addition."""
        reader = _Reader(page)
        own = reader.ifd(reader.first())[0]
        own[STRIP_OFFSETS] = long(*self._copy_strips(page, own))
        own[STRIP_BYTES] = long(*own[STRIP_BYTES].numbers)
        start = self._aligned()
        body, directory = _serialised({**own, **tags}, start, self._placed)
        self._file.write(body)
        self._file.seek(self._pointer)
        self._file.write(struct.pack("<I", directory))
        self._pointer = directory + 2 + 12 * len({**own, **tags})
        self._file.seek(0, 2)

    def _copy_strips(self, page: bytes, own: Ifd) -> Iterator[int]:
        for start, length in zip(own[STRIP_OFFSETS].numbers, own[STRIP_BYTES].numbers, strict=True):
            yield self._aligned()
            self._file.write(page[start : start + length])

    def _aligned(self) -> int:
        """Where the file goes on: an even offset, as TIFF asks."""
        self._file.write(b"\0" * (self._file.tell() % 2))
        return self._file.tell()


def _serialised(tags: Ifd, start: int, placed: dict[bytes, int]) -> tuple[bytes, int]:
    """Values, and after them their directory, for a file in which they begin at `start`.

    Args:
        tags: What is written.
        start: An even offset.
        placed: Where in the file large values lie already, as a profile that many pages share; added to.

    Returns:
        The bytes, and the offset of the directory in the file.
    """
    body, entries = bytearray(), bytearray()
    for number, tag in sorted(tags.items()):
        value = tag.data
        if tag.directory is not None:
            inner, offset = _serialised(tag.directory, start + len(body), placed)
            body += inner
            value = struct.pack("<I", offset)
        entries += struct.pack("<HHI", number, tag.type, tag.count)
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        elif value in placed:
            entries += struct.pack("<I", placed[value])
        else:
            entries += struct.pack("<I", start + len(body))
            if len(value) >= _SHARED_BYTES:
                placed[value] = start + len(body)
            body += value + b"\0" * (len(value) % 2)
    directory = start + len(body)
    return bytes(body + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"), directory
