"""Plain network that upscales with transposed convolutions: three convolutions, then three transposed ones.

After the deconvolution layers of: Accelerating the Super-Resolution Convolutional Neural Network, Dong et al.
2016 (arXiv:1608.00367), with the transposed stages of DCGAN, Radford et al. 2015 (arXiv:1511.06434).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, RGB_CHANNELS, Arch, ColorMode, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputDeconv

# (kernel, stride, padding) of the transposed layers from first to last, by scale.
_SAME, _DOUBLE, _TRIPLE = (3, 1, 1), (4, 2, 1), (3, 3, 0)
_GEOMETRY = {
    2: (_SAME, _SAME, _DOUBLE),
    3: (_SAME, _SAME, _TRIPLE),
    4: (_SAME, _DOUBLE, _DOUBLE),
    8: (_DOUBLE, _DOUBLE, _DOUBLE),
}
_HALO_PX = {2: 6, 3: 5, 4: 5, 8: 4}  # at higher resolutions, layers reach less far


@dataclass(frozen=True)
class TransposedConfig:
    """Hyper-parameters.

    Attributes:
        widths: Channels after each of the three convolutions; the transposed ones go back through them.
        scale: 2, 3, 4 or 8.
    """

    widths: tuple[int, int, int] = (64, 128, 256)
    scale: int = 4


class Transposed(Network):
    """Convolutions that widen, transposed ones that narrow and enlarge, ReLU between all of them.

    Powers of two are reached by the last log2(scale) transposed layers, of stride 2; x3 by the last alone.
    """

    def __init__(self, config: TransposedConfig) -> None:
        super().__init__()
        first, second, third = config.widths
        geometry = _GEOMETRY[config.scale]
        self.convs = nn.ModuleList(
            [
                InputConv(RGB_CHANNELS, first, 3, padding=1),
                nn.Conv2d(first, second, 3, padding=1),
                nn.Conv2d(second, third, 3, padding=1),
            ]
        )
        self.deconvs = nn.ModuleList(
            [
                nn.ConvTranspose2d(third, second, *geometry[0]),
                nn.ConvTranspose2d(second, first, *geometry[1]),
                OutputDeconv(first, RGB_CHANNELS, *geometry[2]),
            ]
        )

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) float32 frames."""
        features = lr_frames
        for layer in (*self.convs, *self.deconvs[:-1]):
            features = F.relu(layer(features))
        sr_frames: Tensor = self.deconvs[-1](features)
        return sr_frames


def _config_of(state_dict: StateDict, scale: int | None) -> TransposedConfig:
    """Read the shapes. A last kernel of 3 means x3, as there is no x1; each kernel of 4 doubles."""
    first, second, third = (int(state_dict[f"convs.{index}.weight"].shape[0]) for index in range(3))
    kernels = tuple(int(state_dict[f"deconvs.{index}.weight"].shape[-1]) for index in range(3))
    scale = 3 if kernels[-1] == 3 else 2 ** kernels.count(4)
    return TransposedConfig((first, second, third), scale)


def _facts(config: TransposedConfig) -> ModelFacts:
    return ModelFacts(
        name="transposed",
        scale=config.scale,
        halo_px=_HALO_PX[config.scale],
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=ColorMode.RGB,
    )


TRANSPOSED = Arch(
    name="transposed",
    paper="arXiv:1608.00367",
    first_key="deconvs.0.weight",
    config=TransposedConfig,
    config_of=_config_of,
    build=Transposed,
    facts=_facts,
)
