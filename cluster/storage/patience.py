"""Trying again while a store is not available."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sr_core.errors import StorageError

T = TypeVar("T")

_log = logging.getLogger(__name__)

PATIENCE_S = 120.0  # from a call's first failure on
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 20.0
_WORTH_TELLING_S = 5.0


def patiently(call: Callable[[], T], patience_s: float) -> T:
    """What `call` returns, called again for `patience_s` while the store is not available.

    The pauses between the calls grow, and differ at random, so that many workers do not return at once.

    Raises:
        StorageError: Of the last call.
    """
    give_up_at, pause_s = None, FIRST_PAUSE_S
    while True:
        try:
            return call()
        except StorageError as error:
            now = time.monotonic()
            give_up_at = now + patience_s if give_up_at is None else give_up_at
            if not error.unavailable or now + pause_s > give_up_at:
                raise
            if pause_s >= _WORTH_TELLING_S:
                _log.warning("%s; trying again for %.0f s", error, give_up_at - now)
        time.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
