"""BSRN: RFDN's blocks with separable convolutions, as its authors entered it in NTIRE 2022 (BSRN-S).

Paper: Blueprint Separable Residual Network for Efficient Image Super-Resolution, Li et al. 2022
(arXiv:2205.05996). The paper's larger network has a channel attention besides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import Float32Conv, OutputConv, SkipConv
from sr_core.archs.esa import EnhancedSpatialAttention
from sr_core.archs.subpixel import shuffle_scale

# How often the authors' network takes the picture, side by side.
_NUM_COPIES = 4

_FIRST_KEY = "fea_conv.pw.weight"


@dataclass(frozen=True)
class BsrnConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between blocks.
        num_kept: Channels that every step of a block puts aside.
        num_reduced: Channels inside the attention.
        num_blocks: Blocks.
        scale: HR size / LR size.
    """

    num_feat: int = 48
    num_kept: int = 24
    num_reduced: int = 12
    num_blocks: int = 5
    scale: int = 4


class BlueprintConv(nn.Module):
    """A 1x1 convolution, then a 3x3 one on each channel by itself."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.pw = nn.Conv2d(num_in, num_out, 1)
        self.dw = nn.Conv2d(num_out, num_out, 3, padding=1, groups=num_out)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, h, w) to (B, out, h, w)."""
        refined: Tensor = self.dw(self.pw(features))
        return refined


class BlueprintSkipConv(nn.Module):
    """The same over the picture, in float32."""

    def __init__(self, num_out: int) -> None:
        super().__init__()
        self.pw = SkipConv(RGB_CHANNELS, num_out, 1)
        self.dw = Float32Conv(num_out, num_out, 3, padding=1, groups=num_out)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, out, h, w)."""
        refined: Tensor = self.dw(self.pw(lr_frames))
        return refined


class BlueprintBlock(nn.Module):
    """Three residual convolutions, each with a 1x1 one beside it, a fourth, attention and channel weights."""

    def __init__(self, config: BsrnConfig) -> None:
        super().__init__()
        num_feat, num_kept = config.num_feat, config.num_kept
        self.c1_d = nn.Conv2d(num_feat, num_kept, 1)
        self.c1_r = BlueprintConv(num_feat, num_feat)
        self.c2_d = nn.Conv2d(num_feat, num_kept, 1)
        self.c2_r = BlueprintConv(num_feat, num_feat)
        self.c3_d = nn.Conv2d(num_feat, num_kept, 1)
        self.c3_r = BlueprintConv(num_feat, num_feat)
        self.c4 = BlueprintConv(num_feat, num_kept)
        self.c5 = nn.Conv2d(4 * num_kept, num_feat, 1)
        self.esa = EnhancedSpatialAttention(num_feat, config.num_reduced, True, BlueprintConv, F.gelu)
        self.cw = nn.Parameter(torch.normal(1.0, 0.2, (1, num_feat, 1, 1)))
        self.conv_out = nn.Conv2d(num_feat, num_feat, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        steps = ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r))
        kept, rest = list[Tensor](), features
        for distil, refine in steps:
            kept.append(F.gelu(distil(rest)))
            rest = F.gelu(refine(rest) + rest)
        kept.append(F.gelu(self.c4(rest)))
        change: Tensor = self.conv_out(self.esa(self.c5(torch.cat(kept, 1))) * self.cw)
        return change + features


class Bsrn(Network):
    """Blocks in a row whose results are all joined, a long skip, and pixel shuffle."""

    def __init__(self, config: BsrnConfig) -> None:
        super().__init__()
        num_feat = config.num_feat
        self.block_names = [f"B{number}" for number in range(1, config.num_blocks + 1)]
        self.fea_conv = BlueprintSkipConv(num_feat)
        for name in self.block_names:
            self.add_module(name, BlueprintBlock(config))
        self.c1 = nn.Conv2d(num_feat * config.num_blocks, num_feat, 1)
        self.c2 = BlueprintConv(num_feat, num_feat)
        self.upsampler = nn.Sequential(
            OutputConv(num_feat, RGB_CHANNELS * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        shallow = self.fea_conv(lr_frames)
        features, results = shallow.to(self.c1.weight.dtype), list[Tensor]()
        for name in self.block_names:
            features = self.get_submodule(name)(features)
            results.append(features)
        sr_frames: Tensor = self.upsampler(self.c2(F.gelu(self.c1(torch.cat(results, 1)))) + shallow)
        return sr_frames


def _own(state_dict: StateDict) -> dict[str, Tensor]:
    """The authors' linear layers as 1x1 convolutions, and the picture taken once."""
    own = dict[str, Tensor]()
    for key, value in state_dict.items():
        name = key.replace("upsampler.upsampleOneStep.", "upsampler.")
        if value.dim() == 2 and value.shape[1] == _NUM_COPIES * RGB_CHANNELS and key == _FIRST_KEY:
            value = value.reshape(-1, _NUM_COPIES, RGB_CHANNELS).sum(1)
        own[name] = value[..., None, None] if value.dim() == 2 else value
    return own


def _config_of(state_dict: StateDict, scale: int | None) -> BsrnConfig:
    return BsrnConfig(
        num_feat=state_dict[_FIRST_KEY].shape[0],
        num_kept=state_dict["B1.c1_d.weight"].shape[0],
        num_reduced=state_dict["B1.esa.conv1.weight"].shape[0],
        num_blocks=sum(key.endswith(".c5.weight") for key in state_dict),
        scale=shuffle_scale(state_dict["upsampler.0.weight"].shape[0]),
    )


def _facts(config: BsrnConfig) -> ModelFacts:
    return ModelFacts(
        name="bsrn",
        scale=config.scale,
        halo_px=None,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


BSRN = Arch(
    name="bsrn",
    paper="arXiv:2205.05996",
    first_key=_FIRST_KEY,
    config=BsrnConfig,
    config_of=_config_of,
    build=Bsrn,
    facts=_facts,
    forms=(Form("xiaom233/BSRN", _own),),
)
