"""SAFMN: modulation by features of several resolutions, as its authors entered it in NTIRE 2023.

Paper: Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution, Sun et al. 2023
(arXiv:2302.13800). The paper's own network differs: layer norm in its blocks, and biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.subpixel import shuffle_scale

_NUM_LEVELS = 4
_LEAST_MEAN = 1e-6


@dataclass(frozen=True)
class SafmnConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between blocks; a multiple of 4.
        num_mixed: Channels inside a block's second half.
        num_blocks: Blocks.
        scale: HR size / LR size.
    """

    num_feat: int = 36
    num_mixed: int = 72
    num_blocks: int = 8
    scale: int = 4


class ResponseNorm(nn.Module):
    """Global response normalisation: a factor per channel, from its size over the whole frame."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, num_feat, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, num_feat, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        # In float32: the squares of a frame are too many for half precision.
        sizes = torch.linalg.vector_norm(features.float(), dim=(2, 3), keepdim=True)
        factors = (sizes / (sizes.mean(1, keepdim=True) + _LEAST_MEAN)).to(features.dtype)
        change: Tensor = self.gamma * (features * factors) + self.beta
        return change + features


class Modulation(nn.Module):
    """Every quarter of the channels at another resolution; all together weigh the input.

    The grids of the coarser ones span the whole frame, so that a tile gets others.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        num_part = num_feat // _NUM_LEVELS
        self.mfr = nn.ModuleList(
            nn.Conv2d(num_part, num_part, 3, padding=1, groups=num_part, bias=False)
            for _ in range(_NUM_LEVELS)
        )
        self.aggr = nn.Conv2d(num_feat, num_feat, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        first, *coarser = features.chunk(_NUM_LEVELS, 1)
        parts = [self.mfr[0](first)]
        for level, part in enumerate(coarser, start=1):
            # A 4th, an 8th and a 16th of each side; the paper's network takes twice that.
            size = [max(1, side // 2 ** (level + 1)) for side in features.shape[-2:]]
            coarse = self.mfr[level](F.adaptive_max_pool2d(part, size))
            parts.append(F.interpolate(coarse, features.shape[-2:], mode="nearest"))
        return F.gelu(self.aggr(torch.cat(parts, 1))) * features


class ChannelMixer(nn.Module):
    """A 3x3 convolution to more channels and a 1x1 one back."""

    def __init__(self, num_feat: int, num_mixed: int) -> None:
        super().__init__()
        self.ccm = nn.Sequential(
            nn.Conv2d(num_feat, num_mixed, 3, padding=1, bias=False),
            nn.GELU(),
            nn.Conv2d(num_mixed, num_feat, 1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        mixed: Tensor = self.ccm(features)
        return mixed


class ModulationBlock(nn.Module):
    """Modulation and mixing, each with a skip."""

    def __init__(self, config: SafmnConfig) -> None:
        super().__init__()
        self.safm = Modulation(config.num_feat)
        self.ccm = ChannelMixer(config.num_feat, config.num_mixed)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        modulated: Tensor = self.safm(features) + features
        change: Tensor = self.ccm(modulated)
        return modulated + change


class Safmn(Network):
    """Blocks in a row, pixel shuffle, and the input added, bilinearly enlarged."""

    def __init__(self, config: SafmnConfig) -> None:
        super().__init__()
        self.scale = config.scale
        num_feat = config.num_feat
        self.norm = ResponseNorm(num_feat)
        self.to_feat = InputConv(RGB_CHANNELS, num_feat, 3, padding=1)
        self.feats = nn.Sequential(*(ModulationBlock(config) for _ in range(config.num_blocks)))
        self.to_img = nn.Sequential(
            OutputConv(num_feat, RGB_CHANNELS * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        size = [self.scale * side for side in lr_frames.shape[-2:]]
        enlarged = F.interpolate(lr_frames, size, mode="bilinear", align_corners=False)
        details: Tensor = self.to_img(self.feats(self.norm(self.to_feat(lr_frames))))
        return details + enlarged


def _config_of(state_dict: StateDict, scale: int | None) -> SafmnConfig:
    return SafmnConfig(
        num_feat=state_dict["to_feat.weight"].shape[0],
        num_mixed=state_dict["feats.0.ccm.ccm.0.weight"].shape[0],
        num_blocks=sum(key.endswith(".safm.aggr.weight") for key in state_dict),
        scale=shuffle_scale(state_dict["to_img.0.weight"].shape[0]),
    )


def _facts(config: SafmnConfig) -> ModelFacts:
    return ModelFacts(
        name="safmn",
        scale=config.scale,
        halo_px=None,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


SAFMN = Arch(
    name="safmn",
    paper="arXiv:2302.13800",
    first_key="norm.gamma",
    config=SafmnConfig,
    config_of=_config_of,
    build=Safmn,
    facts=_facts,
)
