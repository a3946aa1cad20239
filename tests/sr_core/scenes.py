"""Scenes of flat things before each other: how far each pixel is, and what it looks like."""

import torch
from torch import Tensor
from torch.nn import functional as F


def scenes(count: int, side_px: int, seed: int) -> tuple[Tensor, Tensor]:
    """Depth (count, 1, side, side) and images (count, 3, side, side), 0..1, with edges in the same places."""
    random = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(side_px), torch.arange(side_px), indexing="ij")
    depth = torch.full((count, 1, side_px, side_px), 0.9)
    images = torch.rand(count, 3, 1, 1, generator=random).repeat(1, 1, side_px, side_px)
    for index in range(count):
        for _ in range(4):
            y, x, height, width, kind, far, *color = torch.rand(9, generator=random).tolist()
            across = (rows / side_px - y) / (0.1 + height / 4), (columns / side_px - x) / (0.1 + width / 4)
            distance = (
                across[0].square() + across[1].square() if kind < 0.5 else torch.maximum(*map(abs, across))
            )
            depth[index, :, distance < 1] = 0.1 + 0.7 * far
            images[index, :, distance < 1] = torch.tensor(color)[:, None]
    return depth, (images + 0.02 * torch.randn(images.shape, generator=random)).clamp(0, 1)


def near_edges(depth: Tensor) -> Tensor:
    """Which pixels of (B, 1, H, W) depth have another depth within 4 pixels."""
    nearest, farthest = -F.max_pool2d(-depth, 9, 1, 4), F.max_pool2d(depth, 9, 1, 4)
    return farthest - nearest > 0.02
