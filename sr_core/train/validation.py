"""How good a network is on pictures that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from sr_core.archs.arch import ColorMode
from sr_core.color import Matrix, rgb_to_yuv
from sr_core.metrics.psnr import psnr, studio_luma, without_border
from sr_core.metrics.ssim import ssim


@dataclass(frozen=True)
class Pair:
    """One picture, (1, 3, h, w) and (1, 3, scale * h, scale * w), R'G'B' 0..1 of 8 bits."""

    lr_frame: Tensor
    hr_frame: Tensor


@dataclass(frozen=True)
class Figures:
    """Means over the pictures.

    Attributes:
        psnr_y: dB of luma, by the papers' protocol: a border of `scale` pixels is left out.
        ssim_y: Of the same.
    """

    psnr_y: float
    ssim_y: float


def as_seen(frames: Tensor, mode: ColorMode) -> Tensor:
    """R'G'B' frames (B, 3, h, w) as a network of that colour mode sees them.

    Luma is BT.601's whatever the primaries are, as the engine gives it to such networks.
    """
    return frames if mode is ColorMode.RGB else rgb_to_yuv(frames, Matrix.BT601)[0]


@torch.inference_mode()
def measure(network: nn.Module, mode: ColorMode, pairs: Sequence[Pair], scale: int) -> Figures:
    """Runs `network`, which is in evaluation mode, over whole pictures."""
    values = [_figures(network, mode, pair, scale) for pair in pairs]
    return Figures(fmean(psnr_y for psnr_y, _ in values), fmean(ssim_y for _, ssim_y in values))


def _figures(network: nn.Module, mode: ColorMode, pair: Pair, scale: int) -> tuple[float, float]:
    sr_frame = network(as_seen(pair.lr_frame, mode)).clamp(0, 1)
    if mode is ColorMode.RGB:
        sr_luma = studio_luma((sr_frame * 255).round() / 255)
    else:
        sr_luma = (16 + 219 * sr_frame) / 255
    hr_luma = studio_luma(pair.hr_frame)
    sr_luma, hr_luma = (without_border(luma, scale).double() for luma in (sr_luma, hr_luma))
    return float(psnr(sr_luma, hr_luma)), float(ssim(sr_luma, hr_luma))
