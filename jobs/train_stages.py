"""The stages of a training run as its spec has them: how long, what is made small, and against whom."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from cluster.storage.address import is_s3
from cluster.training.job import AskedStage, PixelStage, TeacherWeights
from jobs.kinds import Kinds, Part, one_of
from sr_core.classifier import CLASSIFIER
from sr_core.discriminators import DISCRIMINATORS
from sr_core.errors import SpecError
from sr_core.pretrained import BUNDLED
from sr_core.train.adversarial import AdversarialSettings
from sr_core.train.adversarial_stage import AdversarialStage, PerceptualTerm
from sr_core.train.elbo import ElboStage
from sr_core.train.game import Player
from sr_core.train.gan_stage import GanGame, GanStage
from sr_core.train.labels import LabelStage
from sr_core.train.losses import ADVERSARIAL_LOSSES, FEATURE_NETWORKS, PIXEL_LOSSES
from sr_core.train.schedule import Schedule
from sr_core.train.trainer import Stage
from sr_core.train.updates import AdamSettings, UpdateSettings

Stages = tuple[AskedStage, ...]

_RATES = UpdateSettings().learning_rates
_Rate = Annotated[float, Field(gt=0, le=1)]
_Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class PixelLosses:
    """How pixels are compared: the weight of each loss in the sum; 0 leaves it out.

    Attributes:
        l1: Mean absolute difference.
        mse: Mean squared difference.
        charbonnier: L1 without its corner at zero.
        ssim: 1 - SSIM.
        ms_ssim: 1 - SSIM at several scales.
        fft: Mean absolute difference of spectra.
    """

    l1: _Weight = 0
    mse: _Weight = 0
    charbonnier: _Weight = 0
    ssim: _Weight = 0
    ms_ssim: _Weight = 0
    fft: _Weight = 0

    def __post_init__(self) -> None:
        if not self.weights:
            raise SpecError("no loss has a weight above 0")

    @property
    def weights(self) -> tuple[tuple[str, float], ...]:
        """(name, weight) of those that count."""
        weights = ((loss.name, float(getattr(self, loss.name))) for loss in PIXEL_LOSSES)
        return tuple(each for each in weights if each[1])


@dataclass(frozen=True)
class LearningRates:
    """Of each player, before the schedule. A discriminator that learns faster is TTUR.

    Attributes:
        generator: Of the network that is trained.
        discriminator: Of its opponent.
    """

    generator: _Rate = _RATES[Player.GENERATOR]
    discriminator: _Rate = _RATES[Player.DISCRIMINATOR]

    def by_player(self) -> dict[Player, float]:
        """The same for the rules."""
        return {Player.GENERATOR: self.generator, Player.DISCRIMINATOR: self.discriminator}


def local_file(file: str) -> Path:
    """A file that every worker has at the same path.

    Raises:
        ValueError: It lies on S3.
    """
    if is_s3(file):
        raise ValueError("weights of losses and of LPIPS are read from local files, which every worker has")
    return Path(file).absolute()


def _place(text: str) -> str:
    """Weights as they mean the same in workers elsewhere; those of bundled models go by their names."""
    return text if text in BUNDLED or is_s3(text) else str(local_file(text))


_Place = Annotated[str, Field(min_length=1), AfterValidator(_place)]
_Teacher = Annotated[TeacherWeights, Part({"weights": _Place})]
_File = Annotated[str, Field(min_length=1), AfterValidator(local_file)]
_Perceptual = Annotated[
    PerceptualTerm,
    Part(
        {
            "network": one_of((*FEATURE_NETWORKS, CLASSIFIER)),
            "weights": _File | None,
            "lpips_heads": _File | None,
        }
    ),
]
_Updates = Annotated[
    UpdateSettings,
    Part(
        {
            "learning_rates": Annotated[LearningRates, Part(), AfterValidator(LearningRates.by_player)],
            "adam": AdamSettings,
        }
    ),
]
_Game = Annotated[
    AdversarialSettings,
    Part(
        {
            "loss": one_of(ADVERSARIAL_LOSSES),
            "discriminator": one_of(DISCRIMINATORS),
            "updates": _Updates,
        }
    ),
]
_GanGame = Annotated[GanGame, Part({"loss": one_of(ADVERSARIAL_LOSSES), "updates": _Updates})]


@dataclass(frozen=True)
class StageSpec(ABC):
    """What is asked of every stage.

    Attributes:
        images: Crops or pictures that are seen, over all workers.
        batch: The same in a batch, over all workers.
        ema: Decay of the average of weights, which is what is measured and kept.
        schedule: How learning rates go.
    """

    makes: ClassVar[type]

    images: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1, le=65536)] = 16
    ema: Annotated[float, Field(ge=0, lt=1)] = Stage.ema_decay
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        self.schedule.check_length(self.images)

    @property
    def length(self) -> Stage:
        """How long, how large and how fast, for the trainer."""
        return Stage(self.images, self.batch, self.schedule, self.ema)

    @property
    @abstractmethod
    def stage(self) -> AskedStage:
        """The same for the trainer."""


@dataclass(frozen=True)
class PixelStageSpec(StageSpec):
    """A stage that compares pixels.

    Attributes:
        losses: How pixels are compared; by default l1 alone.
        learning_rate: Of Adam, before the schedule.
        teacher: A network to learn from beside the truth, by the same losses; by default none.
    """

    makes = PixelStage

    images: Annotated[int, Field(ge=1)] = 1_000_000
    losses: PixelLosses = PixelLosses(l1=1)
    learning_rate: _Rate = PixelStage.learning_rate
    teacher: _Teacher | None = None

    @property
    def stage(self) -> PixelStage:
        """The same for the trainer."""
        return PixelStage(self.length, self.losses.weights, self.learning_rate, self.teacher)


@dataclass(frozen=True)
class AdversarialStageSpec(StageSpec):
    """A stage against a discriminator.

    Attributes:
        losses: How pixels are compared; by default l1 alone.
        perceptual: Losses beside those of pixels that compare what classifiers see.
        game: The discriminator, its loss, and how both are moved.
    """

    makes = AdversarialStage

    images: Annotated[int, Field(ge=1)] = 400_000
    losses: PixelLosses = PixelLosses(l1=1)
    perceptual: tuple[_Perceptual, ...] = ()
    game: _Game = field(default_factory=AdversarialSettings)

    @property
    def stage(self) -> AdversarialStage:
        """The same for the trainer."""
        return AdversarialStage(self.length, self.losses.weights, self.perceptual, self.game)


@dataclass(frozen=True)
class ElboStageSpec(StageSpec):
    """A stage that makes the negative evidence lower bound of a VAE small.

    Attributes:
        deviation: Of the normal distribution around each decoded value, which are 0 to 1. The smaller, the
            more faithful reconstructions are, and the less the codes are what images are drawn from.
        learning_rate: Of Adam, before the schedule.
    """

    makes = ElboStage

    images: Annotated[int, Field(ge=1)] = 500_000
    batch: Annotated[int, Field(ge=1, le=65536)] = 64
    deviation: Annotated[float, Field(gt=0, le=1)] = ElboStage.deviation
    learning_rate: _Rate = ElboStage.learning_rate

    @property
    def stage(self) -> ElboStage:
        """See `StageSpec`."""
        return ElboStage(self.length, self.deviation, self.learning_rate)


@dataclass(frozen=True)
class GanStageSpec(StageSpec):
    """A stage of a GAN against its discriminator.

    Attributes:
        game: The loss, and how both are moved.
    """

    makes = GanStage

    images: Annotated[int, Field(ge=1)] = 2_000_000
    batch: Annotated[int, Field(ge=1, le=65536)] = 64
    game: _GanGame = field(default_factory=GanGame)

    @property
    def stage(self) -> GanStage:
        """See `StageSpec`."""
        return GanStage(self.length, self.game)


@dataclass(frozen=True)
class LabelStageSpec(StageSpec):
    """A stage that makes the cross entropy of a classifier small.

    Attributes:
        label_smoothing: Share of each label that is spread over all classes.
        learning_rate: Of Adam, before the schedule.
    """

    makes = LabelStage

    images: Annotated[int, Field(ge=1)] = 200_000
    batch: Annotated[int, Field(ge=1, le=65536)] = 64
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = LabelStage.label_smoothing
    learning_rate: _Rate = LabelStage.learning_rate

    @property
    def stage(self) -> LabelStage:
        """See `StageSpec`."""
        return LabelStage(self.length, self.label_smoothing, self.learning_rate)


def _stage(_: str, asked: StageSpec) -> AskedStage:
    return asked.stage


STAGE_KINDS: dict[str, type[StageSpec]] = {
    "pixel": PixelStageSpec,
    "adversarial": AdversarialStageSpec,
    "elbo": ElboStageSpec,
    "gan": GanStageSpec,
    "cross-entropy": LabelStageSpec,
}

StageSection = Annotated[
    AskedStage,
    Kinds(
        "kind",
        "What is done: `pixel` compares what the network makes with the truth, `adversarial` trains it "
        "against a discriminator as well; `elbo` trains a VAE, `gan` a GAN, `cross-entropy` a classifier.",
        STAGE_KINDS,
        _stage,
    ),
]


def too_small_for_losses(stages: Stages, side_px: int) -> Iterator[tuple[str, str]]:
    """Losses that HR crops of this side are too small for, as (key, problem)."""
    smallest = {loss.name: loss.smallest_px for loss in PIXEL_LOSSES}
    for number, stage in enumerate(stages):
        for name, _ in stage.losses if isinstance(stage, PixelStage | AdversarialStage) else ():
            if side_px < smallest[name]:
                problem = f"needs HR crops of {smallest[name]} px, and these have {side_px}"
                yield f"stages.{number}.losses.{name}", problem
