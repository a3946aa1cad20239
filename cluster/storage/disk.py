"""What a disk says of a call that failed, as errors that say who must act; and old files on it."""

from __future__ import annotations

import contextlib
import errno
import time
from pathlib import Path

from sr_core.errors import DiskError, StorageError

DISK_ERRNOS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS))
"""The disk is full or cannot be written at all, which no other segment would change."""

_UNAVAILABLE = {errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EAGAIN, errno.EBUSY, errno.ENETDOWN}
_NEXT_STEPS = {
    errno.ENOSPC: "free some disk space and run the same command again; what is done stays done",
    errno.EDQUOT: "raise the quota and run the same command again; what is done stays done",
    errno.EACCES: "give this user the right to read or write there",
    errno.EPERM: "give this user the right to read or write there",
    errno.EROFS: "choose an output folder that can be written",
}


def disk_error(error: OSError, where: str) -> StorageError:
    """An error of the operating system as one of the store; `unavailable` where it may pass."""
    kind = DiskError if error.errno in DISK_ERRNOS else StorageError
    return kind(
        error.strerror or str(error),
        where=where,
        unavailable=error.errno in _UNAVAILABLE,
        next_step=next_step_after(error),
    )


def next_step_after(error: OSError) -> str:
    """What the user can do about it; empty where nobody knows."""
    return _NEXT_STEPS.get(error.errno or 0, "")


def sweep(folder: Path, age_s: float) -> int:
    """Removes files in `folder` that nobody has written to for so long, and returns how many there were."""
    num_removed = 0
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            if time.time() - path.stat().st_mtime > age_s:
                path.unlink()
                num_removed += 1
    return num_removed
