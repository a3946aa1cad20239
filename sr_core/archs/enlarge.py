"""Enlarging the picture inside a network: for those that begin with an interpolation, or add to one.

The same numbers as `sr_core.resample` gives, in operations that gradients pass and torch.export follows.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.kernels import Kernel
from sr_core.resample import AxisMap, Taps, axis_taps


def enlarge(frames: Tensor, scale: int, kernel: Kernel) -> Tensor:
    """(B, C, scale * h, scale * w) from (B, C, h, w); edges are repeated, and nothing is clamped."""
    taps, radius = axis_taps(kernel, AxisMap(Fraction(scale))), kernel.radius
    padded = F.pad(frames, (radius, radius, radius, radius), mode="replicate")
    rows = torch.stack([_weighted(padded, -2, taps, phase, radius) for phase in range(scale)], -2)
    columns = [_weighted(rows.flatten(-3, -2), -1, taps, phase, radius) for phase in range(scale)]
    return torch.stack(columns, -1).flatten(-2)


def enlarged_reach_px(scale: int, kernel: Kernel, radius_px: int) -> int:
    """How far the input of `enlarge` matters to its outputs within `radius_px` of an input pixel's own.

    Args:
        scale: HR size / LR size.
        kernel: The kernel.
        radius_px: In pixels of the enlarged picture.

    Returns:
        In pixels of the input.
    """
    taps = axis_taps(kernel, AxisMap(Fraction(scale)))
    last = scale - 1 + radius_px
    return max(index // scale + _offsets(taps, index % scale)[-1][0] for index in range(last + 1))


def _offsets(taps: Taps, phase: int) -> list[tuple[int, float]]:
    """What the outputs of one phase add up: distance from the own input sample, and its weight."""
    weights = taps.weights[phase]
    return [(taps.first[phase] + place, float(w)) for place, w in enumerate(weights) if w != 0.0]


def _weighted(padded: Tensor, dim: int, taps: Taps, phase: int, radius: int) -> Tensor:
    # Added one after the other, so that a pixel's sum has the same order in every tile.
    size = padded.shape[dim] - 2 * radius
    (first, weight), *others = _offsets(taps, phase)
    total = padded.narrow(dim, radius + first, size) * weight
    for offset, weight in others:
        total = total + padded.narrow(dim, radius + offset, size) * weight
    return total
