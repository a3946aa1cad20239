"""What an architecture tells about itself: the type that every network file fills in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from sr_core.kernels import Kernel


class ColorMode(StrEnum):
    """What the channels of a network's input and output are; floats, nominally 0..1 (chroma -0.5..0.5).

    RGB: R'G'B'. LUMA: Y' alone; chroma is interpolated. YUV420: at half resolution, the 2x2 luma samples of a
    chroma sample in reading order, then Cb and Cr.
    """

    RGB = "rgb"
    LUMA = "luma"
    YUV420 = "yuv420"

    @property
    def num_channels(self) -> int:
        """Channels of input and output."""
        return {ColorMode.RGB: 3, ColorMode.LUMA: 1, ColorMode.YUV420: 6}[self]


@dataclass(frozen=True)
class ModelFacts:
    """What the engine must know about a network.

    Attributes:
        name: For people and reports.
        scale: Output pixels per input pixel on each axis.
        halo_px: Input pixels of context after which a pixel of the result no longer changes.
        size_multiple: Height and width of the input must be multiples of this.
        dtypes: What the network's body may run in.
        color_mode: Channels of input and output.
        chroma_kernel: Kernel for the chroma beside a `LUMA` network.
    """

    name: str
    scale: int
    halo_px: int
    size_multiple: int
    dtypes: tuple[torch.dtype, ...]
    color_mode: ColorMode
    chroma_kernel: Kernel = Kernel.LANCZOS


class Network(nn.Module, ABC):
    """A network with float32 at both ends: (B, C, h, w) -> (B, C, scale * h, scale * w)."""

    @abstractmethod
    def set_body_dtype(self, dtype: torch.dtype) -> None:
        """Run the body in `dtype` from now on; the skip path and the last layer stay in float32."""

    @abstractmethod
    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale float32 frames to float32 frames."""


@dataclass(frozen=True)
class Arch:
    """One family of networks.

    Attributes:
        name: Short and lower-case.
        paper: Where it was published.
        first_key: A key that all its weights have, to name in errors.
        matches: Whether a state_dict is of this family.
        config_of: The hyper-parameters, read from the shapes of a state_dict.
        build: An untrained network from hyper-parameters.
        facts: What the engine must know about that network.
    """

    name: str
    paper: str
    first_key: str
    matches: Callable[[Mapping[str, Tensor]], bool]
    config_of: Callable[[Mapping[str, Tensor]], Any]
    build: Callable[[Any], Network]
    facts: Callable[[Any], ModelFacts]
