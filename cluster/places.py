"""What a person names: a file or folder of this machine, or an object or prefix of a bucket."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from cluster.storage import open_storage
from cluster.storage.address import S3Address, S3Settings, is_s3, split_url

_MAX_NAME_BYTES = 255
_MAX_S3_KEY_BYTES = 1024


class Place(Protocol):
    """A file, a folder, or what may become either. Equal places are the same one."""

    @property
    def url(self) -> str:
        """What `open_storage` takes, where it is a folder."""

    @property
    def name(self) -> str:
        """The last part of its path; empty at a root."""

    @property
    def parent(self) -> Place:
        """The folder that it lies in."""

    @property
    def is_file(self) -> bool:
        """Whether there is such a file or object."""

    @property
    def is_folder(self) -> bool:
        """Whether there is such a folder, or anything below such a prefix."""

    @property
    def kinds(self) -> str:
        """What it could be, in words."""

    def child(self, key: str) -> Place:
        """What lies in it under `key`, where it is a folder."""

    def holds(self, other: Place) -> bool:
        """Whether `other` is this place or lies in it."""

    def misfit(self, key: str) -> str:
        """Why `child(key)` could not be written; empty if it can."""


def place_of(url: str) -> Place:
    """The place that a path or an S3 URL names.

    Raises:
        OSError: The path cannot be followed.
        SpecError: It begins like an S3 URL and is none.
    """
    if not is_s3(url):
        return _LocalPlace(Path(url).resolve())
    address = S3Address.parse(url)
    return _S3Place(address.settings.endpoint_url, address.bucket, address.prefix, address.settings)


@dataclass(frozen=True)
class _LocalPlace:
    """A path without links in it."""

    path: Path

    @property
    def url(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> Place:
        return _LocalPlace(self.path.parent)

    @property
    def is_file(self) -> bool:
        return self.path.is_file()

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @property
    def kinds(self) -> str:
        return "file or folder"

    def child(self, key: str) -> Place:
        return _LocalPlace((self.path / key).resolve())

    def holds(self, other: Place) -> bool:
        return isinstance(other, _LocalPlace) and other.path.is_relative_to(self.path)

    def misfit(self, key: str) -> str:
        num_bytes = len(PurePosixPath(key).name.encode())
        return _too_long("name", num_bytes, _MAX_NAME_BYTES)


@dataclass(frozen=True)
class _S3Place:
    """A key or a prefix, which is literal text. How the store is spoken to makes no other place of it."""

    endpoint_url: str | None
    bucket: str
    key: str
    settings: S3Settings = field(compare=False)

    @property
    def url(self) -> str:
        return S3Address(self.bucket, self.key, self.settings).url

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> Place:
        return self._at(self.key.rpartition("/")[0])

    @property
    def is_file(self) -> bool:
        if not self.key:
            return False
        store_url, key = split_url(self.url)
        return open_storage(store_url).head(key) is not None

    @property
    def is_folder(self) -> bool:
        return next(open_storage(self.url).list(), None) is not None

    @property
    def kinds(self) -> str:
        return "object, nor any below such a prefix"

    def child(self, key: str) -> Place:
        return self._at(f"{self.key}/{key}" if self.key else key)

    def holds(self, other: Place) -> bool:
        if not isinstance(other, _S3Place):
            return False
        is_same_bucket = (self.endpoint_url, self.bucket) == (other.endpoint_url, other.bucket)
        return is_same_bucket and (not self.key or f"{other.key}/".startswith(f"{self.key}/"))

    def misfit(self, key: str) -> str:
        child = f"{self.key}/{key}" if self.key else key
        return _too_long("key", len(child.encode()), _MAX_S3_KEY_BYTES)

    def _at(self, key: str) -> Place:
        return _S3Place(self.endpoint_url, self.bucket, key, self.settings)


def _too_long(what: str, num_bytes: int, most: int) -> str:
    if num_bytes <= most:
        return ""
    return f"its output's {what} would have {num_bytes} bytes, of which {most} can be; rename it"
