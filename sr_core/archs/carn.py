"""CARN-M: recursive residual blocks whose results cascade, with upsampling for several scales in one file.

Paper: Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network, Ahn et al. 2018
(arXiv:1803.08664).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import (
    ALL_DTYPES,
    RGB_CHANNELS,
    Arch,
    ColorMode,
    Form,
    ModelFacts,
    Network,
    ScaleUntold,
    StateDict,
)
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.mean_color import with_mean_color, without_mean_color, without_mean_layers
from sr_core.archs.subpixel import staged_reach_px, stages_of

_NUM_STEPS = 3


@dataclass(frozen=True)
class CarnConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels.
        num_groups: Groups of channels in the 3x3 convolutions.
        scale: HR size / LR size.
        scales: Those for which the weights have upsampling, of which `scale` is one; the others' is
            carried along and stays as it is.
    """

    num_feat: int = 64
    num_groups: int = 4
    scale: int = 4
    scales: tuple[int, ...] = (2, 3, 4)


class PointConv(nn.Module):
    """A 1x1 convolution and its activation."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(num_in, num_out, 1), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, h, w) to (B, out, h, w)."""
        refined: Tensor = self.body(features)
        return refined


class ResidualBlock(nn.Module):
    """Two grouped 3x3 convolutions and a 1x1 one, with a skip over them."""

    def __init__(self, num_feat: int, num_groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_groups),
            nn.ReLU(),
            nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_groups),
            nn.ReLU(),
            nn.Conv2d(num_feat, num_feat, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        return F.relu(self.body(features) + features)


class Cascade(nn.Module):
    """Steps in a row, after each of which a 1x1 convolution joins the results of all so far."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.c1 = PointConv(2 * num_feat, num_feat)
        self.c2 = PointConv(3 * num_feat, num_feat)
        self.c3 = PointConv(4 * num_feat, num_feat)

    def cascade(self, features: Tensor, steps: tuple[nn.Module, ...]) -> Tensor:
        """(B, C, h, w) to the same."""
        joined, result = features, features
        for step, join in zip(steps, (self.c1, self.c2, self.c3), strict=True):
            joined = torch.cat([joined, step(result)], 1)
            result = join(joined)
        return result


class CascadingBlock(Cascade):
    """A cascade in which every step is the same block."""

    def __init__(self, num_feat: int, num_groups: int) -> None:
        super().__init__(num_feat)
        self.b1 = ResidualBlock(num_feat, num_groups)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        return self.cascade(features, (self.b1,) * _NUM_STEPS)


class Upsampling(nn.Module):
    """Grouped convolutions, activation and pixel shuffle, once per stage."""

    def __init__(self, num_feat: int, num_groups: int, scale: int) -> None:
        super().__init__()
        layers = list[nn.Module]()
        for factor in stages_of(scale):
            conv = nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1, groups=num_groups)
            layers += [conv, nn.ReLU(), nn.PixelShuffle(factor)]
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, scale * h, scale * w)."""
        enlarged: Tensor = self.body(features)
        return enlarged


class Carn(Cascade, Network):
    """A cascade of cascades, upsampling for one of several scales, and a last convolution."""

    def __init__(self, config: CarnConfig) -> None:
        num_feat, num_groups = config.num_feat, config.num_groups
        super().__init__(num_feat)
        self.scale = config.scale
        self.entry = InputConv(RGB_CHANNELS, num_feat, 3, padding=1)
        self.b1 = CascadingBlock(num_feat, num_groups)
        self.b2 = CascadingBlock(num_feat, num_groups)
        self.b3 = CascadingBlock(num_feat, num_groups)
        self.upsample = nn.ModuleDict(
            {f"up{scale}": Upsampling(num_feat, num_groups, scale) for scale in config.scales}
        )
        self.exit = OutputConv(num_feat, RGB_CHANNELS, 3, padding=1)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        features = self.cascade(self.entry(without_mean_color(lr_frames)), (self.b1, self.b2, self.b3))
        picture: Tensor = self.exit(self.upsample[f"up{self.scale}"](features))
        return with_mean_color(picture)


def _without_means(state_dict: StateDict) -> StateDict:
    return without_mean_layers(state_dict, "sub_mean.shifter", "add_mean.shifter")


def _config_of(state_dict: StateDict, scale: int | None) -> CarnConfig:
    matches = (re.fullmatch(r"upsample\.up(\d)\.body\.0\.weight", key) for key in state_dict)
    scales = tuple(sorted(int(match[1]) for match in matches if match))
    if len(scales) > 1 and scale not in scales:
        raise ScaleUntold(scales)
    num_feat, num_in_group = state_dict["b1.b1.body.0.weight"].shape[:2]
    return CarnConfig(
        num_feat=num_feat,
        num_groups=num_feat // num_in_group,
        scale=scale if scale in scales and scale is not None else scales[0],
        scales=scales,
    )


def _facts(config: CarnConfig) -> ModelFacts:
    return ModelFacts(
        name="carn",
        scale=config.scale,
        halo_px=1 + 2 * _NUM_STEPS**2 + staged_reach_px(stages_of(config.scale), 1),
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


CARN = Arch(
    name="carn",
    paper="arXiv:1803.08664",
    first_key="b1.c3.body.0.weight",
    config=CarnConfig,
    config_of=_config_of,
    build=Carn,
    facts=_facts,
    forms=(Form("nmhkahn/CARN-pytorch", _without_means),),
)
