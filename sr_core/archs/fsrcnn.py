"""FSRCNN: an hourglass of convolutions in low resolution and a transposed convolution at its end.

Paper: Accelerating the Super-Resolution Convolutional Neural Network, Dong et al. 2016 (arXiv:1608.00367).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import WITHOUT_BF16, Arch, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputDeconv
from sr_core.archs.keys import joined, renamed
from sr_core.archs.signals import Signal
from sr_core.archs.untold import scale_asked_for
from sr_core.kernels import Kernel

_INPUT_SIDE = 5
_OUTPUT_SIDE = 9


@dataclass(frozen=True)
class FsrcnnConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels of the wide layers, d in the paper.
        num_shrunk: Channels of the mapping, s.
        num_mapping: Convolutions of the mapping, m.
        scale: HR size / LR size.
        signal: What the first convolution sees.
    """

    num_feat: int = 56
    num_shrunk: int = 12
    num_mapping: int = 4
    scale: int = 2
    signal: Signal = Signal.STUDIO_LUMA


class _SubPixelDeconv(OutputDeconv):
    """The transposed convolution as a convolution that makes all pixels of a result's square.

    The numbers are the same; but on a CPU it is faster, and the order of its sums does not depend on the
    frame's size, so that tiles agree bit for bit.
    """

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, stride * h, stride * w) float32 from (B, features, h, w) of any type."""
        stride, radius = self.stride[0], _deconv_reach_px(self.stride[0])
        device = self.weight.device
        distances = stride * torch.arange(-radius, radius + 1, device=device)
        taps = torch.arange(stride, device=device)[:, None] + _OUTPUT_SIDE // 2 - distances
        outside = (taps < 0) | (taps >= _OUTPUT_SIDE)
        taps = taps.clamp(0, _OUTPUT_SIDE - 1)
        kernels = self.weight[:, :, taps][..., taps]
        kernels = kernels.masked_fill(outside[:, :, None, None] | outside, 0.0)
        # (features, C, rows, their taps, columns, their taps), rows and columns being of a square
        weight = kernels.permute(1, 2, 4, 0, 3, 5).flatten(0, 2)
        assert self.bias is not None
        squares = F.conv2d(
            features.to(weight.dtype), weight, self.bias.repeat_interleave(stride**2), padding=radius
        )
        return F.pixel_shuffle(squares, stride)

    def num_filling_macs(self, frames: Tensor) -> int:
        """Multiply-adds with taps outside the kernel, of those that made (B, C, stride * h, stride * w)."""
        stride = self.stride[0]
        window = (2 * _deconv_reach_px(stride) + 1) ** 2
        num_true = frames.numel() // stride**2 * _OUTPUT_SIDE**2
        return self.in_channels * (frames.numel() * window - num_true)


def _deconv_reach_px(scale: int) -> int:
    """How far the input of the transposed convolution matters: it puts a kernel around each first output."""
    return (scale - 1 + _OUTPUT_SIDE // 2) // scale


class Fsrcnn(Network):
    """Feature extraction, shrinking, mapping, expanding, deconvolution.

    All but the last lie in one list `body`: convolutions at even places, their activations at odd ones.
    """

    def __init__(self, config: FsrcnnConfig) -> None:
        super().__init__()
        self.signal = config.signal
        wide, narrow, num_channels = config.num_feat, config.num_shrunk, config.signal.num_channels
        self.body = nn.Sequential(
            InputConv(num_channels, wide, _INPUT_SIDE, padding=_INPUT_SIDE // 2),
            nn.PReLU(wide),
            nn.Conv2d(wide, narrow, 1),
            nn.PReLU(narrow),
        )
        for _ in range(config.num_mapping):
            self.body.extend([nn.Conv2d(narrow, narrow, 3, padding=1), nn.PReLU(narrow)])
        self.body.extend([nn.Conv2d(narrow, wide, 1), nn.PReLU(wide)])
        self.deconv = _SubPixelDeconv(
            wide,
            num_channels,
            _OUTPUT_SIDE,
            stride=config.scale,
            padding=_OUTPUT_SIDE // 2,
            output_padding=config.scale - 1,
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, C, h, w) float32 frames."""
        return self.signal.to_frames(self.deconv(self.body(self.signal.of_frames(lr_frames))))


def _config_of(state_dict: StateDict, scale: int | None) -> FsrcnnConfig:
    wide, num_channels = state_dict["body.0.weight"].shape[:2]
    narrow = state_dict["body.2.weight"].shape[0]
    num_body = len({key.split(".")[1] for key in state_dict if key.startswith("body.")})
    if state_dict["deconv.weight"].shape != (wide, num_channels, _OUTPUT_SIDE, _OUTPUT_SIDE):
        raise ValueError(f"deconvolution {tuple(state_dict['deconv.weight'].shape)}")
    return FsrcnnConfig(
        wide,
        narrow,
        num_body // 2 - 3,
        scale_asked_for(scale),
        Signal.of_channels(num_channels),
    )


def _facts(config: FsrcnnConfig) -> ModelFacts:
    return ModelFacts(
        name="fsrcnn",
        scale=config.scale,
        halo_px=_INPUT_SIDE // 2 + config.num_mapping + _deconv_reach_px(config.scale),
        size_multiple=1,
        dtypes=WITHOUT_BF16,
        color_mode=config.signal.color_mode,
        chroma_kernel=Kernel.BICUBIC,
    )


def _yjn870(state_dict: StateDict) -> StateDict:
    own = renamed(state_dict, (r"last_part\.(\w+)", r"deconv.\1"))
    return joined(own, ("first_part", "mid_part"), "body")


def _lornatang(state_dict: StateDict) -> StateDict:
    return joined(state_dict, ("feature_extraction", "shrink", "map", "expand"), "body")


def _nhat_thanh(state_dict: StateDict) -> StateDict:
    """No activation stands between its mappings; one of slope 1 changes nothing."""
    biases = [value for key, value in state_dict.items() if re.fullmatch(r"map_\d+\.bias", key)]
    end = 4 + 2 * len(biases)
    own = renamed(
        state_dict,
        (r"feature_extract\.(\w+)", r"body.0.\1"),
        (r"activation_1\.(\w+)", r"body.1.\1"),
        (r"shrink\.(\w+)", r"body.2.\1"),
        (r"activation_2\.(\w+)", r"body.3.\1"),
        *((rf"map_{n + 1}\.(\w+)", rf"body.{4 + 2 * n}.\1") for n in range(len(biases))),
        (r"activation_3\.(\w+)", rf"body.{end - 1}.\1"),
        (r"expand\.(\w+)", rf"body.{end}.\1"),
        (r"activation_4\.(\w+)", rf"body.{end + 1}.\1"),
    )
    slopes = {f"body.{5 + 2 * n}.weight": torch.ones_like(bias) for n, bias in enumerate(biases[:-1])}
    return own | slopes


FSRCNN = Arch(
    name="fsrcnn",
    paper="arXiv:1608.00367",
    first_key="deconv.weight",
    config=FsrcnnConfig,
    config_of=_config_of,
    build=Fsrcnn,
    facts=_facts,
    forms=(
        Form("framelift"),
        Form("yjn870", _yjn870),
        Form("Lornatang", _lornatang),
        Form("Nhat-Thanh", _nhat_thanh, (("signal", Signal.YCBCR),)),
    ),
)
