"""`framelift train --adapt`: a model that is better on one's own footage, or the word that it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass
from rich.table import Table
from rich.text import Text

from cluster.job import SETTINGS
from cluster.storage.address import S3Settings, is_s3, join_url, with_settings
from cluster.training import TrainJob, train
from cluster.training.adapt import (
    ADAPTED,
    Adaptable,
    Verdict,
    adaptable,
    footage_settings,
    job_of,
    judge,
    keep,
    with_footage,
)
from cluster.training.footage import Footage, read_footage
from jobs.device import device_here
from jobs.models import card_at
from jobs.outputs import refuse_existing
from jobs.pictures import write_png
from jobs.train import Stop
from jobs.train_view import TrainView
from jobs.view import console, printable
from sr_core.card import Card
from sr_core.errors import SpecError
from sr_core.kernels import Kernel
from sr_core.pretrained import BUNDLED, DEFAULTS
from sr_core.train.group import Group
from sr_core.train.measures import in_words

_DEFAULT_MODEL = DEFAULTS[2]


@dataclass(frozen=True, config=SETTINGS)
class AdaptWorkers:
    """Who trains, which is this process.

    Attributes:
        device: `auto` takes a GPU where there is one.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"


class AdaptSpec(BaseModel):
    """An adaptation, as flags give it.

    Attributes:
        output: The folder for the adapted model, and for the run that makes it.
        model: The model to adapt: a name, or weights.
        footage: Videos, images, or folders of them.
        minutes: Training stops after so many, and what was learnt by then is judged. By default it goes on to
            its end.
        seed: Of everything that is random.
        workers: Who trains.
        storage: How the S3 stores of these places are spoken to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    output: str = Field(min_length=1)
    model: str = Field(default=_DEFAULT_MODEL, min_length=1)
    footage: tuple[str, ...] = ()
    minutes: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    workers: AdaptWorkers = AdaptWorkers()
    storage: S3Settings = S3Settings()

    @field_validator("output", "model")
    @classmethod
    def _is_address(cls, place: str) -> str:
        try:
            with_settings(place, S3Settings())
        except SpecError as error:
            raise ValueError(str(error)) from error
        return place

    @property
    def output_url(self) -> str:
        """Where the output lies."""
        return self._url(self.output)

    @property
    def model_url(self) -> str:
        """The model's name, or where its weights lie."""
        is_name = not Path(self.model).suffix and "/" not in self.model
        return self.model if is_name else self._url(self.model)

    @property
    def footage_urls(self) -> tuple[str, ...]:
        """Where the footage lies."""
        return tuple(map(self._url, self.footage))

    def _url(self, place: str) -> str:
        return with_settings(place, self.storage) if is_s3(place) else str(Path(place).absolute())


def adapt(spec: AdaptSpec, *, is_plan: bool = False, sheet_path: Path | None = None) -> int:
    """Adapts a model to footage, and keeps what comes of it where it is better on frames that were held out.

    Args:
        spec: Which model, and to what.
        is_plan: Only say what would be done.
        sheet_path: Only write there what the first crops look like, as PNG.

    Returns:
        The exit code: 0 also where the model is as good as before, for that is an answer.

    Raises:
        FrameliftError: It cannot be done, or a step or a store ended it.
        KeyboardInterrupt: It was stopped, and what it was at is kept.
    """
    if sheet_path is not None:
        refuse_existing([sheet_path], overwrite=False)
    start = adaptable(spec.model_url, _card_of(spec.model_url))
    settings = footage_settings(start, spec.footage_urls, spec.seed)
    job = job_of(start, settings, spec.output_url)
    group = Group(device=torch.device(device_here(spec.workers.device)))
    with Stop(spec.minutes) as stop:
        with TrainView(stop) as view:
            footage = read_footage(settings, view.tell)
            job = with_footage(job, footage)
            if sheet_path is not None:
                _write_sheet(job, sheet_path)
            if is_plan:
                _show_plan(start, footage, job)
            if is_plan or sheet_path is not None:
                return 0
            is_done = train(job, group, view.counting(stop.is_over), view.tell)
        if not is_done and stop.is_asked:
            raise KeyboardInterrupt
    verdict = judge(start, footage, job, group.device)
    keep(start, job, verdict, spec.output_url)
    _tell(spec, verdict, len(footage.parts.confirming))
    if not is_done:
        print("its time was over; the same command goes on from there", file=sys.stderr)
    return 0


def _card_of(model_url: str) -> Card | None:
    """What is known of the model, if its card lies beside it."""
    return None if model_url in set(Kernel) else card_at(str(BUNDLED.get(model_url, model_url)))


def _write_sheet(job: TrainJob, path: Path) -> None:
    data = job.task.read(job.data)
    assert data.parts is not None, "footage comes in parts"
    training = data.pictures.only(data.parts.training)
    rows = job.task.open(job, Group(), training, data.pictures.only([])).sheet()
    write_png(path, tuple(torch.from_numpy(rows).permute(2, 0, 1)))


def _show_plan(start: Adaptable, footage: Footage, job: TrainJob) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, text in _facts(start, footage, job):
        table.add_row(Text(name), Text(printable(text)))
    console().print(table)


def _facts(start: Adaptable, footage: Footage, job: TrainJob) -> Iterator[tuple[str, str]]:
    """What would be done, as (name, text)."""
    parts, (asked,) = footage.parts, job.stages
    yield "model", f"{start.url}: {start.arch.name} x{start.model.facts.scale}"
    yield (
        "frames",
        (
            f"{len(parts.training)} to learn from, {len(parts.choosing)} to choose by, "
            f"{len(parts.confirming)} to confirm on, {footage.num_unused} too near to those"
        ),
    )
    if parts.are_alike:
        yield "held out", "near-duplicates of what is learnt from, as the footage is alike throughout"
    stage, rate = asked.stage, asked.learning_rate
    yield "training", f"{stage.num_images:,} images in batches of {stage.batch_size}, learning rate {rate:g}"
    yield "output", job.output_url


def _tell(spec: AdaptSpec, verdict: Verdict, num_confirming: int) -> None:
    """Says what came of it."""
    to = console()
    if verdict.share:
        to.print(Text(f"{verdict.share:.3g} of the new weights did best; on {num_confirming} other frames"))
        to.print(Text(f"  before: {in_words(verdict.before)}"))
        to.print(Text(f"  after:  {in_words(verdict.after)}"))
        gain = f"{verdict.gain_db:+.3f} dB, give or take {verdict.error_db:.3f}"
        to.print(Text(f"  gain:   {gain}; median {verdict.median_db:+.3f}"))
    if verdict.is_better:
        place = join_url(spec.output_url, ADAPTED)
        to.print(Text(f"done; the adapted model: {printable(place)}"), soft_wrap=True)
    else:
        to.print(Text("this model is already as good for this footage: nothing was written"))
