"""Blurs, shrinkings, noise and JPEG in a random order.

Paper: Designing a Practical Degradation Model for Deep Blind Image Super-Resolution, Zhang et al. 2021
(arXiv:2103.14006), section 3, with the ranges and probabilities of its published code. Its camera pipeline
(forward and backward ISP) is left out, as it is a network of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sr_core.train.degradations.draws import (
    Range,
    check_probability,
    check_range,
    check_shares,
    choice,
    happens,
    noise_seed,
    order,
    uniform,
    whole,
)
from sr_core.train.degradations.kernels import check_sides, drawn_side, gaussian_kernel
from sr_core.train.degradations.steps import (
    Blur,
    CorrelatedNoise,
    Decimate,
    GaussianNoise,
    Jpeg,
    Resize,
    Resizer,
    Step,
)

_NUM_SHUFFLED = 6
_FIRST_SHRINK, _LAST_SHRINK = 2, 3
_HALVED_SCALE = 4


@dataclass(frozen=True)
class Bsrgan:
    """How the sequence is drawn.

    Attributes:
        kernel_sides_px: The least and the largest side of blur kernels, both odd.
        iso_probability: Of a round blur; else its axes differ.
        least_sigma_px: Of a round blur; the largest is 2 + 0.2 times the scale.
        least_variance: Of the axes of the others, in px²; the largest is 4 + the scale.
        halving_probability: At scale 4, of halving first and going on as at scale 2.
        resize_probability: Of shrinking by a drawn factor; else every scale-th value after a Gaussian.
        sigma: The least and the largest of the noise, of 255, whole numbers.
        noise_probabilities: Of noise in colour, in grey, and of channels that go together in part.
        jpeg_probability: Within the sequence; there is always one at its end.
        jpeg_quality: The least and the largest.
    """

    kernel_sides_px: tuple[int, int] = (7, 21)
    iso_probability: float = 0.5
    least_sigma_px: float = 0.1
    least_variance: float = 0.5
    halving_probability: float = 0.25
    resize_probability: float = 0.75
    sigma: tuple[int, int] = (2, 25)
    noise_probabilities: tuple[float, float, float] = (0.4, 0.4, 0.2)
    jpeg_probability: float = 0.9
    jpeg_quality: tuple[int, int] = (30, 95)

    def __post_init__(self) -> None:
        for name in ("iso_probability", "halving_probability", "resize_probability", "jpeg_probability"):
            check_probability(name, getattr(self, name))
        check_sides("kernel_sides_px", self.kernel_sides_px)
        check_range("least_sigma_px", (self.least_sigma_px, 2.0), 0.01)
        check_range("least_variance", (self.least_variance, 4.0), 0.01)
        check_range("sigma", self.sigma, 0)
        check_shares("noise_probabilities", self.noise_probabilities, 3)
        check_range("jpeg_quality", self.jpeg_quality, 1, 100)

    def steps(self, generator: torch.Generator, hr_size: tuple[int, int], scale: int) -> tuple[Step, ...]:
        """What is done to one HR frame of (height, width) in px, all parameters drawn from `generator`."""
        size, lr_size = hr_size, (hr_size[0] // scale, hr_size[1] // scale)
        steps: list[Step] = []
        if scale == _HALVED_SCALE and happens(generator, self.halving_probability):
            size, scale = (hr_size[0] // 2, hr_size[1] // 2), 2
            steps.append(Resize(size, choice(generator, tuple(Resizer))))
        for number in _drawn_order(generator):
            steps += self._shuffled(generator, number, size, lr_size, scale)
        return (*steps, Jpeg(whole(generator, *self.jpeg_quality)))

    def _shuffled(
        self,
        generator: torch.Generator,
        number: int,
        size: tuple[int, int],
        lr_size: tuple[int, int],
        scale: int,
    ) -> list[Step]:
        """The step of a number, where there is one."""
        if number == _FIRST_SHRINK:
            return [self._shrinking(generator, size, scale)]
        if number == _LAST_SHRINK:
            return [Resize(lr_size, choice(generator, tuple(Resizer)))]
        if number < _FIRST_SHRINK:
            return [self._blur(generator, scale)]
        if number == _LAST_SHRINK + 1:
            return [self._noise(generator)]
        is_coded = happens(generator, self.jpeg_probability)
        return [Jpeg(whole(generator, *self.jpeg_quality))] if is_coded else []

    def _blur(self, generator: torch.Generator, scale: int) -> Step:
        side = drawn_side(generator, self.kernel_sides_px)
        if happens(generator, self.iso_probability):
            sigma = uniform(generator, (self.least_sigma_px, 2 + 0.2 * scale))
            return Blur(gaussian_kernel(side, sigma, sigma, 0.0))
        variances: Range = (self.least_variance, 4.0 + scale)
        along, across = (math.sqrt(uniform(generator, variances)) for _ in range(2))
        return Blur(gaussian_kernel(side, along, across, uniform(generator, (0.0, math.pi))))

    def _shrinking(self, generator: torch.Generator, size: tuple[int, int], scale: int) -> Step:
        if scale > 1 and not happens(generator, self.resize_probability):
            return Decimate(scale, uniform(generator, (0.1, 0.6 * scale)))
        factor = uniform(generator, (1.0, 2.0 * scale))
        height, width = (max(1, int(side / factor)) for side in size)
        return Resize((height, width), choice(generator, tuple(Resizer)))

    def _noise(self, generator: torch.Generator) -> Step:
        sigma, seed = whole(generator, *self.sigma), noise_seed(generator)
        kind = choice(generator, ("color", "grey", "correlated"), self.noise_probabilities)
        if kind == "correlated":
            return CorrelatedNoise(_drawn_mixing(generator, self.sigma[1]), seed)
        return GaussianNoise(sigma, kind == "grey", seed)


def _drawn_order(generator: torch.Generator) -> list[int]:
    """0 and 1 blur, 2 and 3 shrink, 4 is noise, 5 is JPEG; the second shrinking is never before the first."""
    numbers = order(generator, _NUM_SHUFFLED)
    first, last = sorted((numbers.index(_FIRST_SHRINK), numbers.index(_LAST_SHRINK)))
    numbers[first], numbers[last] = _FIRST_SHRINK, _LAST_SHRINK
    return numbers


def _drawn_mixing(generator: torch.Generator, sigma: float) -> Tensor:
    """(3, 3): the root of a covariance with random directions, and variances of up to `sigma`² of 255²."""
    shares = torch.rand(3, generator=generator)
    directions, _ = torch.linalg.qr(torch.rand(3, 3, generator=generator))
    mixing: Tensor = directions * shares.sqrt() * (sigma / 255)
    return mixing
