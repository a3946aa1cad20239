"""Peak signal-to-noise ratio, and the luma and the border that papers measure it with."""

from __future__ import annotations

import torch
from torch import Tensor

# MATLAB's rgb2ycbcr in floats: ITU-R BT.601-7 with the codes 16 to 235.
_BLACK = 16.0
_RGB_WEIGHTS = (65.481, 128.553, 24.966)

# Below this, a picture is as good as equal: 100 dB, which unlike infinity has a mean and a place in JSON.
_LEAST_ERROR = 1e-10


def studio_luma(rgb: Tensor) -> Tensor:
    """(B, 1, H, W) luma from (B, 3, H, W) R'G'B' 0..1: black is 16/255 and white 235/255; not rounded."""
    weights = torch.tensor(_RGB_WEIGHTS, dtype=rgb.dtype, device=rgb.device).view(3, 1, 1)
    return (rgb * weights).sum(1, keepdim=True).add(_BLACK).div(255)


def without_border(picture: Tensor, border_px: int) -> Tensor:
    """A picture (…, H, W) without `border_px` pixels at each side, whose results hang on padding."""
    height, width = picture.shape[-2:]
    return picture[..., border_px : height - border_px, border_px : width - border_px]


def psnr(sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
    """(B,) dB between pictures (B, C, H, W) with a peak of 1, in their own precision; 100 at most."""
    error = (sr_frames - hr_frames).square().flatten(1).mean(1)
    return error.clamp_min(_LEAST_ERROR).log10().mul(-10)
