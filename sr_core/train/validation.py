"""How good a network is on pictures that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import fmean

import torch
from torch import Tensor, nn

from sr_core.archs.arch import ColorMode
from sr_core.color import Matrix, rgb_to_yuv
from sr_core.metrics.lpips import Lpips
from sr_core.metrics.psnr import psnr, studio_luma, without_border
from sr_core.metrics.ssim import ssim


@dataclass(frozen=True)
class Pair:
    """Pictures, (B, 3, h, w) and (B, 3, scale * h, scale * w), R'G'B' 0..1 of 8 bits; one to measure on."""

    lr_frame: Tensor
    hr_frame: Tensor


class Measure(StrEnum):
    """What networks are compared by: more of PSNR_Y and SSIM_Y is better, and less of LPIPS."""

    PSNR_Y = "psnr_y"
    SSIM_Y = "ssim_y"
    LPIPS = "lpips"


@dataclass(frozen=True)
class Figures:
    """Means over the pictures.

    Attributes:
        psnr_y: dB of luma, by the papers' protocol: a border of `scale` pixels is left out.
        ssim_y: Of the same.
        lpips: Of whole pictures, or of grey ones for networks that see luma alone. None if not measured.
    """

    psnr_y: float
    ssim_y: float
    lpips: float | None = None

    def __str__(self) -> str:
        lpips = "" if self.lpips is None else f", LPIPS {self.lpips:.4f}"
        return f"{self.psnr_y:.3f} dB of luma, SSIM {self.ssim_y:.4f}{lpips}"

    def numbers(self) -> dict[str, float]:
        """Those that were measured, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def is_better(self, other: Figures, measure: Measure) -> bool:
        """Whether these are better than `other` by a measure, which these have."""
        own, others = self.numbers()[measure], other.numbers().get(measure)
        if others is None:
            return True
        return own < others if measure is Measure.LPIPS else own > others


def as_seen(frames: Tensor, mode: ColorMode) -> Tensor:
    """R'G'B' frames (B, 3, h, w) as a network of that colour mode sees them.

    Luma is BT.601's whatever the primaries are, as the engine gives it to such networks.
    """
    return frames if mode is ColorMode.RGB else rgb_to_yuv(frames, Matrix.BT601)[0]


@torch.inference_mode()
def measure(
    network: nn.Module, mode: ColorMode, pairs: Sequence[Pair], scale: int, lpips: Lpips | None = None
) -> Figures:
    """Runs `network`, which is in evaluation mode, over whole pictures.

    Args:
        network: On the device of the pairs, as is `lpips`.
        mode: What it sees.
        pairs: Of which means are taken.
        scale: HR size / LR size.
        lpips: Measured too, if there is one.
    """
    values = [_figures(network, mode, pair, scale, lpips) for pair in pairs]
    return Figures(
        fmean(each.psnr_y for each in values),
        fmean(each.ssim_y for each in values),
        None if lpips is None else fmean(each.lpips or 0.0 for each in values),
    )


def _figures(network: nn.Module, mode: ColorMode, pair: Pair, scale: int, lpips: Lpips | None) -> Figures:
    sr_frame = network(as_seen(pair.lr_frame, mode)).clamp(0, 1)
    distance = None
    if lpips is not None:
        both = (sr_frame.expand(-1, 3, -1, -1), as_seen(pair.hr_frame, mode).expand(-1, 3, -1, -1))
        distance = float(lpips(*both))
    if mode is ColorMode.RGB:
        sr_luma = studio_luma((sr_frame * 255).round() / 255)
    else:
        sr_luma = (16 + 219 * sr_frame) / 255
    hr_luma = studio_luma(pair.hr_frame)
    sr_luma, hr_luma = (without_border(luma, scale).double() for luma in (sr_luma, hr_luma))
    return Figures(float(psnr(sr_luma, hr_luma)), float(ssim(sr_luma, hr_luma)), distance)
