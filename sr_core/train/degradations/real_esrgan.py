"""Blur, resize, noise and JPEG, once or twice, as Real-ESRGAN draws them.

Paper: Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, Wang et al. 2021
(arXiv:2107.10833), sections 3.1 to 3.3; the probabilities and ranges are those of its published settings for
x4. Unlike there, every item of a batch has a degradation of its own, the outline of a picture stays in place
when it is resized, edges are continued by their outermost pixels, and the truth is not sharpened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch

from sr_core.train.degradations.draws import (
    Range,
    check_probability,
    check_range,
    check_shares,
    choice,
    happens,
    noise_seed,
    uniform,
    whole,
)
from sr_core.train.degradations.kernels import (
    KernelSettings,
    check_sides,
    drawn_final_sinc,
    drawn_kernel,
)
from sr_core.train.degradations.steps import (
    Blur,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Resize,
    Resizer,
    Step,
)

_Direction = Literal["up", "down", "keep"]
_DIRECTIONS: tuple[_Direction, ...] = ("up", "down", "keep")
_LARGEST_RESIZE = 8.0


@dataclass(frozen=True)
class StageSettings:
    """One round of blur, resize, noise and JPEG; by default the first of Real-ESRGAN.

    Attributes:
        blur_probability: Of any blur.
        kernel: How blur kernels are drawn.
        resize_probabilities: Of a larger, a smaller and the same size.
        resize: The least and the largest factor; below 1 lies what makes smaller. In the first stage it is
            that between the HR size and the size after this stage, later between the LR size and it.
        gaussian_probability: Of Gaussian noise; else it is Poisson noise.
        sigma: Of Gaussian noise, of 255.
        poisson_strength: Of Poisson noise.
        grey_probability: Of noise that is the same in all channels.
        jpeg_quality: The least and the largest.
    """

    blur_probability: float = 1.0
    kernel: KernelSettings = field(default_factory=KernelSettings)
    resize_probabilities: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize: Range = (0.15, 1.5)
    gaussian_probability: float = 0.5
    sigma: Range = (1.0, 30.0)
    poisson_strength: Range = (0.05, 3.0)
    grey_probability: float = 0.4
    jpeg_quality: tuple[int, int] = (30, 95)

    def __post_init__(self) -> None:
        for name in ("blur_probability", "gaussian_probability", "grey_probability"):
            check_probability(name, getattr(self, name))
        check_shares("resize_probabilities", self.resize_probabilities, len(_DIRECTIONS))
        check_range("resize", (self.resize[0], 1.0), 0.01)
        check_range("resize", (1.0, self.resize[1]), 1.0, _LARGEST_RESIZE)
        check_range("sigma", self.sigma, 0)
        check_range("poisson_strength", self.poisson_strength, 0)
        check_range("jpeg_quality", self.jpeg_quality, 1, 100)


SECOND_STAGE = StageSettings(
    blur_probability=0.8,
    kernel=KernelSettings(sigma_px=(0.2, 1.5)),
    resize_probabilities=(0.3, 0.4, 0.3),
    resize=(0.3, 1.2),
    sigma=(1.0, 25.0),
    poisson_strength=(0.05, 2.5),
)


@dataclass(frozen=True)
class RealEsrgan:
    """Stages in turn; the last one's JPEG comes before or after the resizing to the LR size, as often each.

    Attributes:
        stages: In their order; one makes a first-order degradation, two a second-order one.
        final_sinc_probability: Of a sinc right after the resizing to the LR size.
        final_sinc_sides_px: Its least and largest side, both odd.
    """

    stages: tuple[StageSettings, ...] = (StageSettings(), SECOND_STAGE)
    final_sinc_probability: float = 0.8
    final_sinc_sides_px: tuple[int, int] = (7, 21)

    def __post_init__(self) -> None:
        check_probability("final_sinc_probability", self.final_sinc_probability)
        check_sides("final_sinc_sides_px", self.final_sinc_sides_px)

    def steps(self, generator: torch.Generator, hr_size: tuple[int, int], scale: int) -> tuple[Step, ...]:
        """What is done to one HR frame of (height, width) in px, all parameters drawn from `generator`."""
        lr_size = (hr_size[0] // scale, hr_size[1] // scale)
        steps: list[Step] = []
        for number, stage in enumerate(self.stages):
            steps += _stage_steps(generator, stage, lr_size if number else hr_size)
            if number < len(self.stages) - 1:
                steps.append(_drawn_jpeg(generator, stage))
        end = list(self._end(generator, lr_size))
        coded = [_drawn_jpeg(generator, stage) for stage in self.stages[-1:]]
        return (*steps, *coded, *end) if happens(generator, 0.5) else (*steps, *end, *coded)

    def _end(self, generator: torch.Generator, lr_size: tuple[int, int]) -> Iterator[Step]:
        yield Resize(lr_size, choice(generator, tuple(Resizer)))
        if happens(generator, self.final_sinc_probability):
            yield Blur(drawn_final_sinc(generator, self.final_sinc_sides_px))


FIRST_ORDER = RealEsrgan((StageSettings(),))
SECOND_ORDER = RealEsrgan()


def _stage_steps(generator: torch.Generator, stage: StageSettings, size: tuple[int, int]) -> Iterator[Step]:
    """A stage without its JPEG; `size` is what it would leave with a factor of 1."""
    if happens(generator, stage.blur_probability):
        yield Blur(drawn_kernel(generator, stage.kernel))
    factor = _drawn_factor(generator, stage)
    height, width = (max(1, int(side * factor)) for side in size)
    yield Resize((height, width), choice(generator, tuple(Resizer)))
    is_gaussian = happens(generator, stage.gaussian_probability)
    is_grey = happens(generator, stage.grey_probability)
    strength = uniform(generator, stage.sigma if is_gaussian else stage.poisson_strength)
    seed = noise_seed(generator)
    yield GaussianNoise(strength, is_grey, seed) if is_gaussian else PoissonNoise(strength, is_grey, seed)


def _drawn_factor(generator: torch.Generator, stage: StageSettings) -> float:
    match choice(generator, _DIRECTIONS, stage.resize_probabilities):
        case "up":
            return uniform(generator, (1.0, stage.resize[1]))
        case "down":
            return uniform(generator, (stage.resize[0], 1.0))
        case "keep":
            return 1.0


def _drawn_jpeg(generator: torch.Generator, stage: StageSettings) -> Step:
    return Jpeg(whole(generator, *stage.jpeg_quality))
