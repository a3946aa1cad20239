"""What is kept of a run in its store: checkpoints, curves, weights with their cards, and what is told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from cluster.places import place_of
from cluster.storage import Storage
from cluster.training.checkpoints import Checkpoints
from cluster.training.curves import Curves
from cluster.training.job import TrainJob
from cluster.training.samples import Samples
from cluster.training.super_resolution import SuperResolution
from sr_core.card import Source, card_json, card_key, new_card, read_card
from sr_core.train.step import StepLog
from sr_core.train.trainer import Position
from sr_core.train.validation import Figures
from sr_core.weights import pack_weights

Tell = Callable[[str], None]

_VALIDATION = "validation"


class Record:
    """Keeps and tells what comes of a run; of several workers, the first has one."""

    def __init__(
        self, job: TrainJob, task: SuperResolution, storage: Storage, num_images: int, tell: Tell
    ) -> None:
        """Goes on where the run has seen `num_images`, which may be none."""
        self.told = tell
        self._job = job
        self._task = task
        self._storage = storage
        self._checkpoints = Checkpoints(storage, job.output_url)
        self._curves = Curves(storage, num_images)
        facts = job.arch.facts(job.config)
        self._samples = Samples(task.pairs, facts.color_mode, facts.scale)
        self._start_s = time.monotonic()
        self._best = self._stored_best(num_images)

    def log(self, position: Position, log: StepLog, share: float) -> None:
        """See `Watcher`."""
        rate = self._job.stages[position.stage].learning_rate * share
        losses = ", ".join(f"{name} {value:.5f}" for name, value in {**log.losses, **log.figures}.items())
        seconds = time.monotonic() - self._start_s
        self._curves.log(position, log, rate)
        self.told(f"{position.num_images} images, {seconds:.0f} s, learning rate {rate:.2e}: {losses}")

    def validate(self, position: Position, network: nn.Module) -> None:
        """See `Watcher`."""
        figures = self._task.measure(network)
        self._curves.figures(position, figures.numbers())
        self._curves.samples(position, self._samples.rows(network))
        self.told(f"{position.num_images} images: {figures} on {len(self._task.pairs)} pictures")
        self._put_weights("last.safetensors", position, network, figures)
        if self._best is None or figures.is_better(self._best, self._job.best_by):
            self._best = figures
            self._put_weights("best.safetensors", position, network, figures)

    def save(self, position: Position, state: dict[str, Any]) -> None:
        """See `Watcher`."""
        self._curves.flush()
        self._checkpoints.put(position.num_images, state)

    def close(self) -> None:
        """No more comes."""
        self._curves.close()

    def _stored_best(self, num_images: int) -> Figures | None:
        """Those of the best weights up to there; what came later comes again."""
        content, weights = (self._storage.get(f"best.{suffix}") for suffix in ("json", "safetensors"))
        if content is None or weights is None:
            return None
        card = read_card(content, f"{self._job.output_url}/best.json")
        numbers = card.figures.get(_VALIDATION, {})
        if (card.num_images or 0) > num_images or not {"psnr_y", "ssim_y"} <= numbers.keys():
            return None
        return Figures(numbers["psnr_y"], numbers["ssim_y"], numbers.get("lpips"))

    def _put_weights(self, name: str, position: Position, network: nn.Module, figures: Figures) -> None:
        """Weights that `framelift upscale` takes, and beside them their card."""
        card = replace(
            new_card(network, self._job.arch, self._job.config),
            sources=_sources(self._job, self._task.pictures.names),
            recipe=self._job.recipe(),
            num_images=position.num_images,
            figures={_VALIDATION: figures.numbers()},
        )
        self._storage.put(name, pack_weights(network, self._job.arch, self._job.config))
        self._storage.put(card_key(name), card_json(card))


def _sources(job: TrainJob, names: tuple[str, ...]) -> tuple[Source, ...]:
    """What is trained on, by the last part of the places that the job names: cards are passed on."""
    places = sorted(job.data.sources, key=len, reverse=True)
    counts = Counter(next((place for place in places if place in name), name) for name in names)
    return tuple(Source(place_of(place).name, counts[place]) for place in job.data.sources if counts[place])
