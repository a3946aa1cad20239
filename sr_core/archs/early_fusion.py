"""Several frames at once: their channels side by side, then a plain stack of 3x3 convolutions.

Paper: Real-Time Video Super-Resolution with Spatio-Temporal Networks and Motion Compensation, Caballero et
al. 2017 (arXiv:1611.05250), its early fusion, without motion compensation: what moves between frames is left
to the convolutions. It carries no state, so that segments are independent of each other but for the few
frames around them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.subpixel import shuffle_scale


@dataclass(frozen=True)
class EarlyFusionConfig:
    """Hyper-parameters.

    Attributes:
        num_frames: Frames that the network sees at once, an odd number from 3; the middle one is upscaled.
        color_mode: Channels of input and output.
        num_feat: Channels in between.
        num_conv: Convolutions between the first and the last.
        scale: HR size / LR size.
    """

    num_frames: int = 3
    color_mode: ColorMode = ColorMode.RGB
    num_feat: int = 32
    num_conv: int = 8
    scale: int = 2


class EarlyFusion(Network):
    """Convolutions and PReLUs over all frames, pixel shuffle, and the middle frame by nearest added."""

    def __init__(self, config: EarlyFusionConfig) -> None:
        super().__init__()
        self.scale = config.scale
        num_channels, num_feat = config.color_mode.num_channels, config.num_feat
        self.fusion = InputConv(config.num_frames * num_channels, num_feat, 3, padding=1)
        layers: list[nn.Module] = [nn.PReLU(num_feat)]
        for _ in range(config.num_conv):
            layers += [nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.PReLU(num_feat)]
        self.body = nn.Sequential(*layers)
        self.tail = OutputConv(num_feat, num_channels * config.scale**2, 3, padding=1)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale the middle one of T frames: (B, C, scale * h, scale * w) from (B, T, C, h, w) float32."""
        details = self.tail(self.body(self.fusion(lr_frames.flatten(1, 2))))
        middle = lr_frames[:, lr_frames.shape[1] // 2]
        # Before the shuffle, the nearest neighbours of an output are its input sample, once per channel.
        return F.pixel_shuffle(details + middle.repeat_interleave(self.scale**2, dim=1), self.scale)


def _config_of(state_dict: StateDict, scale: int | None) -> EarlyFusionConfig:
    """Read the shapes: no two colour modes give one pair of input and output channels."""
    num_feat, num_inputs = state_dict["fusion.weight"].shape[:2]
    num_outputs = state_dict["tail.weight"].shape[0]
    num_conv = sum(key.startswith("body.") and value.dim() == 4 for key, value in state_dict.items())
    for mode in ColorMode:
        found = shuffle_scale(num_outputs, mode.num_channels)
        num_frames = num_inputs // mode.num_channels
        sizes = (num_frames * mode.num_channels, mode.num_channels * found**2)
        if sizes == (num_inputs, num_outputs) and num_frames % 2 and num_frames > 1:
            return EarlyFusionConfig(num_frames, mode, num_feat, num_conv, found)
    raise ValueError(f"no odd number of frames has {num_inputs} channels in and {num_outputs} out")


def _facts(config: EarlyFusionConfig) -> ModelFacts:
    return ModelFacts(
        name="early_fusion",
        scale=config.scale,
        halo_px=config.num_conv + 2,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=config.color_mode,
        frames_before=config.num_frames // 2,
        frames_after=config.num_frames // 2,
    )


EARLY_FUSION = Arch(
    name="early_fusion",
    paper="arXiv:1611.05250",
    first_key="fusion.weight",
    config=EarlyFusionConfig,
    config_of=_config_of,
    build=EarlyFusion,
    facts=_facts,
)
