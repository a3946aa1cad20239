"""A bucket of an S3 store: its objects by their whole names, read and written however the store stumbles.

Each call may be made twice without harm, and so is tried again while the store is not available.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig

from cluster.storage import patience, s3_errors
from cluster.storage.address import S3Settings
from cluster.storage.base import MissingObjectError
from cluster.storage.client import client_for
from cluster.storage.patience import patiently
from sr_core.errors import StorageError

T = TypeVar("T")

_CHUNK_BYTES = 256 << 10
_PART_BYTES = 16 << 20
_TRANSFER = TransferConfig(
    multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4
)

_QUOTED, _BARE = '"{}"', "{}"
# How the stores at these endpoints want an ETag in If-Match, where it is not quoted: old Ceph wants it bare.
_spellings: dict[str, str] = {}
_FIRST_PATIENCE_S = 15.0  # with an endpoint that never answered this process: its address may be wrong
_answered: set[str] = set()


@dataclass
class _Begun:
    """A half-open range that is being read.

    Attributes:
        stop: None for the object's end.
        version: That all of it must have; None before the first answer told one.
        content: What came so far.
    """

    start: int
    stop: int | None
    version: str | None
    content: bytearray = field(default_factory=bytearray)

    @property
    def at(self) -> int:
        """Where what is still to come begins."""
        return self.start + len(self.content)


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
        begun = _Begun(start, stop, version)
        return self._patiently(lambda: self._read_on(name, begun))

    def upload(self, name: str, path: Path) -> Any:
        """Stores a file, in parts if it is large, and returns the answer to HEAD then.

        Raises:
            OSError: The file cannot be read.
        """
        size_bytes = path.stat().st_size
        return self._patiently(lambda: self._upload_checked(name, path, size_bytes))

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
            return getattr(client_for(self._settings), operation)(Bucket=self.name, **fields)
        except s3_errors.ERRORS as error:
            raise s3_errors.storage_error(error, self.where(where)) from error

    def _read_on(self, name: str, begun: _Begun) -> bytes:
        """Goes on behind what came of bodies that broke off."""
        try:
            answer = self._range(name, begun.at, begun.stop, begun.version)
        except StorageError as error:
            if s3_errors.code_of(error) in ("InvalidRange", "416") and begun.at == 0:
                return b""  # the object is empty
            self._refuse_shrunk(name, begun, error)
            raise
        begun.version = version_of(answer)
        size_bytes = self._size_bytes(name, answer)
        expected_bytes = (size_bytes if begun.stop is None else begun.stop) - begun.start
        self._receive(name, answer["Body"], begun.content)
        # A body may end early though its length fits what the answer said of it.
        if len(begun.content) < expected_bytes:
            raise StorageError(
                "what the store sends breaks off again and again",
                where=self.where(name),
                got=f"{len(begun.content)} bytes",
                expected=f"{expected_bytes} bytes",
                unavailable=True,
            )
        return bytes(begun.content)

    def _refuse_shrunk(self, name: str, begun: _Begun, error: StorageError) -> None:
        """Raises `ReplacedError` where there is no such range any more: some stores look at that first."""
        is_beyond = s3_errors.code_of(error) in ("InvalidRange", "416")
        if is_beyond and begun.version is not None and version_of(self.stat(name)) != begun.version:
            raise s3_errors.ReplacedError("the object was replaced", where=self.where(name)) from error

    def _receive(self, name: str, body: Any, content: bytearray) -> None:
        """Adds what comes of a body to `content`, also where it breaks off."""
        try:
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                content.extend(chunk)
        except s3_errors.ERRORS as error:
            raise s3_errors.storage_error(error, self.where(name)) from error

    def _upload_checked(self, name: str, path: Path, size_bytes: int) -> Any:
        """The answer to HEAD after an upload, which shows that all of it is there."""
        try:
            self._upload_whole(name, path)
            answer = self.stat(name)
            got = f"{answer['ContentLength']} bytes"
        # Also of an upload whose last answer was lost: it is no upload any more.
        except MissingObjectError:
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

    def _upload_whole(self, name: str, path: Path) -> None:
        try:
            client_for(self._settings).upload_file(str(path), self.name, name, Config=_TRANSFER)
        except S3UploadFailedError as error:
            raise s3_errors.storage_error(_cause(error), self.where(name)) from error
        except s3_errors.ERRORS as error:
            raise s3_errors.storage_error(error, self.where(name)) from error

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


def _cause(error: BaseException) -> Exception:
    """What boto3 wrapped into an error of its own."""
    inner = error.__cause__ or error.__context__
    return inner if isinstance(inner, Exception) else cast(Exception, error)
