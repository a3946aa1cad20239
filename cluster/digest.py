"""Hashes by which what was stored is known again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO


def digest(file: BinaryIO) -> str:
    """SHA-256 of all that follows in `file`, in hexadecimal digits."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def digest_of(path: Path) -> str:
    """SHA-256 of a local file, in hexadecimal digits."""
    with path.open("rb") as file:
        return digest(file)
