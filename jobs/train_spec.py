"""The spec of a training run: what a person asks for. As `jobs.spec`, it composes settings of the parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, WrapValidator, field_validator
from pydantic import model_validator as checks
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from cluster.job import SETTINGS
from cluster.storage.address import S3Settings, is_s3, with_settings
from cluster.training.data import DataSettings
from cluster.training.job import LpipsFiles, PixelStage, RecodedShare, TrainJob
from cluster.training.split import SplitSettings
from jobs.kinds import Kinds, checked
from sr_core.archs import ARCHS
from sr_core.archs.arch import Arch, ColorMode, ModelFacts
from sr_core.errors import SpecError
from sr_core.recognition import NO_SUCH_NETWORK
from sr_core.train.adversarial import AdversarialSettings
from sr_core.train.adversarial_stage import AdversarialStage, PerceptualTerm
from sr_core.train.degradations.batch import Degradation
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.degradations.bsrgan import Bsrgan
from sr_core.train.degradations.real_esrgan import SECOND_STAGE, RealEsrgan, StageSettings
from sr_core.train.game import Player
from sr_core.train.gem import GemSettings
from sr_core.train.losses.pixel import PIXEL_LOSSES
from sr_core.train.schedule import Schedule
from sr_core.train.step import Numerics
from sr_core.train.trainer import Cadence, Stage
from sr_core.train.updates import AdamSettings, RuleName, UpdateSettings
from sr_core.train.validation import Measure

_MIB = 1 << 20
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_TRIED_PX = 16
_FIRST_STAGE = StageSettings()
_GAME_KEYS = tuple(each.name for each in fields(AdversarialSettings) if each.name != "updates")


@plain_dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        arch: One of `ARCHS`.
        config: Its hyper-parameters, of its own type.
    """

    arch: Arch
    config: Any

    @property
    def facts(self) -> ModelFacts:
        """What is known of it without weights."""
        return self.arch.facts(self.config)


def network_of(name: str, config: object) -> Network:
    """The network of these hyper-parameters, which was built and run without memory to see that there is one.

    Raises:
        SpecError: There is none, or single pictures do not train it.
    """
    arch = next(arch for arch in ARCHS if arch.name == name)
    try:
        facts = arch.facts(config)
        with torch.device("meta"):
            built = arch.build(config)
        if facts.num_frames == 1:
            side_px = _TRIED_PX * facts.size_multiple
            built.to("meta")(torch.empty(1, facts.color_mode.num_channels, side_px, side_px, device="meta"))
    except NO_SUCH_NETWORK as error:
        reason = " ".join(str(error).split())[:300]
        raise SpecError("there is no such network", got=f"{type(error).__name__}: {reason}") from error
    if facts.num_frames > 1 or facts.color_mode is ColorMode.YUV420:
        raise SpecError("single pictures do not train this network", where="arch", got=name)
    return Network(arch, config)


@plain_dataclass(frozen=True)
class FirstOrder:
    """Blur, resize, noise and JPEG, drawn for each picture, as Real-ESRGAN's first round has them.

    Attributes:
        first: How they are drawn.
        final_sinc_probability: Of a sinc right after the resizing to the LR size.
        final_sinc_sides_px: Its least and largest side, both odd.
    """

    first: Annotated[StageSettings, WrapValidator(partial(checked, StageSettings))] = _FIRST_STAGE
    final_sinc_probability: float = 0.8
    final_sinc_sides_px: tuple[int, int] = (7, 21)

    @property
    def rounds(self) -> tuple[StageSettings, ...]:
        """In their order."""
        return (self.first,)


@plain_dataclass(frozen=True)
class SecondOrder(FirstOrder):
    """The same twice, as Real-ESRGAN has it.

    Attributes:
        first: How they are drawn the first time.
        final_sinc_probability: Of a sinc right after the resizing to the LR size.
        final_sinc_sides_px: Its least and largest side, both odd.
        second: How they are drawn the second time, by default more mildly. Where it is given, what it leaves
            out is as in the first round of the paper.
    """

    second: Annotated[StageSettings, WrapValidator(partial(checked, StageSettings))] = SECOND_STAGE

    @property
    def rounds(self) -> tuple[StageSettings, ...]:
        """In their order."""
        return (self.first, self.second)


def _degradation(_: str, settings: Bicubic | Bsrgan | FirstOrder) -> Degradation:
    if isinstance(settings, FirstOrder):
        return RealEsrgan(settings.rounds, settings.final_sinc_probability, settings.final_sinc_sides_px)
    return settings


NetworkSection = Annotated[
    Network,
    Kinds(
        "arch", "The architecture, one of `framelift models`.", {a.name: a.config for a in ARCHS}, network_of
    ),
]
DegradationSection = Annotated[
    Degradation,
    Kinds(
        "kind",
        "bicubic shrinks alone; first-order and second-order are Real-ESRGAN's, bsrgan is BSRGAN's.",
        {"bicubic": Bicubic, "first-order": FirstOrder, "second-order": SecondOrder, "bsrgan": Bsrgan},
        _degradation,
    ),
]


@dataclass(frozen=True, config=SETTINGS)
class DataSpec:
    """What is trained on.

    Attributes:
        train: Images, videos, or folders of them with all that lies below; also s3://bucket/prefix.
        frame_stride: Every so many frames of a video are taken.
        memory_mb: MiB that all pictures may take, 3 bytes a pixel; on each machine once for each worker.
    """

    train: tuple[str, ...] = Field(min_length=1)
    frame_stride: int = Field(default=24, ge=1)
    memory_mb: int = Field(default=4096, ge=1)


@dataclass(frozen=True, config=SETTINGS)
class ValidationSpec:
    """What is set aside to measure on: by content, near-duplicates together.

    Attributes:
        share: Of the pictures, about.
        most_different_bits: Up to so many of the 64 bits of their hashes, pictures are near-duplicates.
        lpips_weights: File with the weights of a classifier, to measure LPIPS as well.
        lpips_heads: File with LPIPS's weights of its features.
        best_by: What decides which weights are the best ones of a run.
    """

    share: float = Field(default=0.05, gt=0, lt=1)
    most_different_bits: int = Field(default=6, ge=0, le=20)
    lpips_weights: str | None = Field(default=None, min_length=1)
    lpips_heads: str | None = Field(default=None, min_length=1)
    best_by: Measure = Measure.PSNR_Y

    @checks(mode="after")
    def _lpips_is_whole(self) -> ValidationSpec:
        if (self.lpips_weights is None) != (self.lpips_heads is None):
            raise ValueError("LPIPS needs both lpips_weights and lpips_heads")
        if self.best_by is Measure.LPIPS and self.lpips is None:
            raise ValueError("best_by lpips needs lpips_weights and lpips_heads")
        return self

    @property
    def lpips(self) -> LpipsFiles | None:
        """The same for the trainer."""
        if self.lpips_weights is None or self.lpips_heads is None:
            return None
        return LpipsFiles(Path(self.lpips_weights).absolute(), Path(self.lpips_heads).absolute())


@dataclass(frozen=True, config=SETTINGS)
class CropSpec:
    """What of a picture is seen at once.

    Attributes:
        lr_px: Side of the crops that the network sees.
        least_rescale: Pictures are shrunk before by a factor drawn from here to 1; 1 leaves them as they are.
    """

    lr_px: int = Field(default=48, ge=8, le=1024)
    least_rescale: float = Field(default=1.0, gt=0, le=1)


@dataclass(frozen=True, config=SETTINGS)
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

    l1: float = Field(default=0, ge=0)
    mse: float = Field(default=0, ge=0)
    charbonnier: float = Field(default=0, ge=0)
    ssim: float = Field(default=0, ge=0)
    ms_ssim: float = Field(default=0, ge=0)
    fft: float = Field(default=0, ge=0)

    @checks(mode="after")
    def _counts(self) -> PixelLosses:
        if not self.weights:
            raise ValueError("no loss has a weight above 0")
        return self

    @property
    def weights(self) -> tuple[tuple[str, float], ...]:
        """(name, weight) of those that count."""
        weights = ((loss.name, float(getattr(self, loss.name))) for loss in PIXEL_LOSSES)
        return tuple(each for each in weights if each[1])


@dataclass(frozen=True, config=SETTINGS)
class PixelStageSpec:
    """A stage that compares pixels.

    Attributes:
        kind: What is done: `pixel` compares what the network makes with the truth, `adversarial` trains it
            against a discriminator as well.
        images: Crops that are seen, over all workers.
        batch: Crops in a batch, over all workers.
        losses: What is made small; by default l1 alone.
        learning_rate: Of Adam, before the schedule.
        ema: Decay of the average of weights, which is what is measured and kept.
        schedule: How the learning rate goes.
    """

    kind: Literal["pixel"]
    images: int = Field(default=1_000_000, ge=1)
    batch: int = Field(default=16, ge=1, le=65536)
    losses: PixelLosses = PixelLosses(l1=1)
    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    ema: float = Field(default=0.999, ge=0, lt=1)
    schedule: Annotated[Schedule, WrapValidator(partial(checked, Schedule))] = Schedule()

    @property
    def stage(self) -> PixelStage:
        """The same for the trainer."""
        stage = Stage(self.images, self.batch, self.schedule, self.ema)
        return PixelStage(stage, self.losses.weights, self.learning_rate)


@dataclass(frozen=True, config=SETTINGS)
class PerceptualSpec:
    """A loss between what a classifier sees in pictures.

    Attributes:
        weight: In the sum.
        network: The classifier; with lpips_heads, the files tell which it is.
        weights: File with its weights, on every worker; left out, vgg19 is torchvision's.
        lpips_heads: File with LPIPS's weights of its features: then the loss is LPIPS.
    """

    weight: float = Field(default=1.0, gt=0)
    network: Literal["squeezenet1_1", "alexnet", "vgg16", "vgg19"] = "vgg19"
    weights: str | None = Field(default=None, min_length=1)
    lpips_heads: str | None = Field(default=None, min_length=1)

    @property
    def term(self) -> PerceptualTerm:
        """The same for the trainer."""
        files = (None if file is None else Path(file).absolute() for file in (self.weights, self.lpips_heads))
        return PerceptualTerm(self.weight, self.network, *files)


@dataclass(frozen=True, config=SETTINGS)
class LearningRates:
    """Of each player, before the schedule. A discriminator that learns faster is TTUR.

    Attributes:
        generator: Of the network that is trained.
        discriminator: Of its opponent.
    """

    generator: float = Field(default=1e-4, gt=0, le=1)
    discriminator: float = Field(default=1e-4, gt=0, le=1)

    @property
    def by_player(self) -> dict[Player, float]:
        """The same for the rules."""
        return {Player.GENERATOR: self.generator, Player.DISCRIMINATOR: self.discriminator}


@dataclass(frozen=True, config=SETTINGS)
class UpdatesSpec:
    """How both players are moved.

    Attributes:
        rule: Alternating and simultaneous descent, optimistic descent, extragradient, or gem.
        learning_rates: Of each player, before the schedule.
        adam: What all rules but gem make directions with.
        gem: What gem does.
    """

    rule: RuleName = RuleName.ALTERNATING
    learning_rates: LearningRates = LearningRates()
    adam: Annotated[AdamSettings, WrapValidator(partial(checked, AdamSettings))] = AdamSettings()
    gem: Annotated[GemSettings, WrapValidator(partial(checked, GemSettings))] = GemSettings()

    @property
    def settings(self) -> UpdateSettings:
        """The same for the trainer."""
        return UpdateSettings(self.rule, self.learning_rates.by_player, adam=self.adam, gem=self.gem)


@dataclass(frozen=True, config=SETTINGS)
class GameSpec:
    """What the network plays against, and how.

    Attributes:
        loss: The adversarial loss.
        weight: Of the adversarial loss beside the others.
        discriminator: The opponent.
        num_feat: Its channels after the first convolution.
        is_conditional: Whether it sees LR pictures too, enlarged.
        feature_matching: Weight of the distance between its features of made and of true pictures.
        r1: Gamma of its penalty on true pictures; 0 for none.
        r2: The same on made pictures.
        updates: How both are moved.
        watch_batches: Over so many batches each, a collapse and drifting colours are watched for.
    """

    loss: Literal[
        "vanilla", "non_saturating", "least_squares", "hinge", "wasserstein", "relativistic_average"
    ] = "non_saturating"
    weight: float = Field(default=0.1, gt=0)
    discriminator: Literal["vgg", "patch", "unet", "strided"] = "unet"
    num_feat: int = Field(default=64, ge=1, le=4096)
    is_conditional: bool = False
    feature_matching: float = Field(default=0.0, ge=0)
    r1: float = Field(default=0.01, ge=0)
    r2: float = Field(default=0.0, ge=0)
    updates: UpdatesSpec = UpdatesSpec()
    watch_batches: int = Field(default=500, ge=1)

    @property
    def settings(self) -> AdversarialSettings:
        """The same for the trainer."""
        own = {name: getattr(self, name) for name in _GAME_KEYS}
        return AdversarialSettings(**own, updates=self.updates.settings)


@dataclass(frozen=True, config=SETTINGS)
class AdversarialStageSpec:
    """A stage against a discriminator.

    Attributes:
        kind: What is done: `pixel` compares what the network makes with the truth, `adversarial` trains it
            against a discriminator as well.
        images: Crops that are seen, over all workers.
        batch: Crops in a batch, over all workers.
        losses: How pixels are compared; by default l1 alone.
        perceptual: Losses beside them that compare what classifiers see.
        game: The discriminator, its loss, and how both are moved.
        ema: Decay of the average of weights, which is what is measured and kept.
        schedule: How the learning rates go.
    """

    kind: Literal["adversarial"]
    images: int = Field(default=400_000, ge=1)
    batch: int = Field(default=16, ge=1, le=65536)
    losses: PixelLosses = PixelLosses(l1=1)
    perceptual: tuple[PerceptualSpec, ...] = ()
    game: GameSpec = GameSpec()
    ema: float = Field(default=0.999, ge=0, lt=1)
    schedule: Annotated[Schedule, WrapValidator(partial(checked, Schedule))] = Schedule()

    @property
    def stage(self) -> AdversarialStage:
        """The same for the trainer."""
        stage = Stage(self.images, self.batch, self.schedule, self.ema)
        perceptual = tuple(each.term for each in self.perceptual)
        return AdversarialStage(stage, self.losses.weights, perceptual, self.game.settings)


StageSpec = Annotated[PixelStageSpec | AdversarialStageSpec, Field(discriminator="kind")]


@dataclass(frozen=True, config=SETTINGS)
class NumericsSpec:
    """In what numbers is computed.

    Attributes:
        precision: Of forward passes: fp32, bf16, fp16; weights and sums stay in fp32.
        parts: In how many parts a worker takes its batch, where memory is short.
        clip_norm: Gradients longer than this are shortened to it; by default none are.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    parts: int = Field(default=1, ge=1)
    clip_norm: float | None = Field(default=None, gt=0)


@dataclass(frozen=True, config=SETTINGS)
class CadenceSpec:
    """How often things are done, in batches.

    Attributes:
        log: The losses are told.
        validate: The network is measured, and its weights are kept.
        checkpoint: All is kept that is needed to go on from there.
        most_roll_backs: So often, a run may go back to its last checkpoint where a step was not finite.
    """

    log: int = Field(default=100, ge=1)
    validate: int = Field(default=5000, ge=1)
    checkpoint: int = Field(default=2000, ge=1)
    most_roll_backs: int = Field(default=3, ge=0)


@dataclass(frozen=True, config=SETTINGS)
class TrainWorkers:
    """Who trains.

    Attributes:
        count: Workers, which share every batch. Another number gives other weights.
        device: `auto` takes GPUs where there are any.
        cpus: CPU cores of each worker; by default an equal share.
        gpus: GPUs of each worker, 0 to 1; by default 1 on GPUs.
        start_seconds: How long to wait for machines that are still to come, as with an autoscaler.
    """

    count: int = Field(default=1, ge=1, le=10_000)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus: float | None = Field(default=None, gt=0)
    gpus: float | None = Field(default=None, ge=0, le=1)
    start_seconds: float | None = Field(default=None, gt=0)


class TrainSpec(BaseModel):
    """A run of `framelift train`: from pictures to the weights of a network.

    Every path may also be `s3://bucket/key`.

    Attributes:
        output: The folder for checkpoints and weights; the same command goes on from what lies there.
        network: The network and its hyper-parameters; by default that of the weights in start.
        start: Weights file of this network to start from, in place of random weights.
        data: What is trained on.
        validation: What is set aside to measure on.
        crops: What of a picture is seen at once.
        degradation: How LR crops are made of HR ones.
        recoding: Some of them go through a video codec after that; by default none do.
        stages: What is done, one stage after the other; each starts from the average of the last one.
        numerics: In what numbers is computed.
        cadence: How often things are done.
        workers: Who trains.
        max_failures: How often workers start again after one of them is lost.
        minutes: After so many, it stops with a checkpoint; the same command goes on. By default never.
        seed: Of everything that is random.
        storage: How the S3 stores of this spec are spoken to, unless an address has settings of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    output: str = Field(min_length=1)
    network: NetworkSection | None = None
    start: str | None = Field(default=None, min_length=1, validate_default=True)
    data: DataSpec
    validation: ValidationSpec = ValidationSpec()
    crops: CropSpec = CropSpec()
    degradation: DegradationSection = Field(default_factory=Bicubic)
    recoding: Annotated[RecodedShare, WrapValidator(partial(checked, RecodedShare))] | None = None
    stages: tuple[StageSpec, ...] = Field(
        default_factory=lambda: (PixelStageSpec(kind="pixel"),), min_length=1
    )
    numerics: NumericsSpec = NumericsSpec()
    cadence: CadenceSpec = CadenceSpec()
    workers: TrainWorkers = TrainWorkers()
    max_failures: int = Field(default=3, ge=0)
    minutes: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    storage: S3Settings = S3Settings()

    # Field validators rather than one for the whole: see `jobs.spec.UpscaleSpec`.
    @field_validator("output", "start")
    @classmethod
    def _is_address(cls, place: str | None, info: ValidationInfo) -> str | None:
        _refuse(_wrong_addresses(() if place is None else ((str(info.field_name), place),)))
        return place

    @field_validator("data")
    @classmethod
    def _are_addresses(cls, data: DataSpec) -> DataSpec:
        _refuse(_wrong_addresses((f"data.train.{n}", place) for n, place in enumerate(data.train)))
        return data

    @field_validator("start")
    @classmethod
    def _says_what(cls, start: str | None, info: ValidationInfo) -> str | None:
        if start is None and info.data.get("network", ...) is None:
            _refuse([("network", "missing, expected a network to train, or in start the weights of one")])
        return start

    @field_validator("crops")
    @classmethod
    def _crops_fit(cls, crops: CropSpec, info: ValidationInfo) -> CropSpec:
        network = info.data.get("network")
        if network is not None and crops.lr_px % network.facts.size_multiple:
            expected = f"a multiple of {network.facts.size_multiple} for {network.arch.name}"
            _refuse([("crops.lr_px", f"got {crops.lr_px}, expected {expected}")])
        return crops

    @field_validator("stages")
    @classmethod
    def _losses_fit(cls, stages: tuple[StageSpec, ...], info: ValidationInfo) -> Any:
        network, crops = info.data.get("network"), info.data.get("crops")
        if network is not None and crops is not None:
            _refuse(_too_small_for_losses(stages, crops.lr_px * network.facts.scale))
        return stages

    @field_validator("workers")
    @classmethod
    def _workers_fit(cls, workers: TrainWorkers, info: ValidationInfo) -> TrainWorkers:
        _refuse(_worker_misfits(workers, info.data.get("stages", ())))
        return workers

    @property
    def start_url(self) -> str | None:
        """Where the weights to start from lie, with how their store is spoken to."""
        return None if self.start is None else self._url(self.start)

    def _url(self, place: str) -> str:
        """A place of this spec, so that it means the same in workers elsewhere."""
        return with_settings(place, self.storage) if is_s3(place) else str(Path(place).absolute())

    def job(self, network: Network) -> TrainJob:
        """The same for the trainer.

        Args:
            network: That of this spec, or of the weights that it starts from.
        """
        return TrainJob(
            output_url=self._url(self.output),
            arch=network.arch,
            config=network.config,
            data=DataSettings(
                tuple(map(self._url, self.data.train)),
                least_side_px=self.crops.lr_px * network.facts.scale,
                frame_stride=self.data.frame_stride,
                most_bytes=self.data.memory_mb * _MIB,
            ),
            stages=tuple(each.stage for each in self.stages),
            validation=SplitSettings(self.validation.share, self.validation.most_different_bits),
            lpips=self.validation.lpips,
            best_by=self.validation.best_by,
            start=self.start_url,
            lr_crop_px=self.crops.lr_px,
            least_rescale=self.crops.least_rescale,
            degradation=self.degradation,
            recoding=self.recoding,
            numerics=Numerics(
                _DTYPES[self.numerics.precision], self.numerics.parts, self.numerics.clip_norm or math.inf
            ),
            cadence=Cadence(
                self.cadence.log,
                self.cadence.validate,
                self.cadence.checkpoint,
                self.cadence.most_roll_backs,
            ),
            seed=self.seed,
        )


def _wrong_addresses(places: Any) -> Iterator[tuple[str, str]]:
    for key, place in places:
        try:
            with_settings(place, S3Settings())
        except SpecError as error:
            yield key, str(error)


def _too_small_for_losses(stages: tuple[StageSpec, ...], side_px: int) -> Iterator[tuple[str, str]]:
    smallest = {loss.name: loss.smallest_px for loss in PIXEL_LOSSES}
    for number, stage in enumerate(stages):
        for name, _ in stage.losses.weights:
            if side_px < smallest[name]:
                problem = f"needs HR crops of {smallest[name]} px, and these have {side_px}"
                yield f"stages.{number}.losses.{name}", problem


def _worker_misfits(workers: TrainWorkers, stages: tuple[StageSpec, ...]) -> Iterator[tuple[str, str]]:
    if workers.device == "cpu" and workers.gpus:
        yield "workers.gpus", f"{workers.gpus:g} GPUs for each worker, but workers.device is cpu"
    if workers.device == "cuda" and workers.gpus == 0:
        yield "workers.gpus", "no GPU for a worker, but workers.device is cuda"
    if workers.count > 1 and workers.gpus not in (None, 0, 1):
        yield "workers.gpus", f"got {workers.gpus:g}, expected 0 or 1, as no two workers can share a GPU"
    for number, stage in enumerate(stages):
        if stage.batch % workers.count:
            expected = f"a multiple of {workers.count}, the number of workers"
            yield f"stages.{number}.batch", f"got {stage.batch}, expected {expected}"


def _refuse(misfits: Any) -> None:
    """Raises an error of several keys together, (key, problem) of each, if there are any."""
    found = tuple(misfits)
    if found:
        text = "; ".join(problem for _, problem in found)
        raise PydanticCustomError("misfits", "{text}", {"misfits": found, "text": text})
