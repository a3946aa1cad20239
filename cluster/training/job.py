"""What a training run is asked to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

from cluster.places import place_of
from cluster.training.data import DataSettings
from cluster.training.split import SplitSettings
from cluster.video.recode import RecodingSettings
from sr_core.archs.arch import Arch
from sr_core.errors import SpecError
from sr_core.train.adversarial_stage import AdversarialStage
from sr_core.train.degradations.batch import Degradation
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.step import Numerics
from sr_core.train.trainer import Cadence, Stage
from sr_core.train.validation import Measure


@dataclass(frozen=True)
class PixelStage:
    """One stage that compares pixels.

    Attributes:
        stage: How long, how large and how fast.
        losses: Weight of each of `sr_core.train.losses.pixel.PIXEL_LOSSES` that counts.
        learning_rate: Of Adam, before the schedule.
    """

    stage: Stage
    losses: tuple[tuple[str, float], ...] = (("l1", 1.0),)
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class RecodedShare:
    """LR pictures that go through a video codec, each as a keyframe.

    Attributes:
        share: Of pictures, about; the others stay as they are.
        settings: How codecs and qualities are drawn.
    """

    share: float = 0.5
    settings: RecodingSettings = field(default_factory=RecodingSettings)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise SpecError(
                "this is no share of pictures",
                where="share",
                got=f"{self.share:g}",
                expected="above 0, and 1 at most",
            )


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
        arch: Name of one of `sr_core.archs.ARCHS`.
        config: Its hyper-parameters.
        data: Pictures to train and to validate on.
        validation: What of them is set aside.
        lpips: LPIPS is measured there with these; not measured without.
        best_by: What decides which weights are the best ones of a run.
        stages: One after the other.
        start: Path or S3 URL of weights of this network to start from, in place of random ones.
        lr_crop_px: Side of the LR crops.
        least_rescale: Pictures are shrunk by up to this before they are cropped, at random; 1 never.
        degradation: How LR crops are made.
        recoding: What becomes of some of them behind it, in training and validation.
        numerics: Precision, parts and clipping.
        cadence: How often things are done, in batches.
        seed: Of everything that is random.
    """

    output_url: str
    arch: Arch
    config: Any
    data: DataSettings
    stages: tuple[PixelStage | AdversarialStage, ...]
    validation: SplitSettings = field(default_factory=SplitSettings)
    lpips: LpipsFiles | None = None
    best_by: Measure = Measure.PSNR_Y
    start: str | None = None
    lr_crop_px: int = 48
    least_rescale: float = 1.0
    degradation: Degradation = field(default_factory=Bicubic)
    recoding: RecodedShare | None = None
    numerics: Numerics = field(default_factory=Numerics)
    cadence: Cadence = field(default_factory=Cadence)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lr_crop_px < 1 or not self.stages:
            raise SpecError(
                "there is nothing to train",
                got=f"{len(self.stages)} stages, crops of {self.lr_crop_px} px",
                expected="a stage at least, and crops with pixels",
            )
        for source in self.data.sources:
            if place_of(source).holds(place_of(self.output_url)):
                raise SpecError(
                    "the output lies among the pictures, and would be trained on",
                    where="output",
                    got=self.output_url,
                    expected=f"a place outside {source}",
                )
        if self.best_by is Measure.LPIPS and self.lpips is None:
            raise SpecError(
                "the best weights by LPIPS are asked for, which is not measured",
                where="best_by",
                next_step="name the files that LPIPS is measured with",
            )

    def recipe(self) -> dict[str, str]:
        """By name, what decides the weights beside pictures and the number of workers, as text.

        Where it lies and how often it is looked at does not: a run whose recipe is the same goes on.
        """
        named = {
            "arch": self.arch.name,
            "network": self.config,
            "start": place_of(self.start).name if self.start else "random weights",
            "crops.lr_px": self.lr_crop_px,
            "crops.least_rescale": self.least_rescale,
            "degradation": self.degradation,
            "recoding": self.recoding,
            "numerics": self.numerics,
            "seed": self.seed,
            "stages": self.stages,
        }
        return {name: text for key, value in named.items() for name, text in _leaves(key, value)}


def _leaves(name: str, value: object) -> Iterator[tuple[str, str]]:
    """What settings consist of, by dotted names; of files only their names, for cards are passed on."""
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
        yield name, value.name if isinstance(value, PurePath) else str(value)
