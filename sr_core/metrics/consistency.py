"""Whether an upscaled picture, made small again, is the picture that it was made of."""

from __future__ import annotations

from torch import Tensor

from sr_core.metrics.psnr import psnr
from sr_core.shrink import shrink


def consistency(sr_frames: Tensor, lr_frames: Tensor, scale: int) -> Tensor:
    """(B,) dB between LR frames (B, 3, h, w) and SR frames (B, 3, scale * h, scale * w), shrunk by bicubic.

    The whole picture counts, and nothing is rounded. It is high where a network has only added what shrinking
    takes away; LR frames that were not made by bicubic set a limit to it.
    """
    return psnr(shrink(sr_frames, scale), lr_frames)
