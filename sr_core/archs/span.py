"""SPAN: blocks of three convolutions whose result is its own attention.

Paper: Swift Parameter-free Attention Network for Efficient Super-Resolution, Wan et al. 2024
(arXiv:2311.12770).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import Float32Conv, OutputConv, SkipConv
from sr_core.archs.mean_color import without_mean_color
from sr_core.archs.subpixel import shuffle_scale

# White, inside.
_VALUE_RANGE = 255.0

# In the files of trainers that leave the mean and range of the input alone, and mark it so.
_NO_NORM = "no_norm"

# Of a convolution in training: three in a row, and one beside them.
_TRAINED_PARTS = ("conv.0", "conv.1", "conv.2", "sk")


@dataclass(frozen=True)
class SpanConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between blocks.
        num_blocks: Blocks.
        scale: HR size / LR size.
        is_normed: Whether the authors' mean colour is taken off the input and the rest multiplied by 255.
    """

    num_feat: int = 48
    num_blocks: int = 6
    scale: int = 4
    is_normed: bool = True


class AttentionBlock(nn.Module):
    """Three convolutions; what they change, and how much of everything passes, is one and the same tensor."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.c2_r = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.c3_r = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The block's result and what lies behind its first activation, each (B, C, h, w)."""
        first = F.silu(self.c1_r(features))
        change = self.c3_r(F.silu(self.c2_r(first)))
        return (change + features) * (change.sigmoid() - 0.5), first


class Span(Network):
    """Blocks in a row, of which the ends, the first and the inside of the last are joined; pixel shuffle.

    The last block hands on what lies behind its first activation. The authors' code seems to take it from
    before, but its activation works in place.
    """

    def __init__(self, config: SpanConfig) -> None:
        super().__init__()
        num_feat = config.num_feat
        self.is_normed = config.is_normed
        self.block_names = [f"block_{number}" for number in range(1, config.num_blocks + 1)]
        self.conv_1 = SkipConv(RGB_CHANNELS, num_feat, 3, padding=1)
        for name in self.block_names:
            self.add_module(name, AttentionBlock(num_feat))
        self.conv_cat = Float32Conv(4 * num_feat, num_feat, 1)
        self.conv_2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsampler = nn.Sequential(
            OutputConv(num_feat, RGB_CHANNELS * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )
        if not config.is_normed:
            self.register_buffer(_NO_NORM, torch.zeros(1))

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        shallow = self.conv_1(without_mean_color(lr_frames) * _VALUE_RANGE if self.is_normed else lr_frames)
        features = first = shallow.to(self.conv_2.weight.dtype)
        results = list[Tensor]()
        for name in self.block_names:
            features, first = self.get_submodule(name)(features)
            results.append(features)
        joined = torch.cat([shallow, self.conv_2(features), results[0], first], 1)
        sr_frames: Tensor = self.upsampler(self.conv_cat(joined))
        return sr_frames


def _merged(state_dict: StateDict) -> dict[str, Tensor]:
    """One 3x3 convolution for each of the authors'.

    In training, those are 1x1, 3x3 and 1x1 in a row beside a 1x1. Their sum is kept as `eval_conv`, but only
    training's own parts are surely up to date; files for use have nothing else.
    """
    own, trained = dict[str, Tensor](), set[str]()
    for name in (key.removesuffix(".sk.weight") for key in state_dict if key.endswith(".sk.weight")):
        parts = {f"{name}.{part}.{kind}" for part in _TRAINED_PARTS for kind in ("weight", "bias")}
        if parts <= state_dict.keys():
            own[f"{name}.weight"], own[f"{name}.bias"] = _merge(state_dict, name)
            trained |= parts | {f"{name}.eval_conv.weight", f"{name}.eval_conv.bias"}
    rest = {key.replace(".eval_conv.", "."): state_dict[key] for key in state_dict if key not in trained}
    return own | rest


def _merge(state_dict: StateDict, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias, (out, in, 3, 3) and (out,); zeros around the input reach the 1x1 convolution first."""
    expand, spatial, reduce, skip = (state_dict[f"{name}.{part}.weight"].double() for part in _TRAINED_PARTS)
    biases = [state_dict[f"{name}.{part}.bias"].double() for part in _TRAINED_PARTS]
    weight = torch.einsum("oa,abyx,bi->oiyx", reduce[..., 0, 0], spatial, expand[..., 0, 0])
    weight[..., 1, 1] += skip[..., 0, 0]
    inner = spatial.sum((2, 3)) @ biases[0] + biases[1]
    bias = reduce[..., 0, 0] @ inner + biases[2] + biases[3]
    return weight.float(), bias.float()


def _config_of(state_dict: StateDict, scale: int | None) -> SpanConfig:
    return SpanConfig(
        num_feat=state_dict["conv_1.weight"].shape[0],
        num_blocks=sum(key.endswith(".c3_r.weight") for key in state_dict),
        scale=shuffle_scale(state_dict["upsampler.0.weight"].shape[0]),
        is_normed=_NO_NORM not in state_dict,
    )


def _facts(config: SpanConfig) -> ModelFacts:
    return ModelFacts(
        name="span",
        scale=config.scale,
        halo_px=3 * config.num_blocks + 3,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


SPAN = Arch(
    name="span",
    paper="arXiv:2311.12770",
    first_key="conv_cat.weight",
    config=SpanConfig,
    config_of=_config_of,
    build=Span,
    facts=_facts,
    forms=(Form("hongyuanyu/SPAN", _merged),),
)
