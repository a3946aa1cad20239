"""How far a job is and how fast it goes, from what workers tell."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

from cluster.tasks import Progress

_WINDOW_S = 60.0
_GRAIN_S = 0.25


@dataclass
class Tally:
    """Counts of one run.

    Attributes:
        num_frames: Of all inputs that are planned.
        num_frames_done: Of them, those in committed segments.
        stage_seconds: Busy time of all workers by stage.
    """

    num_files_probed: int = 0
    num_segments: int = 0
    num_segments_done: int = 0
    num_frames: int = 0
    num_frames_done: int = 0
    stage_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _running: dict[str, Progress] = field(default_factory=dict)
    _made: deque[tuple[float, int]] = field(default_factory=lambda: deque([(time.monotonic(), 0)]))
    _num_made: int = 0

    def add_plan(self, num_segments: int, num_frames: int, num_files: int = 1) -> None:
        """A video was planned, or images were, which are one segment each."""
        self.num_files_probed += num_files
        self.num_segments += num_segments
        self.num_frames += num_frames

    def add_committed(self, num_frames: int, num_segments: int = 1) -> None:
        """A segment, or several, of so many frames together need no more work."""
        self.num_segments_done += num_segments
        self.num_frames_done += num_frames

    def reopen(self, num_frames: int) -> None:
        """A segment that was committed has to be made again."""
        self.num_segments_done -= 1
        self.num_frames_done -= num_frames

    def add_progress(self, task_id: str, progress: Progress) -> None:
        """A task is this far; its frames and times so far count, less what it told before.

        Of several attempts at the same time, the one that is furthest counts.
        """
        before = self._running.get(task_id, Progress(0, {}))
        if progress.num_frames < before.num_frames:
            return
        self._running[task_id] = progress
        self._num_made += progress.num_frames - before.num_frames
        for stage, seconds in progress.stage_seconds.items():
            self.stage_seconds[stage] += max(0.0, seconds - before.stage_seconds.get(stage, 0.0))
        now_s = time.monotonic()
        if len(self._made) > 2 and now_s - self._made[-2][0] < _GRAIN_S:
            self._made.pop()
        self._made.append((now_s, self._num_made))
        while len(self._made) > 2 and self._made[-1][0] - self._made[0][0] > _WINDOW_S:
            self._made.popleft()

    def end_task(self, task_id: str) -> None:
        """Nobody is at a task any more."""
        self._running.pop(task_id, None)

    @property
    def num_frames_running(self) -> int:
        """Frames that are made of segments that are not committed yet."""
        return sum(progress.num_frames for progress in self._running.values())

    @property
    def frames_per_second(self) -> float:
        """Over the last minute; 0 until something was measured."""
        (start_s, start), (end_s, end) = self._made[0], self._made[-1]
        return (end - start) / (end_s - start_s) if end_s > start_s else 0.0

    @property
    def slowest_stage(self) -> str:
        """The stage that is busy most; empty until something was measured."""
        return max(self.stage_seconds, key=lambda stage: self.stage_seconds[stage], default="")
