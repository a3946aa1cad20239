"""LR batches of HR batches, every item with a degradation of its own."""

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
    """LR frames of HR frames; an item depends on its own frame and generator alone.

    Args:
        hr_frames: (B, 3, H, W) float32 R'G'B' 0..1 on any device; the sides are multiples of `scale`.
        scale: HR size / LR size.
        degradation: How.
        generators: One for each item, on the CPU. What is drawn does not depend on the pixels; nothing is
            for `Bicubic`.

    Returns:
        (B, 3, H / scale, W / scale) on the same device, of 8-bit values, 0..1.

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
    if isinstance(degradation, Bicubic):
        return rounded(degradation.shrunk(hr_frames, scale))
    steps = [degradation.steps(generator, (height, width), scale) for generator in generators]
    lr_frames = hr_frames.new_empty(len(hr_frames), 3, height // scale, width // scale)
    for lr_frame, frame, own in zip(lr_frames, hr_frames.unsqueeze(1), steps, strict=True):
        lr_frame[:] = rounded(_through(frame, own, (height // scale, width // scale)))[0]
    return lr_frames


def _through(frame: Tensor, steps: tuple[Step, ...], lr_size: tuple[int, int]) -> Tensor:
    for step in steps:
        frame = step(frame)
    if tuple(frame.shape[-2:]) != lr_size:
        raise TrainError("a degradation ends in a size that is not LR's", got=str(tuple(frame.shape[-2:])))
    return frame
