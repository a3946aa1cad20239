"""A store that speaks S3: AWS, MinIO, Ceph, R2.

Nothing is asked of it but plain put, get, get of a range, list, delete and multipart upload.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from cluster.storage import s3_errors
from cluster.storage.address import S3Address
from cluster.storage.base import MissingObjectError, ObjectInfo
from cluster.storage.bucket import Bucket, version_of
from cluster.storage.disk import disk_error, sweep
from cluster.storage.parallel import in_parallel
from cluster.storage.ranged import RangedReader
from sr_core.errors import SourceChanged, StorageError

_log = logging.getLogger(__name__)

_FEW_KEYS = 16
_DOWNLOAD_PIECE_BYTES = 8 << 20
_NUM_PIECES_AT_ONCE = 4
_KEYS_PER_LISTING = 900  # of those looked for: a little less than a listing shows at once
_MAX_KEY_BYTES = 1024
_ARCHIVE_CLASSES = {"GLACIER", "DEEP_ARCHIVE"}
_MAX_REPLACED = 5


class _Page(NamedTuple):
    """A part of a listing.

    Attributes:
        end: The last key that the store looked at.
    """

    objects: list[ObjectInfo]
    end: str
    is_last: bool


class S3Storage:
    """The objects below a prefix of a bucket.

    An object's version is its ETag. It changes with the content also where a bucket keeps versions, and is
    the one thing that a put, a HEAD and a listing all show.
    """

    def __init__(self, url: str) -> None:
        self._address = S3Address.parse(url)
        self._bucket = Bucket(self._address.bucket, self._address.settings)
        self._root = f"{self._address.prefix}/" if self._address.prefix else ""

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`, and the settings that were given with it."""
        return self._address.url

    @property
    def is_on_scratch_disk(self) -> bool:
        """It is on no disk of this machine."""
        return False

    def head(self, key: str) -> ObjectInfo | None:
        """See `Storage.head`."""
        try:
            return _info(key, self._bucket.stat(self._name(key)))
        except MissingObjectError:
            return None

    def find(self, keys: Iterable[str]) -> dict[str, ObjectInfo]:
        """See `Storage.find`. Many are looked for in listings, several at the same time."""
        wanted = sorted({key for key in keys if self._name(key)})
        if len(wanted) <= _FEW_KEYS:
            heads = in_parallel(self.head, wanted)
            return {info.key: info for info in heads if info is not None}
        slices = [wanted[i : i + _KEYS_PER_LISTING] for i in range(0, len(wanted), _KEYS_PER_LISTING)]
        return {info.key: info for found in in_parallel(self._found, slices) for info in found}

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        for is_last_try in [*[False] * _MAX_REPLACED, True]:
            try:
                return self._bucket.read(self._name(key), 0, None, None)
            except MissingObjectError:
                return None
            except s3_errors.ReplacedError:  # between two parts of it
                if is_last_try:
                    raise
        raise AssertionError("unreachable")

    def open(self, key: str, version: str) -> BinaryIO:
        """See `Storage.open`. It is read in blocks, when they are asked for."""
        info = self._source(key, version)

        def fetch(start: int, stop: int) -> bytes:
            try:
                return self._bucket.read(self._name(key), start, stop, version)
            except (MissingObjectError, s3_errors.ReplacedError) as error:
                raise _changed(key, version, self.head(key)) from error
            except StorageError as error:
                raise s3_errors.source_error(error, key) from error

        identity = (self._address.settings.endpoint_url, self._address.bucket, self._name(key), version)
        return cast(BinaryIO, RangedReader(fetch, info.size_bytes, identity))

    def put(self, key: str, content: bytes) -> ObjectInfo:
        """See `Storage.put`."""
        name = self._name(key)
        answer = self._bucket.call("put_object", name, Key=name, Body=content)
        return ObjectInfo(key, len(content), version_of(answer))

    def put_file(self, key: str, path: Path) -> ObjectInfo:
        """See `Storage.put_file`. A large one goes up in parts, and is there when the last of them is."""
        try:
            answer = self._bucket.upload(self._name(key), path)
            path.unlink()
        except OSError as error:
            raise disk_error(error, str(path)) from error
        return _info(key, answer)

    @contextlib.contextmanager
    def as_file(self, key: str) -> Iterator[Path]:
        """See `Storage.as_file`. It is downloaded to scratch."""
        info = self.head(key)
        if info is None:
            raise MissingObjectError("there is no such object", where=self._bucket.where(self._root + key))
        with _temporary_file(self.scratch_dir()) as path:
            self._download(info, path)
            yield path

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Storage.list`."""
        after, is_last = None, False
        while not is_last:
            objects, after, is_last = self._page(prefix, after)
            for info in objects:
                if self._is_key(info.key):
                    yield info
                elif not info.key.endswith("/"):  # consoles make those, to be shown as folders
                    _log.warning(
                        "%s: such a name cannot be used: it is left out",
                        self._bucket.where(self._root + info.key),
                    )

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        name = self._name(key)
        with contextlib.suppress(MissingObjectError):
            self._bucket.call("delete_object", name, Key=name)

    def scratch_dir(self) -> Path:
        """A folder of this user and store in the machine's own place for temporary files."""
        name = hashlib.sha256(self._address.url.encode()).hexdigest()[:12]
        own = Path(tempfile.gettempdir()) / f"framelift-{os.getuid()}"
        try:
            own.mkdir(mode=0o700, exist_ok=True)
            status = own.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                raise StorageError(
                    "this folder for temporary files is somebody else's",
                    where=str(own),
                    next_step="remove it, or name another place in TMPDIR",
                )
            (own / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise disk_error(error, str(own)) from error
        return own / name

    def sweep_scratch(self, age_s: float) -> int:
        """See `Storage.sweep_scratch`."""
        return sweep(self.scratch_dir(), age_s)

    def sweep_uploads(self, age_s: float, is_own: Callable[[str], bool]) -> int:
        """See `Storage.sweep_uploads`."""
        num_ended = 0
        for upload in self._bucket.uploads(self._root):
            is_old = (datetime.now(UTC) - upload["Initiated"]).total_seconds() > age_s
            if is_old and is_own(upload["Key"].removeprefix(self._root)):
                self._bucket.end_upload(upload)
                num_ended += 1
        return num_ended

    def _is_key(self, key: str) -> bool:
        """Whether this store can address `key`, and a local folder could too."""
        parts = key.split("/")
        is_text = key.isascii() or key == key.encode("utf-8", "replace").decode()
        return is_text and "" not in (parts[0], parts[-1]) and not {".", ".."} & set(parts)

    def _name(self, key: str) -> str:
        """The key in the bucket."""
        name = self._root + key
        if not self._is_key(key):
            raise StorageError("this is not a key", where=repr(key), expected="a relative path without '..'")
        if len(name.encode()) > _MAX_KEY_BYTES:
            raise StorageError("this key is too long", where=name, expected=f"{_MAX_KEY_BYTES} bytes at most")
        return name

    def _source(self, key: str, version: str) -> ObjectInfo:
        """What a source is, which must be at `version` and such that it can be read."""
        try:
            answer = self._bucket.stat(self._name(key))
        except MissingObjectError as error:
            raise _changed(key, version, None) from error
        except StorageError as error:
            raise s3_errors.source_error(error, key) from error
        info = _info(key, answer)
        if info.version != version:
            raise _changed(key, version, info)
        storage_class = answer.get("ArchiveStatus") or answer.get("StorageClass", "")
        is_archived = "ArchiveStatus" in answer or storage_class in _ARCHIVE_CLASSES
        if is_archived and 'ongoing-request="false"' not in answer.get("Restore", ""):
            raise s3_errors.archived(key, storage_class)
        return info

    def _page(self, prefix: str, after: str | None) -> _Page:
        """What is behind the key `after`: up to 1,000 objects, as many as the store gives at once."""
        place = self._root + prefix
        fields = {"StartAfter": self._root + after} if after is not None else {}
        while True:
            answer = self._bucket.call("list_objects_v2", place, Prefix=place, **fields)
            is_last = not answer.get("IsTruncated")
            objects = [
                ObjectInfo(entry["Key"].removeprefix(self._root), entry["Size"], version_of(entry))
                for entry in answer.get("Contents", ())
            ]
            if objects or is_last:
                return _Page(objects, objects[-1].key if objects else "", is_last)
            fields = {"ContinuationToken": answer["NextContinuationToken"]}  # it only met deleted ones

    def _found(self, wanted: Sequence[str]) -> Sequence[ObjectInfo]:
        """Those of `wanted`, which is ordered, that there are. Listings jump over what nobody asked for."""
        found, rest = [], deque(wanted)
        prefix = _common_start(wanted[0], wanted[-1])
        end = ""
        while rest:
            # The first wanted key itself is not behind itself; what is before it by its last letter is.
            objects, end, is_last = self._page(prefix, max(end, rest[0][:-1]))
            there = {info.key: info for info in objects}
            while rest and (is_last or rest[0] <= end):
                key = rest.popleft()
                if key in there:
                    found.append(there[key])
        return found

    def _download(self, info: ObjectInfo, path: Path) -> None:
        def piece(start: int) -> bytes:
            stop = min(start + _DOWNLOAD_PIECE_BYTES, info.size_bytes)
            return self._bucket.read(self._name(info.key), start, stop, info.version)

        starts = range(0, info.size_bytes, _DOWNLOAD_PIECE_BYTES)
        try:
            with path.open("wb") as file:
                for content in in_parallel(piece, starts, _NUM_PIECES_AT_ONCE):
                    file.write(content)
        except OSError as error:
            raise disk_error(error, str(path)) from error


def _info(key: str, answer: Any) -> ObjectInfo:
    return ObjectInfo(key, answer["ContentLength"], version_of(answer))


def _common_start(first: str, last: str) -> str:
    """What both begin with, and so does all that is ordered between them."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in pairs)


def _changed(key: str, version: str, found: ObjectInfo | None) -> SourceChanged:
    return SourceChanged(
        "the object is gone" if found is None else "the object changed while the job ran",
        where=key,
        got=f"ETag {found.version}" if found else "",
        expected=f"ETag {version}",
        next_step="put it back" if found is None else "let it be finished, then run the job again",
    )


@contextlib.contextmanager
def _temporary_file(folder: Path) -> Iterator[Path]:
    """An empty file in `folder`, gone when the block ends."""
    try:
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
    except OSError as error:
        raise disk_error(error, str(folder)) from error
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
