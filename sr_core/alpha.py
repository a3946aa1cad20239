"""Opacity beside a network: what it hides is kept out of sight, and it is scaled without one.

Alpha is straight: where it is 0, the colours behind it are what the making program left there, often another
colour. A network, like any kernel, mixes neighbours, so these colours would show as fringes along the edges
of what is visible.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.color import PlaneFormat, UnitFrame
from sr_core.kernels import Kernel
from sr_core.resample import AxisMap, resample


def fill_hidden(frame: UnitFrame, plane_format: PlaneFormat) -> UnitFrame:
    """The frame with the colours that alpha hides replaced by their visible surroundings.

    What has any opacity keeps its colours exactly. A chroma sample is hidden when all of its luma samples
    are. A frame with nothing hidden, or nothing visible, stays as it is.

    Args:
        frame: A frame, with or without alpha.
        plane_format: Its subsampling.
    """
    if frame.alpha is None:
        return frame
    visible = frame.alpha > 0
    num_visible = int(visible.sum())
    if num_visible in (0, visible.numel()):
        return frame
    colors, chroma = _filled(frame.colors, visible), frame.chroma
    if chroma is not None:
        block = (1 << plane_format.chroma_h_shift, 1 << plane_format.chroma_w_shift)
        shown = F.max_pool2d(visible.float(), block, ceil_mode=True) > 0
        chroma = _filled(chroma, shown)
    return replace(frame, colors=colors, chroma=chroma)


def scale_alpha(alpha: Tensor, size: tuple[int, int]) -> Tensor:
    """Opacity of another size, (1, 1, *size), within 0..1.

    By Lanczos, whatever the model: networks leave noise in flat opacity, and then what was opaque shines
    through.
    """
    rows, columns = Fraction(size[0], alpha.shape[-2]), Fraction(size[1], alpha.shape[-1])
    return resample(alpha, size, Kernel.LANCZOS, AxisMap(rows), AxisMap(columns)).clamp(0.0, 1.0)


def _filled(samples: Tensor, visible: Tensor) -> Tensor:
    """Samples (1, C, h, w) with those that are not visible, (1, 1, h, w), made of those that are.

    Pull-push (Gortler et al. 1996, "The Lumigraph"): the means of what is visible in 2 x 2 samples make a
    frame of half the size, which is filled in the same way, down to one sample; its bilinear enlargement
    fills the holes. All of it works on whole planes and gives the same bits every time.
    """
    height, width = samples.shape[-2:]
    if height == width == 1:
        return samples
    even = (0, width % 2, 0, height % 2)
    weights = F.avg_pool2d(F.pad(visible.to(samples.dtype), even), 2)
    sums = F.avg_pool2d(F.pad(samples.where(visible, 0.0), even), 2)
    halved = _filled(sums.div_(weights.clamp(min=0.25)), weights > 0)
    around = F.interpolate(halved, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.where(visible, samples, around[..., :height, :width])
