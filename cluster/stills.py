"""Upscaling images: several in one task, each with an output and a receipt of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cluster.digest import digest_of
from cluster.images.info import ImageInfo, format_of_name
from cluster.images.plan import ImageTreatment, plan_image
from cluster.images.read import read_info
from cluster.images.upscale import ImageResult, upscale_image
from cluster.manifest import Manifest
from cluster.plan import Input, JobPlan, StillPlan, output_key
from cluster.publish import publish
from cluster.sequences import refuse_empty
from cluster.storage import Storage, open_storage
from cluster.tasks import OutputReceipt, Progress, Still, StillsDone, StillsTask
from sr_core.errors import FrameliftError, MediaError, ModelError, StorageError, WorkerError
from sr_core.upscale import Upscaler


def plan_still(plan: JobPlan, input_: Input, model_scale: int | None) -> StillPlan:
    """What will be done with one image, from its header.

    Raises:
        MediaError: Nothing can be done with it.
        SpecError: What the job asks for cannot be done with it.
    """
    source = input_.source
    refuse_empty(source)
    with open_storage(source.store_url).open(source.key, source.version) as file:
        info = read_info(file, source.key)
    return StillPlan(input_, output_key(plan, input_), info, _treatment(plan, info, model_scale, input_))


def upscale_stills(
    task: StillsTask,
    upscale: Callable[[Still], Generator[None, None, OutputReceipt]],
    storage: Storage,
) -> Iterator[Progress | StillsDone]:
    """Upscales the images of a task, one after the other; what is wrong with one does not stop the others.

    Args:
        upscale: Upscales and publishes one of them, with signs of life in between.

    Yields:
        How many are finished, for every one and for every sign of life; in the end what became of them.

    Raises:
        ModelError, StorageError, WorkerError: Of `upscale`, as these are nothing against the image.
    """
    manifest, start_s = Manifest(storage), time.perf_counter()
    receipts: list[OutputReceipt] = []
    failed: list[tuple[Still, FrameliftError]] = []
    keys = [output_key(task.plan, still.input) for still in task.stills]
    with manifest.begun_stills(task.plan, task.attempt, keys):
        for number, (key, still) in enumerate(zip(keys, task.stills, strict=True), start=1):
            published = manifest.published(key)
            try:
                if published is None:
                    published = yield from _told(upscale(still), number - 1, start_s)
                receipts.append(published)
            except (ModelError, StorageError, WorkerError):
                raise
            except FrameliftError as error:
                failed.append((still, error))
            yield _progress(number, start_s)
    yield StillsDone(tuple(receipts), tuple(failed))


def _told(
    work: Generator[None, None, OutputReceipt], num_done: int, start_s: float
) -> Generator[Progress, None, OutputReceipt]:
    """The result of `work`, whose signs of life become progress with as many images as before."""

    with closing(work):
        while True:
            try:
                next(work)
            except StopIteration as end:
                receipt: OutputReceipt = end.value
                return receipt
            yield _progress(num_done, start_s)


def _progress(num_done: int, start_s: float) -> Progress:
    return Progress(num_done, {"images": time.perf_counter() - start_s})


def upscale_still(
    task: StillsTask,
    still: Still,
    model_scale: int | None,
    upscaler_for: Callable[[int], Upscaler],
    storage: Storage,
) -> Generator[None, None, OutputReceipt]:
    """Upscales and publishes one image of a task, with signs of life in between.

    Args:
        model_scale: Of the model's weights; None for models that take any scale.
        upscaler_for: The engine for a scale.

    Raises:
        MediaError: Nothing of the image decodes, or it is damaged and the job strict.
        OutputError: What was written does not hold what it must.
        SourceChanged: The source is not what was found any more.
        SpecError: What the job asks for cannot be done with it, or its name is taken.
        StorageError: The output could not be stored.
        WorkerError: The image does not fit into the memory of this machine.
    """
    start_s, source = time.perf_counter(), still.input.source
    refuse_empty(source)
    path = storage.scratch_dir() / f"{task.attempt}-{output_key(task.plan, still.input)}"
    try:
        with open_storage(source.store_url).open(source.key, source.version) as file:
            info = read_info(file, source.key)
            treatment = _treatment(task.plan, info, model_scale, still.input)
            upscaler = upscaler_for(treatment.model_scale)
            result = yield from upscale_image(file, source.key, treatment, upscaler, path)
        _refuse_damage(task.plan, result, source.key)
        receipt = _receipt_of(task, still, treatment, result, path, time.perf_counter() - start_s)
        publish(path, receipt, still.input, still.replaces, storage)
    finally:
        path.unlink(missing_ok=True)
    return receipt


def _treatment(plan: JobPlan, info: ImageInfo, model_scale: int | None, input_: Input) -> ImageTreatment:
    """How an image is treated; an output whose name says another format than the source's is asked for so."""
    job, settings = plan.job, plan.job.image
    named = format_of_name(input_.output_name)
    if named != format_of_name(input_.source.key):
        settings = replace(settings, format=named)
    return plan_image(info, settings, job.scale, job.height, model_scale, input_.source.key)


def _refuse_damage(plan: JobPlan, result: ImageResult, name: str) -> None:
    if result.damage and plan.job.policies.strict:
        raise MediaError(
            "the image is damaged, and the job is strict",
            where=name,
            got=result.damage,
            next_step="leave out --strict to keep what decodes",
        )


def _receipt_of(
    task: StillsTask,
    still: Still,
    treatment: ImageTreatment,
    result: ImageResult,
    path: Path,
    seconds: float,
) -> OutputReceipt:
    return OutputReceipt(
        key=output_key(task.plan, still.input),
        job_id=task.plan.job.id,
        source=still.input.source.key,
        output=still.input.output_name,
        size_bytes=path.stat().st_size,
        sha256=digest_of(path),
        num_segments=1,
        num_frames=result.num_frames,
        damage=result.damage,
        missing=(),
        corrupt=(),
        errors=(),
        told=(*treatment.told, *result.told),
        psnr_db=result.psnr_db,
        seconds=seconds,
    )
