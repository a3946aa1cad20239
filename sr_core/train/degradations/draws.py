"""Drawing parameters from a `torch.Generator` on the CPU, one item of a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from sr_core.errors import SpecError

Range = tuple[float, float]
"""From the least to the largest value, both of which may be drawn."""

_NUM_SEEDS = 1 << 62
Value = TypeVar("Value")


def uniform(generator: torch.Generator, bounds: Range) -> float:
    """A number of a range, all alike."""
    low, high = bounds
    share = torch.rand((), generator=generator, dtype=torch.float64).item()
    return low + (high - low) * share


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator).item())


def happens(generator: torch.Generator, probability: float) -> bool:
    """Whether something of this probability happens."""
    return uniform(generator, (0.0, 1.0)) < probability


def choice(
    generator: torch.Generator, values: Sequence[Value], probabilities: Sequence[float] | None = None
) -> Value:
    """One of `values`, all alike where no probabilities are given."""
    if probabilities is None:
        return values[whole(generator, 0, len(values) - 1)]
    left = uniform(generator, (0.0, sum(probabilities)))
    for value, probability in zip(values, probabilities, strict=True):
        left -= probability
        if left < 0:
            return value
    return values[-1]


def order(generator: torch.Generator, num_steps: int) -> list[int]:
    """The numbers from 0 to `num_steps` - 1 in a random order."""
    shuffled: list[int] = torch.randperm(num_steps, generator=generator).tolist()
    return shuffled


def noise_seed(generator: torch.Generator) -> int:
    """The seed of a noise that is as large as a picture whose size is not known yet."""
    return int(torch.randint(_NUM_SEEDS, (), generator=generator).item())


def check_probability(where: str, *probabilities: float) -> None:
    """Raises a SpecError for what is none."""
    for probability in probabilities:
        if not 0 <= probability <= 1:
            raise SpecError("this is no probability", where=where, got=f"{probability:g}", expected="0 to 1")


def check_shares(where: str, probabilities: Sequence[float], num_values: int) -> None:
    """Raises a SpecError unless these are the probabilities of so many values."""
    check_probability(where, *probabilities)
    if len(probabilities) != num_values or abs(sum(probabilities) - 1) > 1e-6:
        raise SpecError(
            "probabilities must stand for every choice and sum to 1",
            where=where,
            got=f"{len(probabilities)} that sum to {sum(probabilities):g}",
            expected=f"{num_values} that sum to 1",
        )


def check_range(where: str, bounds: Range, least: float, most: float = float("inf")) -> None:
    """Raises a SpecError unless `bounds` ascend within `least` and `most`."""
    low, high = bounds
    if not least <= low <= high <= most:
        raise SpecError(
            "this is no range of values that can be drawn",
            where=where,
            got=f"{low:g} to {high:g}",
            expected=f"ascending, from {least:g} to {most:g}",
        )
