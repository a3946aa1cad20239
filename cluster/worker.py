"""A worker: one device, and what it keeps open between tasks."""

from __future__ import annotations

import contextlib
import errno
import logging
import platform
import tempfile
import traceback
from collections.abc import Callable, Generator, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, Literal

import torch

from cluster.assemble import assemble
from cluster.estimate import calibrate
from cluster.images.info import is_image
from cluster.memory import give_back
from cluster.plan import (
    DeviceClass,
    Input,
    JobPlan,
    SequenceRef,
    SourceRef,
    StillPlan,
    Treatment,
    VideoPlan,
)
from cluster.plan_video import plan_video
from cluster.segment import Reader, upscale_segment
from cluster.sequences import refuse_empty
from cluster.stills import plan_still, upscale_still, upscale_stills
from cluster.storage import open_storage
from cluster.storage.disk import DISK_ERRNOS, disk_error
from cluster.tasks import (
    AssembleTask,
    OutputReceipt,
    ProbeTask,
    Progress,
    SegmentTask,
    Still,
    StillsDone,
    StillsTask,
    Task,
    TaskResult,
    inputs_of,
)
from cluster.video.decode import VideoReader
from cluster.video.encode import check_encoder
from cluster.video.info import DeinterlaceMode, SourceInfo
from cluster.video.probe import probe
from cluster.video.sequence import SequenceReader, probe_sequence
from cluster.video.timeline import Timeline
from cluster.weights import model_at
from sr_core.errors import (
    DiskError,
    FrameliftError,
    MediaError,
    ModelError,
    OutputError,
    SourceChanged,
    WorkerError,
)
from sr_core.memory import is_out_of_memory
from sr_core.model import Model, ModelFacts
from sr_core.upscale import PRECISIONS, Upscaler

_log = logging.getLogger(__name__)

_OF_THE_MACHINE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
_BYTES_DEPEND_ON = ("framelift", "torch", "av", "numpy", "pyvips", "pyvips-binary", "pillow")
_ALSO_IF_THERE = ("spandrel", "torchvision", "einops")


class Worker:
    """Runs tasks on one device, one at a time.

    Attributes:
        device_class: Of this machine and its libraries.
    """

    def __init__(self, device: Literal["cpu", "cuda"], num_threads: int) -> None:
        self._device = device
        torch.set_num_threads(num_threads)
        self.device_class = _device_class(device)
        self._models: dict[tuple[str, int | None], Model] = {}
        self._reader: tuple[tuple[SourceRef, int, DeinterlaceMode], BinaryIO, VideoReader] | None = None

    def close(self) -> None:
        """Gives back what is open."""
        self._close_reader()

    def run(self, task: Task) -> Iterator[Progress | TaskResult | FrameliftError]:
        """Runs a task; the last item is its result, or the error that ended it."""
        try:
            yield from self._run(task)
        except Exception as error:  # the worker's edge
            is_reading = not isinstance(task, AssembleTask)
            told = _told(error, inputs_of(task)[0].source.key if is_reading else "", task.id)
            yield told if isinstance(task, ProbeTask) else _of_this_machine(told, task.output_url)

    def _run(self, task: Task) -> Iterator[Progress | TaskResult]:
        match task:
            case ProbeTask():
                yield self._plan(task)
                give_back()
            case SegmentTask():
                yield from self._upscale(task)
            case StillsTask():
                yield from self._upscale_stills(task)
                give_back()
            case AssembleTask():
                self._close_reader()
                give_back()
                yield assemble(task, open_storage(task.output_url))
                give_back()

    def calibrate(self, plan: JobPlan, treatment: Treatment) -> dict[str, float]:
        """Seconds per frame by stage, from the first frames of one video."""
        upscaler = self._upscaler_for(plan, treatment.model_scale)
        reader = self._open_reader(treatment, plan.fixed.decoder_threads, treatment.deinterlace)
        with tempfile.TemporaryDirectory() as folder:
            seconds = calibrate(treatment, reader, upscaler, Path(folder) / "part")
        self._close_reader()
        return seconds

    def _plan(self, task: ProbeTask) -> VideoPlan | StillPlan:
        facts = self._weights_facts(task.plan)
        model_scale = facts.scale if facts else None
        if is_image(task.input.output_name):
            return plan_still(task.plan, task.input, model_scale)
        info, timeline = _probed(task.input)
        seen = (facts.frames_before, facts.frames_after) if facts else (0, 0)
        video = plan_video(task.plan, task.input, info, timeline, model_scale, task.replaces, seen=seen)
        check_encoder(video.treatment.encode)
        return video

    def _upscale(self, task: SegmentTask) -> Iterator[Progress | TaskResult]:
        upscaler = self._upscaler_for(task.plan, task.treatment.model_scale)
        treatment = task.treatment
        yield from upscale_segment(
            task,
            partial(self._open_reader, treatment),
            upscaler,
            open_storage(task.output_url),
        )

    def _upscale_stills(self, task: StillsTask) -> Iterator[Progress | StillsDone]:
        storage, facts = open_storage(task.output_url), self._weights_facts(task.plan)
        model_scale = facts.scale if facts else None
        upscaler_for = partial(self._upscaler_for, task.plan)

        def upscale(still: Still) -> Generator[None, None, OutputReceipt]:
            try:
                return (yield from upscale_still(task, still, model_scale, upscaler_for, storage))
            except Exception as error:
                told = _told(error, still.input.source.key, task.id)
                raise _of_this_machine(told, task.output_url) from error

        return upscale_stills(task, upscale, storage)

    def _weights_facts(self, plan: JobPlan) -> ModelFacts | None:
        """Of the job's weights; None for models that take any scale."""
        return self._model(plan, plan.job.scale).facts if plan.job.model.path else None

    def _upscaler_for(self, plan: JobPlan, scale: int) -> Upscaler:
        """The engine for a job and a scale; what memory it once ran out of is forgotten for each segment."""
        model, fixed = self._model(plan, plan.job.scale if plan.job.model.path else scale), plan.fixed
        is_able = PRECISIONS[fixed.precision] in model.facts.dtypes
        precision = fixed.precision if is_able else "fp32"
        return Upscaler(model, self._device, precision, fixed.tile_px, fixed.batch_size)

    def _model(self, plan: JobPlan, scale: int | None) -> Model:
        reference = plan.job.model
        key = (reference.weights_sha256 or reference.name, scale)
        if key not in self._models:
            model = model_at(reference.path or reference.name, scale, reference.blend)
            if reference.weights_sha256 not in (None, model.weights_sha256):
                raise ModelError(
                    "the weights changed while the job ran",
                    where=reference.path or "",
                    got=f"SHA-256 {model.weights_sha256}",
                    expected=str(reference.weights_sha256),
                    next_step="put the old weights back, or run the job again",
                )
            self._models[key] = model
        return self._models[key]

    def _open_reader(self, treatment: Treatment, num_threads: int, deinterlace: DeinterlaceMode) -> Reader:
        """The source's reader, which stays open for the neighbouring segments."""
        input_, source = treatment.input, treatment.input.source
        if input_.sequence is not None:
            return SequenceReader(_opener(input_, input_.sequence), input_.sequence.numbers, source.key)
        key = (source, num_threads, deinterlace)
        if self._reader is None or self._reader[0] != key:
            self._close_reader()
            file = open_storage(source.store_url).open(source.key, source.version)
            reader = VideoReader(file, treatment.video, num_threads, source.key, deinterlace)
            self._reader = (key, file, reader)
        return self._reader[2]

    def _close_reader(self) -> None:
        if self._reader is not None:
            _, file, reader = self._reader
            reader.close()
            file.close()
            self._reader = None


def _probed(input_: Input) -> tuple[SourceInfo, Timeline]:
    source, sequence = input_.source, input_.sequence
    refuse_empty(source)
    if sequence is not None:
        opener = _opener(input_, sequence)
        return probe_sequence(opener, sequence.numbers, sequence.frame_rate, source.key)
    with open_storage(source.store_url).open(source.key, source.version) as file:
        return probe(file, source.key)


def _opener(input_: Input, sequence: SequenceRef) -> Callable[[int], BinaryIO]:
    """Opens an image of a sequence by its number. Whether they changed is seen when work is committed."""
    storage = open_storage(input_.source.store_url)

    def open_frame(number: int) -> BinaryIO:
        info = storage.head(sequence.key(number))
        if info is None:
            raise SourceChanged("an image of this sequence is gone", where=sequence.key(number))
        return storage.open(info.key, info.version)

    return open_frame


def _told(error: Exception, source: str, task_id: str) -> FrameliftError:
    """Any error as one that says who must act.

    Args:
        source: What is being read; empty where nothing is, so that it cannot be at fault.
    """
    cause = error.__cause__ if isinstance(error, FrameliftError) else error
    # Also where FFmpeg had none, whatever it was at.
    if is_out_of_memory(cause) and not isinstance(error, WorkerError):
        said = str(cause).splitlines()[:1]
        return WorkerError("this machine ran out of memory", where=source, got="".join(said))
    match error:
        case FrameliftError():
            return error
        case OSError() if error.errno in _OF_THE_MACHINE:
            return WorkerError("this machine failed", got=error.strerror or str(error))
        case OSError() if error.errno in DISK_ERRNOS or not source or _is_scratch(str(error.filename)):
            return disk_error(error, str(error.filename or "scratch"))
        case OSError():
            return MediaError("it cannot be read", where=source, got=error.strerror or str(error))
        case torch.AcceleratorError():
            return WorkerError("this device failed", got=str(error).splitlines()[0])
    _log.error("task %s failed", task_id, exc_info=error)  # whatever else fails is Framelift's fault
    where = traceback.extract_tb(error.__traceback__)[-1]
    return OutputError(
        "Framelift failed",
        where=f"{where.filename}:{where.lineno}",
        got=f"{type(error).__name__}: {error}",
        next_step="this is a bug: please report it with the source, if you may share it",
    )


def _of_this_machine(error: FrameliftError, output_url: str) -> FrameliftError:
    """What is wrong with scratch as the machine's fault, where scratch is not on the store's own disk."""
    if not isinstance(error, DiskError) and not _is_scratch(error.where):
        return error
    if open_storage(output_url).is_on_scratch_disk:
        return error
    return WorkerError(
        f"this machine cannot keep what is on its way: {error.what}",
        where=error.where,
        got=error.got,
        expected=error.expected,
        next_step="see to the machine's disk, or have TMPDIR name one with room",
    )


def _is_scratch(place: str) -> bool:
    return place.startswith(tempfile.gettempdir())


def _device_class(device: Literal["cpu", "cuda"]) -> DeviceClass:
    versions = {name: metadata.version(name) for name in _BYTES_DEPEND_ON}
    for name in _ALSO_IF_THERE:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    capability = torch.backends.cpu.get_cpu_capability()
    has_avx2 = capability in ("AVX2", "AVX512")
    name = torch.cuda.get_device_name(0) if device == "cuda" else f"{platform.machine()} {capability}"
    return DeviceClass(device, name, has_avx2, versions)
