"""What an architecture tells about itself: the types that every network file fills in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from sr_core.archs.ends import set_dtype
from sr_core.kernels import Kernel

StateDict = Mapping[str, Tensor]

ALL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

# Of networks all of whose layers carry the picture itself: in bf16, any one of them shifts smooth colours by
# some codes of 10 bits.
WITHOUT_BF16 = (torch.float32, torch.float16)


class ColorMode(StrEnum):
    """What the channels of a network's input and output are; floats, nominally 0..1 (chroma -0.5..0.5).

    RGB: R'G'B'. LUMA: Y' alone; chroma is interpolated. YUV420: at half resolution, the 2x2 luma samples of a
    chroma sample in reading order, then Cb and Cr. What else a network wants, as values up to 255 or YCbCr at
    full resolution, it makes of these itself.
    """

    RGB = "rgb"
    LUMA = "luma"
    YUV420 = "yuv420"

    @property
    def num_channels(self) -> int:
        """Channels of input and output."""
        return {ColorMode.RGB: 3, ColorMode.LUMA: 1, ColorMode.YUV420: 6}[self]


RGB_CHANNELS = ColorMode.RGB.num_channels


@dataclass(frozen=True)
class ModelFacts:
    """What the engine must know about a network.

    Attributes:
        name: For people and reports.
        scale: Output pixels per input pixel on each axis.
        halo_px: Input pixels of context after which a pixel of the result no longer changes; None where
            every pixel of the frame matters to every other, so that tiles would change the result.
        size_multiple: Height and width of the input must be multiples of this.
        dtypes: What the network's body may run in.
        color_mode: Channels of input and output.
        chroma_kernel: Kernel for the chroma beside a `LUMA` network.
        is_linear: Whether it only adds up what it sees, so that values beyond black and white do it no harm.
        frames_before: How many frames before the one that is upscaled the network sees with it.
        frames_after: How many after it.
    """

    name: str
    scale: int
    halo_px: int | None
    size_multiple: int
    dtypes: tuple[torch.dtype, ...]
    color_mode: ColorMode
    chroma_kernel: Kernel = Kernel.LANCZOS
    frames_before: int = 0
    frames_after: int = 0
    is_linear: bool = False

    @property
    def num_frames(self) -> int:
        """How many frames the network sees at once."""
        return self.frames_before + 1 + self.frames_after


class Network(nn.Module, ABC):
    """A network with float32 at both ends: (B, C, h, w) -> (B, C, scale * h, scale * w).

    One that sees several frames takes (B, T, C, h, w), in the order of their times.
    """

    def set_body_dtype(self, dtype: torch.dtype) -> None:
        """Run the body in `dtype` from now on.

        The last layer stays in float32, and so does what goes past the body straight to it: the picture that
        is added at the end, or the features of a `SkipConv`. A skip whose sum is upsampled by further layers,
        as in EDSR, is of the body.
        """
        set_dtype(self, dtype)

    @abstractmethod
    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale float32 frames to float32 frames."""


class ScaleUntold(ValueError):  # noqa: N818 - nothing is wrong with the weights
    """Weights are for any scale, or for several, and none of those was asked for.

    Attributes:
        scales: Those that they are for; empty if it may be any.
    """

    def __init__(self, scales: tuple[int, ...] = ()) -> None:
        super().__init__(f"for {', '.join(map(str, scales)) or 'any scale'}")
        self.scales = scales


@dataclass(frozen=True)
class Form:
    """One way in which weights of an architecture were published.

    Attributes:
        name: Whose, for people.
        own: The tensors under the keys of the network here; whatever it does not know, it leaves as it is.
        config: Hyper-parameters that leave no trace in the tensors and are known of whoever published them.
    """

    name: str
    own: Callable[[StateDict], StateDict] = dict
    config: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Arch:
    """One family of networks.

    Attributes:
        name: Short and lower-case.
        paper: Where it was published.
        first_key: A key that all its weights have, to name in errors.
        config: The type of its hyper-parameters, a dataclass with a default for each.
        config_of: Those, read from the shapes of a state_dict under the network's own keys. It
            may raise KeyError, IndexError or ValueError where they are not of this family. Whether all keys
            and shapes are the network's is compared afterwards. The other argument is the scale that the user
            asked for, if any, which counts only where the weights do not tell: there, `ScaleUntold` asks.
        build: An untrained network from hyper-parameters.
        facts: What the engine must know about that network.
        forms: In which its weights are found, the most usual first.
    """

    name: str
    paper: str
    first_key: str
    config: type
    config_of: Callable[[StateDict, int | None], Any]
    build: Callable[[Any], Network]
    facts: Callable[[Any], ModelFacts]
    forms: tuple[Form, ...] = (Form("framelift"),)
