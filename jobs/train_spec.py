"""The spec of a training run: what a person asks for. As `jobs.spec`, it composes settings of the parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, field, replace
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic import model_validator as checks
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from cluster.job import SETTINGS
from cluster.storage.address import S3Settings, is_s3, with_settings
from cluster.training.data import DataSettings
from cluster.training.job import AskedStage, LpipsFiles, PixelStage, TrainJob
from cluster.training.recoding import RecodedShare
from cluster.training.split import SplitSettings
from cluster.training.tasks.super_resolution import SuperResolutionSettings
from jobs.kinds import Kinds, Part
from jobs.train_stages import STAGE_KINDS, Stages, StageSection, local_file, too_small_for_losses
from jobs.train_tasks import TASK_KINDS, DepthKind, Network, network_of
from sr_core.archs.arch import Arch
from sr_core.errors import SpecError
from sr_core.pretrained import BUNDLED
from sr_core.train.degradations.batch import Degradation
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.degradations.bsrgan import Bsrgan
from sr_core.train.degradations.real_esrgan import SECOND_STAGE, RealEsrgan, StageSettings
from sr_core.train.measures import Measure
from sr_core.train.motion import MotionSettings
from sr_core.train.squares import SquareSettings
from sr_core.train.step import Numerics
from sr_core.train.trainer import Cadence

SOME_SECTIONS = ("crops", "degradation", "recoding", "motion", "squares")
"""Keys that mean something for some networks alone, in their order."""

_MIB = 1 << 20
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@plain_dataclass(frozen=True)
class FirstOrder:
    """Blur, resize, noise and JPEG, drawn for each picture, as Real-ESRGAN's first round has them.

    Attributes:
        first: How they are drawn.
        final_sinc_probability: Of a sinc right after the resizing to the LR size.
        final_sinc_sides_px: Its least and largest side, both odd.
    """

    first: StageSettings = field(default_factory=StageSettings)
    final_sinc_probability: float = RealEsrgan.final_sinc_probability
    final_sinc_sides_px: tuple[int, int] = RealEsrgan.final_sinc_sides_px

    @property
    def rounds(self) -> tuple[StageSettings, ...]:
        """In their order."""
        return (self.first,)


@plain_dataclass(frozen=True)
class SecondOrder(FirstOrder):
    """The same twice, as Real-ESRGAN has it.

    Attributes:
        first: How they are drawn the first time.
        second: How they are drawn the second time, by default more mildly. Where it is given, what it leaves
            out is as in the first round of the paper.
    """

    second: StageSettings = SECOND_STAGE

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
        "arch",
        "What is trained: an upscaler, one of `framelift models`; guided, which upscales depth maps; vae or "
        "gan, which make images of noise; classifier, which tells apart what lies in several folders.",
        {arch.name: keys for kind in TASK_KINDS for arch, keys in kind.networks},
        network_of,
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
        depth: For guided alone: folders of depth maps, one for each place of train and in their order, where
            each map has the place and name of its image, but for the suffix; grey images of 8 or 16 bits.
        frame_stride: Every so many frames of a video are taken; for networks that see several at once, a run
            of frames of one scene.
        memory_mb: MiB that all pictures may take, 3 bytes a pixel, of depth 5, and of runs 3 for each frame;
            on each machine once for each worker.
    """

    train: tuple[str, ...] = Field(min_length=1)
    depth: tuple[str, ...] = ()
    frame_stride: int = Field(default=DataSettings.frame_stride, ge=1)
    memory_mb: int = Field(default=DataSettings.most_bytes // _MIB, ge=1)


@dataclass(frozen=True, config=SETTINGS)
class ValidationSpec:
    """What is set aside to measure on: by content, near-duplicates together.

    Attributes:
        share: Of the pictures, about.
        most_different_bits: Up to so many of the 64 bits of their hashes, pictures are near-duplicates.
        lpips_weights: File with the weights of a classifier, to measure LPIPS as well.
        lpips_heads: File with LPIPS's weights of its features.
        best_by: What decides which weights are the best ones of a run: psnr_y, ssim_y or lpips of upscalers,
            psnr or mae of guided, negative_elbo or psnr of a VAE, sliced_wasserstein of a GAN, cross_entropy
            or accuracy of a classifier; by default the first of these.
    """

    share: float = Field(default=SplitSettings.validation_share, gt=0, lt=1)
    most_different_bits: int = Field(default=SplitSettings.most_different_bits, ge=0, le=20)
    lpips_weights: str | None = Field(default=None, min_length=1)
    lpips_heads: str | None = Field(default=None, min_length=1)
    best_by: Measure | None = None

    @checks(mode="after")
    def _lpips_is_whole(self) -> ValidationSpec:
        if (self.lpips_weights is None) != (self.lpips_heads is None):
            raise ValueError("LPIPS needs both lpips_weights and lpips_heads")
        for file in filter(None, (self.lpips_weights, self.lpips_heads)):
            local_file(file)
        if self.best_by is Measure.LPIPS and self.lpips is None:
            raise ValueError("best_by lpips needs lpips_weights and lpips_heads")
        return self

    @property
    def lpips(self) -> LpipsFiles | None:
        """The same for the trainer."""
        if self.lpips_weights is None or self.lpips_heads is None:
            return None
        return LpipsFiles(local_file(self.lpips_weights), local_file(self.lpips_heads))


@dataclass(frozen=True, config=SETTINGS)
class CropSpec:
    """What of a picture is seen at once.

    Attributes:
        lr_px: Side of the crops that the network sees.
        least_rescale: Pictures are shrunk before by a factor drawn from here to 1; 1 leaves them as they are,
            as depth maps must be.
    """

    lr_px: int = Field(default=SuperResolutionSettings.lr_crop_px, ge=8, le=1024)
    least_rescale: float = Field(default=SuperResolutionSettings.least_rescale, gt=0, le=1)


@dataclass(frozen=True, config=SETTINGS)
class NumericsSpec:
    """In what numbers is computed.

    Attributes:
        precision: Of forward passes: fp32, bf16, fp16; weights and sums stay in fp32.
        parts: In how many parts a worker takes its batch, where memory is short.
        clip_norm: Gradients longer than this are shortened to it; by default none are.
        channels_last: Whether values of a pixel lie side by side in memory, which tensor cores like.
        compile: Whether torch.compile makes faster code of the network, which takes a minute at first and a
            C++ compiler; the weights that come out differ in their last digits.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    parts: int = Field(default=Numerics.num_parts, ge=1)
    clip_norm: float | None = Field(default=None, gt=0)
    channels_last: bool = Numerics.is_channels_last
    compile: bool = Numerics.is_compiled

    @property
    def numerics(self) -> Numerics:
        """The same for the trainer."""
        return Numerics(
            _DTYPES[self.precision],
            self.parts,
            self.clip_norm or math.inf,
            is_channels_last=self.channels_last,
            is_compiled=self.compile,
        )


@dataclass(frozen=True, config=SETTINGS)
class CadenceSpec:
    """How often things are done, in batches.

    Attributes:
        log: The losses are told.
        validate: The network is measured, and its weights are kept.
        checkpoint: All is kept that is needed to go on from there.
        most_roll_backs: So often, a run may go back to its last checkpoint where a step was not finite.
    """

    log: int = Field(default=Cadence.log, ge=1)
    validate: int = Field(default=Cadence.validate, ge=1)
    checkpoint: int = Field(default=Cadence.checkpoint, ge=1)
    most_roll_backs: int = Field(default=Cadence.most_roll_backs, ge=0)


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

    Pictures, output, start and teachers may also be `s3://bucket/key`; files of losses and LPIPS are local.

    Attributes:
        output: The folder for checkpoints and weights; the same command goes on from what lies there.
        network: The network and its hyper-parameters; by default that of the weights in start.
        start: Weights file of this network to start from, in place of random weights.
        data: What is trained on.
        validation: What is set aside to measure on.
        crops: What upscalers see of a picture at once.
        degradation: How LR crops are made of HR ones.
        recoding: Some of them go through a video codec after that; by default none do. Of networks that see
            several frames, these go through it together.
        motion: How a camera moves over images to make clips of them, for networks that see several frames.
        squares: What a VAE, a GAN and a classifier see of a picture: most of it, shrunk.
        stages: What is done, one stage after the other; each starts from the average of the last one. By
            default a single one, as the network needs it.
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
    recoding: Annotated[RecodedShare, Part()] | None = None
    motion: Annotated[MotionSettings, Part()] = Field(default_factory=MotionSettings)
    squares: Annotated[SquareSettings, Part()] = Field(default_factory=SquareSettings)
    stages: tuple[StageSection, ...] | None = Field(default=None, min_length=1)
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
        for key, places in (("train", data.train), ("depth", data.depth)):
            _refuse(_wrong_addresses((f"data.{key}.{n}", place) for n, place in enumerate(places)))
        return data

    @field_validator("data")
    @classmethod
    def _depth_fits(cls, data: DataSpec, info: ValidationInfo) -> DataSpec:
        network = info.data.get("network")
        if network is not None:
            _refuse(_wrong_depth(data, network))
        return data

    @field_validator("start")
    @classmethod
    def _says_what(cls, start: str | None, info: ValidationInfo) -> str | None:
        if start is None and info.data.get("network", ...) is None:
            _refuse([("network", "missing, expected a network to train, or in start the weights of one")])
        return start

    @field_validator("validation")
    @classmethod
    def _measures_fit(cls, validation: ValidationSpec, info: ValidationInfo) -> ValidationSpec:
        network = info.data.get("network")
        if network is not None:
            _refuse(_wrong_measures(validation, network))
        return validation

    @field_validator(*SOME_SECTIONS)  # not asked where they are not given
    @classmethod
    def _is_meant(cls, section: Any, info: ValidationInfo) -> Any:
        network = info.data.get("network")
        if network is not None:
            _refuse(_meaningless((str(info.field_name),), network))
        return section

    @field_validator("crops")
    @classmethod
    def _crops_fit(cls, crops: CropSpec, info: ValidationInfo) -> CropSpec:
        network = info.data.get("network")
        if network is not None:
            _refuse(_wrong_crops(crops, network))
        return crops

    @field_validator("stages")
    @classmethod
    def _stages_fit(cls, stages: Stages | None, info: ValidationInfo) -> Stages | None:
        network, crops = info.data.get("network"), info.data.get("crops")
        if network is None or stages is None:
            return stages
        _refuse(_wrong_stages(stages, network))
        if crops is not None:
            _refuse(_wrong_losses(stages, crops, network))
        return stages

    @field_validator("workers")
    @classmethod
    def _workers_fit(cls, workers: TrainWorkers, info: ValidationInfo) -> TrainWorkers:
        network = info.data.get("network")
        default = () if network is None else (network.kind.default_stage.stage,)
        _refuse(_worker_misfits(workers, info.data.get("stages") or default))
        return workers

    @property
    def start_url(self) -> str | None:
        """Where the weights to start from lie, with how their store is spoken to."""
        return self.start if self.start is None or self.start in BUNDLED else self._url(self.start)

    def _url(self, place: str) -> str:
        """A place of this spec, so that it means the same in workers elsewhere."""
        return with_settings(place, self.storage) if is_s3(place) else str(Path(place).absolute())

    def _placed(self, stage: AskedStage) -> AskedStage:
        """A stage whose teacher's store is spoken to as all are."""
        if not isinstance(stage, PixelStage) or stage.teacher is None or not is_s3(stage.teacher.weights):
            return stage
        return replace(stage, teacher=replace(stage.teacher, weights=self._url(stage.teacher.weights)))

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the pictures lie."""
        return tuple(map(self._url, self.data.train))

    @property
    def depth_sources(self) -> tuple[str, ...]:
        """Where their depth maps lie."""
        return tuple(map(self._url, self.data.depth))

    def job(self, network: Network) -> TrainJob:
        """The same for the trainer.

        Args:
            network: That of this spec, or of the weights that it starts from.

        Raises:
            SpecError: What is asked for does not fit it.
            StorageError: What there is to learn depends on the pictures, and a store fails.
        """
        stages = self.stages or (network.kind.default_stage.stage,)
        if self.network is None:
            given = (name for name in SOME_SECTIONS if name in self.model_fields_set)
            for misfits in (
                _wrong_measures(self.validation, network),
                _meaningless(given, network),
                _wrong_depth(self.data, network),
                _wrong_crops(self.crops, network),
                _wrong_stages(stages, network),
                _wrong_losses(stages, self.crops, network),
            ):
                for key, problem in misfits:
                    raise SpecError(problem, where=key)
        return TrainJob(
            output_url=self._url(self.output),
            task=network.kind.settings(network, self),
            data=DataSettings(
                self.sources,
                least_side_px=network.kind.least_side_px(network, self),
                frame_stride=self.data.frame_stride,
                most_bytes=self.data.memory_mb * _MIB,
            ),
            stages=tuple(map(self._placed, stages)),
            validation=SplitSettings(self.validation.share, self.validation.most_different_bits),
            best_by=self.validation.best_by,
            start=self.start_url,
            numerics=self.numerics.numerics,
            cadence=Cadence(**asdict(self.cadence)),
            seed=self.seed,
        )


def _meaningless(sections: Iterable[str], network: Network) -> Iterator[tuple[str, str]]:
    """Sections that are given and mean nothing for the network."""
    for name in sections:
        if name not in network.kind.sections:
            fitting = [each for each in SOME_SECTIONS if each in network.kind.sections]
            expected = f"; its own: {', '.join(fitting)}" if fitting else ""
            yield name, f"this means nothing for {network.arch.name}{expected}"


def _wrong_depth(data: DataSpec, network: Network) -> Iterator[tuple[str, str]]:
    needs_depth = isinstance(network.kind, DepthKind)
    if data.depth and not needs_depth:
        yield "data.depth", f"this means nothing for {network.arch.name}"
    if needs_depth and len(data.depth) != len(data.train):
        expected = f"a folder of depth maps for each of the {len(data.train)} places of data.train"
        yield "data.depth", f"got {len(data.depth)}, expected {expected}"


def _wrong_crops(crops: CropSpec, network: Network) -> Iterator[tuple[str, str]]:
    if isinstance(network.kind, DepthKind) and crops.least_rescale < 1:
        yield "crops.least_rescale", "depth maps are not shrunk before they are cropped, expected 1"
    if isinstance(network.arch, Arch):
        multiple = network.arch.facts(network.config).size_multiple
        if crops.lr_px % multiple:
            yield (
                "crops.lr_px",
                f"got {crops.lr_px}, expected a multiple of {multiple} for {network.arch.name}",
            )


def _wrong_losses(stages: Stages, crops: CropSpec, network: Network) -> Iterator[tuple[str, str]]:
    scale = network.kind.scale(network.arch, network.config)
    if scale is not None:
        yield from too_small_for_losses(stages, crops.lr_px * scale)


def _wrong_measures(validation: ValidationSpec, network: Network) -> Iterator[tuple[str, str]]:
    measures = network.kind.measures
    if validation.lpips is not None and Measure.LPIPS not in measures:
        yield "validation.lpips_weights", f"LPIPS is not measured of {network.arch.name}"
    if validation.best_by is not None and validation.best_by not in measures:
        expected = f"{', '.join(measures)} for {network.arch.name}"
        yield "validation.best_by", f"got {validation.best_by.value}, expected {expected}"


def _wrong_stages(stages: Stages, network: Network) -> Iterator[tuple[str, str]]:
    fitting = [name for name, kind in STAGE_KINDS.items() if kind.makes in network.kind.stages]
    for number, stage in enumerate(stages):
        if type(stage) not in network.kind.stages:
            given = next(name for name, kind in STAGE_KINDS.items() if kind.makes is type(stage))
            expected = f"{' or '.join(fitting)} for {network.arch.name}"
            yield f"stages.{number}.kind", f"got {given}, expected {expected}"


def _wrong_addresses(places: Any) -> Iterator[tuple[str, str]]:
    for key, place in places:
        try:
            with_settings(place, S3Settings())
        except SpecError as error:
            yield key, str(error)


def _worker_misfits(workers: TrainWorkers, stages: Stages) -> Iterator[tuple[str, str]]:
    if workers.device == "cpu" and workers.gpus:
        yield "workers.gpus", f"{workers.gpus:g} GPUs for each worker, but workers.device is cpu"
    if workers.device == "cuda" and workers.gpus == 0:
        yield "workers.gpus", "no GPU for a worker, but workers.device is cuda"
    if workers.count > 1 and workers.gpus not in (None, 0, 1):
        yield "workers.gpus", f"got {workers.gpus:g}, expected 0 or 1, as no two workers can share a GPU"
    for number, size in enumerate(each.stage.batch_size for each in stages):
        if size % workers.count:
            expected = f"a multiple of {workers.count}, the number of workers"
            yield f"stages.{number}.batch", f"got {size}, expected {expected}"


def _refuse(misfits: Any) -> None:
    """Raises an error of several keys together, (key, problem) of each, if there are any."""
    found = tuple(misfits)
    if found:
        text = "; ".join(problem for _, problem in found)
        raise PydanticCustomError("misfits", "{text}", {"misfits": found, "text": text})
