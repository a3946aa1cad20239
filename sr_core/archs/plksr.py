"""PLKSR: convolutions with a large kernel over some of the channels.

Paper: Partial Large Kernel CNNs for Efficient Super-Resolution, Lee et al. 2024 (arXiv:2404.11848).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.subpixel import shuffle_scale

_INIT_STD = 0.02


@dataclass(frozen=True)
class PlksrConfig:
    """Hyper-parameters: the tiny one of the paper.

    Attributes:
        num_feat: Channels between blocks.
        num_large: Channels that go through the large kernel.
        kernel_size: Of the large kernel.
        mixer_sizes: Kernel sizes of the two convolutions at the beginning of a block.
        num_blocks: Blocks.
        scale: HR size / LR size.
        has_attention: Whether blocks weigh every element.
    """

    num_feat: int = 64
    num_large: int = 16
    kernel_size: int = 13
    mixer_sizes: tuple[int, int] = (3, 3)
    num_blocks: int = 12
    scale: int = 4
    has_attention: bool = True


class PartialLargeKernel(nn.Module):
    """A convolution over the first channels; the others pass as they are."""

    def __init__(self, num_large: int, kernel_size: int) -> None:
        super().__init__()
        self.num_large = num_large
        self.conv = _small(nn.Conv2d(num_large, num_large, kernel_size, padding=kernel_size // 2))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        return torch.cat([self.conv(features[:, : self.num_large]), features[:, self.num_large :]], 1)


class ElementAttention(nn.Module):
    """A factor for every element, from the 3x3 pixels around it."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.f = nn.Sequential(_small(nn.Conv2d(num_feat, num_feat, 3, padding=1)), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        factors: Tensor = self.f(features)
        return features * factors


class LargeKernelBlock(nn.Module):
    """Mixing of channels, large kernel, attention and a 1x1 convolution, with a skip over it all.

    The first layer's misspelt name is that of the published keys.
    """

    def __init__(self, config: PlksrConfig) -> None:
        super().__init__()
        num_feat, (first, last) = config.num_feat, config.mixer_sizes
        self.channe_mixer = nn.Sequential(
            nn.Conv2d(num_feat, 2 * num_feat, first, padding=first // 2),
            nn.GELU(),
            _small(nn.Conv2d(2 * num_feat, num_feat, last, padding=last // 2)),
        )
        self.lk = PartialLargeKernel(config.num_large, config.kernel_size)
        self.attn = ElementAttention(num_feat) if config.has_attention else nn.Identity()
        self.refine = _small(nn.Conv2d(num_feat, num_feat, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        change: Tensor = self.refine(self.attn(self.lk(self.channe_mixer(features))))
        return change + features


class Plksr(Network):
    """Blocks in a row, pixel shuffle, and the input's nearest neighbours added."""

    def __init__(self, config: PlksrConfig) -> None:
        super().__init__()
        self.scale = config.scale
        num_feat = config.num_feat
        self.feats = nn.Sequential(
            _small(InputConv(RGB_CHANNELS, num_feat, 3, padding=1)),
            *(LargeKernelBlock(config) for _ in range(config.num_blocks)),
            _small(OutputConv(num_feat, RGB_CHANNELS * config.scale**2, 3, padding=1)),
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        details = self.feats(lr_frames)
        # Before the shuffle, the nearest neighbours of an output are its input sample, once per channel.
        details.unflatten(1, (-1, self.scale**2)).add_(lr_frames.unsqueeze(2))
        return F.pixel_shuffle(details, self.scale)


def _small(layer: nn.Conv2d) -> nn.Conv2d:
    """`layer` with the authors' small weights at the start."""
    nn.init.trunc_normal_(layer.weight, std=_INIT_STD)
    return layer


def _config_of(state_dict: StateDict, scale: int | None) -> PlksrConfig:
    mixers = [state_dict[f"feats.1.channe_mixer.{place}.weight"].shape[-1] for place in (0, 2)]
    num_large, _, kernel_size, _ = state_dict["feats.1.lk.conv.weight"].shape
    num_blocks = sum(key.endswith(".lk.conv.weight") for key in state_dict)
    return PlksrConfig(
        num_feat=state_dict["feats.0.weight"].shape[0],
        num_large=num_large,
        kernel_size=kernel_size,
        mixer_sizes=(mixers[0], mixers[1]),
        num_blocks=num_blocks,
        scale=shuffle_scale(state_dict[f"feats.{num_blocks + 1}.weight"].shape[0]),
        has_attention="feats.1.attn.f.0.weight" in state_dict,
    )


def _facts(config: PlksrConfig) -> ModelFacts:
    kernels = (*config.mixer_sizes, config.kernel_size, 3 if config.has_attention else 1)
    return ModelFacts(
        name="plksr",
        scale=config.scale,
        halo_px=config.num_blocks * sum(size // 2 for size in kernels) + 2,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


PLKSR = Arch(
    name="plksr",
    paper="arXiv:2404.11848",
    first_key="feats.1.lk.conv.weight",
    config=PlksrConfig,
    config_of=_config_of,
    build=Plksr,
    facts=_facts,
)
