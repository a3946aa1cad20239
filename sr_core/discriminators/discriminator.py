"""What every discriminator promises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Discriminator(nn.Module, ABC):
    """Tells true images from made ones.

    It takes (B, C, h, w) images of nominally 0..1 and gives logits, positive for true: (B, 1) of whole
    images, or (B, 1, h', w') of regions. What else it wants of the values, it makes itself.
    """

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """What every stage makes of the images, (B, _, h', w') or (B, _) each, and the logits last.

        All but the last are for feature matching (Salimans et al. 2016, arXiv:1606.03498).
        """

    def forward(self, images: Tensor) -> Tensor:
        """The logits of (B, C, h, w) images."""
        return self.features(images)[-1]
