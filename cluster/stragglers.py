"""Which segment takes so much longer than others that it is worth trying it a second time. Pure."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.tasks import SegmentTask, Task

_PATIENCE = 3.0  # times what is usual
_MIN_SECONDS = 10.0
_WINDOW = 255  # segments that tell what is usual


@dataclass(frozen=True)
class Attempt:
    """A task that a worker is at, since when on the schedule's clock."""

    task: Task
    since_s: float


class Pace:
    """How fast segments are made in this run: output pixels a second, the middle of the last ones."""

    def __init__(self) -> None:
        self._speeds: deque[float] = deque(maxlen=_WINDOW)

    def note(self, task: SegmentTask, seconds: float) -> None:
        """A segment took so long."""
        self._speeds.append(_num_pixels(task) / max(seconds, 1e-3))

    def overdue(self, attempts: Iterable[Attempt], now_s: float) -> list[SegmentTask]:
        """Of what is being made: the segments that take far longer than is usual, the worst first."""
        if not self._speeds:
            return []
        speed = statistics.median(self._speeds)
        late = list[tuple[float, SegmentTask]]()
        for attempt in attempts:
            if isinstance(attempt.task, SegmentTask):
                beyond_s = now_s - attempt.since_s - _patience_s(attempt.task, speed)
                if beyond_s > 0:
                    late.append((beyond_s, attempt.task))
        return [task for _, task in sorted(late, key=lambda each: -each[0])]


def _patience_s(task: SegmentTask, speed: float) -> float:
    return max(_MIN_SECONDS, _PATIENCE * _num_pixels(task) / speed)


def _num_pixels(task: SegmentTask) -> int:
    encode = task.treatment.encode
    return task.treatment.frames_of(task.segment.num_frames) * encode.width * encode.height
