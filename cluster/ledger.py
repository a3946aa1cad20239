"""The books of one run: what became of each input, how far the job is, and what is told of both."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from cluster.inputs import InputSet
from cluster.manifest import Manifest
from cluster.plan import Input
from cluster.progress import Tally
from cluster.report import FileOutcome, JobReport, Snapshot, SnapshotState
from cluster.tasks import OutputReceipt, Task, inputs_of
from sr_core.errors import StorageError

_log = logging.getLogger(__name__)

_HEARTBEAT_S = 5.0
_SHOW_S = 0.5
_WORK_PER_SHOW = 20.0  # times what it costs to show how far the job is, before that is done again


class Ledger:
    """Notes what happens in a run, shows it, and from time to time stores it as the run's heartbeat.

    Attributes:
        tally: How far the job is, in numbers.
        stopped: Why the whole job stops early; empty while it does not.
        from_the_end: The run takes the work from its end.
    """

    def __init__(
        self,
        run_id: str,
        job_id: str,
        inputs: InputSet,
        manifest: Manifest,
        on_snapshot: Callable[[Snapshot], None],
    ) -> None:
        self._run_id = run_id
        self._job_id = job_id
        self._inputs = inputs
        self._manifest = manifest
        self._on_snapshot = on_snapshot
        self._started_s = time.time()
        self._next_show_s = 0.0
        self._next_heartbeat_s = 0.0
        self._outcomes: dict[str, FileOutcome] = {}
        self._num_outcomes: Counter[str] = Counter()  # by state
        self.tally = Tally()
        self.stopped = ""
        self.from_the_end = False

    def skipped(self, input_: Input) -> None:
        """An input whose output was finished before."""
        self._end(input_, FileOutcome(input_.source.key, input_.output_name, "skipped"))

    def failed(self, input_: Input, reason: str) -> None:
        """An input that ends without an output."""
        self._end(input_, FileOutcome(input_.source.key, input_.output_name, "failed", reason=reason))

    def published(self, input_: Input, receipt: OutputReceipt, seconds: float) -> None:
        """An input whose output stands under its name, after so many seconds of workers in this run."""
        outcome = FileOutcome(
            source=receipt.source,
            output=receipt.output,
            state="damaged" if receipt.why_damaged else "done",
            reason=receipt.why_damaged,
            told=receipt.told,
            missing=receipt.missing,
            corrupt=receipt.corrupt,
            num_frames=receipt.num_frames,
            psnr_db=receipt.psnr_db,
            seconds=seconds,
        )
        self._end(input_, outcome)

    def report(self) -> JobReport:
        """How the run went, with every input in it."""
        for input_ in self._inputs.inputs if self.stopped else ():
            self.failed(input_, f"not finished: {self.stopped}")
        report = JobReport(
            job_id=self._job_id,
            run_id=self._run_id,
            started_s=self._started_s,
            seconds=time.time() - self._started_s,
            outcomes=(
                *(self._outcomes[i.source.key] for i in self._inputs.inputs),
                *(FileOutcome(name, "", "failed", reason=why) for name, why in self._inputs.refused),
            ),
            ignored=self._inputs.ignored,
            stopped=self.stopped,
        )
        self.tell("stopped" if self.stopped else "finished", 0, force=True)
        return report

    @property
    def is_due(self) -> bool:
        """Whether it is time again to tell how far the job is: at the latest after half a second."""
        return time.monotonic() >= self._next_show_s

    def tell(
        self, state: SnapshotState, num_workers: int, *, current: Sequence[Task] = (), force: bool = False
    ) -> None:
        """Shows how far the job is, and from time to time, or if forced to, stores that."""
        start_s = time.thread_time()
        snapshot = self._snapshot(state, num_workers, current)
        self._on_snapshot(snapshot)
        pause_s = _WORK_PER_SHOW * (time.thread_time() - start_s)
        self._next_show_s = time.monotonic() + min(_SHOW_S, pause_s)
        if force or snapshot.updated_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = snapshot.updated_s + _HEARTBEAT_S
            try:
                self._manifest.put_snapshot(snapshot)
            except StorageError as error:
                _log.warning("the heartbeat could not be stored: %s", error)

    def _end(self, input_: Input, outcome: FileOutcome) -> None:
        if input_.source.key not in self._outcomes:
            self._outcomes[input_.source.key] = outcome
            self._num_outcomes[outcome.state] += 1
            _log.info("%s: %s %s", outcome.source, outcome.state, outcome.reason)

    def _snapshot(self, state: SnapshotState, num_workers: int, current: Sequence[Task]) -> Snapshot:
        tally, states = self.tally, self._num_outcomes
        done = tally.num_frames_done + tally.num_frames_running
        rate = tally.frames_per_second
        return Snapshot(
            run_id=self._run_id,
            job_id=self._job_id,
            state=state,
            updated_s=time.time(),
            elapsed_s=time.time() - self._started_s,
            num_files=len(self._inputs.inputs) + len(self._inputs.refused),
            num_files_done=states["done"],
            num_files_skipped=states["skipped"],
            num_files_damaged=states["damaged"],
            num_files_failed=states["failed"] + len(self._inputs.refused),
            num_files_probed=tally.num_files_probed,
            num_segments=tally.num_segments,
            num_segments_done=tally.num_segments_done,
            num_frames=tally.num_frames,
            num_frames_done=done,
            frames_per_second=rate,
            eta_s=self._eta_s(rate, done),
            slowest_stage=tally.slowest_stage,
            num_workers=num_workers,
            current=tuple(dict.fromkeys(i.source.key for task in current for i in inputs_of(task)[:1])),
            from_the_end=self.from_the_end,
        )

    def _eta_s(self, frames_per_second: float, num_frames_done: int) -> float | None:
        """From the frames that are known to be left; files that were not probed yet count as the mean one."""
        tally = self.tally
        if not frames_per_second or not tally.num_files_probed:
            return None
        num_known = self._num_outcomes["skipped"] + tally.num_files_probed
        num_unknown = max(0, len(self._inputs.inputs) - num_known)
        num_left = tally.num_frames - num_frames_done
        return (num_left + num_unknown * tally.num_frames / tally.num_files_probed) / frames_per_second
