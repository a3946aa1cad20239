"""Encoders leave the priority of threads as it is."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cluster.video.priority import kept_priority


def priorities() -> set[int]:
    return {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}


@pytest.fixture
def real_time() -> None:
    """Skips where a process may not raise its priority: there nothing else can, either."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pytest.skip("needs the right to raise priorities")
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.usefixtures("real_time")
def test_threads_that_were_raised_are_as_before() -> None:
    is_over = threading.Event()
    with kept_priority():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
        thread = threading.Thread(target=is_over.wait)
        thread.start()  # inherits it, as those of an encoder do
        assert os.SCHED_FIFO in priorities()
    found = priorities()
    is_over.set()
    thread.join()

    assert found == {os.SCHED_OTHER}


@pytest.mark.usefixtures("real_time")
def test_a_priority_that_was_asked_for_stays() -> None:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        with kept_priority():
            pass
        assert os.sched_getscheduler(0) == os.SCHED_RR
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
