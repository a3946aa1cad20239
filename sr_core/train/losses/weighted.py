"""Weighted sums of losses that compare frames with the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sr_core.errors import SpecError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Scalar, the lower the nearer, of sr_frames and hr_frames, (B, 3, H, W) R'G'B' of nominally 0..1 both."""


def check_weight(weight: float, where: str) -> None:
    """Lets a loss's weight pass.

    Raises:
        SpecError: It is not finite, or not above 0.
    """
    if not (math.isfinite(weight) and weight > 0):
        raise SpecError(
            "The weight of a loss is not usable",
            where=where,
            got=str(weight),
            expected="a finite number above 0",
            next_step="leave out what is not wanted",
        )


@dataclass(frozen=True)
class Term:
    """One loss of a sum.

    Attributes:
        name: It stands so in logs; unique in a sum.
        weight: Finite and above 0.
        loss: What is weighted.

    Raises:
        SpecError: The weight is not usable.
    """

    name: str
    weight: float
    loss: Loss

    def __post_init__(self) -> None:
        check_weight(self.weight, self.name)


@dataclass(frozen=True)
class WeightedLoss:
    """The weighted sum of some losses, of pixels, features or both.

    Attributes:
        terms: At least one.

    Raises:
        SpecError: There are none, or two of one name.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise SpecError(
                "A sum of losses needs at least one, and each only once",
                got=", ".join(names) or "none",
            )

    def __call__(self, sr_frames: Tensor, hr_frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, and every loss in it before weighting, without gradient and still on its device."""
        values = [(term, term.loss(sr_frames, hr_frames)) for term in self.terms]
        parts = {term.name: value.detach() for term, value in values}
        weighted = [term.weight * value for term, value in values]
        return sum(weighted[1:], weighted[0]), parts
