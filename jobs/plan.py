"""`framelift plan`: what `upscale` would do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.inputs import InputSet, find_inputs
from cluster.machines import WorkerRequest
from cluster.plan import Input, StillPlan, VideoPlan
from cluster.report import Estimate
from cluster.request import Request
from jobs.models import Choice, choose_model, with_model
from jobs.spec import UpscaleSpec
from jobs.upscale import request_of
from jobs.view import console, duration_text, printable


@dataclass(frozen=True)
class PlannedFile:
    """What would be done with one input.

    Attributes:
        state: waiting (there is work to do), skipped (done before), or failed (nothing can be done).
        source_video: What the source is: codec, size, pixel format, rate; of an image, its format and size.
        output_video: What the output will be, likewise.
        num_frames: 1 for an image.
        num_segments: 0 for an image, which is not cut.
        told: What the user must know before.
        reason: Why nothing can be done; empty otherwise.
    """

    source: str
    output: str
    state: Literal["waiting", "skipped", "failed"]
    source_video: str = ""
    output_video: str = ""
    num_frames: int = 0
    num_segments: int = 0
    duration_s: float = 0.0
    told: tuple[str, ...] = ()
    reason: str = ""

    @classmethod
    def of(cls, plan: VideoPlan) -> Self:
        """A video that was planned."""
        treatment, video = plan.treatment, plan.treatment.video
        encode = treatment.encode
        rate = f"{float(video.frame_rate):.6g} fps"
        return cls(
            source=treatment.input.source.key,
            output=treatment.input.output_name,
            state="waiting",
            source_video=f"{video.codec} {video.width}x{video.height} {video.pixel_format} {rate}",
            output_video=f"{encode.codec} {encode.width}x{encode.height} {encode.pixel_format}",
            num_frames=treatment.num_frames,
            num_segments=len(plan.segments),
            duration_s=float(video.duration_s),
            told=(*treatment.told, *((treatment.damage,) if treatment.damage else ())),
        )

    @classmethod
    def of_still(cls, plan: StillPlan) -> Self:
        """An image that was planned."""
        info, treatment = plan.info, plan.treatment
        return cls(
            source=plan.input.source.key,
            output=plan.input.output_name,
            state="waiting",
            source_video=f"{info.format} {info.width}x{info.height} {info.samples}",
            output_video=f"{treatment.format} {treatment.width}x{treatment.height} {treatment.samples}",
            num_frames=info.num_frames,
            told=treatment.told,
        )

    @classmethod
    def skipped(cls, input_: Input) -> Self:
        """An input whose output is done."""
        return cls(input_.source.key, input_.output_name, "skipped")

    @classmethod
    def failed(cls, input_: Input, reason: str) -> Self:
        """An input that nothing can be done with."""
        return cls(input_.source.key, input_.output_name, "failed", reason=reason)


@dataclass(frozen=True)
class PlannedJob:
    """What a job would do.

    Attributes:
        model: That would be taken.
        ignored: Files of the input folder that are neither videos nor images by their names.
        estimate: None where nothing could be measured.
    """

    job_id: str
    model: Choice
    files: tuple[PlannedFile, ...]
    ignored: tuple[str, ...] = ()
    estimate: Estimate | None = None


def plan(spec: UpscaleSpec, *, as_json: bool = False) -> int:
    """Prints what `upscale` would do with `spec`.

    Returns:
        The exit code that the job would have as far as is known: 3 where some inputs cannot be done.
    """
    inputs = find_inputs(spec.input_url, spec.output_url, spec.video, spec.image, spec.sequences)
    choice = choose_model(spec)
    planned = _plan(request_of(with_model(spec, choice)), choice, inputs, spec.workers)
    if as_json:
        print(json.dumps(asdict(planned), indent=2))
    else:
        show_plan(planned, console())
    return 3 if any(file.state == "failed" for file in planned.files) else 0


def show_plan(planned: PlannedJob, to: Console) -> None:
    """Prints a table of the files, what must be known of them, and the totals."""
    to.print(_table(planned.files))
    for line in _notes(planned):
        to.print(Text(line))
    to.print(Text(printable(str(planned.model))), soft_wrap=True)
    waiting = [file for file in planned.files if file.state == "waiting"]
    num_frames, num_segments = sum(f.num_frames for f in waiting), sum(f.num_segments for f in waiting)
    num_skipped = sum(file.state == "skipped" for file in planned.files)
    to.print(
        Text(
            f"{len(waiting)} files to do with {num_frames} frames in {num_segments} segments; "
            f"{num_skipped} done before, {len(planned.files) - len(waiting) - num_skipped} cannot be done"
        )
    )
    if planned.estimate:
        to.print(Text(_estimate_text(planned.estimate)))


def _table(files: Iterable[PlannedFile]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("file", "is", "becomes"):
        table.add_column(name, overflow="fold")
    for name in ("frames", "length", "segments"):
        table.add_column(name, justify="right", no_wrap=True)
    for file in files:
        match file.state:
            case "waiting":
                cells = (file.source, file.source_video, file.output_video, str(file.num_frames))
                length = duration_text(file.duration_s) if file.duration_s else ""
                table.add_row(*_texts(*cells, length, str(file.num_segments or "")))
            case "skipped":
                table.add_row(*_texts(file.source, "", "done before"))
            case "failed":
                table.add_row(*_texts(file.source, "", f"cannot be done: {file.reason}"))
    return table


def _texts(*cells: str) -> Iterable[Text]:
    return (Text(printable(cell)) for cell in cells)


def _notes(planned: PlannedJob) -> Iterable[str]:
    for file in planned.files:
        for line in file.told:
            yield f"note: {printable(file.source)}: {printable(line)}"
    if planned.ignored:
        names = ", ".join(printable(name) for name in planned.ignored[:5])
        yield f"note: {len(planned.ignored)} files are neither videos nor images by their names: {names}" + (
            ", …" if len(planned.ignored) > 5 else ""
        )


def _estimate_text(estimate: Estimate) -> str:
    return (
        f"estimate: {duration_text(estimate.seconds)} at {estimate.frames_per_second:.1f} fps with "
        f"{estimate.num_workers} worker{'s' * (estimate.num_workers != 1)}; "
        f"{estimate.slowest_stage} is the bottleneck"
    )


def _plan(request: Request, model: Choice, inputs: InputSet, workers: WorkerRequest) -> PlannedJob:
    """Plans as the driver would, in this process and without leaving anything behind."""
    from cluster.dry_run import dry_run  # loads torch

    settings = workers.settle(os.cpu_count() or 1, _num_gpus())
    found = dry_run(request, inputs, settings)
    skipped = [PlannedFile.skipped(input_) for input_ in found.skipped]
    failed = [PlannedFile.failed(input_, str(error)) for input_, error in found.failed]
    planned = [
        *(PlannedFile.of(video) for video in found.videos),
        *(PlannedFile.of_still(still) for still in found.stills),
    ]
    refused = [PlannedFile(name, "", "failed", reason=why) for name, why in inputs.refused]
    files = [*planned, *skipped, *failed, *refused]
    files.sort(key=lambda file: file.source)
    return PlannedJob(request.job.id, model, tuple(files), inputs.ignored, found.estimate)


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
