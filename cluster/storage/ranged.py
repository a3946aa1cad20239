"""A seekable file over an object that is read by ranges, with a small cache of blocks."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

BLOCK_BYTES = 4 << 20
_NUM_BODY_BLOCKS = 8
_EDGE_BLOCKS_BYTES = 128 << 20
_NUM_FIRST, _NUM_LAST = 1, 2  # blocks at an object's edges: headers; and indexes, which many write last


class _EdgeBlocks:
    """The first and last blocks of objects, for as long as this process lasts: a bounded number of bytes.

    A source is opened several times by one process, to be planned, upscaled and joined; its header is the
    same each time.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._blocks: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
            return self._blocks.get(key)

    def put(self, key: Hashable, block: bytes) -> None:
        with self._lock:
            self._num_bytes += len(block) - len(self._blocks.pop(key, b""))
            self._blocks[key] = block
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= len(self._blocks.popitem(last=False)[1])


_EDGES = _EdgeBlocks(_EDGE_BLOCKS_BYTES)


class RangedReader(io.RawIOBase):
    """Reads an object of `size_bytes` through `fetch(start, stop)`, which gives a half-open range of it.

    Args:
        identity: Names the object at this version among all objects of all stores.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size_bytes: int, identity: Hashable) -> None:
        super().__init__()
        self._fetch = fetch
        self._size_bytes = size_bytes
        self._identity = identity
        self._num_blocks = -(-size_bytes // BLOCK_BYTES)
        self._body: OrderedDict[int, bytes] = OrderedDict()
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `io.IOBase.seek`; costs nothing."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        if origin + offset < 0:
            raise ValueError(f"negative seek position {origin + offset}")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills all of `buffer`, unless the object ends before."""
        target = memoryview(buffer).cast("B")
        num_read = 0
        while num_read < len(target) and self._at < self._size_bytes:
            index, offset = divmod(self._at, BLOCK_BYTES)
            piece = memoryview(self._block(index))[offset : offset + len(target) - num_read]
            target[num_read : num_read + len(piece)] = piece
            num_read += len(piece)
            self._at += len(piece)
        return num_read

    def _block(self, index: int) -> bytes:
        if index < _NUM_FIRST or index >= self._num_blocks - _NUM_LAST:
            key = (self._identity, index)
            block = _EDGES.get(key)
            if block is None:
                block = self._fetched(index)
                _EDGES.put(key, block)
            return block
        if index not in self._body:
            self._body[index] = self._fetched(index)
            if len(self._body) > _NUM_BODY_BLOCKS:
                self._body.popitem(last=False)
        self._body.move_to_end(index)
        return self._body[index]

    def _fetched(self, index: int) -> bytes:
        start = index * BLOCK_BYTES
        return self._fetch(start, min(start + BLOCK_BYTES, self._size_bytes))
