"""VGG-style discriminator with a dense head, for images of one size.

Paper: Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network (SRGAN), Ledig et
al. 2016 (arXiv:1609.04802), figure 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import StateDict
from sr_core.discriminators.discriminator import Discriminator
from sr_core.errors import SpecError
from sr_core.family import Family

_SLOPE = 0.2
# (width in num_feat, stride) of the convolutions after the first.
_BLOCKS = ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
_SHRINKING = 16


@dataclass(frozen=True)
class VggConfig:
    """Hyper-parameters.

    Attributes:
        input_px: Height and width of the images, a multiple of 16; 96 in the paper.
        num_feat: Channels after the first convolution; the last has 8 times as many.
        num_hidden: Outputs of the first dense layer.
        num_channels: Channels of the images.
    """

    input_px: int = 96
    num_feat: int = 64
    num_hidden: int = 1024
    num_channels: int = 3


class VggDiscriminator(Discriminator):
    """Eight convolutions, every second of stride 2, batch norm in all but the first; two dense layers."""

    def __init__(self, config: VggConfig) -> None:
        super().__init__()
        self.input_px = config.input_px
        self.first = nn.Conv2d(config.num_channels, config.num_feat, 3, padding=1)
        blocks, before = list[nn.Module](), config.num_feat
        for width, stride in _BLOCKS:
            after = width * config.num_feat
            conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
            blocks.append(nn.Sequential(conv, nn.BatchNorm2d(after)))
            before = after
        self.blocks = nn.ModuleList(blocks)
        self.hidden = nn.Linear(before * (config.input_px // _SHRINKING) ** 2, config.num_hidden)
        self.head = nn.Linear(config.num_hidden, 1)

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps of all layers, the last being the logits, (B, 1).

        Raises:
            SpecError: The images have another size than `input_px`.
        """
        if images.shape[-2:] != (self.input_px, self.input_px):
            raise SpecError(
                "This discriminator takes images of one size only",
                got=f"{images.shape[-1]}x{images.shape[-2]}",
                expected=f"{self.input_px}x{self.input_px}",
                next_step="crop so, or choose patch, strided or unet",
            )
        maps = [F.leaky_relu(self.first(images), _SLOPE)]
        for block in self.blocks:
            maps.append(F.leaky_relu(block(maps[-1]), _SLOPE))
        maps.append(F.leaky_relu(self.hidden(maps[-1].flatten(1)), _SLOPE))
        return [*maps, self.head(maps[-1])]


def _config_of(state_dict: StateDict) -> VggConfig:
    num_feat, num_channels = state_dict["first.weight"].shape[:2]
    num_hidden, num_inputs = state_dict["hidden.weight"].shape
    side = math.isqrt(num_inputs // (8 * num_feat))
    return VggConfig(side * _SHRINKING, num_feat, num_hidden, num_channels)


VGG = Family(
    name="vgg",
    paper="arXiv:1609.04802",
    first_key="hidden.weight",
    config_of=_config_of,
    build=VggDiscriminator,
)
