"""A small disk of its own, that can be full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SIZE = "96m"
_BLOCK = bytes(1 << 16)


class Disk:
    """A file system of little room.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leaves no room at all."""
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while file.write(_BLOCK):
                pass

    def free(self) -> None:
        """Makes room again."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mounts one at `folder` while the block lasts.

    Raises:
        PermissionError: This user may not mount.
    """
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this user may have small disks."""
    try:
        with small_disk(folder):
            return True
    except (PermissionError, FileNotFoundError):
        return False
    finally:
        folder.rmdir()
