"""RFDN: residual convolutions beside 1x1 ones that put half of the channels aside, and spatial attention.

Paper: Residual Feature Distillation Network for Lightweight Image Super-Resolution, Liu et al. 2020
(arXiv:2009.11551).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import OutputConv, SkipConv
from sr_core.archs.esa import EnhancedSpatialAttention
from sr_core.archs.subpixel import shuffle_scale
from sr_core.archs.value_range import probe_value_range

_SLOPE = 0.05


@dataclass(frozen=True)
class RfdnConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between blocks.
        num_kept: Channels that every step of a block puts aside.
        num_reduced: Channels inside the attention.
        num_blocks: Blocks.
        scale: HR size / LR size.
        value_range: White, inside. The authors' weights want 255, others 1; the tensors do not say, so it is
            found out by trying. Untrained weights count as the authors'.
    """

    num_feat: int = 50
    num_kept: int = 25
    num_reduced: int = 12
    num_blocks: int = 4
    scale: int = 4
    value_range: float = 255.0


class ResidualDistillationBlock(nn.Module):
    """Three residual convolutions, each with a 1x1 one beside it, a fourth, and attention over them all."""

    def __init__(self, config: RfdnConfig) -> None:
        super().__init__()
        num_feat, num_kept = config.num_feat, config.num_kept
        self.c1_d = nn.Conv2d(num_feat, num_kept, 1)
        self.c1_r = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.c2_d = nn.Conv2d(num_feat, num_kept, 1)
        self.c2_r = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.c3_d = nn.Conv2d(num_feat, num_kept, 1)
        self.c3_r = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.c4 = nn.Conv2d(num_feat, num_kept, 3, padding=1)
        self.c5 = nn.Conv2d(4 * num_kept, num_feat, 1)
        self.esa = EnhancedSpatialAttention(num_feat, config.num_reduced, is_deep=True)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        steps = ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r))
        kept, rest = list[Tensor](), features
        for distil, refine in steps:
            kept.append(F.leaky_relu(distil(rest), _SLOPE))
            rest = F.leaky_relu(refine(rest) + rest, _SLOPE)
        kept.append(F.leaky_relu(self.c4(rest), _SLOPE))
        attended: Tensor = self.esa(self.c5(torch.cat(kept, 1)))
        return attended


class Rfdn(Network):
    """Blocks in a row whose results are all joined, a long skip, and pixel shuffle."""

    def __init__(self, config: RfdnConfig) -> None:
        super().__init__()
        num_feat = config.num_feat
        self.value_range = config.value_range
        self.block_names = [f"B{number}" for number in range(1, config.num_blocks + 1)]
        self.fea_conv = SkipConv(RGB_CHANNELS, num_feat, 3, padding=1)
        for name in self.block_names:
            self.add_module(name, ResidualDistillationBlock(config))
        self.c = nn.Sequential(nn.Conv2d(num_feat * config.num_blocks, num_feat, 1), nn.LeakyReLU(_SLOPE))
        self.LR_conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsampler = nn.Sequential(
            OutputConv(num_feat, RGB_CHANNELS * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        shallow = self.fea_conv(lr_frames * self.value_range)
        features, results = shallow.to(self.LR_conv.weight.dtype), list[Tensor]()
        for name in self.block_names:
            features = self.get_submodule(name)(features)
            results.append(features)
        sr_frames: Tensor = self.upsampler(self.LR_conv(self.c(torch.cat(results, 1))) + shallow)
        return sr_frames / self.value_range


def _config_of(state_dict: StateDict, scale: int | None) -> RfdnConfig:
    config = RfdnConfig(
        num_feat=state_dict["fea_conv.weight"].shape[0],
        num_kept=state_dict["B1.c1_d.weight"].shape[0],
        num_reduced=state_dict["B1.esa.conv1.weight"].shape[0],
        num_blocks=sum(key.endswith(".c5.weight") for key in state_dict),
        scale=shuffle_scale(state_dict["upsampler.0.weight"].shape[0]),
    )
    value_range = probe_value_range(
        lambda value_range: Rfdn(replace(config, value_range=value_range)),
        state_dict,
        config.scale,
        undecided=RfdnConfig.value_range,
    )
    return replace(config, value_range=value_range)


def _facts(config: RfdnConfig) -> ModelFacts:
    return ModelFacts(
        name="rfdn",
        scale=config.scale,
        halo_px=None,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


RFDN = Arch(
    name="rfdn",
    paper="arXiv:2009.11551",
    first_key="B1.c1_d.weight",
    config=RfdnConfig,
    config_of=_config_of,
    build=Rfdn,
    facts=_facts,
)
