"""Training what makes images of noise, a VAE or a GAN, on pictures as people take them.

Both see a picture as a whole: a square of it, nearly the largest, shrunk to the size of the network's images.
A detail of a picture would be another kind of picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cluster.images.panel import Cell
from cluster.training.job import TrainJob
from cluster.training.tasks.families import FamilySettings, FamilyTask
from cluster.training.tasks.squares import (
    AHEAD_BATCHES,
    LOADER_THREADS,
    SquareSource,
    grid,
    num_in_grid,
)
from sr_core.card import Purpose
from sr_core.errors import SpecError
from sr_core.generative.gan import GAN, GanConfig, init_weights
from sr_core.generative.generator import Generator
from sr_core.generative.vae import VAE, Vae, VaeConfig, VaeOutput, left_out_nats, negative_elbo
from sr_core.metrics.psnr import psnr
from sr_core.metrics.sliced_wasserstein import SlicedWasserstein
from sr_core.train.crops import Ahead, Pictures, item_generator
from sr_core.train.elbo import ElboStage, elbo_step
from sr_core.train.gan_stage import GanStage, gan_step
from sr_core.train.group import Group
from sr_core.train.measures import Figures, Measure, in_words
from sr_core.train.step import Batch, Step
from sr_core.train.trainer import Batches

_MEASURED_AT_ONCE = 64

# Of a GAN: so many of its images are compared with as many squares of what was set aside.
_NUM_COMPARED = 512

_VALIDATION = "validation"
_TRAINING = "training as validation"


@dataclass(frozen=True)
class VaeSettings(FamilySettings):
    """A variational auto-encoder."""

    family = VAE
    purpose = Purpose.GENERATION

    config: VaeConfig = field(default_factory=VaeConfig)

    @property
    def side_px(self) -> int:
        """See `FamilySettings`."""
        return self.config.image_px

    @property
    def measures(self) -> tuple[Measure, ...]:
        """See `TaskSettings`."""
        return Measure.NEGATIVE_ELBO, Measure.PSNR

    def facts(self) -> Iterator[tuple[str, str]]:
        """See `TaskSettings`."""
        yield "network", f"{VAE.name}, {self.told_images} to and from {self.config.num_latent} numbers"

    def refuse_misfits(self, job: TrainJob, num_workers: int) -> None:
        """See `TaskSettings`."""
        self.refuse_other_channels()
        for number in range(len(job.stages)):
            _refuse_lone_images(job, number, num_workers)
            job.stage_of(number, ElboStage)

    def example(self, num_items: int) -> tuple[Tensor, ...]:
        """See `TaskSettings`."""
        return (torch.empty(num_items, self.config.num_channels, self.side_px, self.side_px),)

    def open(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> VaeTask:
        """See `TaskSettings`."""
        return VaeTask(self, job, group, training, validation)


class VaeTask(FamilyTask):
    """The steps, batches and figures of a job that trains an auto-encoder."""

    @property
    def _deviation(self) -> float:
        """That of the decoder that the run ends with."""
        return self.job.stage_of(len(self.job.stages) - 1, ElboStage).deviation

    def make_step(self, stage: int, network: nn.Module) -> Step[Batch]:
        """See `Task`."""
        asked = self.job.stage_of(stage, ElboStage)
        return elbo_step(asked, _vae(network), self.training.group, self.job.numerics)

    def make_batches(self, stage: int, first: int) -> Batches[Batch]:
        """See `Task`."""
        squares = self.training.squares(stage)

        def make(number: int) -> Batch:
            images = self.training.seen(squares.batch(self.training.items(stage, number)))
            return Batch(number, (images,), images)

        return Ahead(make, first, LOADER_THREADS, AHEAD_BATCHES)

    def baseline(self) -> str:
        """See `Task`: of a decoder that makes the mean of all pictures, and needs no code for it."""
        middles, mean = self.held_out.middles(), self.training.middles().mean(0, keepdim=True)
        nothing = middles.new_zeros(len(middles), 1)
        return (
            f"the mean picture: {in_words(self._figures(middles, mean.expand_as(middles), nothing, nothing))}"
        )

    @torch.inference_mode()
    def measure(self, network: nn.Module) -> Figures:
        """See `Task`: means over squares; codes are drawn with the same noise whenever it is measured."""
        vae, middles = _vae(network), self.held_out.middles()
        noise = _noise(len(middles), vae.num_noise, self.job.seed, middles.device)
        parts = zip(
            torch.split(middles, _MEASURED_AT_ONCE), torch.split(noise, _MEASURED_AT_ONCE), strict=True
        )
        outputs = [vae.reconstruct(*part) for part in parts]
        drawn, mean, log_variance = (torch.cat(each) for each in zip(*outputs, strict=True))
        decoded = torch.cat([vae.generate(each) for each in torch.split(mean, _MEASURED_AT_ONCE)])
        figures = dict(self._figures(middles, drawn, mean, log_variance))
        return figures | {Measure.PSNR: _mean_psnr(decoded, middles)}

    def _figures(self, truth: Tensor, images: Tensor, mean: Tensor, log_variance: Tensor) -> Figures:
        elbo = negative_elbo(VaeOutput(images, mean, log_variance), truth, self._deviation)
        nats = float(elbo.total) + left_out_nats(truth[0].numel(), self._deviation)
        return {Measure.NEGATIVE_ELBO: nats, Measure.PSNR: _mean_psnr(images, truth)}

    @torch.inference_mode()
    def rows(self, network: nn.Module) -> list[list[Cell]]:
        """See `Task`: what was set aside, what is left of it behind the codes, and images of noise."""
        vae = _vae(network)
        num_shown = num_in_grid(vae.image_px)
        middles = self.held_out.middles()[:num_shown]
        decoded = vae.generate(vae.encode(middles)[0])
        drawn = vae.generate(_noise(num_shown, vae.num_noise, self.job.seed, middles.device))
        return [
            [
                Cell("set aside", "", grid(middles)),
                Cell("reconstructed", f"{_mean_psnr(decoded, middles):.2f} dB", grid(decoded)),
                Cell("of noise", "", grid(drawn)),
            ]
        ]


@dataclass(frozen=True)
class GanSettings(FamilySettings):
    """A GAN: its generator, of whose hyper-parameters those of the discriminator follow."""

    family = GAN
    purpose = Purpose.GENERATION

    config: GanConfig = field(default_factory=GanConfig)

    @property
    def side_px(self) -> int:
        """See `FamilySettings`."""
        return self.config.image_px

    @property
    def measures(self) -> tuple[Measure, ...]:
        """See `TaskSettings`."""
        return (Measure.SLICED_WASSERSTEIN,)

    def facts(self) -> Iterator[tuple[str, str]]:
        """See `TaskSettings`."""
        yield "network", f"{GAN.name}, {self.told_images} from {self.config.num_noise} numbers"

    def refuse_misfits(self, job: TrainJob, num_workers: int) -> None:
        """See `TaskSettings`."""
        self.refuse_other_channels()
        for number in range(len(job.stages)):
            _refuse_lone_images(job, number, num_workers)
            job.stage_of(number, GanStage)

    def build(self) -> nn.Module:
        """See `TaskSettings`: with weights drawn as the paper has them."""
        network = super().build()
        init_weights(network)
        return network

    def example(self, num_items: int) -> tuple[Tensor, ...]:
        """See `TaskSettings`."""
        return (torch.empty(num_items, self.config.num_noise),)

    def open(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> GanTask:
        """See `TaskSettings`."""
        return GanTask(self, job, group, training, validation)


class GanTask(FamilyTask):
    """The steps, batches and figures of a job that trains a GAN."""

    def __init__(
        self, settings: GanSettings, job: TrainJob, group: Group, training: Pictures, validation: Pictures
    ) -> None:
        """Takes both parts of the pictures."""
        super().__init__(settings, job, group, training, validation)
        self._config = settings.config
        self._distance: SlicedWasserstein | None = None

    def make_step(self, stage: int, network: nn.Module) -> Step[Batch]:
        """See `Task`."""
        asked, job = self.job.stage_of(stage, GanStage), self.job
        return gan_step(asked, network, self._config, self.training.group, job.numerics, (job.seed, stage))

    def make_batches(self, stage: int, first: int) -> Batches[Batch]:
        """See `Task`: the noise of an image is its item's own, whichever worker draws it."""
        source, squares = self.training, self.training.squares(stage)
        num_noise, seed = self._config.num_noise, self.job.seed

        def make(number: int) -> Batch:
            items = source.items(stage, number)
            draws = [
                torch.randn(num_noise, generator=item_generator(seed, stage, item, "noise")) for item in items
            ]
            noise = torch.stack(draws).to(source.group.device)
            return Batch(number, (noise,), source.seen(squares.batch(items)))

        return Ahead(make, first, LOADER_THREADS, AHEAD_BATCHES)

    def baseline(self) -> str:
        """See `Task`: what is trained on in place of what is made, which is as near as one can hope for."""
        figures: Figures = {
            Measure.SLICED_WASSERSTEIN: self._to_held_out(self._true(self.training, _TRAINING))
        }
        return f"true pictures of those trained on: {in_words(figures)}"

    @torch.inference_mode()
    def measure(self, network: nn.Module) -> Figures:
        """See `Task`: of images of the same noise whenever it is measured."""
        images = _made(_generator(network), _NUM_COMPARED, self.job.seed, self.training.group.device)
        return {Measure.SLICED_WASSERSTEIN: self._to_held_out(images)}

    def _to_held_out(self, images: Tensor) -> float:
        """How far images are from squares of what was set aside, 0..1 both."""
        if self._distance is None:
            self._distance = SlicedWasserstein(self._true(self.held_out, _VALIDATION), self.job.seed)
        return self._distance(images)

    def _true(self, source: SquareSource, name: str) -> Tensor:
        """As many squares as images are compared with."""
        return source.seen(source.squares(name).batch(range(_NUM_COMPARED)))

    @torch.inference_mode()
    def rows(self, network: nn.Module) -> list[list[Cell]]:
        """See `Task`: images of noise, beside squares of what was set aside."""
        generator, held_out = _generator(network), self.held_out
        num_shown = num_in_grid(generator.image_px)
        made = _made(generator, num_shown, self.job.seed, held_out.group.device)
        true = held_out.seen(held_out.squares(_VALIDATION).batch(range(num_shown)))
        return [[Cell("of noise", "", grid(made)), Cell("set aside", "", grid(true))]]


def _refuse_lone_images(job: TrainJob, number: int, num_workers: int) -> None:
    """Batch normalisation needs two images at least, of each worker and part.

    Raises:
        SpecError: There are fewer.
    """
    batch_size, num_parts = job.stages[number].stage.batch_size, job.numerics.num_parts
    own_size = batch_size // num_workers
    part_size = max(1, -(-own_size // num_parts))
    # The last part has what the others leave.
    if min(part_size, own_size % part_size or part_size) < 2:
        raise SpecError(
            "batch normalisation needs two images at least in each part of a batch",
            where=f"stages.{number}.batch",
            got=f"{batch_size} images over {num_workers} workers, each in {num_parts} parts",
            next_step="change batch or numerics.parts",
        )


def _noise(num_images: int, num_noise: int, seed: int, device: torch.device) -> Tensor:
    """Of the images that are measured and looked at: always the same."""
    return torch.randn(num_images, num_noise, generator=item_generator(seed, _VALIDATION, 0, "noise")).to(
        device
    )


def _made(generator: Generator, num_images: int, seed: int, device: torch.device) -> Tensor:
    noise = _noise(num_images, generator.num_noise, seed, device)
    return torch.cat([generator.generate(each) for each in torch.split(noise, _MEASURED_AT_ONCE)])


def _mean_psnr(images: Tensor, truth: Tensor) -> float:
    """Mean over images, of 8-bit values."""
    codes = (images * 255).round() / 255
    return float(psnr(codes.double(), truth.double()).mean())


def _vae(network: nn.Module) -> Vae:
    if not isinstance(network, Vae):
        raise TypeError(f"{type(network).__name__} is no auto-encoder")
    return network


def _generator(network: nn.Module) -> Generator:
    if not isinstance(network, Generator):
        raise TypeError(f"{type(network).__name__} makes no images of noise")
    return network
