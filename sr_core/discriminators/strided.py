"""Strided-convolution discriminator: the counterpart of the deconvolution generator and of the GAN.

Paper: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (DCGAN),
Radford et al. 2015 (arXiv:1511.06434).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import StateDict
from sr_core.discriminators.discriminator import Discriminator
from sr_core.errors import SpecError
from sr_core.family import Family

_SLOPE = 0.2
_LAST_KERNEL = 4


@dataclass(frozen=True)
class StridedConfig:
    """Hyper-parameters.

    Attributes:
        widths: Channels after each convolution of stride 2.
        num_channels: Channels of the images.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    num_channels: int = 3

    @property
    def image_px(self) -> int:
        """Height and width of the smallest image that it takes, of which it makes a single logit."""
        return _LAST_KERNEL << len(self.widths)


class StridedDiscriminator(Discriminator):
    """Convolutions of stride 2 with batch norm in all but the first, then one of kernel 4 without padding."""

    def __init__(self, config: StridedConfig) -> None:
        super().__init__()
        self.image_px = config.image_px
        self.first = nn.Conv2d(config.num_channels, config.widths[0], 4, 2, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 4, 2, padding=1, bias=False), nn.BatchNorm2d(after))
            for before, after in itertools.pairwise(config.widths)
        )
        self.last = nn.Conv2d(config.widths[-1], 1, _LAST_KERNEL)

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps after each stage, and the logits, (B, 1, h', w'), of 1x1 for images of `image_px`.

        Raises:
            SpecError: The images are smaller than that.
        """
        if min(images.shape[-2:]) < self.image_px:
            raise SpecError(
                "The images are too small for this discriminator",
                got=f"{images.shape[-1]}x{images.shape[-2]}",
                expected=f"at least {self.image_px}x{self.image_px}",
                next_step="give it fewer stages, or larger images",
            )
        # Centred at 0, which the first layer has no batch norm to do.
        maps = [F.leaky_relu(self.first(2 * images - 1), _SLOPE)]
        for stage in self.stages:
            maps.append(F.leaky_relu(stage(maps[-1]), _SLOPE))
        return [*maps, self.last(maps[-1])]


def _config_of(state_dict: StateDict) -> StridedConfig:
    first, num_channels = state_dict["first.weight"].shape[:2]
    num_stages = sum(key.startswith("stages.") and value.dim() == 4 for key, value in state_dict.items())
    widths = (int(state_dict[f"stages.{index}.0.weight"].shape[0]) for index in range(num_stages))
    return StridedConfig((first, *widths), num_channels)


STRIDED = Family(
    name="strided",
    paper="arXiv:1511.06434",
    first_key="last.weight",
    config_of=_config_of,
    build=StridedDiscriminator,
)
