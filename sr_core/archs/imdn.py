"""IMDN: blocks that put a quarter of the channels aside after every convolution.

Paper: Lightweight Image Super-Resolution with Information Multi-distillation Network, Hui et al. 2019
(arXiv:1909.11856).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import OutputConv, SkipConv
from sr_core.archs.subpixel import shuffle_scale

_SLOPE = 0.05

# So that the root has a gradient where a channel is flat.
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class ImdnConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between blocks; a multiple of 4.
        num_blocks: Blocks.
        num_reduced: Channels inside the channel attention.
        scale: HR size / LR size.
    """

    num_feat: int = 64
    num_blocks: int = 6
    num_reduced: int = 4
    scale: int = 4


class ContrastAttention(nn.Module):
    """A factor per channel, from its mean and standard deviation over the whole frame."""

    def __init__(self, num_feat: int, num_reduced: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(num_feat, num_reduced, 1), nn.ReLU(), nn.Conv2d(num_reduced, num_feat, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w), each channel times its factor."""
        variance, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
        factors: Tensor = self.conv_du(variance.clamp_min(_LEAST_VARIANCE).sqrt() + mean)
        return features * factors


class DistillationBlock(nn.Module):
    """Four convolutions, of whose first three a quarter of the channels goes straight to the end."""

    def __init__(self, num_feat: int, num_reduced: int) -> None:
        super().__init__()
        self.num_kept = num_feat // 4
        num_rest = num_feat - self.num_kept
        self.c1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.c2 = nn.Conv2d(num_rest, num_feat, 3, padding=1)
        self.c3 = nn.Conv2d(num_rest, num_feat, 3, padding=1)
        self.c4 = nn.Conv2d(num_rest, self.num_kept, 3, padding=1)
        self.c5 = nn.Conv2d(num_feat, num_feat, 1)
        self.cca = ContrastAttention(num_feat, num_reduced)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        kept, rest = list[Tensor](), features
        for conv in (self.c1, self.c2, self.c3):
            refined = F.leaky_relu(conv(rest), _SLOPE)
            kept.append(refined[:, : self.num_kept])
            rest = refined[:, self.num_kept :]
        kept.append(self.c4(rest))
        change: Tensor = self.c5(self.cca(torch.cat(kept, 1)))
        return change + features


class Imdn(Network):
    """Blocks in a row whose results are all joined, a long skip, and pixel shuffle."""

    def __init__(self, config: ImdnConfig) -> None:
        super().__init__()
        num_feat = config.num_feat
        self.block_names = [f"IMDB{number}" for number in range(1, config.num_blocks + 1)]
        self.fea_conv = SkipConv(RGB_CHANNELS, num_feat, 3, padding=1)
        for name in self.block_names:
            self.add_module(name, DistillationBlock(num_feat, config.num_reduced))
        self.c = nn.Sequential(nn.Conv2d(num_feat * config.num_blocks, num_feat, 1), nn.LeakyReLU(_SLOPE))
        self.LR_conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsampler = nn.Sequential(
            OutputConv(num_feat, RGB_CHANNELS * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        shallow = self.fea_conv(lr_frames)
        features, results = shallow.to(self.LR_conv.weight.dtype), list[Tensor]()
        for name in self.block_names:
            features = self.get_submodule(name)(features)
            results.append(features)
        sr_frames: Tensor = self.upsampler(self.LR_conv(self.c(torch.cat(results, 1))) + shallow)
        return sr_frames


def _config_of(state_dict: StateDict, scale: int | None) -> ImdnConfig:
    return ImdnConfig(
        num_feat=state_dict["fea_conv.weight"].shape[0],
        num_blocks=sum(key.endswith(".c5.weight") for key in state_dict),
        num_reduced=state_dict["IMDB1.cca.conv_du.0.weight"].shape[0],
        scale=shuffle_scale(state_dict["upsampler.0.weight"].shape[0]),
    )


def _facts(config: ImdnConfig) -> ModelFacts:
    return ModelFacts(
        name="imdn",
        scale=config.scale,
        halo_px=None,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


IMDN = Arch(
    name="imdn",
    paper="arXiv:1909.11856",
    first_key="IMDB1.cca.conv_du.0.weight",
    config=ImdnConfig,
    config_of=_config_of,
    build=Imdn,
    facts=_facts,
)
