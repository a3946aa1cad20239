"""Structural similarity.

Paper: Image Quality Assessment: From Error Visibility to Structural Similarity, Wang et al. 2004; as its
authors' code and the super-resolution papers measure it: no subsampling, and windows within the picture only.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW_PX = 11

_SIGMA_PX = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def ssim(sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
    """(B,) mean similarity, 1 for equal pictures, between (B, C, H, W) with values 0..1.

    Each channel is compared by itself. Both sides must be at least `WINDOW_PX` long. Variances are small
    differences of large numbers: figures for papers are taken in float64.
    """
    x, y = sr_frames, hr_frames
    means = _windowed(torch.cat([x, y, x * x, y * y, x * y], 1))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = means.chunk(5, 1)
    variance_x, variance_y = mean_xx - mean_x.square(), mean_yy - mean_y.square()
    covariance = mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return torch.mul(luminance, structure).flatten(1).mean(1)


def _windowed(planes: Tensor) -> Tensor:
    """Gaussian-weighted means of (B, C, H, W) over all windows: (B, C, H - 10, W - 10)."""
    places = torch.arange(WINDOW_PX, dtype=planes.dtype, device=planes.device) - WINDOW_PX // 2
    weights = (-places.square() / (2 * _SIGMA_PX**2)).exp()
    weights = weights / weights.sum()
    column = weights.view(1, 1, -1, 1)
    means = F.conv2d(F.conv2d(planes.flatten(0, 1).unsqueeze(1), column), column.mT)
    return means.view(*planes.shape[:2], *means.shape[-2:])
