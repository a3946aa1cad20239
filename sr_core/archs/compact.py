"""Compact SRVGG network: one plain stack of 3x3 convolutions in low resolution.

Paper: Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, Wang et al. 2021
(arXiv:2107.10833), "SRVGGNetCompact" of its later releases (realesr-animevideov3, realesr-general-x4v3).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.subpixel import shuffle_scale
from sr_core.errors import ModelError

_COLOR_MODES = {mode.num_channels: mode for mode in ColorMode}


class Activation(StrEnum):
    """The non-linearity after every convolution but the last."""

    PRELU = "prelu"
    RELU = "relu"
    LEAKY_RELU = "leakyrelu"

    def layer(self, num_feat: int) -> nn.Module:
        """A new layer for `num_feat` channels."""
        if self is Activation.PRELU:
            return nn.PReLU(num_feat)
        return nn.ReLU() if self is Activation.RELU else nn.LeakyReLU(0.1)


@dataclass(frozen=True)
class CompactConfig:
    """Hyper-parameters.

    Attributes:
        num_channels: Channels of input and output.
        num_feat: Channels in between.
        num_conv: Convolutions between the first and the last.
        scale: HR size / LR size.
        activation: Non-linearity.
        unshuffle: Side of the squares of input pixels that become channels of one: 2 makes convolutions of
            a quarter of the pixels, 1 leaves all.
    """

    num_channels: int = 3
    num_feat: int = 64
    num_conv: int = 16
    scale: int = 4
    activation: Activation = Activation.PRELU
    unshuffle: int = 1


class Compact(Network):
    """Convolutions and activations in turn, pixel shuffle, and the input's nearest neighbours added.

    The layers lie in one list `body`, as in the published weights: convolutions at even places, activations
    at odd ones, the last convolution at the end.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.unshuffle = config.unshuffle
        num_feat, activation = config.num_feat, config.activation
        num_inputs = config.num_channels * config.unshuffle**2
        layers: list[nn.Module] = [
            InputConv(num_inputs, num_feat, 3, padding=1),
            activation.layer(num_feat),
        ]
        for _ in range(config.num_conv):
            layers += [nn.Conv2d(num_feat, num_feat, 3, padding=1), activation.layer(num_feat)]
        layers.append(OutputConv(num_feat, num_inputs * config.scale**2, 3, padding=1))
        self.body = nn.ModuleList(layers)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, C, h, w) float32 frames."""
        squares = F.pixel_unshuffle(lr_frames, self.unshuffle)
        features = squares
        for layer in self.body[:-1]:
            features = layer(features)
        details = self.body[-1](features)
        # Before the shuffles, the nearest neighbours of an output are its input sample, once per channel.
        places = torch.unflatten(details, 1, (-1, self.scale**2, self.unshuffle**2))
        places.add_(torch.unflatten(squares, 1, (-1, 1, self.unshuffle**2)))
        return F.pixel_shuffle(F.pixel_shuffle(details, self.unshuffle), self.scale)


def _convolutions(state_dict: StateDict) -> list[int]:
    return [int(key.split(".")[1]) for key, value in state_dict.items() if value.dim() == 4]


def _config_of(state_dict: StateDict, scale: int | None) -> CompactConfig:
    """Read the shapes.

    Activations without weights leave no trace: there ReLU is taken, the one without a constant to guess.
    """
    num_feat, num_inputs = state_dict["body.0.weight"].shape[:2]
    last = max(_convolutions(state_dict))
    scale = shuffle_scale(state_dict[f"body.{last}.weight"].shape[0], num_inputs)
    unshuffle = next((side for side in (1, 2) if num_inputs / side**2 in _COLOR_MODES), 1)
    activation = Activation.PRELU if "body.1.weight" in state_dict else Activation.RELU
    num_channels = num_inputs // unshuffle**2
    return CompactConfig(num_channels, num_feat, last // 2 - 1, scale, activation, unshuffle)


def _facts(config: CompactConfig) -> ModelFacts:
    if config.num_channels not in _COLOR_MODES:
        raise ModelError(
            "No colour mode has as many channels as this compact network",
            got=str(config.num_channels),
            expected=", ".join(f"{count} ({mode})" for count, mode in _COLOR_MODES.items()),
        )
    return ModelFacts(
        name="compact",
        scale=config.scale,
        halo_px=(config.num_conv + 3) * config.unshuffle - 1,  # from the first pixel of a square
        size_multiple=config.unshuffle,
        dtypes=ALL_DTYPES,
        color_mode=_COLOR_MODES[config.num_channels],
    )


COMPACT = Arch(
    name="compact",
    paper="arXiv:2107.10833",
    first_key="body.0.weight",
    config=CompactConfig,
    config_of=_config_of,
    build=Compact,
    facts=_facts,
)
