"""VDSR: twenty convolutions over the bicubically enlarged picture, which add what it lacks.

Paper: Accurate Image Super-Resolution Using Very Deep Convolutional Networks, Kim et al. 2016
(arXiv:1511.04587).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, Arch, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.enlarge import enlarge, enlarged_reach_px
from sr_core.archs.keys import joined, renamed
from sr_core.archs.signals import Signal
from sr_core.archs.untold import scale_asked_for
from sr_core.kernels import Kernel


@dataclass(frozen=True)
class VdsrConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between the first and the last convolution.
        num_conv: All convolutions.
        scale: HR size / LR size; the network of the paper serves several.
        signal: What the first convolution sees.
    """

    num_feat: int = 64
    num_conv: int = 20
    scale: int = 2
    signal: Signal = Signal.STUDIO_LUMA


class Vdsr(Network):
    """3x3 convolutions in high resolution, in one list `layers`, and the enlarged picture added."""

    def __init__(self, config: VdsrConfig) -> None:
        super().__init__()
        self.scale, self.signal = config.scale, config.signal
        num_channels, num_feat = config.signal.num_channels, config.num_feat
        self.layers = nn.ModuleList(
            [
                InputConv(num_channels, num_feat, 3, padding=1),
                *(nn.Conv2d(num_feat, num_feat, 3, padding=1) for _ in range(config.num_conv - 2)),
                OutputConv(num_feat, num_channels, 3, padding=1),
            ]
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, C, h, w) float32 frames."""
        picture = enlarge(self.signal.of_frames(lr_frames), self.scale, Kernel.BICUBIC)
        features = picture
        for layer in self.layers[:-1]:
            features = F.relu(layer(features))
        return self.signal.to_frames(picture + self.layers[-1](features))


def _config_of(state_dict: StateDict, scale: int | None) -> VdsrConfig:
    num_feat, num_channels = state_dict["layers.0.weight"].shape[:2]
    num_conv = len(state_dict) // 2
    if any(weight.shape[-1] != 3 for weight in state_dict.values() if weight.dim() == 4):
        raise ValueError("other kernels than 3x3")
    if state_dict[f"layers.{num_conv - 1}.weight"].shape[0] != num_channels:
        raise ValueError("another number of channels out than in")
    signal = Signal.of_channels(num_channels)
    return VdsrConfig(num_feat, num_conv, scale_asked_for(scale), signal)


def _facts(config: VdsrConfig) -> ModelFacts:
    return ModelFacts(
        name="vdsr",
        scale=config.scale,
        halo_px=enlarged_reach_px(config.scale, Kernel.BICUBIC, config.num_conv),
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=config.signal.color_mode,
        chroma_kernel=Kernel.BICUBIC,
    )


def _with_biases(state_dict: StateDict) -> StateDict:
    """The layers with zeros for biases, where none has any, as in the paper."""
    if any(key.endswith(".bias") for key in state_dict):
        return state_dict
    weights = {key: value for key, value in state_dict.items() if key.startswith("layers.")}
    zeros = {f"{key.removesuffix('weight')}bias": torch.zeros(len(value)) for key, value in weights.items()}
    return {**state_dict, **zeros}


def _twtygqyy(state_dict: StateDict) -> StateDict:
    own = renamed(
        state_dict,
        (r"input\.(\w+)", r"first.0.\1"),
        (r"residual_layer\.(\d+)\.conv\.(\w+)", r"middle.\1.\2"),
        (r"output\.(\w+)", r"last.0.\1"),
    )
    return _with_biases(joined(own, ("first", "middle", "last"), "layers"))


def _twtygqyy_early(state_dict: StateDict) -> StateDict:
    return _with_biases(joined(state_dict, ("features",), "layers"))


def _lornatang(state_dict: StateDict) -> StateDict:
    own = renamed(
        state_dict, (r"trunk\.(\d+)\.conv\.(\w+)", r"middle.\1.\2"), (r"conv2\.(\w+)", r"last.0.\1")
    )
    return _with_biases(joined(own, ("conv1", "middle", "last"), "layers"))


def _nhat_thanh(state_dict: StateDict) -> StateDict:
    own = renamed(state_dict, (r"(?:conv_2_to_19\.)?conv_(\d+)\.(\w+)", r"convs.\1.\2"))
    return joined(own, ("convs",), "layers")


VDSR = Arch(
    name="vdsr",
    paper="arXiv:1511.04587",
    first_key="layers.0.weight",
    config=VdsrConfig,
    config_of=_config_of,
    build=Vdsr,
    facts=_facts,
    forms=(
        Form("framelift"),
        Form("twtygqyy", _twtygqyy),
        Form("twtygqyy, early", _twtygqyy_early),
        Form("Lornatang", _lornatang),
        Form("Nhat-Thanh", _nhat_thanh, (("signal", Signal.YCBCR),)),
    ),
)
