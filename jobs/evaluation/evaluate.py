"""The whole evaluation: every model on every data set, then table, JSON and plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from cluster.job import Job, ModelRef
from cluster.plan import FixedSettings, fix_settings
from cluster.weights import model_at
from cluster.worker import Worker
from jobs.device import device_here
from jobs.evaluation.crops import Gallery
from jobs.evaluation.data import Data, Picture, Stills, Video, open_data
from jobs.evaluation.figures import truth_of
from jobs.evaluation.measure import Candidate, Course, Motion
from jobs.evaluation.record import Environment, Record, write_json
from jobs.evaluation.request import REFERENCE, Protocol, Request
from jobs.evaluation.table import print_table
from sr_core.errors import SpecError
from sr_core.metrics.lpips import Lpips, load_lpips
from sr_core.model import Model
from sr_core.shrink import Degradation
from sr_core.upscale import PRECISIONS, Upscaler


def evaluate(request: Request) -> int:
    """Measures every model, and bicubic before them, on all data; prints the table and writes what is asked.

    Raises:
        SpecError: What is asked cannot be done, or a data set contradicts itself.
        ModelError: A model or the weights of LPIPS cannot be used.
        MediaError: A picture is damaged.
        OutputError: A network made values that are not finite.
        StorageError: A picture cannot be read, or a file not written.
    """
    request.check()
    all_data = _opened(request)
    fixed = _settings(request)
    lpips = load_lpips(*request.lpips).to(fixed.device_class.kind) if request.lpips else None
    candidates = _candidates(request, fixed, lpips)
    gallery = Gallery() if request.plot_path else None
    records = [record for data in all_data for record in _measured(data, candidates, request, lpips, gallery)]
    print_table(records, [sentence for data in all_data for sentence in data.told])
    if request.json_path:
        write_json(records, request.json_path)
    if gallery and request.plot_path:
        gallery.write(request.plot_path)
    return 0


def _opened(request: Request) -> list[Data]:
    found = [open_data(text, request.scale, request.degradation, request.num_frames) for text in request.data]
    for text, data in zip(request.data, found, strict=True):
        if data.is_paired and request.protocol is Protocol.Y:
            raise SpecError(
                "the y protocol makes its own LR luma", where=text, next_step="give the HR folder alone"
            )
        if data.is_paired and request.degradation is not Degradation.BICUBIC:
            raise SpecError(
                "LR images are given, so that none are made by a degradation",
                where=text,
                got=f"--degradation {request.degradation}",
                next_step="leave it out, or give the HR folder alone",
            )
        if isinstance(data, Stills):
            data.check()
    names = _distinct([data.name for data in found], request.data)
    return [replace(data, name=name) for data, name in zip(found, names, strict=True)]


def _distinct(short: Sequence[str], long: Sequence[str]) -> list[str]:
    """Each short name, or the long one where several have the same."""
    count = Counter(short)
    return [name if count[name] == 1 else other for name, other in zip(short, long, strict=True)]


def _settings(request: Request) -> FixedSettings:
    """Device, precision and tiles as `upscale` would choose them here."""
    worker = Worker(device_here(request.device), torch.get_num_threads())
    return fix_settings(Job(ModelRef(REFERENCE), engine=request.engine), worker.device_class)


def _candidates(request: Request, fixed: FixedSettings, lpips: Lpips | None) -> list[Candidate]:
    texts = list(dict.fromkeys((REFERENCE, *request.models)))
    names = _distinct([Path(text).name for text in texts], texts)
    models = [model_at(text, request.scale) for text in texts]
    return [_candidate(name, model, request, fixed, lpips) for name, model in zip(names, models, strict=True)]


def _candidate(
    name: str, model: Model, request: Request, fixed: FixedSettings, lpips: Lpips | None
) -> Candidate:
    precision = fixed.precision if PRECISIONS[fixed.precision] in model.facts.dtypes else "fp32"
    device_class = fixed.device_class
    environment = Environment(
        device=f"{device_class.kind} ({device_class.name})",
        precision=precision,
        protocol=request.protocol.value,
        lpips=lpips.backbone.name if lpips else None,
        versions=device_class.versions,
    )
    upscaler = Upscaler(model, device_class.kind, precision, fixed.tile_px, fixed.batch_size)
    return Candidate.of(name, upscaler, environment)


def _measured(
    data: Data,
    candidates: Sequence[Candidate],
    request: Request,
    lpips: Lpips | None,
    gallery: Gallery | None,
) -> list[Record]:
    """A record for each candidate on one data set, of which each picture is read once."""
    data = _with_context(data, candidates)
    courses = [Course(candidate, request.protocol, lpips) for candidate in candidates]
    truth_errors = list[float]()
    before: Picture | None = None
    for picture in _shown(data):
        motion = Motion.between(before.hr_frame, picture.hr_frame) if before else None
        if motion and before:
            truths = [truth_of(each, request.protocol) for each in (before, picture)]
            truth_errors.append(motion.error_of(*truths))
        for course in courses:
            course.add(picture, motion)
        if gallery:
            gallery.add(data.name, picture, courses)
        before = picture if isinstance(data, Video) else None
    return [course.record(data, truth_errors) for course in courses]


def _with_context(data: Data, candidates: Sequence[Candidate]) -> Data:
    """A video with as many neighbours of each frame as the candidates see."""
    if isinstance(data, Stills):
        return data
    facts = [candidate.upscaler.model.facts for candidate in candidates]
    context = (max(each.frames_before for each in facts), max(each.frames_after for each in facts))
    return replace(data, context=context)


def _shown(data: Data) -> Iterator[Picture]:
    """The pictures of a data set, with a line on the terminal that says how far it is."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(data.pictures(), total=data.num_pictures, description=data.name)
