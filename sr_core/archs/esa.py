"""Enhanced spatial attention: the block that RFDN and those that follow it share.

Paper: Residual Feature Aggregation Network for Image Super-Resolution, Liu et al. 2020 (CVPR).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

_WINDOW, _STRIDE = 7, 3

# The convolution of stride 2 leaves just one window of a side of this length.
_LEAST_SIDE_PX = 2 * (_WINDOW - 1) + 3


def _conv(num_in: int, num_out: int) -> nn.Module:
    return nn.Conv2d(num_in, num_out, 3, padding=1)


class EnhancedSpatialAttention(nn.Module):
    """A mask over the pixels, made at a sixth of the resolution and stretched over the frame.

    The grid that it is made on depends on the frame's corner and size, so that a tile gets another mask than
    the same place in the whole. Frames with a side below 15 pixels, on which the authors' code fails, have
    their edge repeated for the mask.
    """

    def __init__(
        self,
        num_feat: int,
        num_reduced: int,
        is_deep: bool,
        conv: Callable[[int, int], nn.Module] = _conv,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        """Makes untrained layers.

        Args:
            num_feat: Channels outside.
            num_reduced: Channels inside.
            is_deep: Whether there are three convolutions on the coarse grid, or one.
            conv: Makes these, from their numbers of channels.
            activation: What lies between them.
        """
        super().__init__()
        self.is_deep = is_deep
        self.activation = activation
        self.conv1 = nn.Conv2d(num_feat, num_reduced, 1)
        self.conv_f = nn.Conv2d(num_reduced, num_reduced, 1)
        self.conv2 = nn.Conv2d(num_reduced, num_reduced, 3, stride=2)
        self.conv3 = conv(num_reduced, num_reduced)
        self.conv4 = nn.Conv2d(num_reduced, num_feat, 1)
        if is_deep:
            self.conv_max = conv(num_reduced, num_reduced)
            self.conv3_ = conv(num_reduced, num_reduced)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w), each value times its mask."""
        reduced = self.conv1(features)
        coarse = self._refine(F.max_pool2d(self.conv2(_enlarged(reduced)), _WINDOW, _STRIDE))
        stretched = F.interpolate(coarse, features.shape[-2:], mode="bilinear", align_corners=False)
        mask: Tensor = self.conv4(stretched + self.conv_f(reduced)).sigmoid()
        return features * mask

    def _refine(self, pooled: Tensor) -> Tensor:
        if self.is_deep:
            pooled = self.activation(self.conv_max(pooled))
        coarse: Tensor = self.conv3(pooled)
        return self.conv3_(self.activation(coarse)) if self.is_deep else coarse


def _enlarged(reduced: Tensor) -> Tensor:
    missing_rows, missing_columns = (max(0, _LEAST_SIDE_PX - side) for side in reduced.shape[-2:])
    if not missing_rows and not missing_columns:
        return reduced
    return F.pad(reduced, (0, missing_columns, 0, missing_rows), mode="replicate")
