"""The driver: plans, hands out, decides on errors, joins each file as soon as it can, and reports.

It holds no state that cannot be read again from the manifest, so it can be lost at any time.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from cluster.images.info import is_image
from cluster.inputs import InputSet
from cluster.job import Job
from cluster.ledger import Ledger
from cluster.manifest import Manifest, Survey
from cluster.plan import Input, JobPlan, Segment, VideoPlan, fix_settings, output_key
from cluster.pool import Done, Failed, PoolEvent, Running, WorkerPool
from cluster.report import JobReport, Snapshot
from cluster.retry import Decision, FailureRecord, RetryPolicy
from cluster.schedule import Schedule
from cluster.storage import Storage
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
    inputs_of,
)
from sr_core.errors import FrameliftError, SpecError, StorageError, WorkerError

_log = logging.getLogger(__name__)

_WAIT_S = 1.0
_FILES_AHEAD_PER_WORKER = 2
_MAX_STILLS = 16
_STILLS_TASKS_PER_WORKER = 4
_SCRATCH_AGE_S = 3600.0


@dataclass(frozen=True)
class Request:
    """A job on its inputs, as one run is asked for it.

    Attributes:
        overwrite: Outputs that were made in another way may be replaced.
        again: Tasks that were set aside in earlier runs are tried again.
    """

    job: Job
    retry: RetryPolicy
    overwrite: bool = False
    again: bool = False


@dataclass
class _File:
    """A video that was begun.

    Attributes:
        waiting: Keys of segments that are neither committed nor set aside.
        set_aside: Why segments are set aside.
        seconds: Of worker time in this run.
    """

    video: VideoPlan
    waiting: set[str]
    set_aside: list[FrameliftError]
    seconds: float = 0.0


class Driver:
    """One run of a job.

    Args:
        request: What is asked.
        inputs: On what.
        make_pool: Starts workers; called only where there is work.
        on_snapshot: Told about once a second how far the job is.
    """

    def __init__(
        self,
        request: Request,
        inputs: InputSet,
        storage: Storage,
        make_pool: Callable[[], WorkerPool],
        on_snapshot: Callable[[Snapshot], None],
    ) -> None:
        self._request = request
        self._inputs = inputs
        self._storage = storage
        self._manifest = Manifest(storage)
        self._make_pool = make_pool
        self._run_id = f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._ledger = Ledger(self._run_id, request.job.id, inputs, self._manifest, on_snapshot)
        self._attempts = count()
        self._survey = Survey()
        self._files: dict[str, _File] = {}
        self._failures: dict[str, list[FailureRecord]] = {}

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
            self._manifest.forget_begun_stills(self._survey)
        report = self._ledger.report()
        self._storage.put(self._inputs.report_key, report.to_json())
        return report

    def _sort_out(self) -> Sequence[Input]:
        """The inputs that need work; the others are noted as skipped."""
        self._storage.sweep_scratch(_SCRATCH_AGE_S)
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
        pool = self._make_pool()
        try:
            plan = self._fixed_plan(pool)
            videos = [input_ for input_ in unfinished if not is_image(input_.output_name)]
            probes = [ProbeTask(plan, i, self._survey.outputs.get(i.output_name)) for i in videos]
            images = [input_ for input_ in unfinished if is_image(input_.output_name)]
            stills = self._stills_tasks(plan, images, pool.num_wanted)
            schedule = Schedule(probes, stills, num_files_ahead=1 + _FILES_AHEAD_PER_WORKER * pool.num_wanted)
            self._drive(pool, schedule)
        except WorkerError as error:
            self._ledger.stopped = str(error)
        finally:
            pool.close()

    def _stills_tasks(self, plan: JobPlan, images: Sequence[Input], num_workers: int) -> list[StillsTask]:
        """The images in tasks of several, but as many tasks as keep all workers busy to the end."""
        there = self._survey.outputs if self._request.overwrite else {}
        stills = [Still(image, there.get(image.output_name)) for image in images]
        for image in images:
            self._forget_lost_output(output_key(plan, image), image)
            self._ledger.tally.add_plan(num_segments=1, num_frames=1)
        size = max(1, min(_MAX_STILLS, len(stills) // (_STILLS_TASKS_PER_WORKER * num_workers)))
        return [
            self._stills_task(plan, tuple(group))
            for group in (stills[start : start + size] for start in range(0, len(stills), size))
        ]

    def _stills_task(self, plan: JobPlan, stills: tuple[Still, ...]) -> StillsTask:
        return StillsTask(plan, stills, self._attempt(), self._inputs.output_url)

    def _fixed_plan(self, pool: WorkerPool) -> JobPlan:
        device_class = pool.first_device_class()
        job = self._request.job
        plan = self._manifest.plan(job)
        plan = plan or self._manifest.fix_plan(JobPlan(job, fix_settings(job, device_class)))
        pool.admit_only(plan.fixed.device_class)
        # The job as asked now: its weights may lie elsewhere than when the plan was fixed.
        return JobPlan(job, plan.fixed)

    def _drive(self, pool: WorkerPool, schedule: Schedule) -> None:
        while not schedule.is_finished and not self._ledger.stopped:
            for worker in pool.idle_workers():
                task = self._next_task(schedule, worker, pool.num_workers)
                if task is not None:
                    pool.submit(worker, task)
            for event in pool.wait(_WAIT_S):
                self._handle(event, schedule)
            for worker in pool.take_gone():
                schedule.worker_ended(worker)
            self._ledger.tell("running", pool.num_workers, current=pool.running)

    def _next_task(self, schedule: Schedule, worker: str, num_workers: int) -> Task | None:
        """The next task that a worker is needed for: inputs that were probed before are not probed again."""
        while (task := schedule.take(worker, num_workers)) is not None:
            known = self._known_video(task) if isinstance(task, ProbeTask) else None
            if known is None:
                return task
            schedule.ended(task)
            self._begin(known, task.plan, schedule)
        return None

    def _known_video(self, task: ProbeTask) -> VideoPlan | None:
        if task.output_key not in self._survey.planned:
            return None
        video = self._manifest.video(task.plan, task.output_key)
        if video is not None and self._request.overwrite:
            return replace(video, replaces=task.replaces)
        return video

    def _handle(self, event: PoolEvent, schedule: Schedule) -> None:
        if isinstance(event, Running):
            self._ledger.tally.add_progress(event.task.id, event.progress)
            return
        schedule.ended(event.task)
        self._ledger.tally.end_task(event.task.id)
        match event:
            case Failed(task, worker, error):
                self._decide(task, worker, error, schedule)
            case Done(ProbeTask() as task, _, VideoPlan() as video):
                self._manifest.put_video(task.plan, video)
                self._begin(video, task.plan, schedule)
            case Done(SegmentTask() as task, _, SegmentReceipt() as receipt):
                self._commit(task, receipt, schedule)
            case Done(AssembleTask() as task, _, OutputReceipt() as receipt):
                self._finish(task, receipt, schedule)
            case Done(AssembleTask() as task, _, MissingParts() as missing):
                self._reopen(task, missing, schedule)
            case Done(StillsTask() as task, worker, StillsDone() as done):
                self._take_stills(task, worker, done, schedule)

    def _begin(self, video: VideoPlan, plan: JobPlan, schedule: Schedule) -> None:
        key = video.treatment.output_key
        committed = self._survey.committed(key)
        file = _File(video, {s.key for s in video.segments} - committed, [])
        self._forget_lost_output(key, video.treatment.input)
        self._files[key] = file
        self._ledger.tally.add_plan(len(video.segments), video.treatment.num_frames)
        tasks = []
        for segment in video.segments:
            if segment.key in committed:
                self._ledger.tally.add_committed(video.treatment.frames_of(segment.num_frames))
            else:
                tasks.append(self._segment_task(plan, video, segment))
        schedule.add_segments([task for task in tasks if not self._was_set_aside(task, file)])
        self._join_if_ready(file, plan, schedule)

    def _forget_lost_output(self, key: str, input_: Input) -> None:
        """Removes the receipt of an unfinished input: the output that it tells of is gone."""
        if key in self._survey.finished:
            self._manifest.forget_outputs(input_.output_name)

    def _segment_task(self, plan: JobPlan, video: VideoPlan, segment: Segment) -> SegmentTask:
        return SegmentTask(plan, video.treatment, segment, self._attempt(), self._inputs.output_url)

    def _attempt(self) -> str:
        return f"{self._run_id}-{next(self._attempts)}"

    def _was_set_aside(self, task: SegmentTask, file: _File) -> bool:
        """Whether an earlier run set this segment aside, and this one does not try it again."""
        attempts = self._survey.failures.get(task.id, [])
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

    def _reopen(self, task: AssembleTask, missing: MissingParts, schedule: Schedule) -> None:
        file = self._files[task.output_key]
        segments = [s for s in file.video.segments if s.key in missing.segment_keys]
        file.waiting.update(segment.key for segment in segments)
        for segment in segments:
            self._ledger.tally.reopen(file.video.treatment.frames_of(segment.num_frames))
        schedule.add_segments([self._segment_task(task.plan, file.video, s) for s in segments])

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
            self._decide(self._stills_task(task.plan, (still,)), worker, error, schedule)

    def _part_stills(self, task: StillsTask, schedule: Schedule) -> None:
        """Gives each image of a task that was lost its own task, so that the guilty one is found."""
        for still in task.stills:
            schedule.add(self._stills_task(task.plan, (still,)))

    def _decide(self, task: Task, worker: str, error: FrameliftError, schedule: Schedule) -> None:
        if task.output_key not in self._files and isinstance(task, SegmentTask | AssembleTask):
            return  # the file failed while this was tried
        if isinstance(task, StillsTask):
            self._manifest.end_stills(task.plan, task.attempt)
        if isinstance(task, StillsTask) and len(task.stills) > 1 and isinstance(error, WorkerError):
            self._part_stills(task, schedule)
            return
        failure = FailureRecord.of(
            error,
            attempt=self._attempt(),
            worker=worker,
            time_s=time.time(),
            output=inputs_of(task)[0].output_name,
        )
        decision = self._request.retry.decide([*self._failures.get(task.id, []), failure])
        failure = replace(failure, decision=decision)
        self._failures.setdefault(task.id, []).append(failure)
        _log.warning("task %s failed on %s, %s: %s", task.id, worker, decision.value, error)
        if not isinstance(error, StorageError):  # that is nothing against the task
            self._manifest.put_failure(task, failure)
        match decision:
            case Decision.STOP:
                self._ledger.stopped = str(error)
            case Decision.RETRY | Decision.RETRY_ELSEWHERE:
                elsewhere = worker if decision is Decision.RETRY_ELSEWHERE else None
                schedule.again(self._next_attempt(task), not_by=elsewhere)
            case Decision.QUARANTINE if isinstance(task, SegmentTask) and task.output_key in self._files:
                self._set_aside(task, self._files[task.output_key], error)
                self._join_if_ready(self._files[task.output_key], task.plan, schedule)
            case _:
                for input_ in inputs_of(task):
                    self._fail(input_, output_key(task.plan, input_), error, schedule)

    def _next_attempt(self, task: Task) -> Task:
        return task if isinstance(task, ProbeTask) else replace(task, attempt=self._attempt())

    def _fail(self, input_: Input, key: str, error: FrameliftError, schedule: Schedule) -> None:
        """Ends a file without an output. What is committed of it stays, for a later run."""
        self._files.pop(key, None)
        self._ledger.failed(input_, str(error))
        if not is_image(input_.output_name):
            schedule.file_ended(key)


def sort_out(
    request: Request, inputs: InputSet, survey: Survey, plan: JobPlan | None
) -> tuple[list[Input], dict[Input, str]]:
    """The inputs that need work, and those that are finished with their output keys.

    Args:
        plan: That the first driver of the job fixed; None where there was none.

    Raises:
        SpecError: Outputs stand there that were made in another way, and may not be replaced.
    """
    keys = {input_: output_key(plan, input_) if plan else "" for input_ in inputs.inputs}
    finished = {
        input_: key
        for input_, key in keys.items()
        if key in survey.finished and input_.output_name in survey.outputs
    }
    unfinished = [input_ for input_ in keys if input_ not in finished]
    new = [input_ for input_ in unfinished if keys[input_] not in survey.planned]
    taken = [input_.output_name for input_ in new if input_.output_name in survey.outputs]
    if taken and not request.overwrite:
        raise SpecError(
            f"{len(taken)} outputs exist already that were not made from these sources with this spec",
            where=inputs.output_url,
            got=", ".join(taken[:5]) + (", ..." if len(taken) > 5 else ""),
            next_step="choose another output folder, or --overwrite to replace them",
        )
    return unfinished, finished
