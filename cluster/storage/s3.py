"""A store that speaks S3: AWS, MinIO, Ceph, R2.

Nothing is asked of it but plain put, get, get of a range, list, delete and multipart upload.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from cluster.storage import s3_errors
from cluster.storage.address import S3Address, S3Settings
from cluster.storage.base import MissingObjectError, ObjectInfo
from cluster.storage.local import storage_error, sweep
from cluster.storage.parallel import in_parallel
from cluster.storage.ranged import RangedReader
from sr_core.errors import SourceChanged, StorageError

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60.0
_MAX_ATTEMPTS = 8  # of one call, with growing pauses between them, which are boto3's
_MAX_CONNECTIONS = 32
# Between tries to read the rest of a body that broke off.
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_CHUNK_BYTES = 256 << 10
_PIECE_BYTES = 16 << 20  # of what is copied to or from a local file
_NUM_PIECES_AT_ONCE = 4
_TRANSFER = TransferConfig(
    multipart_threshold=_PIECE_BYTES, multipart_chunksize=_PIECE_BYTES, max_concurrency=_NUM_PIECES_AT_ONCE
)
_FEW_KEYS = 16
_MAX_KEY_BYTES = 1024

# Endpoints that take ETags in If-Match without quotes alone, as old versions of Ceph do.
_without_quotes: set[str] = set()


@functools.cache
def _client(settings: S3Settings) -> Any:
    """This process's client for stores with these settings, which threads may share."""
    options: Any = {"addressing_style": settings.addressing} if settings.addressing else {}
    checksums: dict[str, Any] = (
        {
            "request_checksum_calculation": settings.checksums,
            "response_checksum_validation": settings.checksums,
        }
        if settings.checksums
        else {}
    )
    config = Config(
        retries={"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS},
        max_pool_connections=_MAX_CONNECTIONS,
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=settings.timeout_seconds or _READ_TIMEOUT_S,
        s3=options or None,
        **checksums,
    )
    return boto3.session.Session().client(
        "s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config
    )


class S3Storage:
    """The objects below a prefix of a bucket. An object's version is its ETag."""

    def __init__(self, url: str) -> None:
        self._address = S3Address.parse(url)
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
            answer = self._client.head_object(**self._named(key))
        except s3_errors.ERRORS as error:
            if s3_errors.is_missing(error):
                return None
            raise s3_errors.storage_error(error, self._where(key)) from error
        return ObjectInfo(key, answer["ContentLength"], _version(answer))

    def find(self, keys: Iterable[str]) -> dict[str, ObjectInfo]:
        """See `Storage.find`. Many are looked for in listings, which jump over what nobody asked for."""
        wanted = sorted({key for key in keys if self._named(key)})
        if len(wanted) <= _FEW_KEYS:
            heads = in_parallel(self.head, wanted)
            return {info.key: info for info in heads if info is not None}
        found: dict[str, ObjectInfo] = {}
        prefix = _common_start(wanted[0], wanted[-1])
        after, next_index = wanted[0][:-1], 0
        while next_index < len(wanted):
            page, is_last = self._page(prefix, after)
            there = {info.key: info for info in page}
            end = page[-1].key if page else ""
            while next_index < len(wanted) and (is_last or wanted[next_index] <= end):
                key = wanted[next_index]
                if key in there:
                    found[key] = there[key]
                next_index += 1
            if next_index < len(wanted):
                after = max(end, wanted[next_index][:-1])
        return found

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        try:
            return self._read(key, 0, None, None)
        except MissingObjectError:
            return None
        except s3_errors.ERRORS as error:
            if s3_errors.is_missing(error):
                return None
            raise s3_errors.storage_error(error, self._where(key)) from error

    def open(self, key: str, version: str) -> BinaryIO:
        """See `Storage.open`. It is read in blocks, when they are asked for."""
        try:
            info = self.head(key)
        except StorageError as error:
            if isinstance(error.__cause__, s3_errors.ERRORS):
                raise s3_errors.source_error(error.__cause__, key) from error
            raise
        if info is None or info.version != version:
            raise _changed(key, version, info.version if info else None)

        def fetch(start: int, stop: int) -> bytes:
            try:
                return self._read(key, start, stop, version)
            except s3_errors.ERRORS as error:
                if s3_errors.is_missing(error) or s3_errors.is_precondition_failed(error):
                    raise _changed(key, version, None) from error
                raise s3_errors.source_error(error, key) from error

        identity = (self._address.settings.endpoint_url, self._address.bucket, self._root + key, version)
        return cast(BinaryIO, RangedReader(fetch, info.size_bytes, identity))

    def put(self, key: str, content: bytes) -> ObjectInfo:
        """See `Storage.put`."""
        try:
            answer = self._client.put_object(**self._named(key), Body=content)
        except s3_errors.ERRORS as error:
            raise s3_errors.storage_error(error, self._where(key)) from error
        return ObjectInfo(key, len(content), _version(answer))

    def put_file(self, key: str, path: Path) -> ObjectInfo:
        """See `Storage.put_file`. Large files go up in pieces, and count when the last one is there."""
        size_bytes = path.stat().st_size
        try:
            self._client.upload_file(str(path), **self._named(key), Config=_TRANSFER)
        except S3UploadFailedError as error:
            raise s3_errors.storage_error(_cause(error), self._where(key)) from error
        except s3_errors.ERRORS as error:
            raise s3_errors.storage_error(error, self._where(key)) from error
        info = self.head(key)
        if info is None or info.size_bytes != size_bytes:
            raise StorageError(
                "the store does not hold what was put",
                where=self._where(key),
                got=f"{info.size_bytes} bytes" if info else "nothing",
                expected=f"{size_bytes} bytes",
                unavailable=True,
            )
        path.unlink()
        return info

    @contextlib.contextmanager
    def as_file(self, key: str) -> Iterator[Path]:
        """See `Storage.as_file`. It is downloaded to scratch."""
        info = self.head(key)
        if info is None:
            raise MissingObjectError("there is no such object", where=self._where(key))
        descriptor, name = tempfile.mkstemp(dir=self.scratch_dir())
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                self._download(info, file)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Storage.list`."""
        after, is_last = "", False
        while not is_last:
            page, is_last = self._page(prefix, after)
            yield from (info for info in page if not info.key.endswith("/"))  # which consoles show as folders
            after = page[-1].key if page else ""

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        try:
            self._client.delete_object(**self._named(key))
        except s3_errors.ERRORS as error:
            if not s3_errors.is_missing(error):
                raise s3_errors.storage_error(error, self._where(key)) from error

    def scratch_dir(self) -> Path:
        """A folder of this user and store in the machine's own place for temporary files."""
        name = hashlib.sha256(self._address.url.encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"framelift-{os.getuid()}" / name
        try:
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise storage_error(error, str(folder)) from error
        return folder

    def sweep_scratch(self, age_s: float) -> int:
        """See `Storage.sweep_scratch`."""
        return sweep(self.scratch_dir(), age_s)

    def sweep_uploads(self, age_s: float) -> int:
        """See `Storage.sweep_uploads`."""
        num_ended = 0
        try:
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._address.bucket, Prefix=self._root
            ):
                for upload in page.get("Uploads", ()):
                    if (datetime.now(UTC) - upload["Initiated"]).total_seconds() > age_s:
                        self._client.abort_multipart_upload(
                            Bucket=self._address.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        num_ended += 1
        except s3_errors.ERRORS as error:
            raise s3_errors.storage_error(error, self.url) from error
        return num_ended

    @property
    def _client(self) -> Any:
        return _client(self._address.settings)

    def _named(self, key: str) -> dict[str, str]:
        parts = key.split("/")
        is_text = key.isascii() or key == key.encode("utf-8", "replace").decode()
        if not key or key.startswith("/") or ".." in parts or not is_text:
            raise StorageError("this is not a key", where=repr(key), expected="a relative path without '..'")
        name = self._root + PurePosixPath(key).as_posix()
        if len(name.encode()) > _MAX_KEY_BYTES:
            raise StorageError("this key is too long", where=name, expected=f"{_MAX_KEY_BYTES} bytes at most")
        return {"Bucket": self._address.bucket, "Key": name}

    def _where(self, key: str) -> str:
        return f"s3://{self._address.bucket}/{self._root}{key}"

    def _page(self, prefix: str, after: str) -> tuple[Sequence[ObjectInfo], bool]:
        """Up to 1,000 objects behind the key `after`, and whether there are no more."""
        fields = {"StartAfter": self._root + after} if after else {}
        try:
            answer = self._client.list_objects_v2(
                Bucket=self._address.bucket, Prefix=self._root + prefix, **fields
            )
        except s3_errors.ERRORS as error:
            raise s3_errors.storage_error(error, self._where(prefix)) from error
        found = [
            ObjectInfo(entry["Key"][len(self._root) :], entry["Size"], _version(entry))
            for entry in answer.get("Contents", ())
        ]
        return found, not answer.get("IsTruncated")

    def _download(self, info: ObjectInfo, file: BinaryIO) -> None:
        starts = range(0, info.size_bytes, _PIECE_BYTES)

        def piece(start: int) -> bytes:
            stop = min(start + _PIECE_BYTES, info.size_bytes)
            try:
                return self._read(info.key, start, stop, info.version)
            except s3_errors.ERRORS as error:
                if s3_errors.is_precondition_failed(error):
                    raise MissingObjectError(
                        "the object was replaced", where=self._where(info.key)
                    ) from error
                raise s3_errors.storage_error(error, self._where(info.key)) from error

        try:
            for content in in_parallel(piece, starts, _NUM_PIECES_AT_ONCE):
                file.write(content)
        except OSError as error:
            raise storage_error(error, str(self.scratch_dir())) from error

    def _read(self, key: str, start: int, stop: int | None, version: str | None) -> bytes:
        """A half-open range of an object, or all from `start` on; goes on behind what came of a broken body.

        Raises:
            ClientError, BotoCoreError: Of boto3.
            StorageError: Bodies break off again and again.
        """
        content = bytearray()
        for pause_s in (*_PAUSES_S, None):
            try:
                answer = self._ranged(key, start + len(content), stop, version)
                if answer is None:  # the object is empty
                    return b""
                for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                    content += chunk
                # A body may also be shorter than was asked, with a length that fits it.
                size_bytes = int(answer["ContentRange"].rpartition("/")[2])
                if start + len(content) >= min(size_bytes, size_bytes if stop is None else stop):
                    return bytes(content)
                what_came = f"{len(content)} bytes"
            except s3_errors.BODY_ERRORS as error:
                what_came = f"{len(content)} bytes, then {type(error).__name__}"
            if pause_s is not None:
                time.sleep(pause_s * random.uniform(0.5, 1.0))
        raise StorageError(
            "what the store sends breaks off again and again",
            where=self._where(key),
            got=what_came,
            unavailable=True,
        )

    def _ranged(self, key: str, start: int, stop: int | None, version: str | None) -> Any:
        """The answer to one GET of a range, at `version` if there is one; None where the object is empty."""
        endpoint = self._address.settings.endpoint_url or ""
        range_ = f"bytes={start}-{'' if stop is None else stop - 1}"
        for is_last_try in (False, True):
            condition = {} if version is None else {"IfMatch": _quoted(version, endpoint)}
            try:
                answer = self._client.get_object(**self._named(key), Range=range_, **condition)
            except s3_errors.ERRORS as error:
                if s3_errors.code_of(error) in ("InvalidRange", "416") and start == 0:
                    return None
                if is_last_try or not s3_errors.is_precondition_failed(error):
                    raise
                info = self.head(key)
                if info is None or info.version != version:
                    raise
                _without_quotes.symmetric_difference_update({endpoint})  # it is there: the spelling is not
                continue
            if version is not None and _version(answer) != version:  # a store that ignores If-Match
                raise _changed(key, version, _version(answer))
            return answer
        raise AssertionError("unreachable")


def _version(answer: dict[str, Any]) -> str:
    """The ETag, which changes with the content, also where a bucket keeps versions."""
    return str(answer["ETag"]).strip('"')


def _common_start(first: str, last: str) -> str:
    """What both begin with, and so does all that is ordered between them."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in pairs)


def _quoted(version: str, endpoint: str) -> str:
    return version if endpoint in _without_quotes else f'"{version}"'


def _cause(error: BaseException) -> Exception:
    """What boto3 wrapped into an error of its own."""
    inner = error.__cause__ or error.__context__
    return inner if isinstance(inner, Exception) else cast(Exception, error)


def _changed(key: str, version: str, found: str | None) -> SourceChanged:
    return SourceChanged(
        "the object is gone" if found is None else "the object changed while the job ran",
        where=key,
        got=f"ETag {found}" if found else "",
        expected=f"ETag {version}",
        next_step="let it be finished, then run the job again",
    )
