"""U-Net discriminator with spectral normalisation: a logit for every pixel.

Papers: Real-ESRGAN, Wang et al. 2021 (arXiv:2107.10833), section 3.3, whose weights load; the idea is from A
U-Net Based Discriminator for Generative Adversarial Networks, Schönfeld et al. 2020 (arXiv:2002.12655), the
normalisation from Spectral Normalization for GANs, Miyato et al. 2018 (arXiv:1802.05957).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from sr_core.archs.arch import StateDict
from sr_core.discriminators.discriminator import Discriminator
from sr_core.family import Family


@dataclass(frozen=True)
class UnetConfig:
    """Hyper-parameters.

    Attributes:
        num_channels: Channels of the images.
        num_feat: Channels at full resolution; they double with each of the three halvings.
    """

    num_channels: int = 3
    num_feat: int = 64


class UnetDiscriminator(Discriminator):
    """Three halvings, three bilinear doublings with the maps before the halvings added, three convolutions.

    Any size of image will do; the keys are those of the published weights.
    """

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        width = config.num_feat
        self.conv0 = nn.Conv2d(config.num_channels, width, 3, padding=1)
        self.conv1 = _halving(width)
        self.conv2 = _halving(2 * width)
        self.conv3 = _halving(4 * width)
        self.conv4 = _normed(8 * width, 4 * width)
        self.conv5 = _normed(4 * width, 2 * width)
        self.conv6 = _normed(2 * width, width)
        self.conv7 = _normed(width, width)
        self.conv8 = _normed(width, width)
        self.conv9 = nn.Conv2d(width, 1, 3, padding=1)

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps on the way down, up and at the end; the last is the logits, (B, 1, h, w)."""
        maps = [_leaky(self.conv0(images))]
        for conv in (self.conv1, self.conv2, self.conv3):
            maps.append(_leaky(conv(maps[-1])))
        for conv, skip in zip((self.conv4, self.conv5, self.conv6), maps[2::-1], strict=True):
            # To the skip's own size: twice the map's would not fit where a size is no multiple of 8.
            enlarged = F.interpolate(maps[-1], skip.shape[-2:], mode="bilinear", align_corners=False)
            maps.append(_leaky(conv(enlarged)) + skip)
        for conv in (self.conv7, self.conv8):
            maps.append(_leaky(conv(maps[-1])))
        return [*maps, self.conv9(maps[-1])]


def _leaky(values: Tensor) -> Tensor:
    return F.leaky_relu(values, 0.2)


def _halving(width: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, padding=1, bias=False))


def _normed(before: int, after: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, 3, padding=1, bias=False))


def _config_of(state_dict: StateDict) -> UnetConfig:
    num_feat, num_channels = state_dict["conv0.weight"].shape[:2]
    return UnetConfig(num_channels, num_feat)


UNET = Family(
    name="unet",
    paper="arXiv:2107.10833",
    first_key="conv1.weight_orig",
    config_of=_config_of,
    build=UnetDiscriminator,
)
