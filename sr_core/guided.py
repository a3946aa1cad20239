"""Guided upscaling: a low-resolution depth map, and a high-resolution image of the same view that guides it.

Papers: Deep Joint Image Filtering, Li et al. 2016 (ECCV) and 2019 (arXiv:1710.04200), for the two branches
and their fusion; Deformable Kernel Networks, Kim et al. 2019 (arXiv:1910.08373), for kernels whose weights
sum to zero, and for the fast form with the guide rearranged to the depth's resolution, here without the
offsets that deform kernels. For the baseline: Guided Image Filtering, He et al. 2010 (ECCV), and Fast Guided
Filter, He and Sun 2015 (arXiv:1505.00996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import StateDict
from sr_core.errors import SpecError
from sr_core.family import Family
from sr_core.kernels import Kernel
from sr_core.resample import AxisMap, resample


@dataclass(frozen=True)
class GuidedConfig:
    """Hyper-parameters.

    Attributes:
        scale: Pixels of the guide per pixel of the depth map on each axis.
        num_feat: Channels of each branch.
        num_conv: Convolutions of each branch.
        num_fused: Convolutions over both, before the last.
        kernel_px: Height and width, odd, of the kernels over the depth map.
    """

    scale: int = 4
    num_feat: int = 32
    num_conv: int = 2
    num_fused: int = 3
    kernel_px: int = 3


class GuidedUpscaler(nn.Module):
    """Bicubic interpolation, and a kernel of its own for each output pixel over the depth around it, added.

    A kernel's weights sum to zero, so that a flat depth stays what it is. The last convolution, which makes
    them, begins at zero: an untrained network is bicubic interpolation.
    """

    def __init__(self, config: GuidedConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.kernel_px = config.kernel_px
        self.depth_branch = _stack(1, config.num_feat, config.num_conv)
        self.guide_branch = _stack(3 * config.scale**2, config.num_feat, config.num_conv)
        self.fused = _stack(2 * config.num_feat, config.num_feat, config.num_fused)
        num_weights = (config.scale * config.kernel_px) ** 2
        self.last = nn.Conv2d(config.num_feat, num_weights, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, depth: Tensor, guide: Tensor) -> Tensor:
        """Depth (B, 1, scale * h, scale * w) from depth (B, 1, h, w) and guide (B, 3, scale * h, scale * w).

        Both are float32, nominally 0..1.

        Raises:
            SpecError: Their sizes do not fit to each other, or to the network's scale.
        """
        scale = guided_scale(depth, guide)
        if scale != self.scale:
            raise SpecError(
                "The guided network has another scale than its inputs",
                got=f"a guide of {scale} times the depth map's size",
                expected=f"{self.scale} times",
                next_step="scale the guide, or take weights of that scale",
            )
        branches = (
            self.depth_branch(2 * depth - 1),
            self.guide_branch(F.pixel_unshuffle(2 * guide - 1, scale)),
        )
        weights = self.last(self.fused(torch.cat(branches, 1))).unflatten(1, (scale**2, self.kernel_px**2))
        kernels = weights - weights.mean(2, keepdim=True)
        details = (kernels * self._around(depth)).sum(2)
        return bicubic_depth(depth, scale) + F.pixel_shuffle(details, scale)

    def _around(self, depth: Tensor) -> Tensor:
        """(B, 1, kernel_px**2, h, w): the depth in the window around each pixel of (B, 1, h, w)."""
        reach = self.kernel_px // 2
        padded = F.pad(depth, (reach, reach, reach, reach), mode="replicate")
        return F.unfold(padded, self.kernel_px).reshape(len(depth), 1, -1, *depth.shape[-2:])


def _stack(num_channels: int, num_feat: int, num_conv: int) -> nn.Sequential:
    layers = list[nn.Module]()
    for index in range(num_conv):
        layers += [nn.Conv2d(num_feat if index else num_channels, num_feat, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def guided_scale(depth: Tensor, guide: Tensor) -> int:
    """How many times larger `guide` (B, _, H, W) is than `depth` (B, _, h, w).

    Raises:
        SpecError: That is no whole number, or not the same on both axes.
    """
    height, width = depth.shape[-2:]
    scale = guide.shape[-1] // width
    if guide.shape[-2:] != (scale * height, scale * width) or scale < 1:
        raise SpecError(
            "The guide's size is no whole multiple of the depth map's",
            got=f"depth {width}x{height}, guide {guide.shape[-1]}x{guide.shape[-2]}",
            expected="the same whole number of times its width and its height",
            next_step="crop or scale one of them",
        )
    return int(scale)


def bicubic_depth(depth: Tensor, scale: int) -> Tensor:
    """(B, 1, scale * h, scale * w) by bicubic interpolation of (B, 1, h, w), without any guide."""
    axis = AxisMap(Fraction(scale))
    size = (scale * depth.shape[-2], scale * depth.shape[-1])
    return resample(depth, size, Kernel.BICUBIC, axis, axis)


def guided_filter(depth: Tensor, guide: Tensor, radius: int = 2, epsilon: float = 1e-4) -> Tensor:
    """Depth at the guide's size, in each window a linear function of the guide's colours.

    The function is fitted at the depth's own resolution, as in the fast guided filter; at a scale of 1 it is
    the guided filter itself.

    Args:
        depth: (B, 1, h, w) float32, nominally 0..1.
        guide: (B, 3, scale * h, scale * w) float32, nominally 0..1.
        radius: Of a window, in pixels of the depth map: it is 2 * radius + 1 wide.
        epsilon: Variance of the guide's values below which they count as flat.

    Returns:
        (B, 1, scale * h, scale * w), float32.

    Raises:
        SpecError: The sizes do not fit to each other.
    """
    scale = guided_scale(depth, guide)
    height, width = depth.shape[-2:]
    down, up = AxisMap(Fraction(1, scale)), AxisMap(Fraction(scale))
    small_guide = resample(guide, (height, width), Kernel.BICUBIC, down, down)
    # The covariances are small differences of squares.
    slopes, offset = _linear_fit(depth.double(), small_guide.double(), radius, epsilon)
    size = (scale * height, scale * width)
    fit = resample(torch.cat([slopes, offset], 1).float(), size, Kernel.BILINEAR, up, up)
    return (fit[:, :3] * guide).sum(1, keepdim=True) + fit[:, 3:]


def _linear_fit(depth: Tensor, guide: Tensor, radius: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Slopes (B, 3, h, w) and offset (B, 1, h, w) of each pixel: means of those of all windows over it."""

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 2 * radius + 1, 1, radius, count_include_pad=False)

    guide_mean, depth_mean = mean(guide), mean(depth)
    products = (guide.unsqueeze(1) * guide.unsqueeze(2)).flatten(1, 2)
    outer = guide_mean.unsqueeze(1) * guide_mean.unsqueeze(2)
    variance = mean(products).reshape(outer.shape) - outer
    covariance = mean(guide * depth) - guide_mean * depth_mean
    # As (B, h, w, 3, 3) and (B, h, w, 3): one small system for each window.
    system = variance.movedim((1, 2), (-2, -1)) + epsilon * torch.eye(
        3, dtype=guide.dtype, device=guide.device
    )
    slopes = torch.linalg.solve(system, covariance.movedim(1, -1)).movedim(-1, 1)
    offset = depth_mean - (slopes * guide_mean).sum(1, keepdim=True)
    return mean(slopes), mean(offset)


def _config_of(state_dict: StateDict) -> GuidedConfig:
    def num_conv(part: str) -> int:
        return sum(key.startswith(part) and value.dim() == 4 for key, value in state_dict.items())

    num_weights, num_feat = state_dict["last.weight"].shape[:2]
    scale = math.isqrt(state_dict["guide_branch.0.weight"].shape[1] // 3)
    kernel_px = math.isqrt(num_weights) // scale
    return GuidedConfig(scale, num_feat, num_conv("depth_branch."), num_conv("fused."), kernel_px)


GUIDED = Family(
    name="guided",
    paper="arXiv:1910.08373",
    first_key="guide_branch.0.weight",
    config_of=_config_of,
    build=GuidedUpscaler,
)
