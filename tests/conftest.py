"""What holds for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Started in the background of a shell, this process ignores Ctrl-C, and so would all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_real_time_priority() -> Iterator[None]:
    """A test that leaves it behind would have all later ones, and what they start, stop the machine."""
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "an encoder of a fixture has raised the priority"
    yield
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "an encoder has raised the priority"
