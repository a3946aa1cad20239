"""A local folder as a store."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cluster.layout import SCRATCH
from cluster.storage.base import MissingObjectError, ObjectInfo
from cluster.storage.disk import disk_error, next_step_after, sweep
from sr_core.errors import MediaError, SourceChanged, StorageError

_log = logging.getLogger(__name__)


class LocalStorage:
    """The files below a folder, as objects. Keys are their relative paths with `/`."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

    @property
    def is_on_scratch_disk(self) -> bool:
        """It is the same file system."""
        return True

    def head(self, key: str) -> ObjectInfo | None:
        """See `Storage.head`."""
        try:
            status = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_error(error, key) from error
        return _object_info(key, status) if stat.S_ISREG(status.st_mode) else None

    def find(self, keys: Iterable[str]) -> dict[str, ObjectInfo]:
        """See `Storage.find`."""
        heads = ((key, self.head(key)) for key in keys)
        return {key: info for key, info in heads if info is not None}

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_error(error, key) from error

    def open(self, key: str, version: str) -> BinaryIO:
        """See `Storage.open`."""
        try:
            file = self._path(key).open("rb")
        except FileNotFoundError as error:
            raise SourceChanged("the file is gone", where=key, next_step="put it back") from error
        except OSError as error:
            next_step = next_step_after(error)
            got = error.strerror or str(error)
            raise MediaError("the file cannot be read", where=key, got=got, next_step=next_step) from error
        found = _object_info(key, os.fstat(file.fileno())).version
        if found != version:
            file.close()
            raise SourceChanged(
                "the file changed while the job ran",
                where=key,
                got=f"version {found}",
                expected=version,
                next_step="let it be finished, then run the job again",
            )
        return file

    def put(self, key: str, content: bytes) -> ObjectInfo:
        """See `Storage.put`."""
        with self._storing(key) as temporary:
            temporary.write_bytes(content)
        return self._stored(key)

    def put_file(self, key: str, path: Path) -> ObjectInfo:
        """See `Storage.put_file`. Costs a copy only where `path` lies on another file system."""
        with self._storing(key) as temporary:
            shutil.move(path, temporary)
        return self._stored(key)

    @contextlib.contextmanager
    def as_file(self, key: str) -> Iterator[Path]:
        """See `Storage.as_file`. It is the object itself."""
        if self.head(key) is None:
            raise MissingObjectError("there is no such object", where=key)
        yield self._path(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Storage.list`."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        scratch = self._root / SCRATCH
        for path in _files_below(start, leave_out=scratch):
            key = path.relative_to(self._root).as_posix()
            info = self.head(key) if key.startswith(prefix) else None
            if info is not None:
                yield info

    def delete(self, key: str) -> None:
        """See `Storage.delete`. Folders that become empty go with it."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, key) from error
        with contextlib.suppress(OSError):  # not empty, or somebody else's
            for folder in path.parents:
                if folder == self._root:
                    return
                folder.rmdir()

    def scratch_dir(self) -> Path:
        """A folder on the store's own file system, so that `put_file` is a rename.

        A crash leaves nothing there that could be taken for an object.
        """
        folder = self._root / SCRATCH
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, str(folder)) from error
        return folder

    def sweep_scratch(self, age_s: float) -> int:
        """See `Storage.sweep_scratch`."""
        return sweep(self.scratch_dir(), age_s)

    def sweep_uploads(self, age_s: float, is_own: Callable[[str], bool]) -> int:
        """There are none: what is on its way is scratch."""
        return 0

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise StorageError("this is not a key", where=key, expected="a relative path without '..'")
        return self._root.joinpath(*parts)

    def _stored(self, key: str) -> ObjectInfo:
        info = self.head(key)
        if info is None:
            raise StorageError("an object is gone right after it was stored", where=key, unavailable=True)
        return info

    @contextlib.contextmanager
    def _storing(self, key: str) -> Iterator[Path]:
        """A temporary path that becomes `key`, durably, when the block ends without an error."""
        path = self._path(key)
        temporary = self.scratch_dir() / uuid.uuid4().hex
        try:
            yield temporary
            _fsync(temporary)
            _move(temporary, path)
        except OSError as error:
            raise disk_error(error, key) from error
        finally:
            temporary.unlink(missing_ok=True)


def _files_below(folder: Path, leave_out: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=_listing_name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        _log.warning("%s may not be read: nothing in it is seen", folder)
        return
    except OSError as error:
        raise disk_error(error, str(folder)) from error
    for entry in entries:
        path = Path(entry.path)
        if path == leave_out:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(path, leave_out)
        elif entry.is_file():
            yield path


def _listing_name(entry: os.DirEntry[str]) -> bytes:
    """What orders a folder's entries as their keys are ordered: `a.mp4` stands before what is in `a/`."""
    return os.fsencode(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)


def _object_info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")


def _move(temporary: Path, path: Path) -> None:
    """Gives a file its name, durably, in a folder that another process may just be removing as empty."""
    for is_last_try in [*[False] * 20, True]:
        try:
            _make_folder(path.parent)
            temporary.replace(path)
            _fsync(path.parent)
        except FileNotFoundError:
            if is_last_try or not temporary.exists():
                raise
        else:
            return


def _make_folder(folder: Path) -> None:
    """Makes `folder` and its parents, each made durable in the one above it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _fsync(folder.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
