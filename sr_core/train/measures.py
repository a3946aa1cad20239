"""What networks are compared by on what was set aside, and which of two is better."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Measure(StrEnum):
    """A measure by the name that specs, cards and curves have for it."""

    PSNR_Y = "psnr_y"
    SSIM_Y = "ssim_y"
    LPIPS = "lpips"
    NEGATIVE_ELBO = "negative_elbo"
    PSNR = "psnr"
    SLICED_WASSERSTEIN = "sliced_wasserstein"
    CROSS_ENTROPY = "cross_entropy"
    ACCURACY = "accuracy"
    MAE = "mae"


Figures = Mapping[str, float]
"""Means over what was set aside, by the name of a `Measure`; only what was measured."""

# In which less is better.
_DISTANCES = frozenset(
    {Measure.LPIPS, Measure.NEGATIVE_ELBO, Measure.SLICED_WASSERSTEIN, Measure.CROSS_ENTROPY, Measure.MAE}
)

_TOLD = {
    Measure.PSNR_Y: "{:.3f} dB of luma",
    Measure.SSIM_Y: "SSIM {:.4f}",
    Measure.LPIPS: "LPIPS {:.4f}",
    Measure.NEGATIVE_ELBO: "{:.1f} nats of negative ELBO",
    Measure.PSNR: "PSNR {:.2f} dB",
    Measure.SLICED_WASSERSTEIN: "sliced Wasserstein distance {:.1f}",
    Measure.CROSS_ENTROPY: "cross entropy {:.4f}",
    Measure.ACCURACY: "{:.1%} right",
    Measure.MAE: "mean absolute error {:.5f}",
}


def in_words(figures: Figures) -> str:
    """Figures in words."""
    return ", ".join(_TOLD[Measure(name)].format(value) for name, value in figures.items())


def is_better(figures: Figures, others: Figures, measure: Measure) -> bool:
    """Whether `figures` are better than `others` by a measure, which they have; so if the others have not."""
    if measure not in others:
        return True
    if measure in _DISTANCES:
        return figures[measure] < others[measure]
    return figures[measure] > others[measure]
