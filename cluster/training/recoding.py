"""LR pictures that go through a video codec, as those of real sources have."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cluster.video.recode import RecodingSettings, recoded
from sr_core.errors import SpecError


@dataclass(frozen=True)
class RecodedShare:
    """LR pictures that go through a video codec, each as a keyframe.

    Attributes:
        share: Of pictures, about; the others stay as they are.
        settings: How codecs and qualities are drawn.
    """

    share: float = 0.5
    settings: RecodingSettings = field(default_factory=RecodingSettings)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise SpecError(
                "this is no share of pictures",
                where="share",
                got=f"{self.share:g}",
                expected="above 0, and 1 at most",
            )

    def coded(self, lr_frames: Tensor, draw: torch.Generator) -> Tensor:
        """(T, 3, h, w) frames of 8-bit values, 0..1, as they come back from a codec, if that is drawn."""
        if float(torch.rand((), generator=draw)) >= self.share:
            return lr_frames
        codes = (lr_frames * 255).round().byte()
        return recoded(codes.cpu(), self.settings.drawn(draw)).float() / 255
