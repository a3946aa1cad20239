"""What is kept of a run in its store: checkpoints, curves, weights with their cards, and what is told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from cluster.places import place_of
from cluster.storage import Storage
from cluster.training.checkpoints import Checkpoints
from cluster.training.curves import Curves
from cluster.training.job import TrainJob
from cluster.training.task import Task
from sr_core.card import Source, card_json, card_key
from sr_core.train.measures import Figures, in_words, is_better
from sr_core.train.step import StepLog
from sr_core.train.trainer import Position

Tell = Callable[[str], None]

_BEST = "best.safetensors"
_LAST = "last.safetensors"
_VALIDATION = "validation"


class Record:
    """Keeps and tells what comes of a run; of several workers, the first has one."""

    def __init__(
        self,
        job: TrainJob,
        task: Task,
        names: tuple[str, ...],
        storage: Storage,
        checkpoints: Checkpoints,
        state: Mapping[str, Any] | None,
        tell: Tell,
    ) -> None:
        """Goes on from the checkpoint that `state` is, if it is one.

        Args:
            job: What is done.
            task: It measures networks and shows what they make.
            names: Of the pictures that are trained on.
            storage: Where all is kept.
            checkpoints: Of the run, who has claimed them.
            state: As `save` kept it.
            tell: Gets sentences for the user.
        """
        self.tell = tell
        self._job = job
        self._task = task
        self._sources = _sources(job, names)
        self._recipe = job.recipe()
        self._storage = storage
        self._checkpoints = checkpoints
        self._curves = Curves(storage, 0 if state is None else Position(*state["position"]).num_images)
        self._start_s = time.monotonic()
        self._measured: tuple[int, Figures] = state.get("measured", (0, {})) if state else (0, {})
        # Of the weights up to the checkpoint; what came later comes again.
        self._best: Figures = state.get("best", {}) if state and storage.head(_BEST) else {}

    def log(self, position: Position, log: StepLog, share: float) -> None:
        """See `Watcher`."""
        rate = self._job.stages[position.stage].learning_rate * share
        losses = ", ".join(f"{name} {value:.5f}" for name, value in {**log.losses, **log.figures}.items())
        seconds = time.monotonic() - self._start_s
        self._curves.log(position, log, rate)
        self.tell(f"{position.num_images} images, {seconds:.0f} s, learning rate {rate:.2e}: {losses}")

    def validate(self, position: Position, network: nn.Module) -> None:
        """See `Watcher`."""
        self._checkpoints.refuse_if_lost()
        figures = {str(name): value for name, value in self._task.measure(network).items()}
        self._measured = (position.num_images, figures)
        self._curves.figures(position, figures)
        self._curves.samples(position, self._task.rows(network))
        self.tell(f"{position.num_images} images: {in_words(figures)}")
        if is_better(figures, self._best, self._job.decisive):
            self._best = figures
            self._put_weights(_BEST, position, network)

    def save(self, position: Position, state: dict[str, Any], network: nn.Module) -> None:
        """See `Watcher`."""
        self._checkpoints.refuse_if_lost()
        self._curves.flush()
        self._put_weights(_LAST, position, network)
        self._checkpoints.put(
            position.num_images, state | {"best": dict(self._best), "measured": self._measured}
        )

    def close(self) -> None:
        """No more comes."""
        self._curves.close()

    def _put_weights(self, name: str, position: Position, network: nn.Module) -> None:
        """Weights that can be used at once, and their card, with figures if these were measured."""
        num_images, figures = self._measured
        is_measured = figures and num_images == position.num_images
        card = replace(
            self._task.card(network),
            sources=self._sources,
            recipe=self._recipe,
            num_images=position.num_images,
            figures={_VALIDATION: dict(figures)} if is_measured else {},
        )
        self._storage.put(name, self._task.packed(network))
        self._storage.put(card_key(name), card_json(card))


def _sources(job: TrainJob, names: tuple[str, ...]) -> tuple[Source, ...]:
    """What is trained on, by the last part of the places that the job names: cards are passed on."""
    places = {source: place_of(source) for source in job.data.sources}
    nearest = sorted(places, key=lambda source: len(places[source].url), reverse=True)
    counts = Counter(next((each for each in nearest if places[each].url in name), name) for name in names)
    return tuple(Source(place.name, counts[source]) for source, place in places.items() if counts[source])
