"""What Framelift asks of a store.

A store holds objects under keys. Nothing beyond these verbs is needed of it: no lock, no compare-and-swap,
no rename, no append. `put` and `put_file` are atomic and durable: whoever reads a key sees the whole of one
put or nothing, also after a crash of either machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from sr_core.errors import StorageError

SCRATCH_AGE_S = 24 * 3600.0
"""After so long without a change, what lies in scratch was left by a process that died: the output of a long
film may be on its way for hours."""


class MissingObjectError(StorageError):
    """There is no such object, or it has gone meanwhile."""


@dataclass(frozen=True)
class ObjectInfo:
    """One object as a listing shows it.

    Attributes:
        key: Its name, `/`-separated, relative to the store's root.
        size_bytes: Its length.
        version: A text that changes whenever the content may have changed.
    """

    key: str
    size_bytes: int
    version: str


class Storage(Protocol):
    """A store of objects. Every method raises `StorageError` where the store refuses or fails."""

    @property
    def url(self) -> str:
        """What `open_storage` takes to open this store again, in any process that sees it."""

    @property
    def is_on_scratch_disk(self) -> bool:
        """Whether objects lie on the disk of `scratch_dir`, so that a full one is the store's own fault."""

    def head(self, key: str) -> ObjectInfo | None:
        """What a listing would show of `key`; None where there is no such object."""

    def find(self, keys: Iterable[str]) -> dict[str, ObjectInfo]:
        """Those of `keys` that there are, each as `head` gives it; cheaper than as many calls of that."""

    def get(self, key: str) -> bytes | None:
        """The whole object; None where there is no such object."""

    def open(self, key: str, version: str) -> BinaryIO:
        """A seekable reader of `key` as it was at `version`.

        Raises:
            SourceChanged: The object is gone or is not at that version any more.
            MediaError: It is there, but cannot be read.
        """

    def put(self, key: str, content: bytes) -> ObjectInfo:
        """Stores `content` under `key`, replacing what was there, and returns what a listing now shows."""

    def put_file(self, key: str, path: Path) -> ObjectInfo:
        """As `put`, of a local file, which is consumed: it is gone from `path` afterwards.

        Cheapest for a file below `scratch_dir`.
        """

    def as_file(self, key: str) -> AbstractContextManager[Path]:
        """The object as a local file, to be read only, while the `with` block lasts.

        Raises:
            MissingObjectError: There is no such object.
        """

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, ordered by the UTF-8 bytes of their keys."""

    def delete(self, key: str) -> None:
        """Removes the object; nothing happens where there is none."""

    def scratch_dir(self) -> Path:
        """A local folder for files on their way into this store, made if needed."""

    def sweep_scratch(self, age_s: float) -> int:
        """Removes files in `scratch_dir` that nobody has written to for so long: of processes that died.

        Returns:
            How many there were.
        """

    def sweep_uploads(self, age_s: float, is_own: Callable[[str], bool]) -> int:
        """Ends uploads into this store that began so long ago and never ended.

        Args:
            is_own: Whether what goes to a key is a job's own: others may upload below the same prefix.

        Returns:
            How many there were.
        """
