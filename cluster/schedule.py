"""What is to be done next, and by whom. Pure: it sees tasks and names of workers, and calls nothing.

Files end early rather than all at the end: joining comes first, then segments of files that were begun, then
images, which are done in one go, then new files, of which only a few are begun ahead. A worker takes runs of
neighbouring segments, so that it keeps one source open; a worker with nothing left takes half of the longest
run of another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from cluster.tasks import ProbeTask, SegmentTask, StillsTask, Task

_RUN_SEGMENTS = 8


class Schedule:
    """The tasks of one job that still have to be done.

    Args:
        probes: One for each video that is not finished, in the order to begin them.
        stills: All images that are not finished.
        num_files_ahead: How many files may be begun and not ended.
    """

    def __init__(
        self, probes: Iterable[ProbeTask], stills: Iterable[StillsTask] = (), *, num_files_ahead: int
    ) -> None:
        self._probes = deque(probes)
        self._stills = deque(stills)
        self._num_files_ahead = num_files_ahead
        self._num_begun = 0
        self._urgent: deque[Task] = deque()
        self._segments: deque[SegmentTask] = deque()
        self._runs: dict[str, deque[SegmentTask]] = {}
        self._avoid: dict[str, set[str]] = {}
        self._num_running = 0

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do and nothing is being done."""
        waiting = self._probes or self._stills or self._urgent or self._segments or any(self._runs.values())
        return not waiting and not self._num_running

    def take(self, worker: str, num_workers: int) -> Task | None:
        """The next task for `worker`, one of `num_workers`; None where it has to wait."""
        task: Task | None = self._take_urgent(worker, num_workers) or self._take_segment(worker)
        if task is None:
            task = self._stills.popleft() if self._stills else self._take_probe()
        self._num_running += task is not None
        return task

    def add(self, task: Task) -> None:
        """Puts a task before all that waits: one that ends a file."""
        self._urgent.append(task)

    def add_segments(self, tasks: Iterable[SegmentTask]) -> None:
        """Puts the segments of one file behind those of files that were begun before."""
        self._segments.extend(tasks)

    def ended(self, task: Task) -> None:
        """Notes that an attempt of `task` is over, however it went."""
        self._num_running -= 1

    def again(self, task: Task, *, not_by: str | None = None) -> None:
        """Puts a task back, if possible not for the worker `not_by`."""
        if not_by is not None:
            self._avoid.setdefault(task.id, set()).add(not_by)
        self._urgent.append(task)

    def file_ended(self, output_key: str) -> None:
        """Notes that a file needs no more work, and drops what still waits of it."""
        self._num_begun -= 1
        self._urgent = deque(task for task in self._urgent if task.output_key != output_key)
        self._segments = deque(task for task in self._segments if task.output_key != output_key)
        for worker, run in self._runs.items():
            self._runs[worker] = deque(task for task in run if task.output_key != output_key)

    def worker_ended(self, worker: str) -> None:
        """Gives back what a worker had before it."""
        self._segments.extendleft(reversed(self._runs.pop(worker, deque())))

    def _take_urgent(self, worker: str, num_workers: int) -> Task | None:
        for index, task in enumerate(self._urgent):
            avoid = self._avoid.get(task.id, set())
            if worker not in avoid or len(avoid) >= num_workers:
                del self._urgent[index]
                return task
        return None

    def _take_segment(self, worker: str) -> SegmentTask | None:
        run = self._runs.setdefault(worker, deque())
        if not run:
            run.extend(self._next_run() or self._half_of_longest_run())
        return run.popleft() if run else None

    def _next_run(self) -> list[SegmentTask]:
        run: list[SegmentTask] = []
        while self._segments and len(run) < _RUN_SEGMENTS:
            if run and self._segments[0].output_key != run[0].output_key:
                break
            run.append(self._segments.popleft())
        return run

    def _half_of_longest_run(self) -> list[SegmentTask]:
        longest = max(self._runs.values(), key=len, default=deque[SegmentTask]())
        taken = [longest.pop() for _ in range((len(longest) + 1) // 2)]
        return taken[::-1]

    def _take_probe(self) -> ProbeTask | None:
        if not self._probes or self._num_begun >= self._num_files_ahead:
            return None
        self._num_begun += 1
        return self._probes.popleft()
