"""Separable resampling of planes by rational ratios: nearest, bilinear, bicubic and Lanczos.

The weights are pure numbers, computed once per axis. For a ratio p/q they repeat every p outputs and q
inputs, so each of the p phases is a filter of fixed weights over inputs that lie q apart. Every phase adds
its taps one shifted slice after the other: a pixel's sum has the same order wherever in a frame or tile it
lies, so tiles agree bit for bit. (A matrix product is twice as fast on a CPU, but its order depends on the
shape.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.kernels import Kernel

HALF = Fraction(1, 2)

# With more phases than this, interleaving columns costs more than transposing the plane twice.
_MAX_INTERLEAVED = 16

# 1.2 MB of float32: input, one phase and output of a strip about fit in a core's second-level cache.
_STRIP_SAMPLES = 300_000


@dataclass(frozen=True)
class AxisMap:
    """Where output samples lie on the input axis.

    Sample i of a plane lies at `i + origin` on an axis on which the picture starts at 0 and a sample is 1
    wide; its index is where its centre would be if origin were 1/2. Output j lies at input index `(j +
    target_origin) / ratio - source_origin`.

    Attributes:
        ratio: Output samples per input sample, positive.
        source_origin: Position of input sample 0, 1/2 for a centred sample.
        target_origin: The same for output sample 0.
    """

    ratio: Fraction
    source_origin: Fraction = HALF
    target_origin: Fraction = HALF

    def __post_init__(self) -> None:
        if self.ratio <= 0:
            raise SpecError("A resampling ratio must be positive", got=str(self.ratio))

    @property
    def is_identity(self) -> bool:
        """Whether each output is the input of the same index."""
        return self.ratio == 1 and self.source_origin == self.target_origin

    def position(self, index: int) -> Fraction:
        """The input index, fractional, at which output `index` lies."""
        return (index + self.target_origin) / self.ratio - self.source_origin


@dataclass(frozen=True)
class Taps:
    """The weights of one period of outputs.

    Output `p * m + phase` is the sum over t of `weights[phase, t] * input[q * m + first[phase] + t]`, where
    p/q is the ratio.

    Attributes:
        first: Input index of the first tap of each phase of the period.
        weights: (phases, taps), float64; each row sums to 1.
    """

    first: tuple[int, ...]
    weights: npt.NDArray[np.float64]

    @cached_property
    def lowest(self) -> int:
        """Input index of the first tap of all."""
        return min(self.first)


def _nearest(x: float) -> float:
    return 1.0 if -0.5 <= x < 0.5 else 0.0


def _bilinear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _bicubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0


def _lanczos(x: float) -> float:
    if x == round(x):  # sin(pi * n) is not quite 0 in floating point
        return 1.0 if x == 0.0 else 0.0
    return 3.0 * math.sin(math.pi * x) * math.sin(math.pi * x / 3.0) / (math.pi * x) ** 2


_SHAPE: dict[Kernel, Callable[[float], float]] = {
    Kernel.NEAREST: _nearest,
    Kernel.BILINEAR: _bilinear,
    Kernel.BICUBIC: _bicubic,
    Kernel.LANCZOS: _lanczos,
}


def axis_taps(kernel: Kernel, axis: AxisMap) -> Taps:
    """The weights that resample one axis; where it shrinks, kernels other than nearest are widened."""
    stretch = Fraction(1) if kernel is Kernel.NEAREST else max(Fraction(1), 1 / axis.ratio)
    reach = kernel.radius * stretch
    num_taps = math.ceil(2 * reach)
    positions = [axis.position(phase) for phase in range(axis.ratio.numerator)]
    first = tuple(math.floor(position - reach) + 1 for position in positions)
    weights = np.array(
        [
            [_SHAPE[kernel](float((start + tap - position) / stretch)) for tap in range(num_taps)]
            for start, position in zip(first, positions, strict=True)
        ]
    )
    return Taps(first, weights / weights.sum(axis=1, keepdims=True))


_cached_taps = lru_cache(maxsize=128)(axis_taps)


def resample(
    planes: Tensor, size: tuple[int, int], kernel: Kernel, vertical: AxisMap, horizontal: AxisMap
) -> Tensor:
    """Planes of another size: the first outputs of the mapped axes, as many as `size` says.

    Beyond its edges the input continues with its outermost samples. Not clamped: kernels with negative lobes
    overshoot.

    Args:
        planes: (B, C, h, w), float32.
        size: (height, width) of the result.
        kernel: The kernel, the same for both axes.
        vertical: Maps rows.
        horizontal: Maps columns.

    Returns:
        (B, C, height, width), float32; may be a view of `planes` where nothing is to be done.
    """
    rows = _resample_rows(planes, size[0], kernel, vertical)
    return _resample_columns(rows, size[1], kernel, horizontal)


def _resample_rows(planes: Tensor, num_out: int, kernel: Kernel, axis: AxisMap) -> Tensor:
    if axis.is_identity and num_out <= planes.shape[-2]:
        return planes[..., :num_out, :]
    taps, num_phases = _cached_taps(kernel, axis), axis.ratio.numerator
    num_turns = -(-num_out // num_phases)
    padded = planes.index_select(-2, _reach(taps, axis, num_turns, planes.shape[-2], planes.device))
    out = planes.new_empty(*planes.shape[:-2], num_turns, num_phases, planes.shape[-1])
    for phase in range(num_phases):
        _weighted_sum(padded, -2, taps, phase, axis.ratio.denominator, out[..., phase, :])
    return out.flatten(-3, -2)[..., :num_out, :]


def _resample_columns(planes: Tensor, num_out: int, kernel: Kernel, axis: AxisMap) -> Tensor:
    if axis.is_identity and num_out <= planes.shape[-1]:
        return planes[..., :num_out]
    num_phases = axis.ratio.numerator
    if num_phases > _MAX_INTERLEAVED:
        return _resample_rows(planes.mT.contiguous(), num_out, kernel, axis).mT.contiguous()
    taps, num_turns = _cached_taps(kernel, axis), -(-num_out // num_phases)
    index = _reach(taps, axis, num_turns, planes.shape[-1], planes.device)
    rows = planes.flatten(0, -2)
    out = planes.new_empty(rows.shape[0], num_turns, num_phases)
    for strip, strip_out in _strips(rows, out):
        padded = strip.index_select(-1, index)
        buffer = planes.new_empty(strip.shape[0], num_turns)
        for phase in range(num_phases):
            _weighted_sum(padded, -1, taps, phase, axis.ratio.denominator, buffer)
            strip_out[..., phase] = buffer
    return out.view(*planes.shape[:-1], -1)[..., :num_out]


def _strips(rows: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of views with the same rows: few at a time on a CPU, so that a strip stays in its cache."""
    num_rows = max(1, _STRIP_SAMPLES // rows.shape[1]) if rows.device.type == "cpu" else rows.shape[0]
    return zip(torch.split(rows, num_rows), torch.split(out, num_rows), strict=True)


def _reach(taps: Taps, axis: AxisMap, num_turns: int, size: int, device: torch.device) -> Tensor:
    """The input indices that all outputs need, in order, held within the plane: its edges are repeated."""
    last = (num_turns - 1) * axis.ratio.denominator + max(taps.first) + taps.weights.shape[1]
    return torch.arange(taps.lowest, last, device=device).clamp_(0, size - 1)


def _weighted_sum(padded: Tensor, dim: int, taps: Taps, phase: int, step: int, out: Tensor) -> None:
    """Fill `out` with one phase of every period; `padded` starts at the lowest index of any phase."""
    first, span = taps.first[phase] - taps.lowest, (out.shape[dim] - 1) * step + 1
    terms = [(first + tap, float(w)) for tap, w in enumerate(taps.weights[phase]) if w != 0.0]
    for number, (start, weight) in enumerate(terms):
        samples = padded.narrow(dim, start, span)
        samples = samples[..., ::step] if dim == -1 else samples[..., ::step, :]
        if number == 0:
            torch.mul(samples, weight, out=out)
        else:
            out.add_(samples, alpha=weight)
