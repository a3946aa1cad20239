"""ESPCN: convolutions in low resolution, the last of which makes all pixels of a result's square.

Paper: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
Network, Shi et al. 2016 (arXiv:1609.05158).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import WITHOUT_BF16, Arch, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.keys import joined, renamed
from sr_core.archs.signals import Signal
from sr_core.archs.subpixel import shuffle_scale
from sr_core.kernels import Kernel

_INPUT_SIDE = 5


class Activation(StrEnum):
    """The non-linearity after every convolution but the last; the paper has tanh."""

    TANH = "tanh"
    RELU = "relu"


@dataclass(frozen=True)
class EspcnConfig:
    """Hyper-parameters.

    Attributes:
        num_feats: Channels after each convolution but the last; (64, 32) in the paper.
        scale: HR size / LR size.
        signal: What the first convolution sees.
        activation: Non-linearity.
        has_sigmoid: Whether the result passes a sigmoid.
    """

    num_feats: tuple[int, ...] = (64, 32)
    scale: int = 2
    signal: Signal = Signal.STUDIO_LUMA
    activation: Activation = Activation.TANH
    has_sigmoid: bool = False


class Espcn(Network):
    """Convolutions in one list `layers`, and pixel shuffle."""

    def __init__(self, config: EspcnConfig) -> None:
        super().__init__()
        self.config = config
        first, *others = config.num_feats
        num_channels = config.signal.num_channels
        layers: list[nn.Module] = [InputConv(num_channels, first, _INPUT_SIDE, padding=_INPUT_SIDE // 2)]
        for num_in, num_out in zip(config.num_feats[:-1], others, strict=True):
            layers.append(nn.Conv2d(num_in, num_out, 3, padding=1))
        layers.append(OutputConv(config.num_feats[-1], num_channels * config.scale**2, 3, padding=1))
        self.layers = nn.ModuleList(layers)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, C, h, w) float32 frames."""
        features = self.config.signal.of_frames(lr_frames)
        for layer in self.layers[:-1]:
            features = torch.tanh(layer(features)) if self._has_tanh else F.relu(layer(features))
        squares = self.layers[-1](features)
        picture = F.pixel_shuffle(squares, self.config.scale)
        return self.config.signal.to_frames(picture.sigmoid() if self.config.has_sigmoid else picture)

    @property
    def _has_tanh(self) -> bool:
        return self.config.activation is Activation.TANH


def _config_of(state_dict: StateDict, scale: int | None) -> EspcnConfig:
    weights = [state_dict[f"layers.{place}.weight"] for place in range(len(state_dict) // 2)]
    num_channels = weights[0].shape[1]
    return EspcnConfig(
        tuple(weight.shape[0] for weight in weights[:-1]),
        shuffle_scale(weights[-1].shape[0], num_channels),
        Signal.of_channels(num_channels),
    )


def _facts(config: EspcnConfig) -> ModelFacts:
    return ModelFacts(
        name="espcn",
        scale=config.scale,
        halo_px=_INPUT_SIDE // 2 + len(config.num_feats),
        size_multiple=1,
        dtypes=WITHOUT_BF16,
        color_mode=config.signal.color_mode,
        chroma_kernel=Kernel.BICUBIC,
    )


def _yjn870(state_dict: StateDict) -> StateDict:
    return joined(state_dict, ("first_part", "last_part"), "layers")


def _lornatang(state_dict: StateDict) -> StateDict:
    return joined(state_dict, ("feature_maps", "sub_pixel"), "layers")


def _nhat_thanh(state_dict: StateDict) -> StateDict:
    return joined(renamed(state_dict, (r"conv_(\d+)\.(\w+)", r"layers.\1.\2")), ("layers",), "layers")


def _numbered(state_dict: StateDict) -> StateDict:
    """Of leftthomas, and of PyTorch's own examples, which have a convolution more."""
    return joined(renamed(state_dict, (r"conv(\d+)\.(\w+)", r"layers.\1.\2")), ("layers",), "layers")


def _leftthomas(state_dict: StateDict) -> StateDict:
    return state_dict if "conv4.weight" in state_dict else _numbered(state_dict)


_LEFTTHOMAS = (("signal", Signal.LUMA), ("has_sigmoid", True))
_PYTORCH_EXAMPLES = (("signal", Signal.LUMA), ("activation", Activation.RELU))

ESPCN = Arch(
    name="espcn",
    paper="arXiv:1609.05158",
    first_key="layers.0.weight",
    config=EspcnConfig,
    config_of=_config_of,
    build=Espcn,
    facts=_facts,
    forms=(
        Form("framelift"),
        Form("yjn870", _yjn870),
        Form("Lornatang", _lornatang),
        Form("Nhat-Thanh", _nhat_thanh, (("signal", Signal.YCBCR),)),
        Form("leftthomas", _leftthomas, _LEFTTHOMAS),
        Form("PyTorch examples", _numbered, _PYTORCH_EXAMPLES),
    ),
)
