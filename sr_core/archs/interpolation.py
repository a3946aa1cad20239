"""Interpolation kernels in the shape of a network: no weights, luma only, any integer scale."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from sr_core.archs.arch import ColorMode, ModelFacts, Network
from sr_core.kernels import Kernel
from sr_core.resample import AxisMap, resample


class Interpolation(Network):
    """Resamples with one kernel; always in float32, which costs it nothing."""

    def __init__(self, kernel: Kernel, scale: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.scale = scale

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, C, h, w) float32 frames."""
        axis = AxisMap(Fraction(self.scale))
        size = (lr_frames.shape[-2] * self.scale, lr_frames.shape[-1] * self.scale)
        return resample(lr_frames, size, self.kernel, axis, axis)


def interpolation_facts(kernel: Kernel, scale: int) -> ModelFacts:
    """The facts of `Interpolation(kernel, scale)`; its chroma goes through the same kernel."""
    return ModelFacts(
        name=kernel.value,
        scale=scale,
        halo_px=kernel.radius,
        size_multiple=1,
        dtypes=(torch.float32,),
        color_mode=ColorMode.LUMA,
        chroma_kernel=kernel,
        is_linear=True,
    )
