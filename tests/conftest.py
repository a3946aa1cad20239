"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_real_time_priority() -> Iterator[None]:
    """A test that leaves it behind would have all later ones, and what they start, stop the machine."""
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "an encoder of a fixture has raised the priority"
    yield
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "an encoder has raised the priority"
