"""RLFN: plain residual blocks of three convolutions with spatial attention.

Paper: Residual Local Feature Network for Efficient Super-Resolution, Kong et al. 2022 (arXiv:2205.07514).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import OutputConv, SkipConv
from sr_core.archs.esa import EnhancedSpatialAttention
from sr_core.archs.subpixel import shuffle_scale
from sr_core.archs.value_range import probe_value_range

_SLOPE = 0.05


@dataclass(frozen=True)
class RlfnConfig:
    """Hyper-parameters: the paper's; its entry to NTIRE 2022 had 46 and 48 channels and 4 blocks.

    Attributes:
        num_feat: Channels between blocks.
        num_mid: Channels inside them.
        num_reduced: Channels inside the attention.
        num_blocks: Blocks.
        scale: HR size / LR size.
        value_range: White, inside. The authors' weights want 255, others 1; the tensors do not say, so it is
            found out by trying. Untrained weights count as the authors'.
    """

    num_feat: int = 52
    num_mid: int = 52
    num_reduced: int = 16
    num_blocks: int = 6
    scale: int = 4
    value_range: float = 255.0


class ResidualLocalBlock(nn.Module):
    """Three convolutions with a skip over them, a 1x1 one, and attention."""

    def __init__(self, config: RlfnConfig) -> None:
        super().__init__()
        num_feat, num_mid = config.num_feat, config.num_mid
        self.c1_r = nn.Conv2d(num_feat, num_mid, 3, padding=1)
        self.c2_r = nn.Conv2d(num_mid, num_mid, 3, padding=1)
        self.c3_r = nn.Conv2d(num_mid, num_feat, 3, padding=1)
        self.c5 = nn.Conv2d(num_feat, num_feat, 1)
        self.esa = EnhancedSpatialAttention(num_feat, config.num_reduced, is_deep=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        refined = features
        for conv in (self.c1_r, self.c2_r, self.c3_r):
            refined = F.leaky_relu(conv(refined), _SLOPE)
        attended: Tensor = self.esa(self.c5(refined + features))
        return attended


class Rlfn(Network):
    """Blocks in a row, a long skip, and pixel shuffle."""

    def __init__(self, config: RlfnConfig) -> None:
        super().__init__()
        num_feat = config.num_feat
        self.value_range = config.value_range
        self.block_names = [f"block_{number}" for number in range(1, config.num_blocks + 1)]
        self.conv_1 = SkipConv(RGB_CHANNELS, num_feat, 3, padding=1)
        for name in self.block_names:
            self.add_module(name, ResidualLocalBlock(config))
        self.conv_2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsampler = nn.Sequential(
            OutputConv(num_feat, RGB_CHANNELS * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        shallow = self.conv_1(lr_frames * self.value_range)
        features = shallow.to(self.conv_2.weight.dtype)
        for name in self.block_names:
            features = self.get_submodule(name)(features)
        sr_frames: Tensor = self.upsampler(self.conv_2(features) + shallow)
        return sr_frames / self.value_range


def _config_of(state_dict: StateDict, scale: int | None) -> RlfnConfig:
    config = RlfnConfig(
        num_feat=state_dict["conv_1.weight"].shape[0],
        num_mid=state_dict["block_1.c1_r.weight"].shape[0],
        num_reduced=state_dict["block_1.esa.conv1.weight"].shape[0],
        num_blocks=sum(key.endswith(".c5.weight") for key in state_dict),
        scale=shuffle_scale(state_dict["upsampler.0.weight"].shape[0]),
    )
    value_range = probe_value_range(
        lambda value_range: Rlfn(replace(config, value_range=value_range)),
        state_dict,
        config.scale,
        undecided=RlfnConfig.value_range,
    )
    return replace(config, value_range=value_range)


def _facts(config: RlfnConfig) -> ModelFacts:
    return ModelFacts(
        name="rlfn",
        scale=config.scale,
        halo_px=None,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


RLFN = Arch(
    name="rlfn",
    paper="arXiv:2205.07514",
    first_key="block_1.esa.conv1.weight",
    config=RlfnConfig,
    config_of=_config_of,
    build=Rlfn,
    facts=_facts,
)
