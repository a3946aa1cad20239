"""The steps of which degradations are made, each with all its parameters drawn already.

A step takes and gives (T, 3, H, W) float32 R'G'B' on any device: one frame, or those of one clip, each with
noise of its own. Random fields are drawn on the CPU, so that they are the same wherever the pixels are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.jpeg import jpeg
from sr_core.shrink import rounded

Step = Callable[[Tensor], Tensor]

_LUMA = (0.299, 0.587, 0.114)
_TRANSFORM_MULTIPLE = 32


class Resizer(StrEnum):
    """How pictures are resized: as programs do that do not filter against aliases, or by the area's mean."""

    AREA = "area"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True)
class Blur:
    """A convolution; beyond its edges the frame goes on with its outermost pixels.

    Attributes:
        kernel: (side, side), float32; its sum is 1 and its side odd.
    """

    kernel: Tensor

    def __call__(self, frame: Tensor) -> Tensor:
        """Blurs."""
        margin = self.kernel.shape[-1] // 2
        padded = F.pad(frame, [margin] * 4, mode="replicate")
        height, width = padded.shape[-2:]
        # Faster than sums of products from 7x7 on; other sizes would make the transform itself slow.
        size = (height + -height % _TRANSFORM_MULTIPLE, width + -width % _TRANSFORM_MULTIPLE)
        waves = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(self.kernel.to(frame.device), s=size)
        blurred: Tensor = torch.fft.irfft2(waves, s=size)
        return blurred[..., 2 * margin : height, 2 * margin : width]


@dataclass(frozen=True)
class Resize:
    """Another size, the picture's outline staying where it is.

    Attributes:
        size: (height, width).
        resizer: How.
    """

    size: tuple[int, int]
    resizer: Resizer

    def __call__(self, frame: Tensor) -> Tensor:
        """Resizes; bicubic may overshoot."""
        if self.size == tuple(frame.shape[-2:]):
            return frame
        if self.resizer is Resizer.AREA:
            return F.interpolate(frame, self.size, mode="area")
        return F.interpolate(frame, self.size, mode=self.resizer.value, align_corners=False)


@dataclass(frozen=True)
class Decimate:
    """Every `scale`-th value after a Gaussian, both around the middles of the LR pixels.

    Attributes:
        scale: By which both sides shrink; they are multiples of it.
        sigma_px: Of the Gaussian.
        num_taps: Of the Gaussian, about.
    """

    scale: int
    sigma_px: float
    num_taps: int = 24

    def __call__(self, frame: Tensor) -> Tensor:
        """Shrinks."""
        num_taps = self.num_taps + (self.num_taps - self.scale) % 2
        margin = (num_taps - self.scale) // 2
        places = torch.arange(num_taps, device=frame.device) - (num_taps - 1) / 2
        weights = (-places.square() / (2 * self.sigma_px**2)).exp()
        column = (weights / weights.sum()).view(1, 1, -1, 1)
        padded = F.pad(frame, [margin] * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
        rows = F.conv2d(padded, column, stride=(self.scale, 1))
        planes = F.conv2d(rows, column.mT, stride=(1, self.scale))
        return planes.view(*frame.shape[:2], *planes.shape[-2:])


@dataclass(frozen=True)
class GaussianNoise:
    """Noise that knows nothing of the picture; the result is clamped to 0..1.

    Attributes:
        sigma: Of 255.
        is_grey: All channels get the same.
        seed: Of the noise.
    """

    sigma: float
    is_grey: bool
    seed: int

    def __call__(self, frame: Tensor) -> Tensor:
        """Adds it."""
        num_channels = 1 if self.is_grey else 3
        noise = _normal((len(frame), num_channels, *frame.shape[-2:]), self.seed).to(frame.device)
        return (frame + noise * (self.sigma / 255)).clamp(0, 1)


@dataclass(frozen=True)
class CorrelatedNoise:
    """Gaussian noise whose channels go together in part; the result is clamped to 0..1.

    Attributes:
        mixing: (3, 3): of independent noise into R', G' and B'.
        seed: Of the noise.
    """

    mixing: Tensor
    seed: int

    def __call__(self, frame: Tensor) -> Tensor:
        """Adds it."""
        noise = _normal(frame.shape, self.seed)
        return (frame + torch.einsum("ij,bjhw->bihw", self.mixing, noise).to(frame.device)).clamp(0, 1)


@dataclass(frozen=True)
class PoissonNoise:
    """Noise of counted light, of as many counts for white as the picture has different codes.

    That number is rounded up to a power of two, as in BasicSR, from which Real-ESRGAN has its noise. The
    result is clamped to 0..1.

    Attributes:
        strength: By which the noise is multiplied.
        is_grey: It is that of the luma, the same in all channels.
        seed: Of the noise.
    """

    strength: float
    is_grey: bool
    seed: int

    def __call__(self, frame: Tensor) -> Tensor:
        """Adds it."""
        clean = rounded(frame)
        if self.is_grey:
            clean = rounded((clean * clean.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True))
        num_codes = len(torch.unique((clean * 255).round().byte()))
        counts = 2 ** math.ceil(math.log2(num_codes))
        return (frame + self.strength * _poisson_noise(clean, counts, self.seed)).clamp(0, 1)


@dataclass(frozen=True)
class Jpeg:
    """A JPEG with 4:2:0.

    Attributes:
        quality: 1 to 100.
    """

    quality: int

    def __call__(self, frame: Tensor) -> Tensor:
        """Encodes and decodes; the result has 8-bit values."""
        return jpeg(rounded(frame), self.quality)


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _poisson_noise(clean: Tensor, counts: float, seed: int) -> Tensor:
    """What light of so many counts for white differs from its mean by."""
    light = clean.cpu() * counts
    counted = torch.poisson(light, generator=torch.Generator().manual_seed(seed))
    return ((counted - light) / counts).to(clean.device)
