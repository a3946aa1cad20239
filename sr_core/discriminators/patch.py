"""PatchGAN: each logit judges one patch of the image, 70x70 pixels with three stages.

Paper: Image-to-Image Translation with Conditional Adversarial Networks (pix2pix), Isola et al. 2016
(arXiv:1611.07004), section 6.1.2. Weights of the authors' layout load.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn

from sr_core.archs.arch import StateDict
from sr_core.discriminators.discriminator import Discriminator
from sr_core.family import Family

_KERNEL = 4
_MOST_WIDENING = 8


@dataclass(frozen=True)
class PatchConfig:
    """Hyper-parameters.

    Attributes:
        num_channels: Channels of the images; 6 where a condition is stacked on them.
        num_feat: Channels after the first convolution; they double, up to 8 times as many.
        num_stages: Convolutions of stride 2, from 1.
    """

    num_channels: int = 3
    num_feat: int = 64
    num_stages: int = 3

    @property
    def patch_px(self) -> int:
        """Height and width of the patch that one logit sees."""
        size = 1
        for stride in (1, 1, *(2,) * self.num_stages):
            size = (size - 1) * stride + _KERNEL
        return size


class PatchDiscriminator(Discriminator):
    """Convolutions of kernel 4: `num_stages` of stride 2, two of stride 1; batch norm but at the ends.

    The layers lie in one list `model`, as in the authors' weights.
    """

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        most = _MOST_WIDENING * config.num_feat
        widths = [min(config.num_feat << stage, most) for stage in range(config.num_stages + 1)]
        layers: list[nn.Module] = [
            nn.Conv2d(config.num_channels, widths[0], _KERNEL, 2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for stage, (before, after) in enumerate(itertools.pairwise(widths), start=1):
            stride = 2 if stage < config.num_stages else 1
            layers += [
                nn.Conv2d(before, after, _KERNEL, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, _KERNEL, 1, padding=1))
        self.model = nn.ModuleList(layers)

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps after each activation, and the logits, (B, 1, h', w') of overlapping patches."""
        # The authors' images are -1..1.
        maps, current = list[Tensor](), 2 * images - 1
        for layer in self.model:
            current = layer(current)
            if isinstance(layer, nn.LeakyReLU):
                maps.append(current)
        return [*maps, current]


def _config_of(state_dict: StateDict) -> PatchConfig:
    num_feat, num_channels = state_dict["model.0.weight"].shape[:2]
    num_convs = sum(value.dim() == 4 for value in state_dict.values())
    return PatchConfig(num_channels, num_feat, num_convs - 2)


PATCH = Family(
    name="patch",
    paper="arXiv:1611.07004",
    first_key="model.0.weight",
    config_of=_config_of,
    build=PatchDiscriminator,
)
