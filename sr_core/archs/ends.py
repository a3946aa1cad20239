"""The first and the last convolution of a network, and its weights in half precision.

Both ends carry the picture itself: 8 bits of mantissa cannot hold 10-bit video.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_VECTOR_CHANNELS = 8


class InputConv(nn.Conv2d):
    """A convolution over the picture, on channels that zeros fill up to a whole vector of them.

    With 1, 3 or 6 input channels a CPU picks its algorithm, and with it the order of sums, by the size of the
    frame; tiles then differ from the whole in their last bits. In half precision, what rounding took from the
    input is a second set of channels with the same weights, most of which were zeros anyway: bf16 alone would
    show the network an 8-bit picture.
    """

    def forward(self, lr_frames: Tensor) -> Tensor:
        """(B, features, h', w') in the weights' type from (B, C, h, w) float32."""
        dtype = self.weight.dtype
        num_channels = lr_frames.shape[1]
        num_parts = 2 if dtype.itemsize < 4 else 1
        num_zeros = -num_parts * num_channels % _VECTOR_CHANNELS
        parts = [lr_frames.to(dtype)]
        if num_parts == 2:
            parts.append((lr_frames - parts[0]).to(dtype))
        # Without channels last, a bf16 convolution on a CPU takes 3.5 times as long, most of it reordering.
        filled = F.pad(torch.cat(parts, 1), (0, 0, 0, 0, 0, num_zeros)).contiguous(
            memory_format=torch.channels_last
        )
        weight = F.pad(self.weight.repeat(1, num_parts, 1, 1), (0, 0, 0, 0, 0, num_zeros))
        return F.conv2d(filled, weight, self.bias, self.stride, self.padding, self.dilation)

    def num_filling_macs(self, features: Tensor) -> int:
        """Multiply-adds with zeros and remainders alone, of those that made (B, features, h', w')."""
        num_parts = 2 if self.weight.dtype.itemsize < 4 else 1
        num_filled = num_parts * self.in_channels + -num_parts * self.in_channels % _VECTOR_CHANNELS
        taps = self.kernel_size[0] * self.kernel_size[1]
        return features.numel() * taps * (num_filled - self.in_channels)


class Float32Conv(nn.Conv2d):
    """A convolution that stays in float32, whatever the body of its network runs in."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h', w') float32 from (B, features, h, w) of any type."""
        return super().forward(features.to(self.weight.dtype))


class OutputConv(Float32Conv):
    """The last convolution, which gives the picture, or what is added to it."""


class SkipConv(InputConv, Float32Conv):
    """The first convolution of networks whose picture travels as features, past the body, to the last layer.

    Where no picture is added at the end, these features are the picture. In bf16 they would shift smooth
    colours by up to 3 codes of 10 bits, which no layer can mend.
    """


class OutputDeconv(nn.ConvTranspose2d):
    """The last layer as a transposed convolution, in float32 as well."""

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, h', w') float32 from (B, features, h, w) of any type."""
        return super().forward(features.to(self.weight.dtype), output_size)


def set_dtype(network: nn.Module, dtype: torch.dtype) -> None:
    """Puts every layer of `network` in `dtype`, but those that stay in float32 by their type."""
    for module in network.modules():
        is_float32 = isinstance(module, Float32Conv | OutputDeconv)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not is_float32:
            module.weight.data = _round_kernels(module.weight.data, dtype)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(torch.float32 if is_float32 else dtype)


def _round_kernels(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights (_, _, rows, columns) in `dtype`, each kernel's sum being kept as well as it can be.

    What a kernel answers where the picture is smooth is its sum. Taps that are rounded each by itself move
    that at random and shift smooth colours by some codes of 10 bits. So each tap takes over the error of the
    next larger one; what is left is within the rounding of the smallest.
    """
    taps = weight.float().flatten(2)
    order = taps.abs().argsort(dim=2, descending=True, stable=True)
    rounded, error = torch.empty_like(taps, dtype=dtype), torch.zeros_like(taps[..., :1])
    for place in torch.split(order, 1, dim=2):
        exact = taps.gather(2, place) + error
        rounded.scatter_(2, place, exact.to(dtype))
        error = exact - exact.to(dtype)
    return rounded.view_as(weight)
