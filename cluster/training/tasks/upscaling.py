"""What training upscalers on pictures and on clips have in common: from HR frames to batches and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cluster.images.panel import Cell
from cluster.training.job import LpipsFiles, PixelStage, TrainJob
from cluster.training.recoding import RecodedShare
from cluster.training.samples import Samples
from cluster.weights import model_at
from sr_core.archs.arch import Arch, ColorMode, ModelFacts
from sr_core.archs.interpolation import Interpolation
from sr_core.card import Card, new_card
from sr_core.errors import ModelError, SpecError
from sr_core.kernels import Kernel
from sr_core.metrics.cost import num_macs
from sr_core.metrics.lpips import load_lpips
from sr_core.model import Model
from sr_core.train.adversarial_stage import AdversarialStage, Seen, adversarial_step, check_stage
from sr_core.train.clips import middle_frame
from sr_core.train.crops import Ahead, CropSettings, Pictures, batch_numbers, item_generator, unit_frames
from sr_core.train.degradations.batch import Degradation, degraded
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.degradations.sheet import sheet
from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.measures import Figures, Measure, in_words
from sr_core.train.step import Batch, PixelStep, Step, Teacher
from sr_core.train.trainer import Batches
from sr_core.train.validation import Pair, as_seen, measure
from sr_core.weights import pack_weights

_LOADER_THREADS = 2
_AHEAD_BATCHES = 8

# Larger pictures are measured in their middle: networks take these in one piece.
MOST_VALIDATION_PX = 1024


@dataclass(frozen=True)
class UpscalingSettings:
    """The network, and what LR crops are made of HR ones.

    Attributes:
        arch: One of `sr_core.archs.ARCHS`.
        config: Its hyper-parameters.
        lr_crop_px: Side of the LR crops.
        least_rescale: Pictures are shrunk by up to this before they are cropped, at random; 1 never.
        degradation: How LR crops are made.
        recoding: What becomes of some of them behind it, in training and validation.
        lpips: LPIPS is measured with these; not measured without.
    """

    arch: Arch
    config: Any
    lr_crop_px: int = 48
    least_rescale: float = 1.0
    degradation: Degradation = field(default_factory=Bicubic)
    recoding: RecodedShare | None = None
    lpips: LpipsFiles | None = None

    def __post_init__(self) -> None:
        if self.lr_crop_px < 1:
            raise SpecError(
                "crops must have pixels", where="crops.lr_px", got=str(self.lr_crop_px), expected="1 or more"
            )

    @property
    def network_facts(self) -> ModelFacts:
        """What the engine knows about the network."""
        return self.arch.facts(self.config)

    @property
    def hr_crops(self) -> CropSettings:
        """How HR crops are drawn."""
        return CropSettings(self.lr_crop_px * self.network_facts.scale, least_rescale=self.least_rescale)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """See `TaskSettings`."""
        return (Measure.PSNR_Y, Measure.SSIM_Y, *(() if self.lpips is None else (Measure.LPIPS,)))

    def recipe(self) -> Mapping[str, object]:
        """See `TaskSettings`."""
        return {
            "arch": self.arch.name,
            "network": self.config,
            "crops.lr_px": self.lr_crop_px,
            "crops.least_rescale": self.least_rescale,
            "degradation": self.degradation,
            "recoding": self.recoding,
        }

    def facts(self) -> Iterator[tuple[str, str]]:
        """See `TaskSettings`."""
        facts = self.network_facts
        num_multiply_adds = num_macs(Model(self.arch.build(self.config), facts, ""))
        frames = f", {facts.num_frames} frames" if facts.num_frames > 1 else ""
        yield "network", f"{self.arch.name}, scale {facts.scale}{frames}"
        yield "multiply-adds", f"{num_multiply_adds / 1e9:,.1f} G for an output of 1280x720"

    def refuse_misfits(self, job: TrainJob, num_workers: int) -> None:
        """See `TaskSettings`."""
        if self.network_facts.color_mode is ColorMode.YUV420:
            raise SpecError(
                "networks that see chroma at half the resolution cannot be trained",
                where=self.arch.name,
                got=f"colour mode {ColorMode.YUV420}",
                expected=f"{ColorMode.RGB} or {ColorMode.LUMA}",
            )
        for number, each in enumerate(job.stages):
            try:
                if isinstance(each, AdversarialStage):
                    check_stage(each, self.seen)
                else:
                    self.teacher_of(job.stage_of(number, PixelStage))
            except (SpecError, ModelError) as error:
                between = "." if isinstance(error, SpecError) else ": "
                where = f"stages.{number}{between}{error.where}"
                raise type(error)(**{**error.fields(), "where": where}) from error

    def teacher_of(self, asked: PixelStage) -> Teacher | None:
        """The network that a stage learns from beside the truth, if it asks for one, on the CPU.

        Raises:
            SpecError: It does not do what the network in training is to do.
            ModelError: Its weights cannot be used.
            StorageError: Their store refuses or fails.
        """
        if asked.teacher is None:
            return None
        model = model_at(asked.teacher.weights)
        own, other = (
            (each.scale, each.color_mode.value, each.num_frames) for each in (self.network_facts, model.facts)
        )
        if own != other:
            raise SpecError(
                "the teacher does something else than the network that is to learn from it",
                where="teacher.weights",
                got="scale {}, {} pictures, {} at once".format(*other),
                expected="scale {}, {} pictures, {} at once".format(*own),
            )
        if self.lr_crop_px % model.facts.size_multiple:
            raise SpecError(
                "the teacher does not take LR crops of this size",
                where="teacher.weights",
                got=f"{self.lr_crop_px} px",
                expected=f"a multiple of {model.facts.size_multiple} px",
                next_step="change crops.lr_px",
            )
        return Teacher(model.network, asked.teacher.weight)

    @property
    def seen(self) -> Seen:
        """What a discriminator sees."""
        return Seen(self.network_facts.color_mode.num_channels, self.hr_crops.side_px)

    def build(self) -> nn.Module:
        """See `TaskSettings`."""
        return self.arch.build(self.config)

    def weights_at(self, url: str) -> Mapping[str, Tensor]:
        """See `TaskSettings`."""
        model = model_at(url)
        if model.origin is None or model.origin.config != self.config:
            raise SpecError(
                "the weights to start from are of another network",
                where=url,
                got=str(model.origin.config if model.origin else "no weights"),
                expected=str(self.config),
                next_step="leave out network, and that of the weights is taken",
            )
        return model.network.state_dict()

    def example(self, num_items: int) -> tuple[Tensor, ...]:
        """See `TaskSettings`."""
        facts = self.network_facts
        windows = (facts.num_frames,) if facts.num_frames > 1 else ()
        size = (self.lr_crop_px, self.lr_crop_px)
        return (torch.empty(num_items, *windows, facts.color_mode.num_channels, *size),)


MakeHr = Callable[[Sequence[int]], Tensor]
"""HR crops of these numbers on the device, R'G'B' 0..1: (B, 3, H, W), or clips (B, T, 3, H, W)."""


class Footage(Protocol):
    """Where HR frames come from."""

    def crops(self, stage: int) -> MakeHr:
        """The items of a stage."""

    def whole(self, number: int, codes: Tensor) -> Tensor:
        """What is measured on of the picture that was set aside as that number: no crop, but HR all the same.

        Args:
            number: Of the picture.
            codes: Of it, (C, H, W) uint8.

        Returns:
            (3, H, W), or (T, 3, H, W), R'G'B' 0..1 of 8 bits, of sides that the network takes.
        """


@dataclass(frozen=True)
class _PairU8:
    """A `Pair` as it waits in memory: uint8 codes on the CPU."""

    lr_codes: Tensor
    hr_codes: Tensor

    def on(self, device: torch.device) -> Pair:
        """The pair to measure on."""
        return Pair(unit_frames(self.lr_codes, device), unit_frames(self.hr_codes, device))


class _BicubicOfMiddle(Interpolation):
    """Does without a network; of clips, without the frames around the middle one too."""

    def forward(self, lr_frames: Tensor) -> Tensor:
        """See `Interpolation`."""
        return super().forward(middle_frame(lr_frames))


class Upscaling:
    """The steps, batches and figures of a job that trains an upscaler."""

    def __init__(
        self, settings: UpscalingSettings, job: TrainJob, group: Group, footage: Footage, validation: Pictures
    ) -> None:
        """Takes what to train on, and the pictures that were set aside, which the first worker needs."""
        self._settings = settings
        self._job = job
        self._group = group
        self._footage = footage
        self._facts = settings.network_facts
        self._pairs = self._pairs_of(validation) if group.is_first else []
        files = settings.lpips if group.is_first else None
        self._lpips = None if files is None else load_lpips(files.weights, files.heads).to(group.device)
        self._samples: Samples | None = None

    def make_step(self, stage: int, network: nn.Module) -> Step[Batch]:
        """See `Task`."""
        job, group, numerics = self._job, self._group, self._job.numerics
        if isinstance(job.stages[stage], AdversarialStage):
            game, seed = job.stage_of(stage, AdversarialStage), (job.seed, stage)
            return adversarial_step(game, network, self._settings.seen, group, numerics, seed)
        asked = job.stage_of(stage, PixelStage)
        objective = WeightedLoss(pixel_terms(dict(asked.losses)))
        teacher = self._settings.teacher_of(asked)
        if teacher is not None:
            numerics.prepared(teacher.network.to(group.device))
        return PixelStep(network, objective, asked.learning_rate, group, numerics, teacher=teacher)

    def make_batches(self, stage: int, first: int) -> Batches[Batch]:
        """See `Task`."""
        mode, make_hr = self._facts.color_mode, self._footage.crops(stage)

        def make(number: int) -> Batch:
            lr_frames, hr_frames = self._frames(make_hr, stage, number)
            return Batch(number, (as_seen(lr_frames, mode),), as_seen(middle_frame(hr_frames), mode))

        return Ahead(make, first, _LOADER_THREADS, _AHEAD_BATCHES)

    def sheet(self) -> npt.NDArray[np.uint8]:
        """See `Task`: truth and what is made of it, side by side, whatever the network sees of them."""
        lr_frames, hr_frames = self._frames(self._footage.crops(0), 0, 0)
        num_frames = self._facts.num_frames
        if num_frames == 1:
            made = sheet(hr_frames, lr_frames)
        else:  # each row a clip
            made = sheet(hr_frames.flatten(0, 1), lr_frames.flatten(0, 1), num_frames)
        return made.permute(1, 2, 0).numpy()

    def _frames(self, make_hr: MakeHr, stage: int, number: int) -> tuple[Tensor, Tensor]:
        """LR and HR of this worker's share of a batch, as R'G'B'."""
        job, group = self._job, self._group
        own_size = job.stages[stage].stage.batch_size // group.size
        items = batch_numbers(number, own_size, group.rank, group.size)
        hr_frames = make_hr(items)
        return self._degraded(hr_frames, stage, items), hr_frames

    def _degraded(self, hr_frames: Tensor, stage: int | str, items: Sequence[int]) -> Tensor:
        """LR frames, or clips, of these items of a stage."""
        seed, recoding = self._job.seed, self._settings.recoding
        generators = [item_generator(seed, stage, item, "degrade") for item in items]
        lr_frames = degraded(hr_frames, self._facts.scale, self._settings.degradation, generators)
        if recoding is not None:
            for lr_clip, item in zip(lr_frames, items, strict=True):
                clip = lr_clip.view(-1, *lr_clip.shape[-3:])
                clip[:] = recoding.coded(clip, item_generator(seed, stage, item, "recode"))
        return lr_frames

    def baseline(self) -> str:
        """See `Task`."""
        figures = self.measure(_BicubicOfMiddle(Kernel.BICUBIC, self._facts.scale))
        return f"bicubic interpolation: {in_words(figures)}"

    def measure(self, network: nn.Module) -> Figures:
        """See `Task`."""
        pairs = (each.on(self._group.device) for each in self._pairs)
        return measure(network, self._facts.color_mode, pairs, self._facts.scale, self._lpips)

    def rows(self, network: nn.Module) -> list[list[Cell]]:
        """See `Task`: bicubic, what the network makes, and the truth."""
        if self._samples is None:
            pairs = [each.on(self._group.device) for each in self._pairs[: Samples.most_pictures]]
            self._samples = Samples(pairs, self._facts.color_mode, self._facts.scale)
        return self._samples.rows(network)

    def _pairs_of(self, pictures: Pictures) -> list[_PairU8]:
        """LR and HR of the pictures to validate on."""
        pairs = []
        for number, codes in enumerate(pictures):
            hr_frames = self._footage.whole(number, codes).to(self._group.device)[None]
            lr_frames = self._degraded(hr_frames, "validation", [number])
            pairs.append(_PairU8(_codes(lr_frames), _codes(middle_frame(hr_frames))))
        return pairs

    def packed(self, network: nn.Module) -> bytes:
        """See `Task`."""
        return pack_weights(network, self._settings.arch, self._settings.config)

    def card(self, network: nn.Module) -> Card:
        """See `Task`."""
        return new_card(network, self._settings.arch, self._settings.config)


def _codes(frames: Tensor) -> Tensor:
    """Frames of 8-bit values as such."""
    return (frames * 255).round().byte().cpu()
