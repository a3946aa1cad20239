"""Making low-resolution frames of high-resolution ones, the way that papers do, and by named degradations.

Everything here is centred: an LR pixel lies in the middle of the HR pixels that it stands for.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.jpeg import jpeg
from sr_core.kernels import Kernel
from sr_core.resample import AxisMap, resample

_BLUR_SIGMA_PX = 1.6
_BLUR_REACH_PX = 4
_NOISE_SIGMA = 10 / 255
_JPEG_QUALITY = 50


class Degradation(StrEnum):
    """How HR frames become LR frames, which are rounded to 8 bits in the end.

    BICUBIC: as MATLAB's imresize does. BLUR: a Gaussian with a sigma of 1.6 HR pixels, of which every
    scale-th value is taken. NOISE: bicubic, then Gaussian noise with a sigma of 10/255 on each channel. JPEG:
    bicubic, then a JPEG of quality 50 with 4:2:0.
    """

    BICUBIC = "bicubic"
    BLUR = "blur"
    NOISE = "noise"
    JPEG = "jpeg"


def mod_crop(hr_frames: Tensor, scale: int) -> Tensor:
    """The frames (…, H, W) without what is left over at the bottom and right of whole LR pixels."""
    height, width = hr_frames.shape[-2:]
    return hr_frames[..., : height - height % scale, : width - width % scale]


def shrink(hr_frames: Tensor, scale: int) -> Tensor:
    """(B, C, H / scale, W / scale) from (B, C, H, W) float32, whose sides are multiples of `scale`.

    MATLAB's imresize with bicubic: Keys' kernel with a = -0.5, widened by the scale, the frame being mirrored
    at its edges. Neither rounded nor clamped.
    """
    axis, margin = AxisMap(Fraction(1, scale)), Kernel.BICUBIC.radius
    height, width = (side // scale for side in hr_frames.shape[-2:])
    wider = _mirrored(_mirrored(hr_frames, -2, margin * scale), -1, margin * scale)
    lr_frames = resample(wider, (height + 2 * margin, width + 2 * margin), Kernel.BICUBIC, axis, axis)
    return lr_frames[..., margin : margin + height, margin : margin + width]


def _mirrored(frames: Tensor, dim: int, margin_px: int) -> Tensor:
    """The frames going on at both ends of an axis, with the outermost pixel twice."""
    size = frames.shape[dim]
    places = torch.arange(-margin_px, size + margin_px, device=frames.device) % (2 * size)
    return frames.index_select(dim, torch.minimum(places, 2 * size - 1 - places))


def rounded(frames: Tensor) -> Tensor:
    """The nearest values with 8 bits, 0..1."""
    return (frames * 255).round().clamp(0, 255) / 255


def degrade(hr_frames: Tensor, scale: int, degradation: Degradation, seed: int) -> Tensor:
    """LR frames of (B, 3, H, W) float32 R'G'B' 0..1, whose sides are multiples of `scale`.

    Args:
        hr_frames: The truth.
        scale: HR size / LR size.
        degradation: How.
        seed: Of the noise; the same one gives the same frames on every machine.

    Returns:
        (B, 3, H / scale, W / scale) with 8-bit values, 0..1.
    """
    match degradation:
        case Degradation.BICUBIC:
            return rounded(shrink(hr_frames, scale))
        case Degradation.BLUR:
            return rounded(_blurred(hr_frames, scale))
        case Degradation.NOISE:
            lr_frames = shrink(hr_frames, scale)
            noise = torch.randn(lr_frames.shape, generator=torch.Generator().manual_seed(seed))
            return rounded(lr_frames + _NOISE_SIGMA * noise.to(lr_frames.device))
        case Degradation.JPEG:
            return jpeg(rounded(shrink(hr_frames, scale)), _JPEG_QUALITY)


def _blurred(hr_frames: Tensor, scale: int) -> Tensor:
    """A Gaussian around the middle of each LR pixel."""
    num_taps = scale + 2 * _BLUR_REACH_PX
    places = torch.arange(num_taps, device=hr_frames.device) - (num_taps - 1) / 2
    weights = (-places.square() / (2 * _BLUR_SIGMA_PX**2)).exp()
    num_channels = hr_frames.shape[1]
    column = (weights / weights.sum()).view(1, 1, -1, 1).expand(num_channels, -1, -1, -1)
    padded = F.pad(hr_frames, [_BLUR_REACH_PX] * 4, mode="replicate")
    rows = F.conv2d(padded, column, stride=(scale, 1), groups=num_channels)
    return F.conv2d(rows, column.mT, stride=(1, scale), groups=num_channels)
