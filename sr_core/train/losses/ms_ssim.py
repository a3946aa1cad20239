"""Multi-scale structural similarity.

Paper: Multi-Scale Structural Similarity for Image Quality Assessment, Wang et al. 2003 (Asilomar), with the
weights of its five scales.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.metrics.ssim import WINDOW_PX, similarity_maps

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# Where structures are opposed, a similarity is negative, and a power of that is not real. At 0 itself, the
# power's gradient would be infinite.
_SMALLEST = 1e-4


def num_scales(height: int, width: int) -> int:
    """How many scales, each half the one before, are still as large as one window of SSIM: 0 to 5."""
    sizes = (min(height, width) >> scale for scale in range(len(_WEIGHTS)))
    return sum(size >= WINDOW_PX for size in sizes)


def ms_ssim(sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
    """(B,) similarity, 1 for equal pictures, between (B, C, H, W) with values 0..1.

    Each channel is compared by itself; scales come of each other by means of 2x2 pixels. From 176 pixels on
    each side, it is the paper's measure. Smaller pictures are compared at the scales that they have, with the
    weights of those made 1 in sum: four from 88 pixels, three from 44. Both sides must be at least
    `WINDOW_PX` long.
    """
    x, y = sr_frames, hr_frames
    scales = num_scales(*x.shape[-2:])
    similarities = list[Tensor]()
    for scale in range(scales):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        luminance, structure = similarity_maps(x, y)
        compared = luminance * structure if scale == scales - 1 else structure
        similarities.append(compared.mean((2, 3)))
    weights = torch.tensor(_WEIGHTS[:scales], dtype=x.dtype, device=x.device)
    exponents = (weights / weights.sum()).view(-1, 1, 1)
    logs = torch.stack(similarities).clamp(min=_SMALLEST).log()
    return (exponents * logs).sum(0).exp().mean(1)
