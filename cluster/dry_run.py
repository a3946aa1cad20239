"""What a job would do: found out as the driver does, in this process, leaving nothing behind."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.estimate import estimate
from cluster.inputs import InputSet
from cluster.machines import WorkerSettings
from cluster.manifest import Manifest
from cluster.plan import Input, JobPlan, StillPlan, VideoPlan, fix_settings
from cluster.report import Estimate
from cluster.request import Request, sort_out
from cluster.storage import open_storage
from cluster.tasks import ProbeTask
from cluster.worker import Worker
from sr_core.errors import FrameliftError


@dataclass(frozen=True)
class DryRun:
    """What a job would do.

    Attributes:
        videos: What there is to do.
        skipped: Inputs that are done already.
        failed: Inputs that nothing can be done with, and why.
        estimate: None where there is nothing to do.
    """

    videos: tuple[VideoPlan, ...]
    stills: tuple[StillPlan, ...]
    skipped: tuple[Input, ...]
    failed: tuple[tuple[Input, FrameliftError], ...]
    estimate: Estimate | None


def dry_run(request: Request, inputs: InputSet, settings: WorkerSettings) -> DryRun:
    """What `request` would do on `inputs` with the workers that `settings` tell of.

    Raises:
        SpecError: Outputs stand there that were made in another way, and may not be replaced.
    """
    manifest = Manifest(open_storage(inputs.output_url))
    known = manifest.plan(request.job)
    unfinished, finished = sort_out(
        request, inputs, manifest.survey(i.output_name for i in inputs.inputs), known
    )
    worker = Worker("cuda" if settings.num_gpus else "cpu", max(1, round(settings.num_cpus)))
    # The job as asked now: its weights may lie elsewhere than when the plan was fixed.
    plan = JobPlan(request.job, known.fixed if known else fix_settings(request.job, worker.device_class))
    videos: list[VideoPlan] = []
    stills: list[StillPlan] = []
    failed: list[tuple[Input, FrameliftError]] = []
    for input_ in unfinished:
        for told in worker.run(ProbeTask(plan, input_)):
            if isinstance(told, VideoPlan):
                videos.append(told)
            elif isinstance(told, StillPlan):
                stills.append(told)
            elif isinstance(told, FrameliftError):
                failed.append((input_, told))
    found = _estimate(worker, plan, videos, settings)
    worker.close()
    return DryRun(tuple(videos), tuple(stills), tuple(finished), tuple(failed), found)


def _estimate(
    worker: Worker, plan: JobPlan, videos: list[VideoPlan], settings: WorkerSettings
) -> Estimate | None:
    """From the video with the most work, which says most about the whole."""
    if not videos:
        return None
    largest = max(videos, key=lambda video: video.treatment.num_output_pixels).treatment
    try:
        seconds = worker.calibrate(plan, largest)
    except FrameliftError:  # the job will tell of it
        return None
    return estimate(largest, seconds, videos, settings.num_workers, worker.device_class.kind)
