"""What a training run is asked to do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from cluster.places import place_of
from cluster.training.data import DataSettings
from cluster.training.split import SplitSettings
from cluster.training.task import TaskSettings
from cluster.weights import opened_weights
from sr_core.errors import ModelError, SpecError
from sr_core.pretrained import BUNDLED
from sr_core.train.losses.weighted import check_weight
from sr_core.train.measures import Measure
from sr_core.train.step import Numerics
from sr_core.train.trainer import Cadence, Stage


class AskedStage(Protocol):
    """One stage, of a kind that the job's task knows: a frozen dataclass that travels to workers."""

    @property
    def stage(self) -> Stage:
        """How long, how large and how fast."""

    @property
    def learning_rate(self) -> float:
        """Of the network, before the schedule."""

    @property
    def goals(self) -> tuple[tuple[str, float], ...]:
        """All that the network makes small, in words, and the weight of each."""


S = TypeVar("S")

_TOLD_DIGITS = 16


@dataclass(frozen=True)
class TeacherWeights:
    """A network that is learnt from in a stage, as `sr_core.train.step.Teacher` has it.

    Attributes:
        weights: Path or S3 URL of its weights, or the name of a bundled model.
        weight: Of what differs from its pictures, beside what differs from the truth.
    """

    weights: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weight, "teacher.weight")


@dataclass(frozen=True)
class PixelStage:
    """One stage that compares pixels.

    Attributes:
        stage: How long, how large and how fast.
        losses: Weight of each of `sr_core.train.losses.pixel.PIXEL_LOSSES` that counts.
        learning_rate: Of Adam, before the schedule.
        teacher: A network to learn from beside the truth, by the same losses.
    """

    stage: Stage
    losses: tuple[tuple[str, float], ...] = (("l1", 1.0),)
    learning_rate: float = 5e-4
    teacher: TeacherWeights | None = None

    @property
    def goals(self) -> tuple[tuple[str, float], ...]:
        """See `AskedStage`."""
        if self.teacher is None:
            return self.losses
        return *self.losses, (f"the same to {place_of(self.teacher.weights).name}", self.teacher.weight)


@dataclass(frozen=True)
class LpipsFiles:
    """What LPIPS is measured with in validation.

    Attributes:
        weights: File with the weights of a classifier.
        heads: File with those of its features' channels.
    """

    weights: Path
    heads: Path


@dataclass(frozen=True)
class TrainJob:
    """What is trained, on what, and where it goes.

    Attributes:
        output_url: Of a store, for checkpoints, weights and the log.
        task: The network, and what it is to learn.
        data: Pictures to train and to validate on.
        stages: One after the other.
        validation: What of them is set aside.
        best_by: What decides which weights are the best ones of a run; the task's first measure if None.
        start: Path or S3 URL of weights of this network to start from, in place of random ones.
        numerics: Precision, parts and clipping.
        cadence: How often things are done, in batches.
        seed: Of everything that is random.
    """

    output_url: str
    task: TaskSettings
    data: DataSettings
    stages: tuple[AskedStage, ...]
    validation: SplitSettings = field(default_factory=SplitSettings)
    best_by: Measure | None = None
    start: str | None = None
    numerics: Numerics = field(default_factory=Numerics)
    cadence: Cadence = field(default_factory=Cadence)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise SpecError("there is nothing to train", where="stages", expected="a stage at least")
        for source in self.data.sources:
            if place_of(source).holds(place_of(self.output_url)):
                raise SpecError(
                    "the output lies among the pictures, and would be trained on",
                    where="output",
                    got=self.output_url,
                    expected=f"a place outside {source}",
                )
        if self.decisive not in self.task.measures:
            raise SpecError(
                "the best weights are asked for by what is not measured",
                where="best_by",
                got=self.decisive,
                expected=", ".join(self.task.measures),
                next_step="for lpips, name the files that it is measured with",
            )

    @property
    def decisive(self) -> Measure:
        """What decides which weights are the best ones."""
        return self.best_by or self.task.measures[0]

    def stage_of(self, number: int, kind: type[S]) -> S:
        """The stage of that number, which is of a kind that trains the network.

        Raises:
            SpecError: It is of another.
        """
        stage = self.stages[number]
        if not isinstance(stage, kind):
            raise SpecError(
                "such a stage does not train this network",
                where=f"stages.{number}",
                got=type(stage).__name__,
                expected=kind.__name__,
            )
        return stage

    def recipe(self) -> dict[str, str]:
        """By name, what decides the weights beside pictures and the number of workers, as text.

        Where it lies and how often it is looked at does not: a run whose recipe is the same goes on. Files
        of weights are read for it, as their content counts.

        Raises:
            StorageError: A store of weights refuses or fails.
        """
        named = {
            **self.task.recipe(),
            "start": _weights_told(self.start) if self.start else "random weights",
            "numerics": self.numerics,
            "seed": self.seed,
            "stages": self.stages,
        }
        return {name: text for key, value in named.items() for name, text in _leaves(key, value)}


def _leaves(name: str, value: object) -> Iterator[tuple[str, str]]:
    """What settings consist of, by dotted names; places without their folders, for cards are passed on.

    Texts with a slash are places of weights: of names that Framelift gives to things, none has one.
    """
    if is_dataclass(value):
        yield name, type(value).__name__
        for each in fields(value):
            yield from _leaves(f"{name}.{each.name}", getattr(value, each.name))
    elif isinstance(value, tuple) and any(is_dataclass(each) for each in value):
        yield name, str(len(value))
        for number, each in enumerate(value):
            yield from _leaves(f"{name}.{number}", each)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(f"{name}.{key}", each)
    else:
        text = str(value)
        yield name, _weights_told(text) if "/" in text else text


def _weights_told(url: str) -> str:
    """The name of a file of weights, and which content it has: all runs call theirs alike."""
    name = place_of(url).name if "/" in url else url
    try:
        with opened_weights(str(BUNDLED.get(url, url))) as path:
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (ModelError, OSError):
        return name  # whoever loads them says what is wrong
    return f"{name}, SHA-256 {digest[:_TOLD_DIGITS]}"
