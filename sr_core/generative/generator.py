"""What makes images of noise promises, and drawing from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Generator(nn.Module, ABC):
    """Makes images of noise from a normal distribution of mean 0 and variance 1.

    Attributes:
        num_noise: Numbers of noise for one image.
        num_channels: Channels of the images: 1 is grey, 3 is R'G'B'.
        image_px: Height and width of the images.
    """

    num_noise: int
    num_channels: int
    image_px: int

    @abstractmethod
    def generate(self, noise: Tensor) -> Tensor:
        """(B, num_channels, image_px, image_px) images of 0..1 from (B, num_noise) noise."""


@torch.inference_mode()
def sample(generator: Generator, count: int, seed: int) -> Iterator[Tensor]:
    """Images of 0..1, (num_channels, image_px, image_px) each, one after the other.

    The same seed gives the same images on one kind of device. Each is made by itself, so that it does not
    depend on how many are asked for.

    Args:
        generator: In evaluation mode; its device makes the images, the noise always comes from the CPU.
        count: How many images.
        seed: 0 or more.
    """
    device = next(generator.parameters()).device
    random = torch.Generator("cpu").manual_seed(seed)
    for _ in range(count):
        noise = torch.randn(1, generator.num_noise, generator=random)
        yield generator.generate(noise.to(device))[0]
