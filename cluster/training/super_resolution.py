"""Training a super-resolution network on HR pictures and LR ones made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cluster.training.job import RecodedShare, TrainJob
from cluster.video.recode import recoded
from sr_core.archs.arch import ColorMode
from sr_core.archs.interpolation import Interpolation
from sr_core.errors import ModelError, SpecError
from sr_core.kernels import Kernel
from sr_core.metrics.lpips import load_lpips
from sr_core.train.adversarial_stage import AdversarialStage, adversarial_step, check_stage
from sr_core.train.adversarial_stage import Pictures as SeenPictures
from sr_core.train.crops import (
    Ahead,
    Crops,
    CropSettings,
    Pictures,
    batch_numbers,
    item_generator,
    unit_frames,
)
from sr_core.train.degradations.batch import degraded
from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.step import Batch, PixelStep, Step
from sr_core.train.trainer import Batches
from sr_core.train.validation import Figures, Pair, as_seen, measure

_LOADER_THREADS = 2
_AHEAD_BATCHES = 8


def refuse_misfits(job: TrainJob, group: Group) -> None:
    """Says what cannot be trained whatever the pictures are.

    Raises:
        SpecError: Single pictures do not train such a network, workers cannot share a batch evenly, or what
            a stage asks for does not fit or is missing.
        ModelError: Weights of a perceptual loss cannot be used.
    """
    facts = job.arch.facts(job.config)
    if facts.num_frames > 1 or facts.color_mode is ColorMode.YUV420:
        raise SpecError("single pictures do not train such a network", where=job.arch.name)
    for number, each in enumerate(job.stages):
        if each.stage.batch_size % group.size:
            raise SpecError(
                "a batch cannot be shared evenly",
                where=f"stage {number}",
                got=f"{each.stage.batch_size} images over {group.size} workers",
                expected="a multiple of the number of workers",
            )
        if isinstance(each, AdversarialStage):
            try:
                check_stage(each, _seen(job))
            except (SpecError, ModelError) as error:
                where = f"stages.{number}: {error.where}"
                raise type(error)(**{**error.fields(), "where": where}) from error


def _seen(job: TrainJob) -> SeenPictures:
    """What a discriminator sees."""
    facts = job.arch.facts(job.config)
    return SeenPictures(facts.color_mode.num_channels, job.lr_crop_px * facts.scale)


class SuperResolution:
    """The steps, batches and figures of a job on single pictures.

    Attributes:
        pictures: What it is trained on.
        pairs: What it is validated on.
    """

    def __init__(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> None:
        """Takes the two parts of the pictures."""
        self._job = job
        self._group = group
        self.pictures = training
        self._facts = job.arch.facts(job.config)
        self.pairs = self._pairs_of(validation)
        files = job.lpips if group.is_first else None
        self._lpips = None if files is None else load_lpips(files.weights, files.heads).to(group.device)

    def network(self) -> nn.Module:
        """The untrained one, of torch's own random numbers as they are."""
        return self._job.arch.build(self._job.config).to(self._group.device)

    def make_step(self, stage: int, network: nn.Module) -> Step[Batch]:
        """See `MakeStep`."""
        asked = self._job.stages[stage]
        group, numerics = self._group, self._job.numerics
        if isinstance(asked, AdversarialStage):
            return adversarial_step(
                asked, network, _seen(self._job), group, numerics, (self._job.seed, stage)
            )
        objective = WeightedLoss(pixel_terms(dict(asked.losses)))
        return PixelStep(network, objective, asked.learning_rate, group, numerics)

    def make_batches(self, stage: int, first: int) -> Batches[Batch]:
        """See `MakeBatches`."""
        mode, crops = self._facts.color_mode, self._crops(stage)

        def make(number: int) -> Batch:
            pair = self._pair(crops, stage, number)
            return Batch(number, as_seen(pair.lr_frame, mode), as_seen(pair.hr_frame, mode))

        return Ahead(make, first, _LOADER_THREADS, _AHEAD_BATCHES)

    def first_batch(self) -> Pair:
        """The crops that a run sees first, (B, 3, h, w) each, whatever the network sees of them."""
        return self._pair(self._crops(0), 0, 0)

    def _crops(self, stage: int) -> Crops:
        side_px = self._job.lr_crop_px * self._facts.scale
        settings = CropSettings(side_px, least_rescale=self._job.least_rescale)
        return Crops(self.pictures, settings, self._job.seed, stage)

    def _pair(self, crops: Crops, stage: int, number: int) -> Pair:
        """This worker's share of a batch, as R'G'B'."""
        job, group = self._job, self._group
        own_size = job.stages[stage].stage.batch_size // group.size
        items = batch_numbers(number, own_size, group.rank, group.size)
        hr_frames = unit_frames(crops.batch(items), group.device)
        return Pair(self._degraded(hr_frames, stage, items), hr_frames)

    def _degraded(self, hr_frames: Tensor, stage: int | str, items: Sequence[int]) -> Tensor:
        """LR frames of these items of a stage."""
        job = self._job
        generators = [item_generator(job.seed, stage, item, "degrade") for item in items]
        lr_frames = degraded(hr_frames, self._facts.scale, job.degradation, generators)
        if job.recoding is not None:
            for lr_frame, item in zip(lr_frames, items, strict=True):
                draw = item_generator(job.seed, stage, item, "recode")
                lr_frame[:] = _recoded(lr_frame, job.recoding, draw)
        return lr_frames

    def measure(self, network: nn.Module) -> Figures:
        """How good `network`, in evaluation mode, is on the pictures that were set aside."""
        return measure(network, self._facts.color_mode, self.pairs, self._facts.scale, self._lpips)

    def measure_bicubic(self) -> Figures:
        """The same for bicubic interpolation: a network that is worse has learnt nothing."""
        return self.measure(Interpolation(Kernel.BICUBIC, self._facts.scale))

    def _pairs_of(self, pictures: Pictures) -> list[Pair]:
        """LR and HR of the pictures to validate on, cropped to whole LR pixels."""
        pairs, multiple = [], self._facts.scale * self._facts.size_multiple
        for number, codes in enumerate(pictures):
            height, width = (side // multiple * multiple for side in codes.shape[-2:])
            hr_frame = unit_frames(codes[None, :, :height, :width], self._group.device)
            pairs.append(Pair(self._degraded(hr_frame, "validation", [number]), hr_frame))
        return pairs


def _recoded(lr_frame: Tensor, asked: RecodedShare, draw: torch.Generator) -> Tensor:
    """A (3, h, w) frame of 8-bit values, 0..1, as it comes back from a codec, if that is drawn."""
    if float(torch.rand((), generator=draw)) >= asked.share:
        return lr_frame
    codes = (lr_frame[None] * 255).round().byte()
    return recoded(codes.cpu(), asked.settings.drawn(draw))[0].float() / 255
