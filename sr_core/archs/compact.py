"""Compact SRVGG network: one plain stack of 3x3 convolutions in low resolution.

Paper: Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, Wang et al. 2021
(arXiv:2107.10833), "SRVGGNetCompact" of its later releases (realesr-animevideov3, realesr-general-x4v3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import Arch, ColorMode, ModelFacts, Network
from sr_core.errors import ModelError

_KEY = re.compile(r"body\.(\d+)\.(weight|bias)")
_VECTOR_CHANNELS = 8
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
        scale: Upscaling factor.
        activation: Non-linearity.
    """

    num_channels: int = 3
    num_feat: int = 64
    num_conv: int = 16
    scale: int = 4
    activation: Activation = Activation.PRELU


class Compact(Network):
    """Convolutions and activations in turn, pixel shuffle, and the input's nearest neighbours added.

    The layers lie in one list `body`, as in the published weights: convolutions at even places, activations
    at odd ones, the last convolution at the end.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.body_dtype = torch.float32
        layers: list[nn.Module] = []
        num_in = config.num_channels
        for _ in range(config.num_conv + 1):
            layers += [
                nn.Conv2d(num_in, config.num_feat, 3, padding=1),
                config.activation.layer(config.num_feat),
            ]
            num_in = config.num_feat
        layers.append(nn.Conv2d(config.num_feat, config.num_channels * config.scale**2, 3, padding=1))
        self.body = nn.ModuleList(layers)

    def set_body_dtype(self, dtype: torch.dtype) -> None:
        """Run all but the last convolution and the skip path in `dtype`.

        Those two carry the picture itself, and 8 bits of mantissa cannot hold 10-bit video.
        """
        self.body_dtype = dtype
        for layer in self.body[:-1]:
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = _round_kernels(layer.weight.data, dtype)
        self.body[:-1].to(dtype)
        self.body[-1].to(torch.float32)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, C, h, w) float32 frames."""
        features = self._first_convolution(lr_frames)
        for layer in self.body[1:-1]:
            features = layer(features)
        details = self.body[-1](features.float())
        # Before the shuffle, the nearest neighbours of an output are its input sample, once per channel.
        details.unflatten(1, (-1, self.scale**2)).add_(lr_frames.unsqueeze(2))
        return F.pixel_shuffle(details, self.scale)

    def _first_convolution(self, lr_frames: Tensor) -> Tensor:
        """As layer 0 would, on channels that zeros fill up to a whole vector of them.

        With 1, 3 or 6 input channels a CPU picks its algorithm, and with it the order of sums, by the size of
        the frame; tiles then differ from the whole in their last bits. In half precision, what rounding took
        from the input is a second set of channels with the same weights, most of which were zeros anyway:
        bf16 alone would show the network an 8-bit picture.
        """
        first = self.body.get_submodule("0")
        num_channels = lr_frames.shape[1]
        num_parts = 1 if self.body_dtype == torch.float32 else 2
        num_zeros = -num_parts * num_channels % _VECTOR_CHANNELS
        # Without channels last, a bf16 convolution on a CPU takes 3.5 times as long, most of it reordering.
        features = torch.empty(
            (lr_frames.shape[0], num_parts * num_channels + num_zeros, *lr_frames.shape[2:]),
            dtype=self.body_dtype,
            device=lr_frames.device,
            memory_format=torch.channels_last,
        )
        features[:, :num_channels] = lr_frames
        if num_parts == 2:
            features[:, num_channels : 2 * num_channels] = lr_frames - features[:, :num_channels]
        features[:, num_parts * num_channels :] = 0
        weight = first.get_parameter("weight").repeat(1, num_parts, 1, 1)
        weight = F.pad(weight, (0, 0, 0, 0, 0, num_zeros))
        return F.conv2d(features, weight, first.get_parameter("bias"), padding=1)


def _round_kernels(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights (out, in, rows, columns) in `dtype`, each kernel's sum being kept as well as it can be.

    What a kernel answers where the picture is smooth is its sum. Taps that are rounded each by itself move
    that at random and shift smooth colours by some codes of 10 bits. So each tap takes over the error of the
    next larger one; what is left is within the rounding of the smallest.
    """
    taps = weight.float().flatten(2)
    order = taps.abs().argsort(dim=2, descending=True, stable=True)
    rounded, error = torch.empty_like(taps, dtype=dtype), torch.zeros_like(taps[..., :1])
    for place in torch.split(order, 1, dim=2):
        exact = taps.gather(2, place) + error
        rounded.scatter_(2, place, exact.to(dtype))
        error = exact - exact.to(dtype)
    return rounded.view_as(weight)


def _matches(state_dict: Mapping[str, Tensor]) -> bool:
    if not state_dict or not all(_KEY.fullmatch(key) for key in state_dict):
        return False
    convs = _convolutions(state_dict)
    first, last = state_dict.get("body.0.weight"), state_dict[f"body.{max(convs, default=0)}.weight"]
    return first is not None and first.dim() == 4 and math.isqrt(last.shape[0] // first.shape[1]) > 0


def _convolutions(state_dict: Mapping[str, Tensor]) -> list[int]:
    return [int(key.split(".")[1]) for key, value in state_dict.items() if value.dim() == 4]


def _config_of(state_dict: Mapping[str, Tensor]) -> CompactConfig:
    """Read the shapes.

    Activations without weights leave no trace: there ReLU is taken, the one without a constant to guess.
    """
    num_feat, num_channels = state_dict["body.0.weight"].shape[:2]
    last = max(_convolutions(state_dict))
    scale = math.isqrt(state_dict[f"body.{last}.weight"].shape[0] // num_channels)
    activation = Activation.PRELU if "body.1.weight" in state_dict else Activation.RELU
    return CompactConfig(num_channels, num_feat, last // 2 - 1, scale, activation)


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
        halo_px=config.num_conv + 2,
        size_multiple=1,
        dtypes=(torch.float32, torch.bfloat16, torch.float16),
        color_mode=_COLOR_MODES[config.num_channels],
    )


COMPACT = Arch(
    name="compact",
    paper="arXiv:2107.10833",
    first_key="body.0.weight",
    matches=_matches,
    config_of=_config_of,
    build=Compact,
    facts=_facts,
)
