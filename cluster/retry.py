"""What to do about a failed attempt: a pure decision."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from sr_core.errors import (
    ERROR_KINDS,
    FrameliftError,
    MediaError,
    ModelError,
    OutputError,
    SourceChanged,
    SpecError,
    StorageError,
    WorkerError,
)

_MAX_PREEMPTED = 20  # of one task: so often no machine is taken away by chance
_PAUSES_S = (5.0, 20.0, 60.0)


class Decision(Enum):
    """What becomes of a task after a failed attempt."""

    RETRY = "retry"
    RETRY_ELSEWHERE = "retry elsewhere"
    QUARANTINE = "quarantine"
    FAIL_INPUT = "fail input"
    STOP = "stop"


@dataclass(frozen=True)
class FailureRecord:
    """One failed attempt, as it is stored.

    Attributes:
        attempt: The attempt's name.
        worker: The worker that tried.
        kind: Class name of the error, one of `ERROR_KINDS`.
        fields: What rebuilds the error.
        time_s: When it failed, in seconds since 1970.
        output: Name of the output that it was for.
        decision: What became of the task then.
    """

    attempt: str
    worker: str
    kind: str
    fields: dict[str, str | bool]
    time_s: float
    output: str = ""
    decision: Decision = Decision.RETRY

    @classmethod
    def of(
        cls, error: FrameliftError, *, attempt: str, worker: str, time_s: float, output: str = ""
    ) -> FailureRecord:
        """The record of `error`."""
        return cls(attempt, worker, type(error).__name__, error.fields(), time_s, output)

    @property
    def is_final(self) -> bool:
        """Whether the task was given up then."""
        return self.decision in (Decision.QUARANTINE, Decision.FAIL_INPUT)

    @property
    def is_against_the_task(self) -> bool:
        """Whether this may be the task's own fault, so that later runs must know of it."""
        return not self.is_of_storage and not _is_preempted(self)

    @property
    def is_of_storage(self) -> bool:
        """Whether the store failed."""
        return issubclass(ERROR_KINDS.get(self.kind, FrameliftError), StorageError)

    def error(self) -> FrameliftError:
        """The error that was recorded."""
        return ERROR_KINDS.get(self.kind, FrameliftError)(**self.fields)  # type: ignore[arg-type]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RetryPolicy:
    """How often a task is tried.

    Attributes:
        max_attempts: Tries of one task after which it is set aside, where trying again may help at all. A
            file fails before that where worker after worker is lost over it and nothing of it is committed.
    """

    max_attempts: int = Field(default=3, ge=1, le=100)

    def decide(self, failures: Sequence[FailureRecord]) -> Decision:
        """What to do after the last of `failures`, which are all of one task, oldest first.

        A machine that was taken away says nothing against its task, and neither does a store that was not
        there: these are counted apart from all else, and from each other.
        """
        error = failures[-1].error()
        match error:
            case ModelError():
                return Decision.STOP
            case SourceChanged() | SpecError():  # a spec that is wrong for this one input
                return Decision.FAIL_INPUT
            case StorageError() if not error.unavailable:
                return Decision.STOP
            case MediaError():
                return Decision.QUARANTINE
            case StorageError():
                is_last = _num_unavailable(failures) >= self.max_attempts
                return Decision.STOP if is_last else Decision.RETRY
            case WorkerError() if error.preempted:
                is_last = sum(map(_is_preempted, failures)) >= _MAX_PREEMPTED
                return Decision.QUARANTINE if is_last else Decision.RETRY
        tries = [each for each in failures if each.is_against_the_task]
        if len(tries) >= self.max_attempts:
            return Decision.QUARANTINE
        if isinstance(error, OutputError):
            wrong = sum(failure.kind == OutputError.__name__ for failure in tries)
            return Decision.RETRY_ELSEWHERE if wrong < 2 else Decision.QUARANTINE
        return Decision.RETRY_ELSEWHERE if isinstance(error, WorkerError) else Decision.RETRY

    def pause_s(self, failures: Sequence[FailureRecord]) -> float:
        """How long a task that failed so is best left alone: a store that is busy gets ever more time."""
        if not failures[-1].is_of_storage:
            return 0.0
        return _PAUSES_S[min(_num_unavailable(failures), len(_PAUSES_S)) - 1]

    def is_quarantined(self, failures: Sequence[FailureRecord]) -> bool:
        """Whether a task with these failures, of this run or earlier ones, is not to be tried any more."""
        return bool(failures) and self.decide(failures) is Decision.QUARANTINE


def _num_unavailable(failures: Sequence[FailureRecord]) -> int:
    return sum(failure.is_of_storage for failure in failures)


def _is_preempted(failure: FailureRecord) -> bool:
    return failure.fields.get("preempted") is True
