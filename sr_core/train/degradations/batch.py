"""LR batches of HR batches, every item with a degradation of its own, which all frames of a clip share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sr_core.errors import SpecError, TrainError
from sr_core.shrink import rounded
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.degradations.steps import Step


class DrawnDegradation(Protocol):
    """A way to make LR frames whose parameters are drawn for every item."""

    def steps(self, generator: torch.Generator, hr_size: tuple[int, int], scale: int) -> tuple[Step, ...]:
        """What is done to one HR frame of (height, width) in px, all parameters drawn from `generator`."""


Degradation = Bicubic | DrawnDegradation


def degraded(
    hr_frames: Tensor, scale: int, degradation: Degradation, generators: Sequence[torch.Generator]
) -> Tensor:
    """LR frames of HR frames; an item depends on its own frames and generator alone.

    Args:
        hr_frames: (B, 3, H, W), or clips (B, T, 3, H, W), float32 R'G'B' 0..1 on any device; the sides are
            multiples of `scale`.
        scale: HR size / LR size.
        degradation: How.
        generators: One for each item, on the CPU. What is drawn does not depend on the pixels; nothing is
            for `Bicubic`.

    Returns:
        (B, 3, H / scale, W / scale), or (B, T, ...), on the same device, of 8-bit values, 0..1.

    Raises:
        SpecError: The sides are no multiples of the scale, or too small.
    """
    height, width = hr_frames.shape[-2:]
    if height % scale or width % scale:
        raise SpecError(
            "HR frames do not hold whole LR pixels",
            got=f"{width}x{height}",
            expected=f"multiples of the scale, {scale}",
        )
    lr_shape = (*hr_frames.shape[:-2], height // scale, width // scale)
    if isinstance(degradation, Bicubic):
        return rounded(degradation.shrunk(hr_frames.reshape(-1, 3, height, width), scale)).view(lr_shape)
    steps = [degradation.steps(generator, (height, width), scale) for generator in generators]
    lr_frames = hr_frames.new_empty(lr_shape)
    for lr_clip, hr_frame, own in zip(lr_frames, hr_frames, steps, strict=True):
        clip = _through(hr_frame.view(-1, 3, height, width), own, lr_shape[-2:])
        lr_clip[:] = rounded(clip).view_as(lr_clip)
    return lr_frames


def _through(clip: Tensor, steps: tuple[Step, ...], lr_size: tuple[int, ...]) -> Tensor:
    """The frames of a clip, (T, 3, H, W), after all steps."""
    for step in steps:
        clip = step(clip)
    if tuple(clip.shape[-2:]) != lr_size:
        raise TrainError("a degradation ends in a size that is not LR's", got=str(tuple(clip.shape[-2:])))
    return clip
