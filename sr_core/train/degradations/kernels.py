"""Blur kernels: Gaussians of all shapes, plateaus and the sinc that rings.

Papers: Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, Wang et al. 2021
(arXiv:2107.10833), section 3 and its published settings; Liu et al. 2020 (arXiv:2005.02440) for the
generalised Gaussian and the plateau.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.train.degradations.draws import (
    Range,
    check_probability,
    check_range,
    check_shares,
    choice,
    happens,
    uniform,
    whole,
)

_SHARPEST_CUTOFF_OF_LARGE = math.pi / 5
_SHARPEST_CUTOFF = math.pi / 3
_LARGE_PX = 13


class Shape(StrEnum):
    """Kinds of kernels; those called isotropic are round, the others are ellipses of any direction."""

    GAUSSIAN_ISO = "gaussian_iso"
    GAUSSIAN_ANISO = "gaussian_aniso"
    GENERALIZED_ISO = "generalized_iso"
    GENERALIZED_ANISO = "generalized_aniso"
    PLATEAU_ISO = "plateau_iso"
    PLATEAU_ANISO = "plateau_aniso"

    @property
    def is_round(self) -> bool:
        """Whether it blurs all directions alike."""
        return self.value.endswith("_iso")


@dataclass(frozen=True)
class KernelSettings:
    """How blur kernels are drawn; by default as in Real-ESRGAN's first stage.

    Attributes:
        sides_px: The smallest and the largest side, both odd; all odd ones in between are drawn alike.
        shape_probabilities: Of each `Shape`, in their order, where no sinc is drawn.
        sinc_probability: Of a sinc in place of them.
        sigma_px: Of the axes of Gaussians and plateaus.
        generalized_beta: Exponent of a generalised Gaussian; 1 is a Gaussian, less is heavy-tailed. One half
            of the draws lie below 1.
        plateau_beta: The same of a plateau.
    """

    sides_px: tuple[int, int] = (7, 21)
    shape_probabilities: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc_probability: float = 0.1
    sigma_px: Range = (0.2, 3.0)
    generalized_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)

    def __post_init__(self) -> None:
        check_sides("sides_px", self.sides_px)
        check_shares("shape_probabilities", self.shape_probabilities, len(Shape))
        check_probability("sinc_probability", self.sinc_probability)
        check_range("sigma_px", self.sigma_px, 0.01)
        check_range("generalized_beta", self.generalized_beta, 0.01)
        check_range("plateau_beta", self.plateau_beta, 0.01)


def check_sides(where: str, sides_px: tuple[int, int]) -> None:
    """Raises a SpecError unless both sides are odd and ascend."""
    check_range(where, sides_px, 1)
    if any(side % 2 == 0 for side in sides_px):
        raise SpecError("kernels have a middle", where=where, got=str(sides_px), expected="odd sides")


def drawn_kernel(generator: torch.Generator, settings: KernelSettings) -> Tensor:
    """A kernel (side, side), float32, which sums to 1."""
    side = drawn_side(generator, settings.sides_px)
    if happens(generator, settings.sinc_probability):
        sharpest = _SHARPEST_CUTOFF if side < _LARGE_PX else _SHARPEST_CUTOFF_OF_LARGE
        return sinc_kernel(side, uniform(generator, (sharpest, math.pi)))
    shape = choice(generator, tuple(Shape), settings.shape_probabilities)
    sigma = uniform(generator, settings.sigma_px)
    across, angle = sigma, 0.0
    if not shape.is_round:
        across = uniform(generator, settings.sigma_px)
        angle = uniform(generator, (-math.pi, math.pi))
    if shape in (Shape.GAUSSIAN_ISO, Shape.GAUSSIAN_ANISO):
        return gaussian_kernel(side, sigma, across, angle)
    if shape in (Shape.GENERALIZED_ISO, Shape.GENERALIZED_ANISO):
        beta = _drawn_beta(generator, settings.generalized_beta)
        return gaussian_kernel(side, sigma, across, angle, beta)
    return plateau_kernel(side, sigma, across, angle, _drawn_beta(generator, settings.plateau_beta))


def drawn_final_sinc(generator: torch.Generator, sides_px: tuple[int, int]) -> Tensor:
    """The sinc that ends a degradation: (side, side), float32."""
    side = drawn_side(generator, sides_px)
    return sinc_kernel(side, uniform(generator, (_SHARPEST_CUTOFF, math.pi)))


def drawn_side(generator: torch.Generator, sides_px: tuple[int, int]) -> int:
    """An odd side."""
    return 2 * whole(generator, sides_px[0] // 2, sides_px[1] // 2) + 1


def _drawn_beta(generator: torch.Generator, bounds: Range) -> float:
    low, high = bounds
    below_one = happens(generator, 0.5)
    return uniform(generator, (low, max(low, 1.0)) if below_one else (min(high, 1.0), high))


def gaussian_kernel(side: int, sigma: float, across: float, angle: float, beta: float = 1.0) -> Tensor:
    """exp(-q^beta / 2), q being the squared distance in standard deviations.

    Args:
        side: Of the kernel, odd.
        sigma: Standard deviation along the first axis, in px.
        across: Along the second.
        angle: From the horizontal to the first axis, in radians.
        beta: 1 is a Gaussian.
    """
    return _normalized((-0.5 * _squared_distance(side, sigma, across, angle) ** beta).exp())


def plateau_kernel(side: int, sigma: float, across: float, angle: float, beta: float) -> Tensor:
    """1 / (1 + q^beta): as `gaussian_kernel`, with a flat middle."""
    return _normalized(1 / (1 + _squared_distance(side, sigma, across, angle) ** beta))


def _squared_distance(side: int, sigma: float, across: float, angle: float) -> Tensor:
    places = torch.arange(side, dtype=torch.float64) - side // 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    along = (x * math.cos(angle) + y * math.sin(angle)) / sigma
    beside = (y * math.cos(angle) - x * math.sin(angle)) / across
    return along**2 + beside**2


def sinc_kernel(side: int, cutoff: float) -> Tensor:
    """The low-pass that ends at a circle in the plane of frequencies, cut off at the kernel's edges.

    Args:
        side: Of the kernel, odd.
        cutoff: Radius of the circle, in radians per px; pi keeps nearly everything.
    """
    places = torch.arange(side, dtype=torch.float64) - side // 2
    radius = torch.hypot(places[:, None], places[None, :])
    middle = side // 2
    radius[middle, middle] = 1.0
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[middle, middle] = cutoff**2 / (4 * math.pi)
    return _normalized(kernel)


def _normalized(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()
