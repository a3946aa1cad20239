"""Giving freed memory back to the operating system."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """Returns what this process has freed, as after the tables of a long film.

    glibc keeps freed blocks for later. Having it map large blocks one by one instead would keep them apart,
    but costs networks half of their speed, since every activation is then new pages.
    """
    with contextlib.suppress(OSError, AttributeError):  # other C libraries keep less
        ctypes.CDLL(None).malloc_trim(0)
