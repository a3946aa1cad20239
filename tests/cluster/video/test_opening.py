"""Encoders leave the process around them as it is."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from cluster.video.opening import opening_encoder
from cluster.video.recode import LossyCodec, Recoding, recoded


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
    with opening_encoder():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
        thread = threading.Thread(target=is_over.wait)
        thread.start()  # inherits it, as those of an encoder do
        assert os.SCHED_FIFO in priorities()
    found = priorities()
    is_over.set()
    thread.join()

    assert found == {os.SCHED_OTHER}


def test_an_encoder_that_would_print_its_settings_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    recoded(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), Recoding(LossyCodec.AV1, 40))

    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("real_time")
def test_a_priority_that_was_asked_for_stays() -> None:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        with opening_encoder():
            pass
        assert os.sched_getscheduler(0) == os.SCHED_RR
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
