from __future__ import annotations

import pytest

from cluster.retry import Decision, FailureRecord, RetryPolicy
from sr_core.errors import (
    FrameliftError,
    MediaError,
    ModelError,
    OutputError,
    SourceChanged,
    SpecError,
    StorageError,
    WorkerError,
)

POLICY = RetryPolicy(max_attempts=3)
LOST = WorkerError("died")
BUSY = StorageError("slow down", unavailable=True)
OURS = OutputError("wrong frames")
TAKEN = WorkerError("its machine was taken away", preempted=True)


def records(*errors: FrameliftError) -> list[FailureRecord]:
    return [
        FailureRecord.of(error, attempt=str(index), worker="worker-0", time_s=index)
        for index, error in enumerate(errors)
    ]


@pytest.mark.parametrize(
    ("errors", "decision"),
    [
        ([MediaError("broken")], Decision.QUARANTINE),
        ([SourceChanged("replaced")], Decision.FAIL_INPUT),
        ([SpecError("not for this source")], Decision.FAIL_INPUT),
        ([ModelError("weights are gone")], Decision.STOP),
        ([StorageError("disk full")], Decision.STOP),
        ([BUSY], Decision.RETRY),
        ([BUSY, BUSY, BUSY], Decision.STOP),
        ([LOST], Decision.RETRY_ELSEWHERE),
        ([LOST, LOST], Decision.RETRY_ELSEWHERE),
        ([LOST, LOST, LOST], Decision.QUARANTINE),
        ([OURS], Decision.RETRY_ELSEWHERE),
        ([OURS, OURS], Decision.QUARANTINE),
        ([LOST, OURS], Decision.RETRY_ELSEWHERE),
        ([TAKEN] * 19, Decision.RETRY),
        ([TAKEN] * 20, Decision.QUARANTINE),
        ([TAKEN] * 9 + [LOST, LOST], Decision.RETRY_ELSEWHERE),
        ([LOST, LOST, *[TAKEN] * 9, LOST], Decision.QUARANTINE),
        ([LOST, LOST, BUSY], Decision.RETRY),
        ([BUSY, BUSY, LOST], Decision.RETRY_ELSEWHERE),
        ([BUSY, LOST, BUSY, LOST, BUSY], Decision.STOP),
    ],
)
def test_the_decision_follows_from_who_failed_and_how_often(
    errors: list[FrameliftError], decision: Decision
) -> None:
    assert POLICY.decide(records(*errors)) is decision


def test_a_store_that_is_busy_gets_ever_more_time() -> None:
    pauses_s = [POLICY.pause_s(records(*[BUSY] * number)) for number in range(1, 6)]
    assert pauses_s == [5, 20, 60, 60, 60]
    assert POLICY.pause_s(records(BUSY, BUSY, LOST)) == 0
    assert POLICY.pause_s(records(LOST, LOST, BUSY)) == 5


@pytest.mark.parametrize(("error", "is_against"), [(LOST, True), (OURS, True), (BUSY, False), (TAKEN, False)])
def test_only_what_may_be_the_tasks_own_fault_is_held_against_it(
    error: FrameliftError, is_against: bool
) -> None:
    assert records(error)[0].is_against_the_task is is_against


def test_a_task_without_failures_is_not_set_aside() -> None:
    assert not POLICY.is_quarantined([])


def test_more_attempts_release_what_fewer_set_aside() -> None:
    failures = records(LOST, LOST, LOST)
    assert POLICY.is_quarantined(failures)
    assert not RetryPolicy(max_attempts=5).is_quarantined(failures)


def test_a_record_rebuilds_its_error() -> None:
    error = records(BUSY)[0].error()
    assert isinstance(error, StorageError)
    assert error.unavailable
