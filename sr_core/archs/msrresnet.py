"""MSRResNet: SRResNet without batch norm, with 3x3 convolutions throughout, added to bilinear enlargement.

Paper: ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, Wang et al. 2018 (arXiv:1809.00219),
"modified SRResNet" of its code.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.enlarge import enlarge
from sr_core.archs.keys import numbers_of, renamed
from sr_core.archs.subpixel import scale_of, staged_reach_px, stages_of
from sr_core.kernels import Kernel

_SLOPE = 0.1


@dataclass(frozen=True)
class MsrResNetConfig:
    """Hyper-parameters.

    Attributes:
        num_feat: Channels between the first and the last convolution.
        num_blocks: Residual blocks.
        scale: HR size / LR size: 2, 3 or 4.
    """

    num_feat: int = 64
    num_blocks: int = 16
    scale: int = 4


class _Block(nn.Module):
    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        details: Tensor = self.conv2(F.relu(self.conv1(features)))
        return features + details


class MsrResNet(Network):
    """Residual blocks, pixel shuffle, two convolutions in high resolution."""

    def __init__(self, config: MsrResNetConfig) -> None:
        super().__init__()
        num_feat = config.num_feat
        self.stages = stages_of(config.scale)
        self.conv_first = InputConv(RGB_CHANNELS, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(_Block(num_feat) for _ in range(config.num_blocks)))
        self.upsample = nn.ModuleList(
            nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1) for factor in self.stages
        )
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = OutputConv(num_feat, RGB_CHANNELS, 3, padding=1)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        features = self.body(F.leaky_relu(self.conv_first(lr_frames), _SLOPE))
        scale = 1
        for conv, factor in zip(self.upsample, self.stages, strict=True):
            features = F.leaky_relu(F.pixel_shuffle(conv(features), factor), _SLOPE)
            scale *= factor
        details: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(features), _SLOPE))
        return enlarge(lr_frames, scale, Kernel.BILINEAR) + details


def _config_of(state_dict: StateDict, scale: int | None) -> MsrResNetConfig:
    stages = [state_dict[f"upsample.{n}.weight"] for n in numbers_of(state_dict, "upsample")]
    return MsrResNetConfig(
        num_feat=state_dict["conv_first.weight"].shape[0],
        num_blocks=len(numbers_of(state_dict, "body")),
        scale=scale_of(stages),
    )


def _facts(config: MsrResNetConfig) -> ModelFacts:
    return ModelFacts(
        name="msrresnet",
        scale=config.scale,
        halo_px=1 + 2 * config.num_blocks + staged_reach_px(stages_of(config.scale), 2),
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


def _published(state_dict: StateDict) -> StateDict:
    """Of BasicSR, of KAIR and of mmagic: with and without a prefix, and three ways to name its parts."""
    return renamed(
        state_dict,
        (r"(?:generator\.)?(?:body|recon_trunk|trunk_net)\.(\d+)\.(.+)", r"body.\1.\2"),
        (r"(?:generator\.)?(?:upconv|upsample)1\.(?:upsample_conv\.)?(\w+)", r"upsample.0.\1"),
        (r"(?:generator\.)?(?:upconv|upsample)2\.(?:upsample_conv\.)?(\w+)", r"upsample.1.\1"),
        (r"(?:generator\.)?(?:conv_hr|HRconv)\.(\w+)", r"conv_hr.\1"),
        (r"(?:generator\.)?(conv_first|conv_last)\.(\w+)", r"\1.\2"),
    )


MSRRESNET = Arch(
    name="msrresnet",
    paper="arXiv:1809.00219",
    first_key="conv_hr.weight",
    config=MsrResNetConfig,
    config_of=_config_of,
    build=MsrResNet,
    facts=_facts,
    forms=(Form("framelift"), Form("BasicSR, KAIR, mmagic", _published)),
)
