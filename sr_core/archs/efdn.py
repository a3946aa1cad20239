"""EFDN: cells of a 1x1 and two 3x3 convolutions whose results are all joined, with spatial attention.

Paper: Edge-enhanced Feature Distillation Network for Efficient Super-Resolution, Wang 2022
(arXiv:2204.08759).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import OutputConv, SkipConv
from sr_core.archs.esa import EnhancedSpatialAttention
from sr_core.archs.subpixel import shuffle_scale

_NUM_CELLS = 4


@dataclass(frozen=True)
class EfdnConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between cells.
        num_kept: Channels of each of a cell's four results.
        num_reduced: Channels inside the attention.
        scale: HR size / LR size.
    """

    num_feat: int = 48
    num_kept: int = 24
    num_reduced: int = 12
    scale: int = 4


class PointConv(nn.Module):
    """A 1x1 convolution and its activation."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(num_feat, num_feat, 1)
        self.act = nn.PReLU(num_feat)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        refined: Tensor = self.act(self.conv1x1(features))
        return refined


class EdgeConv(nn.Module):
    """A 3x3 convolution and its activation; in the authors' training, a sum of several with edge filters."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.rep_conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.act = nn.PReLU(num_feat)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        refined: Tensor = self.act(self.rep_conv(features))
        return refined


class Cell(nn.Module):
    """Three convolutions in a row; a part of each one's result and of the input, and attention over them."""

    def __init__(self, config: EfdnConfig) -> None:
        super().__init__()
        num_feat, num_kept = config.num_feat, config.num_kept
        self.conv1 = PointConv(num_feat)
        self.conv2 = EdgeConv(num_feat)
        self.conv3 = EdgeConv(num_feat)
        self.branch = nn.ModuleList(nn.Conv2d(num_feat, num_kept, 1) for _ in range(4))
        self.fuse = nn.Conv2d(4 * num_kept, num_feat, 1)
        self.att = EnhancedSpatialAttention(num_feat, config.num_reduced, is_deep=True)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        stages = [features]
        for conv in (self.conv1, self.conv2, self.conv3):
            stages.append(conv(stages[-1]))
        kept = [branch(stage) for branch, stage in zip(self.branch, stages, strict=True)]
        change: Tensor = self.att(self.fuse(torch.cat(kept, 1)))
        return change + features


class Efdn(Network):
    """Four cells, each of whose results meets an earlier one, a long skip, and pixel shuffle.

    The authors clamp the result, which is left to the engine here.
    """

    def __init__(self, config: EfdnConfig) -> None:
        super().__init__()
        num_feat = config.num_feat
        self.head = SkipConv(RGB_CHANNELS, num_feat, 3, padding=1)
        self.cells = nn.ModuleList(Cell(config) for _ in range(_NUM_CELLS))
        self.local_fuse = nn.ModuleList(nn.Conv2d(2 * num_feat, num_feat, 1) for _ in range(_NUM_CELLS - 1))
        self.tail = nn.Sequential(
            OutputConv(num_feat, RGB_CHANNELS * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        shallow = self.head(lr_frames)
        first = self.cells[0](shallow.to(self.local_fuse[0].weight.dtype))
        second = self.cells[1](first)
        third = self.cells[2](self._fused(0, first, second))
        fourth = self.cells[3](self._fused(1, second, third))
        # With the second, and not the third, as the authors have it.
        sr_frames: Tensor = self.tail(self._fused(2, second, fourth) + shallow)
        return sr_frames

    def _fused(self, place: int, earlier: Tensor, later: Tensor) -> Tensor:
        fused: Tensor = self.local_fuse[place](torch.cat([earlier, later], 1))
        return fused


def _config_of(state_dict: StateDict, scale: int | None) -> EfdnConfig:
    return EfdnConfig(
        num_feat=state_dict["head.weight"].shape[0],
        num_kept=state_dict["cells.0.branch.0.weight"].shape[0],
        num_reduced=state_dict["cells.0.att.conv1.weight"].shape[0],
        scale=shuffle_scale(state_dict["tail.0.weight"].shape[0]),
    )


def _facts(config: EfdnConfig) -> ModelFacts:
    return ModelFacts(
        name="efdn",
        scale=config.scale,
        halo_px=None,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


EFDN = Arch(
    name="efdn",
    paper="arXiv:2204.08759",
    first_key="cells.0.branch.0.weight",
    config=EfdnConfig,
    config_of=_config_of,
    build=Efdn,
    facts=_facts,
)
