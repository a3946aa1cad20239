"""Structural similarity.

Paper: Image Quality Assessment: From Error Visibility to Structural Similarity, Wang et al. 2004; as its
authors' code and the super-resolution papers measure it: no subsampling, and windows within the picture only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WINDOW_PX = 11

_SIGMA_PX = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def ssim(sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
    """(B,) mean similarity, 1 for equal pictures, between (B, C, H, W) with values 0..1.

    Each channel is compared by itself. Both sides must be at least `WINDOW_PX` long. Variances are small
    differences of large numbers: figures for papers are taken in float64.
    """
    luminance, structure = similarity_maps(sr_frames, hr_frames)
    return torch.mul(luminance, structure).flatten(1).mean(1)


def similarity_maps(sr_frames: Tensor, hr_frames: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of SSIM, luminance and structure with contrast, (B, C, H - 10, W - 10) each."""
    x, y = sr_frames, hr_frames
    means = _windowed(torch.cat([x, y, x * x, y * y, x * y], 1))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = means.chunk(5, 1)
    variance_x, variance_y = mean_xx - mean_x.square(), mean_yy - mean_y.square()
    covariance = mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    return luminance, (2 * covariance + _C2) / (variance_x + variance_y + _C2)


def _windowed(planes: Tensor) -> Tensor:
    """Gaussian-weighted means of (B, C, H, W) over all windows: (B, C, H - 10, W - 10)."""
    weights = [
        math.exp(-(place**2) / (2 * _SIGMA_PX**2)) for place in range(-(WINDOW_PX // 2), WINDOW_PX // 2 + 1)
    ]
    total = sum(weights)
    for axis in (2, 3):
        length = planes.shape[axis] - WINDOW_PX + 1
        # On the CPU, sums of shifted planes take less than a tenth of the time of a convolution by groups.
        means = planes.narrow(axis, 0, length) * (weights[0] / total)
        for place, weight in enumerate(weights[1:], start=1):
            means = torch.add(means, planes.narrow(axis, place, length), alpha=weight / total)
        planes = means
    return planes
