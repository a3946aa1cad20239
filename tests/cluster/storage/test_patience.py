"""Trying again while a store is not available."""

from __future__ import annotations

import pytest

from cluster.storage import patience
from cluster.storage.patience import patiently
from sr_core.errors import StorageError


class Clock:
    """Stands in for `time`: pausing is what lets it go on."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        self.now_s += pause_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def failing(num_times: int, unavailable: bool = True):  # type: ignore[no-untyped-def]
    """A call that fails so many times, and how often it was made."""
    calls: list[None] = []

    def call() -> int:
        calls.append(None)
        if len(calls) <= num_times:
            raise StorageError("fault", unavailable=unavailable)
        return len(calls)

    return call, calls


def test_a_call_is_made_until_it_works_with_pauses_that_grow(clock: Clock) -> None:
    call, _ = failing(8)
    assert patiently(call, patience.PATIENCE_S) == 9
    assert clock.pauses_s[-1] > 10 * clock.pauses_s[0]
    assert max(clock.pauses_s) <= patience.LONGEST_PAUSE_S


def test_patience_ends(clock: Clock) -> None:
    call, calls = failing(10**6)
    with pytest.raises(StorageError, match="fault"):
        patiently(call, patience.PATIENCE_S)
    assert patience.PATIENCE_S - patience.LONGEST_PAUSE_S <= clock.now_s <= patience.PATIENCE_S
    assert len(calls) < 30


def test_what_would_fail_again_is_not_tried_again(clock: Clock) -> None:
    call, calls = failing(1, unavailable=False)
    with pytest.raises(StorageError):
        patiently(call, patience.PATIENCE_S)
    assert len(calls) == 1
    assert clock.pauses_s == []


def test_a_long_call_before_the_first_failure_costs_no_patience(clock: Clock) -> None:
    call, _ = failing(1)

    def slow() -> int:
        clock.now_s += 10 * patience.PATIENCE_S
        return call()  # type: ignore[no-any-return]

    assert patiently(slow, patience.PATIENCE_S) == 2


def test_a_store_that_stays_away_is_told_of(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    patiently(failing(8)[0], patience.PATIENCE_S)
    assert "fault; trying again" in caplog.text
    caplog.clear()
    patiently(failing(2)[0], patience.PATIENCE_S)
    assert caplog.text == ""
