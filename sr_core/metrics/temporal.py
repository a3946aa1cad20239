"""Whether a video flickers: dense optical flow, and what is left of each frame when motion is taken out.

Papers: the flow is that of Lucas and Kanade 1981, in every pixel, from coarse to fine (Bouguet 2001). The
warping error and its occlusion test follow Lai et al. 2018 (Learning Blind Video Temporal Consistency,
arXiv:1808.00449) and Sundaram et al. 2010.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.metrics.psnr import studio_luma

# Flow: a Gaussian window of this sigma around each pixel, and so many corrections on each level of a pyramid
# whose coarsest one is not smaller than this.
_WINDOW_SIGMA_PX = 3.0
_NUM_CORRECTIONS = 3
_COARSEST_PX = 12
# Added to the squared gradients, so that smooth places, where nothing tells motion, stay where they were.
_DAMPING = 1e-5
# No correction goes farther than what the gradient at a pixel can know of.
_LONGEST_STEP_PX = 2.0

# Sundaram's test whether motion there and back again ends where it began.
_RELATIVE_LOSS = 0.01
_ABSOLUTE_LOSS_PX2 = 0.5


def optical_flow(frames: Tensor, next_frames: Tensor) -> Tensor:
    """(B, 2, H, W): how many pixels to the right and down each pixel of `frames` moves until the next ones.

    Args:
        frames: (B, 3, H, W) R'G'B' 0..1.
        next_frames: Those that follow, in the same shape.
    """
    levels = [(studio_luma(frames), studio_luma(next_frames))]
    while min(levels[-1][0].shape[-2:]) >= 2 * _COARSEST_PX:
        before, after = levels[-1]
        levels.append((_halved(before), _halved(after)))
    flow = torch.zeros_like(levels[-1][0]).repeat(1, 2, 1, 1)
    for before, after in reversed(levels):
        if flow.shape[-2:] != before.shape[-2:]:
            size = (before.shape[-2], before.shape[-1])
            flow = 2 * F.interpolate(flow, size, mode="bilinear", align_corners=False)
        flow = _corrected(before, after, flow)
    return flow


def warp(next_frames: Tensor, flow: Tensor) -> Tensor:
    """`next_frames` (B, C, H, W) moved back along `flow` (B, 2, H, W), onto the frames before; bilinear."""
    height, width = flow.shape[-2:]
    rows = torch.arange(height, dtype=flow.dtype, device=flow.device).view(-1, 1)
    columns = torch.arange(width, dtype=flow.dtype, device=flow.device)
    across = (columns + flow[:, 0]) * 2 / max(width - 1, 1) - 1
    down = (rows + flow[:, 1]) * 2 / max(height - 1, 1) - 1
    grid = torch.stack([across, down], dim=-1)
    return F.grid_sample(next_frames, grid, mode="bilinear", padding_mode="border", align_corners=True)


def visible(flow: Tensor, flow_back: Tensor) -> Tensor:
    """(B, 1, H, W), 1 where a pixel is also seen in the next frame, else 0; of flows there and back."""
    returned = warp(flow_back, flow)
    loss = (flow + returned).square().sum(1, keepdim=True)
    length = flow.square().sum(1, keepdim=True) + returned.square().sum(1, keepdim=True)
    return _inside(flow) * (loss <= _RELATIVE_LOSS * length + _ABSOLUTE_LOSS_PX2)


def _inside(flow: Tensor) -> Tensor:
    """(B, 1, H, W), 1 where a pixel stays within the frame, else 0."""
    height, width = flow.shape[-2:]
    rows = torch.arange(height, device=flow.device).view(-1, 1) + flow[:, 1:]
    columns = torch.arange(width, device=flow.device) + flow[:, :1]
    is_inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    return is_inside.to(flow.dtype)


def warping_error(sr_frames: Tensor, next_sr_frames: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean squared difference of frames and of the next ones moved back onto them, where these are seen.

    Flow and mask are best taken from the true frames: then every model is measured by the same motion. The
    true frames' own error is the one to come near: flicker has more, and a blurred video less.

    Args:
        sr_frames: (B, C, H, W) 0..1; only errors of the same kind of frames, R'G'B' or luma, compare.
        next_sr_frames: Those that follow.
        flow: (B, 2, H, W) from `optical_flow`.
        mask: (B, 1, H, W) from `visible`.
    """
    error = (warp(next_sr_frames, flow) - sr_frames).square().mean(1, keepdim=True) * mask
    return error.flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)


def _corrected(before: Tensor, after: Tensor, flow: Tensor) -> Tensor:
    """The flow of one level of the pyramid, from that of the coarser one.

    In each pixel's window, the step is sought that makes up best for what is left of the difference: two
    unknowns, whose normal equations are solved in closed form.
    """
    right, down = _gradients(before)
    xx, yy, xy = _windowed(torch.cat([right * right, down * down, right * down], 1)).chunk(3, 1)
    xx, yy = xx + _DAMPING, yy + _DAMPING
    determinant = xx * yy - xy * xy
    for _ in range(_NUM_CORRECTIONS):
        # What has left the frame can tell nothing.
        rest = (before - warp(after, flow)) * _inside(flow)
        x, y = _windowed(torch.cat([right * rest, down * rest], 1)).chunk(2, 1)
        step = torch.cat([yy * x - xy * y, xx * y - xy * x], 1) / determinant
        flow = flow + step.clamp(-_LONGEST_STEP_PX, _LONGEST_STEP_PX)
    return flow


def _gradients(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences to the right and down."""
    padded = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return right, down


def _windowed(planes: Tensor) -> Tensor:
    """Gaussian-weighted means around every pixel of (B, C, H, W)."""
    reach = round(2.5 * _WINDOW_SIGMA_PX)
    places = torch.arange(-reach, reach + 1, dtype=planes.dtype, device=planes.device)
    weights = (-places.square() / (2 * _WINDOW_SIGMA_PX**2)).exp()
    column = (weights / weights.sum()).view(1, 1, -1, 1)
    # As pictures of one channel: on CPUs this is faster than a convolution with groups.
    padded = F.pad(planes, [reach] * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    return F.conv2d(F.conv2d(padded, column), column.mT).view_as(planes)


def _halved(luma: Tensor) -> Tensor:
    """Half the size, rounded up, by means of 2x2."""
    height, width = luma.shape[-2:]
    return F.avg_pool2d(F.pad(luma, (0, width % 2, 0, height % 2), mode="replicate"), 2)
