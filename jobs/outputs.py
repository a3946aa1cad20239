"""Files that a command writes on this machine: none is replaced unasked, and none is left half written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.load import refuse_s3
from sr_core.errors import SpecError, StorageError


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Says before any work what `written` must not write.

    Args:
        paths: Of the files that are to be written.
        overwrite: Whether files that stand there may be replaced; folders never are.

    Raises:
        SpecError: Something stands there, or the path names a bucket.
    """
    for path in paths:
        refuse_s3(str(path), "the output")
        if path.exists() and not (overwrite and path.is_file()):
            next_step = "give another path, or --overwrite" if path.is_file() else "give another path"
            raise SpecError("something stands there already", where=str(path), next_step=next_step)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A path beside `path`, with its suffix, whose file takes that name if the block ends without an error.

    Folders that are missing are made.

    Raises:
        StorageError: It cannot be written there.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            "the file cannot be written", where=str(path), got=error.strerror or str(error)
        ) from error
