"""A store in this process's memory: for tests, and for dry runs that must leave nothing behind."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cluster.storage.base import MissingObjectError, ObjectInfo
from sr_core.errors import SourceChanged


class MemoryStorage:
    """Objects in a dictionary, versioned by a counter."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, str]] = {}
        self._num_puts = 0

    @property
    def url(self) -> str:
        """Names this store in messages; another process cannot open it."""
        return "memory:"

    @property
    def is_on_scratch_disk(self) -> bool:
        """It is on no disk."""
        return False

    def head(self, key: str) -> ObjectInfo | None:
        """See `Storage.head`."""
        found = self._objects.get(key)
        return None if found is None else ObjectInfo(key, len(found[0]), found[1])

    def find(self, keys: Iterable[str]) -> dict[str, ObjectInfo]:
        """See `Storage.find`."""
        heads = ((key, self.head(key)) for key in keys)
        return {key: info for key, info in heads if info is not None}

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        found = self._objects.get(key)
        return None if found is None else found[0]

    def open(self, key: str, version: str) -> BinaryIO:
        """See `Storage.open`."""
        found = self._objects.get(key)
        if found is None or found[1] != version:
            raise SourceChanged(
                "the object is gone or changed while the job ran",
                where=key,
                got="nothing" if found is None else f"version {found[1]}",
                expected=f"version {version}",
            )
        return io.BytesIO(found[0])

    def put(self, key: str, content: bytes) -> ObjectInfo:
        """See `Storage.put`."""
        self._num_puts += 1
        self._objects[key] = (content, str(self._num_puts))
        return ObjectInfo(key, len(content), str(self._num_puts))

    def put_file(self, key: str, path: Path) -> ObjectInfo:
        """See `Storage.put_file`."""
        info = self.put(key, path.read_bytes())
        path.unlink()
        return info

    @contextlib.contextmanager
    def as_file(self, key: str) -> Iterator[Path]:
        """See `Storage.as_file`."""
        content = self.get(key)
        if content is None:
            raise MissingObjectError("there is no such object", where=key)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "object"
            path.write_bytes(content)
            yield path

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Storage.list`."""
        for key, (content, version) in sorted(self._objects.items()):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(content), version)

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self._objects.pop(key, None)

    def scratch_dir(self) -> Path:
        """See `Storage.scratch_dir`."""
        return Path(tempfile.gettempdir())

    def sweep_scratch(self, age_s: float) -> int:
        """See `Storage.sweep_scratch`. The folder is not this store's own."""
        return 0

    def sweep_uploads(self, age_s: float, is_own: Callable[[str], bool]) -> int:
        """There are none."""
        return 0
