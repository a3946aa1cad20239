"""A worker: one device, and what it keeps open between tasks."""

from __future__ import annotations

import logging
import platform
import tempfile
import traceback
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, Literal

import torch

from cluster.assemble import assemble
from cluster.estimate import calibrate
from cluster.memory import give_back
from cluster.plan import DeviceClass, JobPlan, SourceRef, Treatment, VideoPlan, plan_video
from cluster.segment import upscale_segment
from cluster.storage import open_storage
from cluster.storage.local import DISK_ERRNOS, storage_error
from cluster.tasks import AssembleTask, ProbeTask, Progress, SegmentTask, Task, TaskResult, input_of
from cluster.video.decode import VideoReader
from cluster.video.encode import check_encoder
from cluster.video.probe import probe
from sr_core.errors import FrameliftError, MediaError, ModelError, OutputError, WorkerError
from sr_core.model import Model, load_model
from sr_core.upscale import PRECISIONS, Upscaler

_log = logging.getLogger(__name__)


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
        self._reader: tuple[tuple[SourceRef, int], BinaryIO, VideoReader] | None = None

    def close(self) -> None:
        """Gives back what is open."""
        self._close_reader()

    def run(self, task: Task) -> Iterator[Progress | TaskResult | FrameliftError]:
        """Runs a task; the last item is its result, or the error that ended it."""
        try:
            yield from self._run(task)
        except FrameliftError as error:
            yield error
        except OSError as error:
            yield _of_os_error(error, task)
        except MemoryError as error:
            yield WorkerError("this machine ran out of memory", got=str(error))
        except torch.OutOfMemoryError as error:
            yield WorkerError("this device ran out of memory", got=str(error).splitlines()[0])
        except Exception as error:  # the worker's edge: whatever else fails is Framelift's fault
            _log.exception("task %s failed", task.id)
            where = traceback.extract_tb(error.__traceback__)[-1]
            yield OutputError(
                "Framelift failed",
                where=f"{where.filename}:{where.lineno}",
                got=f"{type(error).__name__}: {error}",
                next_step="this is a bug: please report it with the source, if you may share it",
            )

    def _run(self, task: Task) -> Iterator[Progress | TaskResult]:
        match task:
            case ProbeTask():
                yield self._plan(task)
                give_back()
            case SegmentTask():
                yield from self._upscale(task)
            case AssembleTask():
                self._close_reader()
                give_back()
                yield assemble(task, open_storage(task.output_url))
                give_back()

    def calibrate(self, plan: JobPlan, treatment: Treatment) -> dict[str, float]:
        """Seconds per frame by stage, from the first frames of one video."""
        upscaler = self._upscaler_for(plan, treatment.model_scale)
        reader = self._open_reader(treatment, plan.fixed.decoder_threads)
        with tempfile.TemporaryDirectory() as folder:
            seconds = calibrate(treatment, reader, upscaler, Path(folder) / "part")
        self._close_reader()
        return seconds

    def _plan(self, task: ProbeTask) -> VideoPlan:
        source = task.input.source
        with open_storage(source.store_url).open(source.key, source.version) as file:
            info, timeline = probe(file, source.key)
        model_scale = self._model(task.plan, None).facts.scale if task.plan.job.model.path else None
        video = plan_video(task.plan, task.input, info, timeline, model_scale, task.replaces)
        check_encoder(video.treatment.encode)
        return video

    def _upscale(self, task: SegmentTask) -> Iterator[Progress | TaskResult]:
        upscaler = self._upscaler_for(task.plan, task.treatment.model_scale)
        treatment = task.treatment
        yield from upscale_segment(
            task,
            lambda num_threads: self._open_reader(treatment, num_threads),
            upscaler,
            open_storage(task.output_url),
        )

    def _upscaler_for(self, plan: JobPlan, scale: int) -> Upscaler:
        """The engine for a job and a scale; what memory it once ran out of is forgotten for each segment."""
        model, fixed = self._model(plan, None if plan.job.model.path else scale), plan.fixed
        is_able = PRECISIONS[fixed.precision] in model.facts.dtypes
        precision = fixed.precision if is_able else "fp32"
        return Upscaler(model, self._device, precision, fixed.tile_px, fixed.batch_size)

    def _model(self, plan: JobPlan, scale: int | None) -> Model:
        reference = plan.job.model
        key = (reference.sha256 or reference.name, scale)
        if key not in self._models:
            model = load_model(reference.path or reference.name, scale)
            if reference.sha256 not in (None, model.weights_sha256):
                raise ModelError(
                    "the weights changed while the job ran",
                    where=reference.path or "",
                    got=f"SHA-256 {model.weights_sha256}",
                    expected=str(reference.sha256),
                    next_step="put the old weights back, or run the job again",
                )
            self._models[key] = model
        return self._models[key]

    def _open_reader(self, treatment: Treatment, num_threads: int) -> VideoReader:
        """The source's reader, which stays open for the neighbouring segments."""
        key = (treatment.input.source, num_threads)
        if self._reader is None or self._reader[0] != key:
            self._close_reader()
            source = treatment.input.source
            file = open_storage(source.store_url).open(source.key, source.version)
            self._reader = (key, file, VideoReader(file, treatment.video, num_threads, source.key))
        return self._reader[2]

    def _close_reader(self) -> None:
        if self._reader is not None:
            _, file, reader = self._reader
            reader.close()
            file.close()
            self._reader = None


def _of_os_error(error: OSError, task: Task) -> FrameliftError:
    """Whose fault an error of the operating system is: a disk that is full, or else a source that fails."""
    if error.errno in DISK_ERRNOS or isinstance(task, AssembleTask):
        return storage_error(error, str(error.filename or "scratch"))
    return MediaError("it cannot be read", where=input_of(task).source.key, got=error.strerror or str(error))


def _device_class(device: Literal["cpu", "cuda"]) -> DeviceClass:
    versions = {name: metadata.version(name) for name in ("framelift", "torch", "av", "numpy")}
    capability = torch.backends.cpu.get_cpu_capability()
    has_avx2 = capability in ("AVX2", "AVX512")
    name = torch.cuda.get_device_name(0) if device == "cuda" else f"{platform.machine()} {capability}"
    return DeviceClass(device, name, has_avx2, versions)
