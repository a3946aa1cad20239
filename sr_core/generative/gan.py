"""Unconditional convolutional GAN: noise to image by transposed convolutions, and the losses of both players.

Papers: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (DCGAN),
Radford et al. 2015 (arXiv:1511.06434); Generative Adversarial Networks, Goodfellow et al. 2014
(arXiv:1406.2661). The discriminator is `sr_core.discriminators.strided`, with the widths reversed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import StateDict
from sr_core.discriminators.strided import StridedConfig
from sr_core.family import Family
from sr_core.generative.generator import Generator

_FIRST_PX = 4


@dataclass(frozen=True)
class GanConfig:
    """Hyper-parameters; the image is 4 * 2 ** len(widths) pixels wide and high.

    Attributes:
        num_noise: Numbers of noise for one image.
        widths: Channels at 4x4 pixels and after each doubling but the last: four for 64 pixels, three for 32.
        num_channels: Channels of the images.
    """

    num_noise: int = 100
    widths: tuple[int, ...] = (512, 256, 128, 64)
    num_channels: int = 3

    @property
    def image_px(self) -> int:
        """Height and width of the images."""
        return _FIRST_PX << len(self.widths)

    @property
    def discriminator(self) -> StridedConfig:
        """Of its counterpart, which makes one logit of an image."""
        return StridedConfig(self.widths[::-1], self.num_channels)


class GanGenerator(Generator):
    """Transposed convolutions, the first to 4x4 pixels, the others doubling; batch norm and ReLU between."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.num_noise = config.num_noise
        self.num_channels = config.num_channels
        self.image_px = config.image_px
        widths = config.widths
        first = nn.ConvTranspose2d(config.num_noise, widths[0], _FIRST_PX, bias=False)
        self.stages = nn.ModuleList([nn.Sequential(first, nn.BatchNorm2d(widths[0]))])
        for before, after in itertools.pairwise(widths):
            doubling = nn.ConvTranspose2d(before, after, 4, 2, padding=1, bias=False)
            self.stages.append(nn.Sequential(doubling, nn.BatchNorm2d(after)))
        self.last = nn.ConvTranspose2d(widths[-1], config.num_channels, 4, 2, padding=1)

    def generate(self, noise: Tensor) -> Tensor:
        """Images from (B, num_noise) noise."""
        features = noise[..., None, None]
        for stage in self.stages:
            features = F.relu(stage(features))
        images: Tensor = self.last(features).tanh() / 2 + 0.5
        return images

    def forward(self, noise: Tensor) -> Tensor:
        """As `generate`."""
        return self.generate(noise)


def init_weights(network: nn.Module) -> None:
    """Draws the weights of a generator or discriminator as DCGAN does, with a deviation of 0.02."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)


def _config_of(state_dict: StateDict) -> GanConfig:
    num_noise = int(state_dict["stages.0.0.weight"].shape[0])
    num_stages = sum(key.startswith("stages.") and value.dim() == 4 for key, value in state_dict.items())
    widths = tuple(int(state_dict[f"stages.{index}.0.weight"].shape[1]) for index in range(num_stages))
    return GanConfig(num_noise, widths, int(state_dict["last.weight"].shape[1]))


GAN = Family(
    name="gan",
    paper="arXiv:1511.06434",
    first_key="stages.0.0.weight",
    config_of=_config_of,
    build=GanGenerator,
)
