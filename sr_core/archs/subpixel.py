"""Upsampling in stages at the end of a network, by pixel shuffle or nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from sr_core.archs.arch import RGB_CHANNELS


def stages_of(scale: int) -> tuple[int, ...]:
    """The factors of the stages that make `scale`: as many twos as it takes, or itself.

    Raises:
        ValueError: It is not positive.
    """
    if scale < 1:
        raise ValueError(f"scale {scale}")
    is_power_of_two = scale & (scale - 1) == 0
    return (2,) * (scale.bit_length() - 1) if is_power_of_two else (scale,)


def shuffle_scale(num_shuffled: int, num_channels: int = RGB_CHANNELS) -> int:
    """The scale of the pixel shuffle between `num_shuffled` channels in LR and `num_channels` in HR."""
    return math.isqrt(num_shuffled // num_channels)


def scale_of(convolutions: Sequence[Tensor]) -> int:
    """The scale that the weights of the convolutions before each stage's pixel shuffle tell."""
    return math.prod(shuffle_scale(*weight.shape[:2]) for weight in convolutions)


def staged_reach_px(stages: Sequence[int], radius_px: int) -> int:
    """How far features matter to what a pixel becomes, in their pixels.

    Args:
        stages: The factors; each stage has a 3x3 convolution in low resolution, then the shuffle.
        radius_px: What follows the last stage reaches as far, in pixels of the result.
    """
    reach = math.prod(stages) - 1 + radius_px
    for factor in reversed(stages):
        reach = reach // factor + 1
    return reach
