"""A bucket of an S3 store: its objects by their whole names, read and written however the store stumbles.

Each call may be made twice without harm, and so is tried again while the store is not available.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import boto3
import botocore.session
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.utils import parse_timestamp

from cluster.storage import patience, s3_errors
from cluster.storage.address import S3Settings
from cluster.storage.base import MissingObjectError
from cluster.storage.patience import patiently
from sr_core.errors import StorageError

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60.0
_MAX_ATTEMPTS = 4  # of boto3, with short pauses: a part of an upload is not lost to a single fault
_MAX_CONNECTIONS = 32
_CHUNK_BYTES = 256 << 10
_PART_BYTES = 16 << 20
_TRANSFER = TransferConfig(
    multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4
)

_QUOTED, _BARE = '"{}"', "{}"
# How the stores at these endpoints want an ETag in If-Match, where it is not quoted: old Ceph wants it bare.
_spellings: dict[str, str] = {}
_clients_lock = threading.Lock()
_FIRST_PATIENCE_S = 15.0  # with an endpoint that never answered this process: its address may be wrong
_answered: set[str] = set()


class Bucket:
    """One bucket. Every method raises `StorageError` where the store refuses or fails."""

    def __init__(self, name: str, settings: S3Settings) -> None:
        self.name = name
        self._settings = settings

    def call(self, operation: str, where: str, **fields: Any) -> Any:
        """The answer to one operation of boto3's client on this bucket.

        Args:
            where: What of the bucket it is about, for an error.
            fields: That boto3 knows, in its spelling.
        """
        return self._patiently(lambda: self._ask(operation, where, **fields))

    def stat(self, name: str) -> Any:
        """The answer to HEAD.

        Raises:
            MissingObjectError: There is no such object.
        """
        try:
            return self.call("head_object", name, Key=name)
        except StorageError as error:
            if s3_errors.code_of(error) in ("400", "403"):  # an answer to HEAD has no body that says why
                self.call("get_object", name, Key=name, Range="bytes=0-0")["Body"].close()
            raise

    def read(self, name: str, start: int, stop: int | None, version: str | None) -> bytes:
        """A half-open range of an object, to its end without `stop`, at `version` or else as it is now.

        Raises:
            MissingObjectError: There is no such object.
            ReplacedError: It is not at that version, or was replaced between two tries.
        """
        content = bytearray()

        def read_on() -> bytes:
            """Goes on behind what came of bodies that broke off."""
            nonlocal version
            try:
                answer = self._range(name, start + len(content), stop, version)
            except StorageError as error:
                if s3_errors.code_of(error) in ("InvalidRange", "416") and start == 0 and not content:
                    return b""  # the object is empty
                raise
            version = version_of(answer)
            size_bytes = self._size_bytes(name, answer)
            expected_bytes = (size_bytes if stop is None else stop) - start
            try:
                for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                    content.extend(chunk)
            except s3_errors.ERRORS as error:
                raise s3_errors.storage_error(error, self.where(name)) from error
            if len(content) < expected_bytes:  # though its length fitted what the answer said of it
                raise StorageError(
                    "what the store sends breaks off again and again",
                    where=self.where(name),
                    got=f"{len(content)} bytes",
                    expected=f"{expected_bytes} bytes",
                    unavailable=True,
                )
            return bytes(content)

        return self._patiently(read_on)

    def upload(self, name: str, path: Path) -> Any:
        """Stores a file, in parts if it is large, and returns the answer to HEAD then.

        Raises:
            OSError: The file cannot be read.
        """
        size_bytes = path.stat().st_size

        def upload_whole() -> Any:
            try:
                _client(self._settings).upload_file(str(path), self.name, name, Config=_TRANSFER)
            except S3UploadFailedError as error:
                raise s3_errors.storage_error(_cause(error), self.where(name)) from error
            except s3_errors.ERRORS as error:
                raise s3_errors.storage_error(error, self.where(name)) from error

        def upload_checked() -> Any:
            try:
                upload_whole()
                answer = self.stat(name)
                got = f"{answer['ContentLength']} bytes"
            except (
                MissingObjectError
            ):  # also of an upload whose last answer was lost: it is no upload any more
                got = "nothing"
            if got != f"{size_bytes} bytes":
                raise StorageError(
                    "the store does not hold what was put",
                    where=self.where(name),
                    got=got,
                    expected=f"{size_bytes} bytes",
                    unavailable=True,
                )
            return answer

        return self._patiently(upload_checked)

    def uploads(self, prefix: str) -> Iterator[Any]:
        """The uploads in parts to names with `prefix` that have not ended, as boto3 shows them."""
        markers: dict[str, str] = {}
        while True:
            answer = self.call("list_multipart_uploads", prefix, Prefix=prefix, **markers)
            yield from answer.get("Uploads", ())
            if not answer.get("IsTruncated"):
                return
            markers = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def end_upload(self, upload: Any) -> None:
        """Gives up one of `uploads`; nothing happens where it has ended meanwhile."""
        named = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
        with contextlib.suppress(MissingObjectError):
            self.call("abort_multipart_upload", upload["Key"], **named)

    def where(self, name: str) -> str:
        """The URL of an object, for messages."""
        return f"s3://{self.name}/{name}"

    def _patiently(self, call: Callable[[], T]) -> T:
        endpoint = self._settings.endpoint_url or ""
        result = patiently(call, patience.PATIENCE_S if endpoint in _answered else _FIRST_PATIENCE_S)
        _answered.add(endpoint)
        return result

    def _ask(self, operation: str, where: str, **fields: Any) -> Any:
        try:
            return getattr(_client(self._settings), operation)(Bucket=self.name, **fields)
        except s3_errors.ERRORS as error:
            raise s3_errors.storage_error(error, self.where(where)) from error

    def _range(self, name: str, start: int, stop: int | None, version: str | None) -> Any:
        """The answer to one GET of a range, at `version` if there is one."""
        fields = {"Key": name, "Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        if version is None:
            return self._ask("get_object", name, **fields)
        endpoint = self._settings.endpoint_url or ""
        spelling = _spellings.get(endpoint, _QUOTED)
        try:
            answer = self._ask("get_object", name, **fields, IfMatch=spelling.format(version))
        except s3_errors.ReplacedError:
            if version_of(self.stat(name)) != version:
                raise
            other = _BARE if spelling == _QUOTED else _QUOTED
            answer = self._ask("get_object", name, **fields, IfMatch=other.format(version))
            _spellings[endpoint] = other
        if version_of(answer) != version:  # a store that takes no notice of If-Match
            answer["Body"].close()
            raise s3_errors.ReplacedError("the object was replaced", where=self.where(name))
        return answer

    def _size_bytes(self, name: str, answer: Any) -> int:
        """Of the whole object, as the answer to a GET of a range says."""
        content_range = str(answer.get("ContentRange", ""))
        if not content_range:
            answer["Body"].close()
            raise StorageError(
                "the store takes no notice of which range is asked for",
                where=self.where(name),
                expected="an S3 store, which answers 206 to a GET with a Range",
            )
        return int(content_range.rpartition("/")[2])


def version_of(answer: Any) -> str:
    """The ETag that an answer or an entry of a listing shows, without its quotes."""
    return str(answer["ETag"]).strip('"')


def _client(settings: S3Settings) -> Any:
    """This process's client for stores with these settings, which threads may share."""
    with _clients_lock:  # making one takes a while: threads that start together would all do it
        return _made_client(settings)


@functools.cache
def _made_client(settings: S3Settings) -> Any:
    options: Any = {"addressing_style": settings.addressing} if settings.addressing else None
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
        s3=options,
        **checksums,
    )
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    return boto3.session.Session(botocore_session=core).client(
        "s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config
    )


def _timestamp(text: Any) -> datetime:
    """As botocore reads times, whose parser takes most of the time of a long listing."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)


def _cause(error: BaseException) -> Exception:
    """What boto3 wrapped into an error of its own."""
    inner = error.__cause__ or error.__context__
    return inner if isinstance(inner, Exception) else cast(Exception, error)
