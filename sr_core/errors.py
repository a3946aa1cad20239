"""The error tree, split by who must act.

    FrameliftError
    ├── SpecError      the user edits the spec or the command line
    ├── ModelError     the weights are wrong
    ├── MediaError     the source is at fault: its segment is quarantined, never retried
    │   └── SourceChanged  it is not what was planned any more: the whole input fails
    ├── OutputError    Framelift is at fault: retried once, elsewhere
    ├── StorageError   the store is at fault: retried only where it is `unavailable`
    │   └── DiskError      a disk is full or cannot be written: of the store, or of a machine's scratch
    ├── TrainError     stop before the optimiser step
    └── WorkerError    the machine is at fault: retried elsewhere, capped

Every error says what is wrong, where, what was got, what was expected and what to do next. Errors cross
processes and are stored as failure records, so each is rebuilt from its fields alone.
"""

from __future__ import annotations

from typing import Any


class FrameliftError(Exception):
    """Base of every error that Framelift raises on purpose.

    Attributes:
        what: One sentence without a full stop: what is wrong.
        where: File, key, line or stream that it concerns; empty if none.
        got: What was found there.
        expected: What would have been right.
        next_step: What the person who must act can do now.
    """

    def __init__(
        self, what: str, *, where: str = "", got: str = "", expected: str = "", next_step: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.got = got
        self.expected = expected
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.got:
            parts.append(f"got {self.got}")
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.next_step:
            parts.append(self.next_step)
        return "; ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.fields())

    def fields(self) -> dict[str, Any]:
        """The keyword arguments that rebuild this error, ready for JSON."""
        return {
            "what": self.what,
            "where": self.where,
            "got": self.got,
            "expected": self.expected,
            "next_step": self.next_step,
        }


def _rebuild(kind: type[FrameliftError], fields: dict[str, Any]) -> FrameliftError:
    return kind(**fields)


class SpecError(FrameliftError):
    """The job spec or the command line asks for something that cannot be done."""


class ModelError(FrameliftError):
    """Weights cannot be read, or belong to no known architecture."""


class MediaError(FrameliftError):
    """A source is damaged, unsupported, or changed under the job."""


class SourceChanged(MediaError):  # noqa: N818 - it names what happened to the source
    """A source is gone, or is not what was planned any more."""


class OutputError(FrameliftError):
    """Framelift made something that its own gate refuses."""


class StorageError(FrameliftError):
    """The store refused or failed.

    Attributes:
        unavailable: True where the same call may succeed later (throttled, timed out, 5xx).
    """

    def __init__(self, what: str, *, unavailable: bool = False, **fields: str) -> None:
        super().__init__(what, **fields)
        self.unavailable = unavailable

    def fields(self) -> dict[str, Any]:
        """See `FrameliftError.fields`."""
        return {**super().fields(), "unavailable": self.unavailable}


class DiskError(StorageError):
    """A disk is full or cannot be written at all, which no other work on it would change."""


class TrainError(FrameliftError):
    """Training cannot take its next optimiser step."""


class WorkerError(FrameliftError):
    """A worker process or its machine failed.

    Attributes:
        preempted: True where the machine was taken away: that says nothing against what the worker was at.
    """

    def __init__(self, what: str, *, preempted: bool = False, **fields: str) -> None:
        super().__init__(what, **fields)
        self.preempted = preempted

    def fields(self) -> dict[str, Any]:
        """See `FrameliftError.fields`."""
        return {**super().fields(), "preempted": self.preempted}


ERROR_KINDS: dict[str, type[FrameliftError]] = {
    kind.__name__: kind
    for kind in (
        SpecError,
        ModelError,
        MediaError,
        SourceChanged,
        OutputError,
        StorageError,
        DiskError,
        TrainError,
        WorkerError,
    )
}
