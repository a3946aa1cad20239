"""EDSR: residual blocks without batch norm, in its baseline and its large form.

Paper: Enhanced Deep Residual Networks for Single Image Super-Resolution, Lim et al. 2017 (arXiv:1707.02921).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.keys import numbers_of, renamed
from sr_core.archs.mean_color import with_mean_color, without_mean_color, without_mean_layers
from sr_core.archs.subpixel import scale_of, staged_reach_px, stages_of

# From this width on, blocks are scaled down: training diverges without.
_WIDE = 256


@dataclass(frozen=True)
class EdsrConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between the first and the last convolution.
        num_blocks: Residual blocks.
        scale: HR size / LR size.
        block_strength: What a block adds is multiplied by this.
        value_range: What the network takes for white, 255 or 1.
    """

    num_feat: int = 64
    num_blocks: int = 16
    scale: int = 2
    block_strength: float = 1.0
    value_range: float = 255.0


class _Block(nn.Module):
    def __init__(self, num_feat: int, strength: float) -> None:
        super().__init__()
        self.strength = strength
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        details: Tensor = self.conv2(F.relu(self.conv1(features)))
        return features + details * self.strength


class Edsr(Network):
    """Residual blocks, a skip over all of them, pixel shuffle; the mean colour stays outside."""

    def __init__(self, config: EdsrConfig) -> None:
        super().__init__()
        num_feat, strength = config.num_feat, config.block_strength
        self.stages, self.value_range = stages_of(config.scale), config.value_range
        self.conv_first = InputConv(RGB_CHANNELS, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(_Block(num_feat, strength) for _ in range(config.num_blocks)))
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsample = nn.ModuleList(
            nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1) for factor in self.stages
        )
        self.conv_last = OutputConv(num_feat, RGB_CHANNELS, 3, padding=1)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        shallow = self.conv_first(without_mean_color(lr_frames) * self.value_range)
        features = shallow + self.conv_after_body(self.body(shallow))
        for conv, factor in zip(self.upsample, self.stages, strict=True):
            features = F.pixel_shuffle(conv(features), factor)
        picture: Tensor = self.conv_last(features)
        return with_mean_color(picture / self.value_range)


def _config_of(state_dict: StateDict, scale: int | None) -> EdsrConfig:
    num_feat = state_dict["conv_first.weight"].shape[0]
    stages = [state_dict[f"upsample.{n}.weight"] for n in numbers_of(state_dict, "upsample")]
    return EdsrConfig(
        num_feat=num_feat,
        num_blocks=len(numbers_of(state_dict, "body")),
        scale=scale_of(stages),
        block_strength=0.1 if num_feat >= _WIDE else 1.0,
    )


def _facts(config: EdsrConfig) -> ModelFacts:
    return ModelFacts(
        name="edsr",
        scale=config.scale,
        halo_px=1 + 2 * config.num_blocks + 1 + staged_reach_px(stages_of(config.scale), 1),
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


def _basicsr(state_dict: StateDict) -> StateDict:
    return renamed(
        state_dict,
        # Pixel shuffles stand at the odd places.
        *((rf"upsample\.{2 * n}\.(\w+)", rf"upsample.{n}.\1") for n in range(1, 4)),
    )


def _mmagic(state_dict: StateDict) -> StateDict:
    return renamed(
        state_dict,
        (r"(?:generator\.)?upsample\.(\d+)\.upsample_conv\.(\w+)", r"upsample.\1.\2"),
        (r"generator\.(.+)", r"\1"),
    )


def _edsr_pytorch(state_dict: StateDict, value_range: float) -> StateDict:
    num_blocks = max(numbers_of(state_dict, "body"), default=0)
    own = renamed(
        state_dict,
        (r"head\.0\.(\w+)", r"conv_first.\1"),
        (rf"body\.{num_blocks}\.(\w+)", r"conv_after_body.\1"),
        (r"body\.(\d+)\.body\.0\.(\w+)", r"body.\1.conv1.\2"),
        (r"body\.(\d+)\.body\.2\.(\w+)", r"body.\1.conv2.\2"),
        (r"tail\.0\.0\.(\w+)", r"upsample.0.\1"),
        (r"tail\.0\.2\.(\w+)", r"upsample.1.\1"),
        (r"tail\.0\.4\.(\w+)", r"upsample.2.\1"),
        (r"tail\.1\.(\w+)", r"conv_last.\1"),
    )
    return without_mean_layers(own, "sub_mean", "add_mean", value_range)


EDSR = Arch(
    name="edsr",
    paper="arXiv:1707.02921",
    first_key="conv_after_body.weight",
    config=EdsrConfig,
    config_of=_config_of,
    build=Edsr,
    facts=_facts,
    forms=(
        Form("framelift"),
        Form("BasicSR", _basicsr),
        Form("EDSR-PyTorch, torchSR", partial(_edsr_pytorch, value_range=255.0)),
        Form("EDSR-PyTorch of 0..1", partial(_edsr_pytorch, value_range=1.0), (("value_range", 1.0),)),
        Form("mmagic", _mmagic, (("value_range", 1.0),)),
    ),
)
