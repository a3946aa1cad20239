"""Variational auto-encoder: images to a normal distribution of codes and back, and its loss.

Paper: Auto-Encoding Variational Bayes, Kingma and Welling 2013 (arXiv:1312.6114).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import StateDict
from sr_core.errors import SpecError
from sr_core.family import Family
from sr_core.generative.generator import Generator

_SLOPE = 0.2


@dataclass(frozen=True)
class VaeConfig:
    """Hyper-parameters.

    Attributes:
        num_latent: Numbers of a code.
        widths: Channels after each halving of the encoder; the decoder goes back through them.
        image_px: Height and width of the images, a multiple of 2 ** len(widths).
        num_channels: Channels of the images.
    """

    num_latent: int = 64
    widths: tuple[int, ...] = (32, 64, 128, 256)
    image_px: int = 64
    num_channels: int = 3

    def __post_init__(self) -> None:
        multiple = 1 << len(self.widths)
        if self.image_px < multiple or self.image_px % multiple:
            raise SpecError(
                "the encoder does not halve images of this size to the end",
                where="image_px",
                got=f"{self.image_px} px, halved {len(self.widths)} times",
                expected=f"a multiple of {multiple}",
            )

    @property
    def inner_px(self) -> int:
        """Height and width after all halvings."""
        return self.image_px >> len(self.widths)


class VaeOutput(NamedTuple):
    """What becomes of a batch of images.

    Attributes:
        images: Decoded from one code of each, 0..1, as the input in shape.
        mean: Of the codes' distribution, (B, num_latent).
        log_variance: Natural logarithm of its variance, the same shape.
    """

    images: Tensor
    mean: Tensor
    log_variance: Tensor


class Vae(Generator):
    """Strided convolutions and a dense layer to codes, the same backwards transposed; batch norm between."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.num_noise = config.num_latent
        self.num_channels = config.num_channels
        self.image_px = config.image_px
        self._inner = (config.widths[-1], config.inner_px, config.inner_px)
        num_inner = math.prod(self._inner)
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 4, 2, padding=1, bias=False), nn.BatchNorm2d(after))
            for before, after in itertools.pairwise((config.num_channels, *config.widths))
        )
        self.mean = nn.Linear(num_inner, config.num_latent)
        self.log_variance = nn.Linear(num_inner, config.num_latent)
        self.widen = nn.Linear(config.num_latent, num_inner)
        self.decoder = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(before, after, 4, 2, padding=1, bias=False), nn.BatchNorm2d(after)
            )
            for before, after in itertools.pairwise(config.widths[::-1])
        )
        self.last = nn.ConvTranspose2d(config.widths[0], config.num_channels, 4, 2, padding=1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the codes of (B, C, image_px, image_px) images of 0..1.

        Raises:
            SpecError: The images have another size.
        """
        if images.shape[-2:] != (self.image_px, self.image_px):
            raise SpecError(
                "The auto-encoder takes images of one size only",
                got=f"{images.shape[-1]}x{images.shape[-2]}",
                expected=f"{self.image_px}x{self.image_px}",
            )
        features = 2 * images - 1
        for stage in self.encoder:
            features = F.leaky_relu(stage(features), _SLOPE)
        flat = features.flatten(1)
        return self.mean(flat), self.log_variance(flat)

    def generate(self, noise: Tensor) -> Tensor:
        """The images of (B, num_latent) codes."""
        features = F.leaky_relu(self.widen(noise).unflatten(1, self._inner), _SLOPE)
        for stage in self.decoder:
            features = F.leaky_relu(stage(features), _SLOPE)
        images: Tensor = self.last(features).sigmoid()
        return images

    def forward(self, images: Tensor) -> VaeOutput:
        """As `reconstruct`, with noise of torch's own random numbers."""
        return self.reconstruct(images, torch.randn(len(images), self.num_noise, device=images.device))

    def reconstruct(self, images: Tensor, noise: Tensor) -> VaeOutput:
        """Encode, draw a code of each image's distribution with (B, num_latent) normal noise, decode.

        The draw is mean + deviation * noise (the reparametrisation), through which gradients reach both.
        """
        mean, log_variance = self.encode(images)
        code = mean + (log_variance / 2).exp() * noise
        return VaeOutput(self.generate(code), mean, log_variance)


@dataclass(frozen=True)
class NegativeElbo:
    """The negative evidence lower bound, in nats per image, mean of a batch.

    Attributes:
        reconstruction: -log p(image | code) without its constant: the squared error of an image, summed over
            its values, by twice the variance that the decoder is taken to have.
        divergence: KL divergence of the code's distribution from the standard normal one.
    """

    reconstruction: Tensor
    divergence: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.reconstruction + self.divergence


def negative_elbo(output: VaeOutput, images: Tensor, deviation: float = 0.1) -> NegativeElbo:
    """The loss of a batch.

    Args:
        output: Of the network for `images`.
        images: (B, C, h, w), 0..1.
        deviation: Of the normal distribution around a decoded value. The smaller, the more an exact image
            counts against codes that are normally distributed.
    """
    squares = (output.images - images).square().sum((1, 2, 3))
    divergence = (output.mean.square() + output.log_variance.exp() - 1 - output.log_variance).sum(1) / 2
    return NegativeElbo((squares / (2 * deviation**2)).mean(), divergence.mean())


def left_out_nats(num_values: int, deviation: float) -> float:
    """The constant that `NegativeElbo.reconstruction` is without: with it, deviations can be compared.

    That is the logarithm of what the density of a normal distribution is divided by, for so many values of an
    image. It is negative for small deviations: densities of values of 0..1 then are above 1.
    """
    return num_values * math.log(deviation * math.sqrt(2 * math.pi))


def _config_of(state_dict: StateDict) -> VaeConfig:
    num_stages = sum(key.startswith("encoder.") and value.dim() == 4 for key, value in state_dict.items())
    widths = tuple(int(state_dict[f"encoder.{index}.0.weight"].shape[0]) for index in range(num_stages))
    num_latent, num_inner = state_dict["mean.weight"].shape
    image_px = math.isqrt(num_inner // widths[-1]) << num_stages
    return VaeConfig(num_latent, widths, image_px, int(state_dict["encoder.0.0.weight"].shape[1]))


VAE = Family(
    name="vae",
    paper="arXiv:1312.6114",
    first_key="log_variance.weight",
    config_of=_config_of,
    build=Vae,
)
