"""What is to be done next, and by whom. Pure: it sees tasks and names of workers, and calls only a clock.

Files end early rather than all at the end: joining comes first, then segments of files that were begun, then
images, which are done in one go, then new files, of which only a few are begun ahead. A worker takes runs of
neighbouring segments, so that it keeps one source open; a worker with nothing left takes half of the longest
run of another, and where there is none, the segment that another is at for far too long, a second time.

No call looks at all that waits, but for the end of a file that failed: jobs have 100,000 segments.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import count

from cluster.stragglers import Attempt, Pace
from cluster.tasks import ProbeTask, SegmentTask, StillsTask, Task

# A run has so many segments, or more if they are small: the blocks at its ends are read by two workers.
_RUN_SEGMENTS = 8
_RUN_BYTES = 32 << 20
_MAX_RUN_SEGMENTS = 64
_LOOK_FOR_STRAGGLERS_S = 1.0


class Schedule:
    """The tasks of one job that still have to be done.

    Args:
        probes: One for each video that is not finished, in the order to begin them.
        stills: All images that are not finished.
        num_files_ahead: How many files may be begun and not ended.
        clock: Seconds since any moment.
    """

    def __init__(
        self,
        probes: Iterable[ProbeTask],
        stills: Iterable[StillsTask] = (),
        *,
        num_files_ahead: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probes = deque(probes)
        self._stills = deque(stills)
        self._num_files_ahead = num_files_ahead
        self._clock = clock
        self._num_begun = 0
        self._urgent: deque[Task] = deque()
        self._held: list[tuple[float, int, Task]] = []
        self._order = count()
        self._given_back: deque[deque[SegmentTask]] = deque()
        self._segments: OrderedDict[str, deque[SegmentTask]] = OrderedDict()
        self._runs: dict[str, deque[SegmentTask]] = {}
        self._num_waiting: Counter[str] = Counter()  # of urgent and held tasks and segments, by output key
        self._num_segments = 0
        self._avoid: dict[str, set[str]] = {}
        self._running: dict[str, Attempt] = {}
        self._workers_at: dict[str, list[str]] = {}
        self._pace = Pace()
        self._copied: set[str] = set()
        self._overdue: list[SegmentTask] = []
        self._look_again_s = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do and nothing is being done."""
        return not (self._running or self._probes or self._held or self.has_waiting)

    @property
    def has_waiting(self) -> bool:
        """Whether some worker could be given something now."""
        self._release_held()
        can_begin = self._probes and self._num_begun < self._num_files_ahead
        return bool(self._urgent or self._num_segments or self._stills or can_begin or self._stragglers())

    @property
    def num_wanted(self) -> int:
        """How many workers could be at work now. A file that was not begun counts as one task."""
        waiting = len(self._urgent) + self._num_segments + len(self._stills) + len(self._probes)
        return len(self._running) + waiting

    def take(self, worker: str, num_workers: int) -> Task | None:
        """The next task for `worker`, one of `num_workers`; None where it has to wait."""
        self._release_held()
        task: Task | None = self._take_urgent(worker, num_workers) or self._take_segment(worker)
        if task is None:
            task = self._stills.popleft() if self._stills else self._take_probe()
        if task is not None:
            self.started(worker, task)
        return task

    def straggler_for(self, worker: str) -> SegmentTask | None:
        """A segment that another worker is at for far too long, once for each; None where there is none.

        It counts as being done a second time once that was `started`.
        """
        for task in self._stragglers():
            if worker not in self._avoid.get(task.id, ()):
                self._copied.add(task.id)
                return task
        return None

    def started(self, worker: str, task: Task) -> None:
        """Notes that a worker is at an attempt of a task."""
        self._running[worker] = Attempt(task, self._clock())
        self._workers_at.setdefault(task.id, []).append(worker)

    def ended(self, worker: str, task: Task) -> float | None:
        """Notes that an attempt is over, however it went.

        Returns:
            How many seconds it took; None where the task had come to its end by another attempt before.
        """
        if not self.is_of_use(worker, task):
            return None
        attempt = self._running.pop(worker)
        workers = self._workers_at[task.id]
        workers.remove(worker)
        if not workers:
            del self._workers_at[task.id]
        return self._clock() - attempt.since_s

    def is_of_use(self, worker: str, task: Task) -> bool:
        """Whether what a worker does for a task is still of use."""
        attempt = self._running.get(worker)
        return attempt is not None and attempt.task is task

    def is_running(self, task: Task) -> bool:
        """Whether any attempt of a task is of use still."""
        return task.id in self._workers_at

    def made(self, task: SegmentTask, seconds: float) -> None:
        """Notes how long it took to make a segment."""
        self._pace.note(task, seconds)

    def settled(self, task: Task) -> None:
        """Notes that a task came to its end for good: other attempts of it do not count any more."""
        for worker in self._workers_at.pop(task.id, ()):
            del self._running[worker]
        self._avoid.pop(task.id, None)
        self._copied.discard(task.id)

    def add(self, task: Task) -> None:
        """Puts a task before all that waits: one that ends a file."""
        self._note_waiting(task, 1)
        self._urgent.append(task)

    def add_segments(self, tasks: Iterable[SegmentTask]) -> None:
        """Puts the segments of one file behind those of files that were begun before."""
        for task in tasks:
            self._note_waiting(task, 1)
            self._num_segments += 1
            self._segments.setdefault(task.output_key, deque()).append(task)

    def again(self, task: Task, *, not_by: str | None = None, pause_s: float = 0.0) -> None:
        """Puts a task back, if possible not for the worker `not_by`, and not before a pause is over."""
        if not_by is not None:
            self._avoid.setdefault(task.id, set()).add(not_by)
        self._note_waiting(task, 1)
        heapq.heappush(self._held, (self._clock() + pause_s, next(self._order), task))
        self._release_held()

    def file_ended(self, output_key: str) -> None:
        """Notes that a file needs no more work, and drops what still waits of it."""
        self._num_begun -= 1
        if not self._num_waiting.pop(output_key, 0):
            return
        self._urgent = deque(task for task in self._urgent if task.output_key != output_key)
        self._held = [held for held in self._held if held[2].output_key != output_key]
        heapq.heapify(self._held)
        self._num_segments -= len(self._segments.pop(output_key, ()))
        for run in (*self._given_back, *self._runs.values()):
            if run and run[0].output_key == output_key:  # a run is of one file
                self._num_segments -= len(run)
                run.clear()

    def worker_ended(self, worker: str) -> None:
        """Gives back what a worker had before it."""
        run = self._runs.pop(worker, None)
        if run:
            self._given_back.append(run)

    def _stragglers(self) -> list[SegmentTask]:
        now_s = self._clock()
        if now_s >= self._look_again_s:
            self._look_again_s = now_s + _LOOK_FOR_STRAGGLERS_S
            self._overdue = self._pace.overdue(self._running.values(), now_s)
        if self._overdue:
            self._overdue = [t for t in self._overdue if self.is_running(t) and t.id not in self._copied]
        return self._overdue

    def _release_held(self) -> None:
        while self._held and self._held[0][0] <= self._clock():
            self._urgent.append(heapq.heappop(self._held)[2])

    def _note_waiting(self, task: Task, change: int) -> None:
        self._num_waiting[task.output_key] += change
        if not self._num_waiting[task.output_key]:
            del self._num_waiting[task.output_key]

    def _take_urgent(self, worker: str, num_workers: int) -> Task | None:
        for index, task in enumerate(self._urgent):
            avoid = self._avoid.get(task.id, ())
            if worker not in avoid or len(avoid) >= num_workers:
                del self._urgent[index]
                self._note_waiting(task, -1)
                return task
        return None

    def _take_segment(self, worker: str) -> SegmentTask | None:
        if not self._num_segments:
            return None
        if not self._runs.get(worker):
            self._runs[worker] = self._next_run() or self._half_of_longest_run()
        task = self._runs[worker].popleft()
        self._note_waiting(task, -1)
        self._num_segments -= 1
        return task

    def _next_run(self) -> deque[SegmentTask]:
        while self._given_back:
            run = self._given_back.popleft()
            if run:
                return run
        if not self._segments:
            return deque()
        output_key, waiting = next(iter(self._segments.items()))
        num_small = math.ceil(_RUN_BYTES / max(1.0, _mean_bytes(waiting[0])))
        size = min(max(_RUN_SEGMENTS, num_small), _MAX_RUN_SEGMENTS, len(waiting))
        run = deque(waiting.popleft() for _ in range(size))
        if not waiting:
            del self._segments[output_key]
        return run

    def _half_of_longest_run(self) -> deque[SegmentTask]:
        longest = max(self._runs.values(), key=len)
        return deque(reversed([longest.pop() for _ in range((len(longest) + 1) // 2)]))

    def _take_probe(self) -> ProbeTask | None:
        if not self._probes or self._num_begun >= self._num_files_ahead:
            return None
        self._num_begun += 1
        return self._probes.popleft()


def _mean_bytes(task: SegmentTask) -> float:
    """Of the source, how much a segment like this one has."""
    treatment = task.treatment
    return treatment.input.source.size_bytes * task.segment.num_frames / max(1, treatment.video.num_frames)
