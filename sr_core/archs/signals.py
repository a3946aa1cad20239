"""What the published classics take and give, and how that is made of the engine's frames."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from sr_core.archs.arch import ColorMode
from sr_core.color import Matrix, rgb_to_yuv, yuv_to_rgb

# Codes of 8 bits, BT.601: black and white lie at 16 and 235.
_STUDIO_BLACK = 16.0 / 255.0
_STUDIO_RANGE = 219.0 / 255.0

# The code of no colour.
_MIDDLE = 128.0 / 255.0


class Signal(StrEnum):
    """A network's own input and output, 8-bit codes divided by 255.

    RGB: R'G'B'. LUMA: Y' with black 0 and white 1. STUDIO_LUMA: Y' with black 16 and white 235, as MATLAB's
    rgb2ycbcr makes it, on which most papers train. YCBCR: luma as before, and chroma around 128 at full
    resolution and full range, as in JPEG.
    """

    RGB = "rgb"
    LUMA = "luma"
    STUDIO_LUMA = "studio luma"
    YCBCR = "ycbcr"

    @classmethod
    def of_channels(cls, num_channels: int) -> Signal:
        """What most networks of as many channels take.

        Raises:
            ValueError: It is neither 1 nor 3.
        """
        if num_channels not in (1, 3):
            raise ValueError(f"{num_channels} channels")
        return cls.STUDIO_LUMA if num_channels == 1 else cls.RGB

    @property
    def num_channels(self) -> int:
        """Of the network's input and output."""
        return self.color_mode.num_channels

    @property
    def color_mode(self) -> ColorMode:
        """Of the frames that it is made of."""
        return ColorMode.LUMA if self in (Signal.LUMA, Signal.STUDIO_LUMA) else ColorMode.RGB

    def of_frames(self, frames: Tensor) -> Tensor:
        """The signal from frames in `color_mode`, (B, C, h, w) both."""
        match self:
            case Signal.STUDIO_LUMA:
                return frames * _STUDIO_RANGE + _STUDIO_BLACK
            case Signal.YCBCR:
                luma, chroma = rgb_to_yuv(frames, Matrix.BT601)
                return torch.cat([luma, chroma + _MIDDLE], 1)
            case _:
                return frames

    def to_frames(self, signal: Tensor) -> Tensor:
        """The inverse of `of_frames`; of YCbCr, what no code can hold is cut off, as in its trainings."""
        match self:
            case Signal.STUDIO_LUMA:
                return (signal - _STUDIO_BLACK) / _STUDIO_RANGE
            case Signal.YCBCR:
                codes = signal.clamp(0.0, 1.0)
                return yuv_to_rgb(codes[:, :1], codes[:, 1:] - _MIDDLE, Matrix.BT601)
            case _:
                return signal
