"""Sliced Wasserstein distance: how far two sets of images differ in what their patches look like.

Paper: Progressive Growing of GANs for Improved Quality, Stability, and Variation, Karras et al. 2018
(arXiv:1710.10196), section 5: images become Laplacian pyramids, small patches are drawn from each level, and
the distributions of patches are compared along random directions, where sorting gives the Wasserstein
distance (Rabin et al. 2011). Unlike in the paper, patches are normalised by the true set's mean and deviation
alone, so that a wrong tint or contrast counts, and pyramids end at 8 pixels, not at 16, so that the coarsest
patches are nearly whole images.

It asks neither a network nor a data set of its own. It sees patches: whether a picture makes sense as a whole
it tells only as far as its coarsest level does. Figures depend on how many images there are, and compare only
where that is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.errors import SpecError

_PATCH_PX = 7
_NUM_PATCHES = 32  # of each image and level
_NUM_DIRECTIONS = 128
_COARSEST_PX = 8
_TIMES = 1000  # as the paper prints it
_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class _Level:
    """The true set at one level of the pyramid.

    Attributes:
        mean: Of its patches, (1, C, 1, 1).
        deviation: The same shape.
        projections: (directions, patches), sorted along each direction.
    """

    mean: Tensor
    deviation: Tensor
    projections: Tensor


class SlicedWasserstein:
    """The distance from a set of true images, by the same patches and directions for all that is compared."""

    def __init__(self, images: Tensor, seed: int) -> None:
        """Takes the true images, (N, C, side, side) of 0..1, on any device."""
        self._seed, self._num_images = seed, len(images)
        self._levels = [self._level(number, each) for number, each in enumerate(_pyramid(images))]

    def __call__(self, images: Tensor) -> float:
        """A thousand times the distance, mean over levels and directions; 0 for the true images themselves.

        Args:
            images: As many as the true ones, of their size and on their device.

        Raises:
            SpecError: They are not as many.
        """
        if len(images) != self._num_images:
            raise SpecError(
                "sets of images compare only where they are of one size",
                got=f"{len(images)} images",
                expected=f"{self._num_images}",
            )
        distances = []
        for number, (level, each) in enumerate(zip(self._levels, _pyramid(images), strict=True)):
            patches = (self._patches(number, each) - level.mean) / level.deviation
            distances.append((self._projections(number, patches) - level.projections).abs().mean())
        return _TIMES * float(torch.stack(distances).mean())

    def _level(self, number: int, images: Tensor) -> _Level:
        patches = self._patches(number, images)
        mean = patches.mean((0, 2, 3), keepdim=True)
        deviation = patches.std((0, 2, 3), keepdim=True).clamp_min(_LEAST_DEVIATION)
        return _Level(mean, deviation, self._projections(number, (patches - mean) / deviation))

    def _patches(self, number: int, images: Tensor) -> Tensor:
        """(N * patches, C, px, px) from places that are drawn for each image."""
        side_px = min(_PATCH_PX, images.shape[-1])
        windows = images.unfold(2, side_px, 1).unfold(3, side_px, 1)
        generator = torch.Generator().manual_seed(self._seed + number)
        places = torch.randint(windows.shape[2], (2, len(images), _NUM_PATCHES), generator=generator)
        tops, lefts = places.to(images.device)
        rows = torch.arange(len(images), device=images.device)[:, None]
        return windows[rows, :, tops, lefts].flatten(0, 1)

    def _projections(self, number: int, patches: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed + number)
        directions = torch.randn(_NUM_DIRECTIONS, patches[0].numel(), generator=generator)
        directions = F.normalize(directions, dim=1).to(patches.device)
        return (directions @ patches.flatten(1).T).sort(dim=1).values


def _pyramid(images: Tensor) -> list[Tensor]:
    """The Laplacian pyramid of images, the finest level first; the last has what is left."""
    gaussian = [images]
    while gaussian[-1].shape[-1] >= 2 * _COARSEST_PX and gaussian[-1].shape[-1] % 2 == 0:
        gaussian.append(_halved(gaussian[-1]))
    return [*(fine - _doubled(coarse) for fine, coarse in pairwise(gaussian)), gaussian[-1]]


def _halved(images: Tensor) -> Tensor:
    return _blurred(images)[..., ::2, ::2]


def _doubled(images: Tensor) -> Tensor:
    """Images with zeros between their pixels, blurred: four times as bright, for a quarter has a value."""
    wide = images.new_zeros(*images.shape[:2], 2 * images.shape[2], 2 * images.shape[3])
    wide[..., ::2, ::2] = 4 * images
    return _blurred(wide)


def _blurred(images: Tensor) -> Tensor:
    taps = images.new_tensor(_BINOMIAL) / sum(_BINOMIAL)
    num_channels = images.shape[1]
    kernel = torch.outer(taps, taps).expand(num_channels, 1, -1, -1)
    return F.conv2d(F.pad(images, [2] * 4, mode="reflect"), kernel, groups=num_channels)
