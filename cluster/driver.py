"""The driver: plans, hands out, decides on errors, joins each file as soon as it can, and reports.

It holds no state that cannot be read again from the manifest, so it can be lost at any time, and several may
be at one job: whatever a task is about may have been done by another meanwhile.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TypeVar

from cluster.images.info import is_image
from cluster.inputs import InputSet
from cluster.ledger import Ledger
from cluster.manifest import Manifest, Survey
from cluster.neighbours import Neighbours
from cluster.plan import Input, JobPlan, Segment, VideoPlan, fix_settings, output_key
from cluster.pool import Done, Failed, PoolEvent, Running, WorkerPool
from cluster.report import JobReport, Snapshot
from cluster.request import Request, sort_out
from cluster.retry import Decision, FailureRecord
from cluster.schedule import Schedule
from cluster.sight import Sight
from cluster.storage import Storage
from cluster.storage.base import SCRATCH_AGE_S
from cluster.storage.parallel import in_parallel
from cluster.tasks import (
    AssembleTask,
    MissingParts,
    OutputReceipt,
    ProbeTask,
    SegmentReceipt,
    SegmentTask,
    Still,
    StillsDone,
    StillsTask,
    Task,
    TaskResult,
    inputs_of,
)
from sr_core.errors import FrameliftError, OutputError, StorageError, WorkerError

T = TypeVar("T")

_log = logging.getLogger(__name__)

_WAIT_S = 1.0
_FILES_AHEAD_PER_WORKER = 2
_MAX_STILLS = 16
_STILLS_TASKS_PER_WORKER = 4
_MAX_REOPENED = 5


@dataclass
class _File:
    """A video that was begun.

    Attributes:
        waiting: Keys of segments that are neither committed nor set aside.
        set_aside: Why segments are set aside.
        seconds: Of worker time in this run.
        num_losses: Workers that failed over it since the last segment was committed.
        num_reopened: How often parts of it were missing when they were to be joined.
    """

    video: VideoPlan
    waiting: set[str]
    set_aside: list[FrameliftError]
    seconds: float = 0.0
    num_losses: int = 0
    num_reopened: int = 0


class Driver:
    """One run of a job.

    Args:
        request: What is asked.
        inputs: On what.
        make_pool: Starts workers that see certain objects; called only where there is work.
        on_snapshot: Told how far the job is, twice a second or more often where that costs little.
        clock: Seconds since any moment, to time tries and pauses.
    """

    def __init__(
        self,
        request: Request,
        inputs: InputSet,
        storage: Storage,
        make_pool: Callable[[Sequence[Sight]], WorkerPool],
        on_snapshot: Callable[[Snapshot], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._inputs = inputs
        self._storage = storage
        self._manifest = Manifest(storage)
        self._make_pool = make_pool
        self._run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}"
        self._clock = clock
        self._ledger = Ledger(self._run_id, request.job.id, inputs, self._manifest, on_snapshot)
        self._neighbours = Neighbours(self._manifest, request.job.id, self._run_id, clock)
        self._attempts = count()
        self._survey = Survey()
        self._files: dict[str, _File] = {}
        self._failures: dict[str, list[FailureRecord]] = {}
        self._max_losses_over_a_file = 0

    def run(self) -> JobReport:
        """Brings every input to its end, and returns how it went.

        Raises:
            SpecError: Nothing was done, because outputs stand there that were made in another way.
            StorageError: The store cannot be used at all.
        """
        unfinished = self._sort_out()
        try:
            if unfinished:
                self._work(unfinished)
        except BaseException:
            self._ledger.tell("stopped", 0, force=True)
            raise
        if not self._ledger.stopped:
            self._forget_begun_stills()
        report = replace(self._ledger.report(), model=self._request.job.model)
        try:
            self._storage.put(self._inputs.report_key, report.to_json())
        except StorageError as error:
            if not report.stopped:
                raise
            _log.warning("the report could not be stored: %s", error)
        return report

    def _forget_begun_stills(self) -> None:
        """Removes what is written down of images that workers began who are gone."""
        stills = self._neighbours.without_theirs(self._survey.stills) if self._survey.stills else []
        self._manifest.forget_begun_stills(stills)

    def _sort_out(self) -> Sequence[Input]:
        """The inputs that need work; the others are noted as skipped."""
        self._storage.sweep_scratch(SCRATCH_AGE_S)
        self._survey = self._manifest.survey(i.output_name for i in self._inputs.inputs)
        plan = self._manifest.plan(self._request.job)
        unfinished, finished = sort_out(self._request, self._inputs, self._survey, plan)
        for input_, key in finished.items():
            self._ledger.skipped(input_)
            self._delete_leftovers(plan, key)
        return unfinished

    def _delete_leftovers(self, plan: JobPlan | None, key: str) -> None:
        """Removes what an assembler left that was lost between an output's receipt and its parts."""
        for segment_key in self._survey.parts.get(key, ()):
            self._manifest.delete_parts(segment_key)
        if plan and key in self._survey.planned:
            self._manifest.delete_video(plan, key)

    def _work(self, unfinished: Sequence[Input]) -> None:
        self._ledger.tell("starting", 0, force=True)
        pool = self._make_pool(self._sights(unfinished))
        self._max_losses_over_a_file = pool.max_losses_in_a_row - 2  # before it gives up the other files too
        try:
            plan = self._fixed_plan(pool)
            self._ledger.from_the_end = self._neighbours.want_the_end()
            self._drive(pool, self._schedule(plan, self._in_order(unfinished), pool.num_wanted))
        except (WorkerError, StorageError) as error:
            self._ledger.stopped = str(error)
        finally:
            pool.close()

    def _schedule(self, plan: JobPlan, unfinished: Sequence[Input], num_workers: int) -> Schedule:
        videos = [input_ for input_ in unfinished if not is_image(input_.output_name)]
        images = [input_ for input_ in unfinished if is_image(input_.output_name)]
        return Schedule(
            [ProbeTask(plan, i, self._survey.outputs.get(i.output_name)) for i in videos],
            self._stills_tasks(plan, images, num_workers),
            num_files_ahead=1 + _FILES_AHEAD_PER_WORKER * num_workers,
            clock=self._clock,
        )

    def _in_order(self, items: Sequence[T]) -> Sequence[T]:
        """In which this run takes what there is to do."""
        return items[::-1] if self._ledger.from_the_end else items

    def _sights(self, unfinished: Sequence[Input]) -> tuple[Sight, ...]:
        """What workers must see: this run's heartbeat, and the first source that is one object."""
        sources = (input_.source for input_ in unfinished if input_.sequence is None)
        output = Sight(self._inputs.output_url, self._manifest.snapshot_key(self._run_id))
        return (output, *(Sight(s.store_url, s.key, s.version) for s in islice(sources, 1)))

    def _stills_tasks(self, plan: JobPlan, images: Sequence[Input], num_workers: int) -> list[StillsTask]:
        """The images in tasks of several, but as many tasks as keep all workers busy to the end."""
        there = self._survey.outputs if self._request.overwrite else {}
        stills = [Still(image, there.get(image.output_name)) for image in images]
        self._ledger.tally.add_plan(len(images), num_frames=len(images), num_files=len(images))
        lost = [(key, i) for i in images if (key := output_key(plan, i)) in self._survey.finished]
        for _ in in_parallel(lambda each: self._forget_lost_output(*each), lost):
            pass
        size = max(1, min(_MAX_STILLS, len(stills) // (_STILLS_TASKS_PER_WORKER * num_workers)))
        return [
            self._stills_task(plan, tuple(group))
            for group in (stills[start : start + size] for start in range(0, len(stills), size))
        ]

    def _stills_task(self, plan: JobPlan, stills: tuple[Still, ...]) -> StillsTask:
        return StillsTask(plan, stills, self._attempt(), self._inputs.output_url)

    def _fixed_plan(self, pool: WorkerPool) -> JobPlan:
        job = self._request.job
        plan = self._manifest.plan(job)
        if plan is not None:
            pool.admit_only(plan.fixed.device_class)
        device_class = pool.first_device_class()
        plan = plan or self._manifest.fix_plan(JobPlan(job, fix_settings(job, device_class)))
        pool.admit_only(plan.fixed.device_class)
        # The job as asked now: its weights may lie elsewhere than when the plan was fixed.
        return JobPlan(job, plan.fixed)

    def _drive(self, pool: WorkerPool, schedule: Schedule) -> None:
        self._ledger.tell("running", pool.num_workers, force=True)  # so that other drivers know
        while not schedule.is_finished and not self._ledger.stopped:
            self._hand_out(pool, schedule)
            pool.want(schedule.num_wanted)
            for event in pool.wait(_WAIT_S):
                self._handle(event, schedule)
            for worker in pool.take_gone():
                schedule.worker_ended(worker)
            if self._ledger.is_due:
                self._ledger.tell("running", pool.num_workers, current=pool.running)

    def _hand_out(self, pool: WorkerPool, schedule: Schedule) -> None:
        for worker in pool.idle_workers():
            if not schedule.has_waiting:
                break
            task = self._next_task(schedule, worker, pool.num_workers)
            task = task or self._second_attempt(schedule, worker)
            if task is not None:
                pool.submit(worker, task)

    def _next_task(self, schedule: Schedule, worker: str, num_workers: int) -> Task | None:
        """The next task that a worker is needed for."""
        while (task := schedule.take(worker, num_workers)) is not None:
            if not isinstance(task, ProbeTask) or not self._skip_probing(task, schedule, worker):
                return task
        return None

    def _second_attempt(self, schedule: Schedule, worker: str) -> Task | None:
        """A second attempt at a segment that another worker does not come to an end with."""
        straggler = schedule.straggler_for(worker)
        if straggler is None:
            return None
        copy = self._next_attempt(straggler)
        schedule.started(worker, copy)
        _log.info("segment %s takes far longer than others: %s tries it too", copy.id, worker)
        return copy

    def _skip_probing(self, task: ProbeTask, schedule: Schedule, worker: str) -> bool:
        """Whether a file needs no probing, as it is finished or was probed before; goes on with it then."""
        key = task.output_key
        published = self._published_meanwhile(key)
        known = None if published is not None else self._known_video(task, key)
        if published is None and known is None:
            return False
        schedule.ended(worker, task)
        if published is not None:
            self._take_over(task, published, schedule)
        elif known is not None:
            self._begin(known, task.plan, schedule)
        return True

    def _take_over(self, task: ProbeTask, receipt: OutputReceipt, schedule: Schedule) -> None:
        """Notes a file that another driver finished."""
        self._ledger.tally.add_plan(receipt.num_segments, receipt.num_frames)
        self._ledger.tally.add_committed(receipt.num_frames, receipt.num_segments)
        self._ledger.published(task.input, receipt, 0.0)
        schedule.file_ended(receipt.key)

    def _take_plan(self, task: ProbeTask, video: VideoPlan, schedule: Schedule) -> None:
        published = self._published_meanwhile(video.treatment.output_key)
        if published is not None:
            self._take_over(task, published, schedule)
            return
        self._manifest.put_video(task.plan, video)
        self._begin(video, task.plan, schedule)

    def _published_meanwhile(self, key: str) -> OutputReceipt | None:
        """The receipt of an output that another driver published after this one had looked."""
        if key in self._survey.finished or self._neighbours.are_there():
            return self._manifest.published(key)
        return None

    def _known_video(self, task: ProbeTask, key: str) -> VideoPlan | None:
        """What was planned before, for the input as it is found now: it may have moved as a whole."""
        if key not in self._survey.planned:
            return None
        video = self._manifest.video(task.plan, key)
        if video is None:
            return None
        video = replace(video, treatment=replace(video.treatment, input=task.input))
        return replace(video, replaces=task.replaces) if self._request.overwrite else video

    def _handle(self, event: PoolEvent, schedule: Schedule) -> None:
        if isinstance(event, Running):
            if schedule.is_of_use(event.worker, event.task):
                self._ledger.tally.add_progress(event.task.id, event.progress)
            return
        seconds = schedule.ended(event.worker, event.task)
        if seconds is None:  # another attempt came first
            if isinstance(event, Done):
                self._remove_late_part(event.task)
            return
        if isinstance(event, Done) and not isinstance(event.result, MissingParts):
            schedule.settled(event.task)
            if not isinstance(event.result, StillsDone) or not event.result.failed:
                self._failures.pop(event.task.id, None)
        if not schedule.is_running(event.task):
            self._ledger.tally.end_task(event.task.id)
        match event:
            case Failed(task, worker, error):
                self._take_failure(task, worker, error, schedule)
            case Done(task, worker, result):
                self._take_in(task, worker, result, seconds, schedule)

    def _remove_late_part(self, task: Task) -> None:
        """Removes what the slower attempt at a segment stored, where its output was finished meanwhile."""
        is_over = isinstance(task, SegmentTask) and task.output_key not in self._files
        if is_over and self._manifest.output(task.output_key) is not None:
            self._manifest.delete_parts(task.id)

    def _take_in(
        self, task: Task, worker: str, result: TaskResult, seconds: float, schedule: Schedule
    ) -> None:
        match task, result:
            case ProbeTask(), VideoPlan() as video:
                self._take_plan(task, video, schedule)
            case SegmentTask(), SegmentReceipt() as receipt:
                if receipt.part_name.startswith(f"{task.attempt}."):  # it was not there before
                    schedule.made(task, seconds)
                self._commit(task, receipt, schedule)
            case AssembleTask(), OutputReceipt() as receipt:
                self._finish(task, receipt, schedule)
            case AssembleTask(), MissingParts() as missing:
                self._reopen(task, worker, missing, schedule)
            case StillsTask(), StillsDone() as done:
                self._take_stills(task, worker, done, schedule)

    def _begin(self, video: VideoPlan, plan: JobPlan, schedule: Schedule) -> None:
        key = video.treatment.output_key
        committed = self._survey.committed(key)
        file = _File(video, {s.key for s in video.segments} - committed, [])
        self._forget_lost_output(key, video.treatment.input)
        self._files[key] = file
        self._ledger.tally.add_plan(len(video.segments), video.treatment.num_frames)
        tasks = []
        for segment in self._in_order(video.segments):
            if segment.key in committed:
                self._ledger.tally.add_committed(video.treatment.frames_of(segment.num_frames))
            else:
                tasks.append(self._segment_task(plan, video, segment))
        schedule.add_segments([task for task in tasks if not self._was_set_aside(task, file)])
        self._join_if_ready(file, plan, schedule)

    def _forget_lost_output(self, key: str, input_: Input) -> None:
        """Removes the receipt of an unfinished input: the output that it tells of is gone."""
        if key in self._survey.finished and self._manifest.published(key) is None:
            self._manifest.forget_outputs(input_.output_name)

    def _segment_task(self, plan: JobPlan, video: VideoPlan, segment: Segment) -> SegmentTask:
        return SegmentTask(plan, video.treatment, segment, self._attempt(), self._inputs.output_url)

    def _attempt(self) -> str:
        return f"{self._run_id}-{next(self._attempts)}"

    def _was_set_aside(self, task: SegmentTask, file: _File) -> bool:
        """Whether an earlier run set this segment aside, and this one does not try it again."""
        attempts = self._survey.failures.get(task.id, [])
        if not attempts:
            return False
        if self._request.again:
            self._manifest.forget_failures(task.id, attempts)
            return False
        failures = self._manifest.failures(task.id, attempts)
        if not self._request.retry.is_quarantined(failures):
            self._failures[task.id] = failures
            return False
        error = failures[-1].error()
        error.next_step = "it was set aside by an earlier run: --retry-failed tries it again"
        self._set_aside(task, file, error)
        return True

    def _set_aside(self, task: SegmentTask, file: _File, error: FrameliftError) -> None:
        file.waiting.discard(task.segment.key)
        file.set_aside.append(error)

    def _commit(self, task: SegmentTask, receipt: SegmentReceipt, schedule: Schedule) -> None:
        file = self._files.get(task.output_key)
        if file is None:  # the file failed while this segment was made
            return
        self._ledger.tally.add_committed(task.treatment.frames_of(task.segment.num_frames))
        file.seconds += sum(receipt.stage_seconds.values())
        file.num_losses = 0
        file.waiting.discard(task.segment.key)
        self._join_if_ready(file, task.plan, schedule)

    def _join_if_ready(self, file: _File, plan: JobPlan, schedule: Schedule) -> None:
        if file.waiting:
            return
        if file.set_aside:
            self._fail(
                file.video.treatment.input, file.video.treatment.output_key, file.set_aside[0], schedule
            )
            return
        schedule.add(AssembleTask(plan, file.video, self._attempt(), self._inputs.output_url))

    def _reopen(self, task: AssembleTask, worker: str, missing: MissingParts, schedule: Schedule) -> None:
        """Has the segments made again whose parts were lost, before all else, as the file is nearly done."""
        file = self._files[task.output_key]
        file.num_reopened += 1
        if file.num_reopened > _MAX_REOPENED:
            error = OutputError(
                "parts of this video are lost again and again before they are joined",
                where=file.video.treatment.input.source.key,
                got=f"{len(missing.segment_keys)} of {len(file.video.segments)} are missing or damaged",
                next_step="look at the store, and at whether something else deletes from it",
            )
            self._take_failure(task, worker, error, schedule)
            return
        segments = [s for s in file.video.segments if s.key in missing.segment_keys]
        file.waiting.update(segment.key for segment in segments)
        for segment in segments:
            self._ledger.tally.reopen(file.video.treatment.frames_of(segment.num_frames))
            schedule.add(self._segment_task(task.plan, file.video, segment))
        self._join_if_ready(file, task.plan, schedule)

    def _finish(self, task: AssembleTask, receipt: OutputReceipt, schedule: Schedule) -> None:
        file = self._files.pop(task.output_key)
        self._ledger.published(file.video.treatment.input, receipt, file.seconds)
        schedule.file_ended(task.output_key)

    def _take_stills(self, task: StillsTask, worker: str, done: StillsDone, schedule: Schedule) -> None:
        inputs = {still.input.output_name: still.input for still in task.stills}
        for receipt in done.receipts:
            self._ledger.tally.add_committed(1)
            self._ledger.published(inputs[receipt.output], receipt, receipt.seconds)
        for still, error in done.failed:
            self._take_failure(self._stills_task(task.plan, (still,)), worker, error, schedule)

    def _part_stills(self, task: StillsTask, schedule: Schedule) -> None:
        """Gives each image of a task that was lost its own task, so that the guilty one is found."""
        for still in task.stills:
            schedule.add(self._stills_task(task.plan, (still,)))

    def _take_failure(self, task: Task, worker: str, error: FrameliftError, schedule: Schedule) -> None:
        file = self._files.get(task.output_key)
        if file is None and isinstance(task, SegmentTask | AssembleTask):
            return  # the file failed while this was tried
        if isinstance(task, StillsTask):
            # What it wrote down of images stays to the end: some may stand there without a receipt.
            self._survey.stills.append(self._manifest.stills_key(task.plan, task.attempt))
        is_loss = isinstance(error, WorkerError) and not error.preempted
        if isinstance(task, StillsTask) and len(task.stills) > 1 and is_loss:
            self._part_stills(task, schedule)
            return
        if file is not None and is_loss:
            file.num_losses += 1
        decision = self._note_failure(task, worker, error, is_left_to_another=schedule.is_running(task))
        match decision:
            case Decision.STOP:
                self._ledger.stopped = str(error)
            case Decision.RETRY | Decision.RETRY_ELSEWHERE if schedule.is_running(task):
                pass
            case Decision.RETRY | Decision.RETRY_ELSEWHERE:
                elsewhere = worker if decision is Decision.RETRY_ELSEWHERE else None
                pause_s = self._request.retry.pause_s(self._failures[task.id])
                schedule.again(self._next_attempt(task), not_by=elsewhere, pause_s=pause_s)
            case Decision.QUARANTINE if isinstance(task, SegmentTask) and file is not None:
                self._set_aside(task, file, error)
                self._join_if_ready(file, task.plan, schedule)
            case _:
                for input_ in inputs_of(task):
                    self._fail(input_, output_key(task.plan, input_), error, schedule)

    def _note_failure(
        self, task: Task, worker: str, error: FrameliftError, *, is_left_to_another: bool
    ) -> Decision:
        """What becomes of a task after a failure, which is noted.

        Args:
            is_left_to_another: Another worker is at the task too, so that it is not given up yet.
        """
        failure = FailureRecord.of(
            error,
            attempt=self._attempt(),
            worker=worker,
            time_s=time.time(),
            output=inputs_of(task)[0].output_name,
        )
        failures = self._failures.setdefault(task.id, [])
        failures.append(failure)
        decision = self._request.retry.decide(failures)
        if is_left_to_another and decision is Decision.QUARANTINE:
            decision = Decision.RETRY
        file = self._files.get(task.output_key)
        if file is not None and file.num_losses >= self._max_losses_over_a_file:
            decision = Decision.FAIL_INPUT
        _log.warning("task %s failed on %s, %s: %s", task.id, worker, decision.value, error)
        if failure.is_against_the_task:
            self._manifest.put_failure(task, replace(failure, decision=decision))
        return decision

    def _next_attempt(self, task: Task) -> Task:
        return task if isinstance(task, ProbeTask) else replace(task, attempt=self._attempt())

    def _fail(self, input_: Input, key: str, error: FrameliftError, schedule: Schedule) -> None:
        """Ends a file without an output. What is committed of it stays, for a later run."""
        self._files.pop(key, None)
        self._ledger.failed(input_, str(error))
        if not is_image(input_.output_name):
            schedule.file_ended(key)
