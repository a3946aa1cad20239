"""Losses that compare pixels with the truth's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.errors import SpecError
from sr_core.metrics.ssim import WINDOW_PX, ssim
from sr_core.train.losses.ms_ssim import ms_ssim
from sr_core.train.losses.named import named
from sr_core.train.losses.precision import full_precision, widened
from sr_core.train.losses.weighted import Term

CHARBONNIER_EPSILON = 1e-3
"""Difference of values below which Charbonnier's loss is rather a square than an absolute value."""


@dataclass(frozen=True)
class PixelLoss:
    """One way to compare; always computed in float32 or wider, under autocast too.

    Attributes:
        name: As users write it.
        paper: Where it is from.
        measure: Scalar of two (B, C, H, W) of values 0..1.
        smallest_px: Length that both sides must have at least.
    """

    name: str
    paper: str
    measure: Callable[[Tensor, Tensor], Tensor]
    smallest_px: int = 1

    def __call__(self, sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
        """The loss, a scalar: mean over frames, of (B, C, H, W) of any dtype and nominally 0..1.

        Raises:
            SpecError: The frames differ in shape, or are too small.
        """
        if sr_frames.shape != hr_frames.shape:
            raise SpecError(
                "Frames of different shapes cannot be compared",
                where=f"pixel loss {self.name}",
                got=f"{tuple(sr_frames.shape)} and {tuple(hr_frames.shape)}",
                next_step="the truth must be the network's scale times its input",
            )
        height, width = sr_frames.shape[-2:]
        if min(height, width) < self.smallest_px:
            raise SpecError(
                "The frames are too small for a loss",
                where=f"pixel loss {self.name}",
                got=f"{width}x{height}",
                expected=f"at least {self.smallest_px}x{self.smallest_px}",
                next_step="train on larger crops, or without this loss",
            )
        with full_precision(sr_frames):
            return self.measure(widened(sr_frames), widened(hr_frames))


def _charbonnier(sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
    return ((sr_frames - hr_frames).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def _ssim(sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
    return 1 - ssim(sr_frames, hr_frames).mean()


def _ms_ssim(sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
    return 1 - ms_ssim(sr_frames, hr_frames).mean()


def _fft(sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(sr_frames - hr_frames, norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()


L1 = PixelLoss("l1", "arXiv:1511.08861", F.l1_loss)
"""Mean absolute difference."""

MSE = PixelLoss("mse", "arXiv:1501.00092", F.mse_loss)
"""Mean squared difference."""

CHARBONNIER = PixelLoss("charbonnier", "arXiv:1704.03915", _charbonnier)
"""Mean of sqrt(difference ** 2 + epsilon ** 2): `CHARBONNIER_EPSILON`, not 0, for equal frames."""

SSIM = PixelLoss("ssim", "arXiv:1511.08861", _ssim, WINDOW_PX)
"""1 - SSIM: 0 for equal frames, up to 2."""

MS_SSIM = PixelLoss("ms_ssim", "arXiv:1511.08861", _ms_ssim, WINDOW_PX)
"""1 - MS-SSIM, 0..1; crops below 176 pixels are compared at fewer than five scales."""

FFT = PixelLoss("fft", "arXiv:2108.05054", _fft)
"""Mean absolute difference of the real and the imaginary parts of the spectra, as MIMO-UNet has it.

The transform is orthonormal: white noise in the frames counts the same at any size. Published recipes leave
it unnormalised; their weights times sqrt(H * W) of the crops are the same here. Of a spectrum that is
symmetric, only the half with distinct values is compared.
"""

PIXEL_LOSSES = (L1, MSE, CHARBONNIER, SSIM, MS_SSIM, FFT)


def pixel_terms(weights: Mapping[str, float]) -> tuple[Term, ...]:
    """Terms of a `WeightedLoss` from weights by the names of `PIXEL_LOSSES`, in the order given.

    Raises:
        SpecError: A name is unknown, or a weight not finite and above 0.
    """
    losses = {loss.name: loss for loss in PIXEL_LOSSES}
    return tuple(Term(name, weight, named(name, losses, "pixel loss")) for name, weight in weights.items())
