"""RRDB network: dense blocks inside residual blocks inside residuals, the generator of ESRGAN.

Paper: ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, Wang et al. 2018 (arXiv:1809.00219);
the pixel unshuffle at its beginning, Real-ESRGAN, Wang et al. 2021 (arXiv:2107.10833).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.keys import numbers_of, renamed
from sr_core.archs.subpixel import shuffle_scale

_SLOPE = 0.2
_BLOCK_STRENGTH = 0.2
_MOST_DOUBLINGS = 3

# Three dense blocks of five convolutions.
_BLOCK_REACH_PX = 15


@dataclass(frozen=True)
class RrdbConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between the blocks.
        num_blocks: Residual blocks of three dense blocks each.
        num_grow: Channels that each convolution of a dense block adds.
        num_doublings: Stages that double the size.
        unshuffle: Side of the squares of input pixels that become channels of one; 1, 2 or 4.
    """

    num_feat: int = 64
    num_blocks: int = 23
    num_grow: int = 32
    num_doublings: int = 2
    unshuffle: int = 1

    def __post_init__(self) -> None:
        if 1 << self.num_doublings < self.unshuffle:
            raise ValueError(f"{self.num_doublings} doublings after pixel unshuffle by {self.unshuffle}")

    @property
    def scale(self) -> int:
        """HR size / LR size."""
        return (1 << self.num_doublings) // self.unshuffle


class _DenseBlock(nn.Module):
    def __init__(self, num_feat: int, num_grow: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_grow, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat + num_grow, num_grow, 3, padding=1)
        self.conv3 = nn.Conv2d(num_feat + 2 * num_grow, num_grow, 3, padding=1)
        self.conv4 = nn.Conv2d(num_feat + 3 * num_grow, num_grow, 3, padding=1)
        self.conv5 = nn.Conv2d(num_feat + 4 * num_grow, num_feat, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        dense = features
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            dense = torch.cat([dense, F.leaky_relu(conv(dense), _SLOPE)], 1)
        details: Tensor = self.conv5(dense)
        return features + details * _BLOCK_STRENGTH


class _Block(nn.Module):
    def __init__(self, num_feat: int, num_grow: int) -> None:
        super().__init__()
        self.rdb1 = _DenseBlock(num_feat, num_grow)
        self.rdb2 = _DenseBlock(num_feat, num_grow)
        self.rdb3 = _DenseBlock(num_feat, num_grow)

    def forward(self, features: Tensor) -> Tensor:
        details: Tensor = self.rdb3(self.rdb2(self.rdb1(features)))
        return features + details * _BLOCK_STRENGTH


class Rrdb(Network):
    """Residual blocks, a skip over all of them, stages of nearest neighbours and a convolution each."""

    def __init__(self, config: RrdbConfig) -> None:
        super().__init__()
        num_feat = config.num_feat
        self.unshuffle = config.unshuffle
        self.conv_first = InputConv(RGB_CHANNELS * config.unshuffle**2, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(_Block(num_feat, config.num_grow) for _ in range(config.num_blocks)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_up = nn.ModuleList(
            nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(config.num_doublings)
        )
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = OutputConv(num_feat, RGB_CHANNELS, 3, padding=1)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames, h and w being multiples of the pixel unshuffle."""
        shallow = self.conv_first(F.pixel_unshuffle(lr_frames, self.unshuffle))
        features = shallow + self.conv_body(self.body(shallow))
        for conv in self.conv_up:
            doubled = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = F.leaky_relu(conv(doubled), _SLOPE)
        picture: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(features), _SLOPE))
        return picture


def _config_of(state_dict: StateDict, scale: int | None) -> RrdbConfig:
    num_feat, num_inputs = state_dict["conv_first.weight"].shape[:2]
    return RrdbConfig(
        num_feat=num_feat,
        num_blocks=len(numbers_of(state_dict, "body")),
        num_grow=state_dict["body.0.rdb1.conv1.weight"].shape[0],
        num_doublings=len(numbers_of(state_dict, "conv_up")),
        unshuffle=shuffle_scale(num_inputs),
    )


def _facts(config: RrdbConfig) -> ModelFacts:
    return ModelFacts(
        name="rrdb",
        scale=config.scale,
        halo_px=max(_reach_px(config, place) for place in range(config.unshuffle)),
        size_multiple=config.unshuffle,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


def _reach_px(config: RrdbConfig, place: int) -> int:
    """How far to its right the input matters to what the pixel at `place` of its square becomes.

    To the left, it is as far for the pixel at the mirrored place.
    """
    reach = config.scale * (place + 1) - 1 + 2
    for _ in range(config.num_doublings):
        reach = (reach + 1) // 2
    squares = reach + 2 + _BLOCK_REACH_PX * config.num_blocks
    return config.unshuffle * (squares + 1) - 1 - place


def _basicsr(state_dict: StateDict) -> StateDict:
    """Of Real-ESRGAN and, with a prefix, of mmagic also."""
    return renamed(
        state_dict,
        *((rf"(?:generator\.)?conv_up{n + 1}\.(\w+)", rf"conv_up.{n}.\1") for n in range(_MOST_DOUBLINGS)),
        (r"generator\.(.+)", r"\1"),
    )


def _kair(state_dict: StateDict) -> StateDict:
    """Of BSRGAN, and of ESRGAN's second code."""
    return renamed(
        state_dict,
        (r"RRDB_trunk\.(\d+)\.RDB(\d)\.(.+)", r"body.\1.rdb\2.\3"),
        (r"trunk_conv\.(\w+)", r"conv_body.\1"),
        *((rf"upconv{n + 1}\.(\w+)", rf"conv_up.{n}.\1") for n in range(_MOST_DOUBLINGS)),
        (r"HRconv\.(\w+)", r"conv_hr.\1"),
    )


def _esrgan(state_dict: StateDict) -> StateDict:
    """Of ESRGAN's first code: one list, in which all after the blocks are stages but the last two."""
    *doublings, hr, last = [-1, -1, *(n for n in numbers_of(state_dict, "model") if n > 1)]
    return renamed(
        state_dict,
        (r"model\.0\.(\w+)", r"conv_first.\1"),
        (r"model\.1\.sub\.(\d+)\.RDB(\d)\.(conv\d)\.0\.(\w+)", r"body.\1.rdb\2.\3.\4"),
        (r"model\.1\.sub\.\d+\.(\w+)", r"conv_body.\1"),
        *((rf"model\.{n}\.(\w+)", rf"conv_up.{place - 2}.\1") for place, n in enumerate(doublings)),
        (rf"model\.{hr}\.(\w+)", r"conv_hr.\1"),
        (rf"model\.{last}\.(\w+)", r"conv_last.\1"),
    )


RRDB = Arch(
    name="rrdb",
    paper="arXiv:1809.00219",
    first_key="conv_body.weight",
    config=RrdbConfig,
    config_of=_config_of,
    build=Rrdb,
    facts=_facts,
    forms=(
        Form("framelift"),
        Form("BasicSR, Real-ESRGAN, mmagic", _basicsr),
        Form("KAIR, ESRGAN", _kair),
        Form("ESRGAN, first code", _esrgan),
    ),
)
