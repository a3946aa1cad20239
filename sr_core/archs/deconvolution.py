"""Deconvolution generator: convolutions with batch norm that widen, then stride-2 transposed stages.

After DCGAN: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks,
Radford et al. 2015 (arXiv:1511.06434), with an image in place of the noise. Its discriminator is
`sr_core.discriminators.strided`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv

# (kernel, stride, padding) of the transposed stages, by scale.
_DOUBLE, _TRIPLE = (4, 2, 1), (3, 3, 0)
_STAGES = {2: (_DOUBLE,), 3: (_TRIPLE,), 4: (_DOUBLE, _DOUBLE), 8: (_DOUBLE, _DOUBLE, _DOUBLE)}
_SLOPE = 0.2
# Four convolutions; all that lies at higher resolutions together reaches no further than one more.
_HALO_PX = 5


@dataclass(frozen=True)
class DeconvolutionConfig:
    """Hyper-parameters.

    Attributes:
        widths: Channels after each of the four convolutions; the transposed stages go back through them.
        scale: 2, 3, 4 or 8.
    """

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    scale: int = 4


class Deconvolution(Network):
    """Four convolutions, transposed stages, a last convolution; batch norm in all but the first and last."""

    def __init__(self, config: DeconvolutionConfig) -> None:
        super().__init__()
        widths, stages = config.widths, _STAGES[config.scale]
        self.first = nn.Sequential(InputConv(RGB_CHANNELS, widths[0], 3, padding=1), nn.LeakyReLU(_SLOPE))
        self.blocks = nn.ModuleList(
            _normed(nn.Conv2d(before, after, 3, padding=1, bias=False))
            for before, after in itertools.pairwise(widths)
        )
        narrowing = widths[::-1][: len(stages) + 1]
        self.stages = nn.ModuleList(
            _normed(nn.ConvTranspose2d(before, after, *geometry, bias=False))
            for (before, after), geometry in zip(itertools.pairwise(narrowing), stages, strict=True)
        )
        self.last = OutputConv(narrowing[-1], RGB_CHANNELS, 3, padding=1)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        features = self.first(lr_frames)
        for block in (*self.blocks, *self.stages):
            features = block(features)
        sr_frames: Tensor = self.last(features)
        return sr_frames


def _normed(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """A layer without bias, which the batch norm brings, and its activation."""
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.LeakyReLU(_SLOPE))


def _config_of(state_dict: StateDict, scale: int | None) -> DeconvolutionConfig:
    """Read the shapes. A first stage with a kernel of 3 means x3; else every stage doubles."""
    first = int(state_dict["first.0.weight"].shape[0])
    second, third, fourth = (int(state_dict[f"blocks.{index}.0.weight"].shape[0]) for index in range(3))
    num_stages = sum(key.startswith("stages.") and value.dim() == 4 for key, value in state_dict.items())
    scale = 3 if state_dict["stages.0.0.weight"].shape[-1] == 3 else 2**num_stages
    return DeconvolutionConfig((first, second, third, fourth), scale)


def _facts(config: DeconvolutionConfig) -> ModelFacts:
    return ModelFacts(
        name="deconvolution",
        scale=config.scale,
        halo_px=_HALO_PX,
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


DECONVOLUTION = Arch(
    name="deconvolution",
    paper="arXiv:1511.06434",
    first_key="stages.0.0.weight",
    config=DeconvolutionConfig,
    config_of=_config_of,
    build=Deconvolution,
    facts=_facts,
)
