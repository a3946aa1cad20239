"""SRCNN: three convolutions over the picture after bicubic enlargement.

Paper: Image Super-Resolution Using Deep Convolutional Networks, Dong et al. 2014 (arXiv:1501.00092).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import ALL_DTYPES, Arch, Form, ModelFacts, Network, StateDict
from sr_core.archs.ends import InputConv, OutputConv
from sr_core.archs.enlarge import enlarge, enlarged_reach_px
from sr_core.archs.keys import renamed
from sr_core.archs.signals import Signal
from sr_core.archs.untold import scale_asked_for
from sr_core.kernels import Kernel

_NUM_TENSORS = 6


@dataclass(frozen=True)
class SrcnnConfig:
    """Hyper-parameters.

    Attributes:
        num_feats: Channels after the first and after the second convolution.
        kernels: Sides of the three kernels in pixels, odd; 9-1-5 and 9-5-5 in the paper.
        scale: HR size / LR size.
        signal: What the first convolution sees.
        padded: Whether each convolution adds zeros around its input, as in most trainings. Otherwise they
            were trained on nothing but the picture, and its edges are repeated once, before the first.
    """

    num_feats: tuple[int, int] = (64, 32)
    kernels: tuple[int, int, int] = (9, 5, 5)
    scale: int = 2
    signal: Signal = Signal.STUDIO_LUMA
    padded: bool = True

    @property
    def radius_px(self) -> int:
        """What the three kernels reach together, in pixels of the enlarged picture."""
        return sum(side // 2 for side in self.kernels)


class Srcnn(Network):
    """Patch extraction, non-linear mapping and reconstruction, all in high resolution."""

    def __init__(self, config: SrcnnConfig) -> None:
        super().__init__()
        self.scale, self.signal = config.scale, config.signal
        self.edge_px = 0 if config.padded else config.radius_px
        num_channels, (wide, narrow) = config.signal.num_channels, config.num_feats
        first, second, third = config.kernels
        padding = [side // 2 if config.padded else 0 for side in config.kernels]
        self.extract = InputConv(num_channels, wide, first, padding=padding[0])
        self.map = nn.Conv2d(wide, narrow, second, padding=padding[1])
        self.reconstruct = OutputConv(narrow, num_channels, third, padding=padding[2])

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, C, h, w) float32 frames."""
        picture = enlarge(self.signal.of_frames(lr_frames), self.scale, Kernel.BICUBIC)
        features = F.relu(self.extract(F.pad(picture, (self.edge_px,) * 4, mode="replicate")))
        return self.signal.to_frames(self.reconstruct(F.relu(self.map(features))))


def _config_of(state_dict: StateDict, scale: int | None) -> SrcnnConfig:
    layers = [state_dict[f"{name}.weight"] for name in ("extract", "map", "reconstruct")]
    wide, num_channels = layers[0].shape[:2]
    narrow, back = layers[1].shape[0], layers[2].shape[0]
    if back != num_channels or len(state_dict) != _NUM_TENSORS:
        raise ValueError(f"{len(state_dict)} tensors, {num_channels} channels to {back}")
    first, second, third = (layer.shape[-1] for layer in layers)
    return SrcnnConfig(
        (wide, narrow),
        (first, second, third),
        scale_asked_for(scale),
        Signal.of_channels(num_channels),
    )


def _facts(config: SrcnnConfig) -> ModelFacts:
    return ModelFacts(
        name="srcnn",
        scale=config.scale,
        halo_px=enlarged_reach_px(config.scale, Kernel.BICUBIC, config.radius_px),
        size_multiple=1,
        dtypes=ALL_DTYPES,
        color_mode=config.signal.color_mode,
        chroma_kernel=Kernel.BICUBIC,
    )


def _yjn870(state_dict: StateDict) -> StateDict:
    return renamed(
        state_dict,
        (r"conv1\.(weight|bias)", r"extract.\1"),
        (r"conv2\.(weight|bias)", r"map.\1"),
        (r"conv3\.(weight|bias)", r"reconstruct.\1"),
    )


def _lornatang(state_dict: StateDict) -> StateDict:
    return renamed(
        state_dict,
        (r"features\.0\.(weight|bias)", r"extract.\1"),
        (r"map\.0\.(weight|bias)", r"map.\1"),
        (r"reconstruction\.(weight|bias)", r"reconstruct.\1"),
    )


def _nhat_thanh(state_dict: StateDict) -> StateDict:
    return renamed(
        state_dict,
        (r"patch_extraction\.(weight|bias)", r"extract.\1"),
        (r"nonlinear_map\.(weight|bias)", r"map.\1"),
        (r"recon\.(weight|bias)", r"reconstruct.\1"),
    )


SRCNN = Arch(
    name="srcnn",
    paper="arXiv:1501.00092",
    first_key="extract.weight",
    config=SrcnnConfig,
    config_of=_config_of,
    build=Srcnn,
    facts=_facts,
    forms=(
        Form("framelift"),
        Form("yjn870", _yjn870),
        Form("Lornatang", _lornatang),
        Form("Nhat-Thanh", _nhat_thanh, (("signal", Signal.YCBCR), ("padded", False))),
    ),
)
