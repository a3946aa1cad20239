"""How good a network is on pictures that it is not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from sr_core.archs.arch import ColorMode
from sr_core.color import Matrix, rgb_to_yuv
from sr_core.metrics.lpips import Lpips
from sr_core.metrics.psnr import psnr, studio_luma, without_border
from sr_core.metrics.ssim import ssim
from sr_core.train.measures import Figures, Measure


@dataclass(frozen=True)
class Pair:
    """Pictures, (B, 3, h, w) and (B, 3, scale * h, scale * w), R'G'B' 0..1 of 8 bits; one to measure on.

    LR may be clips, (B, T, 3, h, w): then HR are their middle frames.
    """

    lr_frame: Tensor
    hr_frame: Tensor


def as_seen(frames: Tensor, mode: ColorMode) -> Tensor:
    """R'G'B' frames (B, 3, h, w), or clips (B, T, 3, h, w), as a network of that colour mode sees them.

    Luma is BT.601's whatever the primaries are, as the engine gives it to such networks.
    """
    if mode is ColorMode.RGB:
        return frames
    luma, _ = rgb_to_yuv(frames.reshape(-1, *frames.shape[-3:]), Matrix.BT601)
    return luma.view(*frames.shape[:-3], *luma.shape[-3:])


@torch.inference_mode()
def measure(
    network: nn.Module, mode: ColorMode, pairs: Iterable[Pair], scale: int, lpips: Lpips | None = None
) -> Figures:
    """Runs `network`, which is in evaluation mode, over whole pictures.

    Args:
        network: On the device of the pairs, as is `lpips`.
        mode: What it sees.
        pairs: Of which means are taken.
        scale: HR size / LR size.
        lpips: Measured too, if there is one.

    Returns:
        Of luma, by the papers' protocol: a border of `scale` pixels is left out. LPIPS is of whole pictures,
        of grey ones for networks that see luma alone.
    """
    values = [_figures(network, mode, pair, scale, lpips) for pair in pairs]
    return {measure: fmean(each[measure] for each in values) for measure in values[0]}


def _figures(network: nn.Module, mode: ColorMode, pair: Pair, scale: int, lpips: Lpips | None) -> Figures:
    sr_frame = network(as_seen(pair.lr_frame, mode)).clamp(0, 1)
    if mode is ColorMode.RGB:
        sr_luma = studio_luma((sr_frame * 255).round() / 255)
    else:
        sr_luma = (16 + 219 * sr_frame) / 255
    hr_luma = studio_luma(pair.hr_frame)
    lumas = [without_border(luma, scale).double() for luma in (sr_luma, hr_luma)]
    figures: dict[str, float] = {Measure.PSNR_Y: float(psnr(*lumas)), Measure.SSIM_Y: float(ssim(*lumas))}
    if lpips is not None:
        both = (sr_frame.expand(-1, 3, -1, -1), as_seen(pair.hr_frame, mode).expand(-1, 3, -1, -1))
        figures[Measure.LPIPS] = float(lpips(*both))
    return figures
