"""What JPEG does to a picture, without the file: everything between the pixels and the entropy coder.

Specification: ITU-T T.81 (the tables of Annex K, scaled by quality as the Independent JPEG Group does) and
ITU-T T.871 (JFIF: full-range BT.601). Chroma is halved by means of 2x2 and comes back bilinearly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.color import Matrix, rgb_to_yuv, yuv_to_rgb
from sr_core.kernels import Kernel
from sr_core.resample import AxisMap, resample

_BLOCK_PX = 8

# Annex K.1 and K.2, rows of vertical frequency.
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


def jpeg(rgb: Tensor, quality: int) -> Tensor:
    """(B, 3, H, W) R'G'B' 0..1 as a JPEG of `quality` (1 to 100) with 4:2:0 gives it back, in 8 bits."""
    height, width = rgb.shape[-2:]
    padded = F.pad(rgb, (0, -width % (2 * _BLOCK_PX), 0, -height % (2 * _BLOCK_PX)), mode="replicate")
    luma, chroma = rgb_to_yuv(padded, Matrix.BT601)
    luma = _coded(luma * 255 - 128, _steps(_LUMA_STEPS, quality))
    chroma = _coded(F.avg_pool2d(chroma, 2) * 255, _steps(_CHROMA_STEPS, quality))
    axis = AxisMap(Fraction(2))
    chroma = resample(chroma, (luma.shape[-2], luma.shape[-1]), Kernel.BILINEAR, axis, axis)
    decoded = yuv_to_rgb((luma + 128) / 255, chroma / 255, Matrix.BT601)
    return (decoded[..., :height, :width] * 255).round().clamp(0, 255) / 255


def nearest_quality(luma_steps: Sequence[int]) -> int:
    """The quality, 1 to 100, whose steps for luma are in sum nearest to these, whoever's tables they are."""
    sums = {quality: float(_steps(_LUMA_STEPS, quality).sum()) for quality in range(1, 101)}
    return min(sums, key=lambda quality: abs(sums[quality] - sum(luma_steps)))


@lru_cache
def _steps(table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """The quantiser's steps (8, 8) for a quality, those of Annex K being 50's."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(table) * percent + 50) // 100).clamp(1, 255).float()


def _coded(plane: Tensor, steps: Tensor) -> Tensor:
    """Planes (B, C, H, W) of codes around 0, through cosine transform and quantiser and back, as 8 bits."""
    basis, steps = _cosines().to(plane.device), steps.to(plane.device)
    rows, columns = (side // _BLOCK_PX for side in plane.shape[-2:])
    blocks = plane.round().view(-1, rows, _BLOCK_PX, columns, _BLOCK_PX).transpose(2, 3)
    coefficients = ((basis @ blocks @ basis.mT) / steps).round() * steps
    decoded = (basis.mT @ coefficients @ basis).transpose(2, 3).reshape(plane.shape)
    return decoded.round().clamp(-128, 127)


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The orthonormal cosine basis (frequency, place) of T.81 A.3.3."""
    places = (torch.arange(_BLOCK_PX) * 2 + 1) * math.pi / (2 * _BLOCK_PX)
    basis = torch.outer(torch.arange(_BLOCK_PX), places).cos().div_(2)
    basis[0] /= math.sqrt(2)
    return basis
