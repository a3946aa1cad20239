"""Ways to spoil a file: what disks, copies and ill will do to headers, boxes, packets and image bodies."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

Mutator = Callable[[bytearray, random.Random], None]

_HEADER_BYTES = 2048
_ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def spoiled(content: bytes, rng: random.Random) -> bytes:
    """`content` after one to three mutations."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        if data:
            rng.choice(MUTATORS)(data, rng)
    return bytes(data)


def _flip_header_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 16)):
        data[rng.randrange(min(len(data), _HEADER_BYTES))] ^= 1 << rng.randrange(8)


def _flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 64)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite_bytes(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.randint(1, 512))
    data[start:stop] = rng.randbytes(stop - start)


def _zero_block(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.randint(1, 4096))
    data[start:stop] = bytes(stop - start)


def _write_odd_number(data: bytearray, rng: random.Random) -> None:
    """A size, a count or an offset gets a value at the edge of its type, in either order of bytes."""
    limit = _HEADER_BYTES if rng.random() < 0.5 else len(data)
    start = rng.randrange(min(limit, len(data)))
    number = struct.pack(rng.choice(("<I", ">I")), rng.choice(_ODD_NUMBERS))
    width = rng.choice((1, 2, 4))
    data[start : start + width] = number[-width:] if rng.random() < 0.5 else number[:width]


def _spoil_box(data: bytearray, rng: random.Random) -> None:
    """Changes the size or the name before some four letters, as boxes, chunks and RIFF lists have them."""
    places = [at for at in range(4, min(len(data) - 4, 1 << 16)) if data[at : at + 4].isalpha()]
    if not places:
        return
    at = rng.choice(places)
    if rng.random() < 0.7:
        data[at - 4 : at] = struct.pack(">I", rng.choice((*_ODD_NUMBERS, rng.randrange(len(data) * 2))))
    else:
        data[at : at + 4] = rng.randbytes(4)


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _remove_block(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 2048)]


def _repeat_block(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    block = data[start : start + rng.randint(1, 2048)]
    at = rng.randrange(len(data))
    data[at:at] = block * rng.randint(1, 3)


def _swap_blocks(data: bytearray, rng: random.Random) -> None:
    size = rng.randint(1, 1024)
    one, other = rng.randrange(len(data)), rng.randrange(len(data))
    first, second = bytes(data[one : one + size]), bytes(data[other : other + size])
    data[other : other + len(first)] = first
    data[one : one + len(second)] = second


MUTATORS: tuple[Mutator, ...] = (
    _flip_header_bits,
    _flip_bits,
    _overwrite_bytes,
    _zero_block,
    _write_odd_number,
    _spoil_box,
    _truncate,
    _remove_block,
    _repeat_block,
    _swap_blocks,
)
