from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cluster.prefetch import Prefetch


def test_items_come_in_order() -> None:
    with Prefetch(range(100), 3, "test") as numbers:
        assert list(numbers) == list(range(100))


def test_no_more_than_depth_items_are_made_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    with Prefetch(items(), 3, "test") as numbers:
        for number in numbers:
            time.sleep(0.002)
            assert len(made) - number <= 3 + 2  # in the queue, in the maker's hand, in ours


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    got: list[int] = []
    with pytest.raises(ValueError, match="broken"), Prefetch(items(), 3, "test") as numbers:
        got.extend(numbers)
    assert got == [1]


def test_leaving_early_stops_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    before = threading.active_count()
    with Prefetch(items(), 2, "test") as numbers:
        assert next(iter(numbers)) == 0
    assert closed.is_set()
    assert threading.active_count() == before


def test_a_chain_of_stages_stops_when_the_last_fails() -> None:
    def endless() -> Iterator[int]:
        yield from range(10**9)

    def encode() -> None:
        with (
            Prefetch(endless(), 2, "first") as first,
            Prefetch((number * 2 for number in first), 2, "second") as second,
        ):
            for number in second:
                if number > 20:
                    raise RuntimeError("encoder")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="encoder"):
        encode()
    assert threading.active_count() == before


def test_busy_and_waiting_times_tell_stages_apart() -> None:
    def slow() -> Iterator[int]:
        for number in range(5):
            time.sleep(0.02)
            yield number

    with Prefetch(slow(), 2, "slow") as first, Prefetch((n for n in first), 2, "fast") as second:
        list(second)
        assert first.busy_s >= 0.08
        assert second.busy_s - first.waited_s < 0.05
