"""A picture of a batch to look at."""

from __future__ import annotations

import torch
from torch import Tensor

_GAP_PX = 4
_GAP_CODE = 128


def sheet(hr_frames: Tensor, lr_frames: Tensor, num_across: int = 4) -> Tensor:
    """Pairs of truth and degraded frame in rows; LR pixels are shown as squares.

    Args:
        hr_frames: (B, 3, H, W) float32 R'G'B', 0..1.
        lr_frames: (B, 3, H / scale, W / scale).
        num_across: Pairs in a row.

    Returns:
        (3, height, width) uint8.
    """
    scale = hr_frames.shape[-1] // lr_frames.shape[-1]
    shown = lr_frames.repeat_interleave(scale, -2).repeat_interleave(scale, -1).to(hr_frames.device)
    pairs = (torch.cat([hr_frames, shown], dim=-1).clamp(0, 1) * 255).round().byte().cpu()
    (_, _, height, width), num_across = pairs.shape, min(num_across, len(pairs))
    num_down = -(-len(pairs) // num_across)
    size = (num_down * (height + _GAP_PX) + _GAP_PX, num_across * (width + _GAP_PX) + _GAP_PX)
    made = torch.full((3, *size), _GAP_CODE, dtype=torch.uint8)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, num_across)
        top, left = _GAP_PX + row * (height + _GAP_PX), _GAP_PX + column * (width + _GAP_PX)
        made[:, top : top + height, left : left + width] = pair
    return made
