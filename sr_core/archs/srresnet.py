"""SRResNet, the generator of SRGAN: residual blocks with batch norm between two 9x9 convolutions.

Paper: Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, Ledig et al. 2017
(arXiv:1609.04802).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.keys import numbers_of, renamed
from sr_core.archs.subpixel import scale_of, staged_reach_px, stages_of

_OUTER_SIDE = 9


@dataclass(frozen=True)
class SrResNetConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between the first and the last convolution.
        num_blocks: Residual blocks.
        scale: HR size / LR size.
        num_slopes: Slopes of each PReLU: one, or one per channel.
        has_last_norm: Whether batch norm follows the convolution after the blocks, and not another PReLU.
        has_tanh: Whether the result comes from a tanh, whose -1 and 1 are black and white.
    """

    num_feat: int = 64
    num_blocks: int = 16
    scale: int = 4
    num_slopes: int = 1
    has_last_norm: bool = True
    has_tanh: bool = False


class _Block(nn.Module):
    def __init__(self, num_feat: int, num_slopes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(num_feat)
        self.act = nn.PReLU(num_slopes)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(num_feat)

    def forward(self, features: Tensor) -> Tensor:
        details: Tensor = self.act(self.bn1(self.conv1(features)))
        details = self.bn2(self.conv2(details))
        return features + details


class _Stage(nn.Module):
    def __init__(self, num_feat: int, num_slopes: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1)
        self.act = nn.PReLU(num_slopes)

    def forward(self, features: Tensor) -> Tensor:
        shuffled: Tensor = self.act(F.pixel_shuffle(self.conv(features), self.factor))
        return shuffled


class SrResNet(Network):
    """Residual blocks, a skip over all of them, pixel shuffle."""

    def __init__(self, config: SrResNetConfig) -> None:
        super().__init__()
        num_feat, num_slopes = config.num_feat, config.num_slopes
        self.has_tanh = config.has_tanh
        self.conv_first = InputConv(RGB_CHANNELS, num_feat, _OUTER_SIDE, padding=_OUTER_SIDE // 2)
        self.act_first = nn.PReLU(num_slopes)
        self.body = nn.Sequential(*(_Block(num_feat, num_slopes) for _ in range(config.num_blocks)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.body_end = nn.BatchNorm2d(num_feat) if config.has_last_norm else nn.PReLU(num_slopes)
        self.upsample = nn.Sequential(*(_Stage(num_feat, num_slopes, f) for f in stages_of(config.scale)))
        self.conv_last = OutputConv(num_feat, RGB_CHANNELS, _OUTER_SIDE, padding=_OUTER_SIDE // 2)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        shallow = self.act_first(self.conv_first(lr_frames))
        deep = self.body_end(self.conv_body(self.body(shallow)))
        picture: Tensor = self.conv_last(self.upsample(shallow + deep))
        return (torch.tanh(picture) + 1) / 2 if self.has_tanh else picture


def _config_of(state_dict: StateDict, scale: int | None) -> SrResNetConfig:
    stages = [state_dict[f"upsample.{n}.conv.weight"] for n in numbers_of(state_dict, "upsample")]
    return SrResNetConfig(
        num_feat=state_dict["conv_first.weight"].shape[0],
        num_blocks=len(numbers_of(state_dict, "body")),
        scale=scale_of(stages),
        num_slopes=len(state_dict["act_first.weight"]),
        has_last_norm="body_end.running_mean" in state_dict,
    )


def _facts(config: SrResNetConfig) -> ModelFacts:
    tail_px = staged_reach_px(stages_of(config.scale), _OUTER_SIDE // 2)
    return ModelFacts(
        name="srresnet",
        scale=config.scale,
        halo_px=_OUTER_SIDE // 2 + 2 * config.num_blocks + 1 + tail_px,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


def _with_biases(own: StateDict, layers: str) -> StateDict:
    """Zeros for the biases that convolutions of such names lack: batch norm follows most of them."""
    weights = {key.removesuffix(".weight"): value for key, value in own.items() if value.dim() == 4}
    zeros = {
        f"{layer}.bias": torch.zeros(len(value))
        for layer, value in weights.items()
        if re.fullmatch(layers, layer)
    }
    return {**zeros, **own}


def _with_counters(own: StateDict) -> StateDict:
    """Old files lack the training steps that batch norm counts; they do not matter here."""
    norms = [key.removesuffix("running_var") for key in own if key.endswith(".running_var")]
    return {**{f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}, **own}


def _lornatang(state_dict: StateDict) -> StateDict:
    own = renamed(
        state_dict,
        (r"conv(?:_block)?1\.0\.(\w+)", r"conv_first.\1"),
        (r"conv(?:_block)?1\.1\.weight", r"act_first.weight"),
        (r"trunk\.(\d+)\.rcb\.0\.(\w+)", r"body.\1.conv1.\2"),
        (r"trunk\.(\d+)\.rcb\.1\.(\w+)", r"body.\1.bn1.\2"),
        (r"trunk\.(\d+)\.rcb\.2\.(\w+)", r"body.\1.act.\2"),
        (r"trunk\.(\d+)\.rcb\.3\.(\w+)", r"body.\1.conv2.\2"),
        (r"trunk\.(\d+)\.rcb\.4\.(\w+)", r"body.\1.bn2.\2"),
        (r"conv(?:_block)?2\.0\.(\w+)", r"conv_body.\1"),
        (r"conv(?:_block)?2\.1\.(\w+)", r"body_end.\1"),
        (r"upsampling\.(\d+)\.upsample_block\.0\.(\w+)", r"upsample.\1.conv.\2"),
        (r"upsampling\.(\d+)\.upsample_block\.2\.(\w+)", r"upsample.\1.act.\2"),
        (r"conv(?:_block)?3\.(\w+)", r"conv_last.\1"),
    )
    return _with_biases(own, r"body\.\d+\.conv\d|conv_body")


def _leftthomas(state_dict: StateDict) -> StateDict:
    last = max((int(key[5:].split(".")[0]) for key in state_dict if re.match(r"block\d+\.", key)), default=0)
    body = [(rf"block{n + 2}\.prelu\.(\w+)", rf"body.{n}.act.\1") for n in range(last - 3)] + [
        (rf"block{n + 2}\.(\w+)\.(\w+)", rf"body.{n}.\1.\2") for n in range(last - 3)
    ]
    return _with_counters(
        renamed(
            state_dict,
            (r"block1\.0\.(\w+)", r"conv_first.\1"),
            (r"block1\.1\.(\w+)", r"act_first.\1"),
            *body,
            (rf"block{last - 1}\.0\.(\w+)", r"conv_body.\1"),
            (rf"block{last - 1}\.1\.(\w+)", r"body_end.\1"),
            (rf"block{last}\.(\d+)\.conv\.(\w+)", r"upsample.\1.conv.\2"),
            (rf"block{last}\.(\d+)\.prelu\.(\w+)", r"upsample.\1.act.\2"),
            (rf"block{last}\.\d+\.(\w+)", r"conv_last.\1"),
        )
    )


def _twtygqyy(state_dict: StateDict) -> StateDict:
    """Its leaky ReLU is a PReLU whose slope is 0.2, and none of its convolutions has a bias."""
    if "bn_mid.weight" not in state_dict:
        return state_dict
    own = renamed(
        state_dict,
        (r"conv_input\.(\w+)", r"conv_first.\1"),
        (r"residual\.(\d+)\.(\w+)\.(\w+)", r"body.\1.\2.\3"),
        (r"conv_mid\.(\w+)", r"conv_body.\1"),
        (r"bn_mid\.(\w+)", r"body_end.\1"),
        (r"upscale4x\.0\.(\w+)", r"upsample.0.conv.\1"),
        (r"upscale4x\.3\.(\w+)", r"upsample.1.conv.\1"),
        (r"conv_output\.(\w+)", r"conv_last.\1"),
    )
    layers = [
        *(f"body.{n}" for n in numbers_of(own, "body")),
        *(f"upsample.{n}" for n in numbers_of(own, "upsample")),
    ]
    slopes = {f"{layer}.act.weight": torch.tensor([0.2]) for layer in layers}
    slopes["act_first.weight"] = torch.tensor([0.2])
    return _with_counters(_with_biases({**own, **slopes}, ".*"))


SRRESNET = Arch(
    name="srresnet",
    paper="arXiv:1609.04802",
    first_key="body_end.weight",
    config=SrResNetConfig,
    config_of=_config_of,
    build=SrResNet,
    facts=_facts,
    forms=(
        Form("framelift"),
        Form("Lornatang", _lornatang),
        Form("leftthomas", _leftthomas, (("has_tanh", True),)),
        Form("twtygqyy", _twtygqyy),
    ),
)
