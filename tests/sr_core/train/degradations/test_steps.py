from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.train.degradations.kernels import gaussian_kernel
from sr_core.train.degradations.steps import (
    Blur,
    CorrelatedNoise,
    Decimate,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Resize,
    Resizer,
)
from tests.sr_core.test_shrink import slopes


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [7, 13, 21])
def test_blurring_is_a_convolution_that_repeats_the_edges(side: int) -> None:
    frame, kernel = noise(1, 3, 17, 40), noise(side, side)
    kernel = kernel / kernel.sum()
    padded = F.pad(frame, [side // 2] * 4, mode="replicate").double()
    weights = kernel.flip(0, 1).double().expand(3, 1, -1, -1)

    blurred = Blur(kernel)(frame)

    torch.testing.assert_close(blurred.double(), F.conv2d(padded, weights, groups=3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("resizer", Resizer)
@pytest.mark.parametrize("size", [(20, 30), (60, 90), (13, 17)])
def test_resizing_keeps_the_outline_in_place(resizer: Resizer, size: tuple[int, int]) -> None:
    made = Resize(size, resizer)(slopes(40, 60))

    places = (torch.arange(size[1]) + 0.5) / size[1] * 60 - 0.5
    expected = 0.1 + 0.8 * places / 59
    step = 0.8 / 59
    assert (made[0, 0, 0] - expected)[2:-2].abs().max() < step
    assert (made[0, 0, 0] - expected)[2:-2].mean().abs() < step / 10


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_decimation_takes_values_at_the_middles_of_lr_pixels(scale: int) -> None:
    frame = slopes(24 * scale, 20 * scale)

    made = Decimate(scale, 0.6 * scale)(frame)

    assert made.shape == (1, 3, 24, 20)
    expected = frame.unflatten(-1, (20, scale)).mean(-1).unflatten(-2, (24, scale)).mean(-2)
    inner = slice(8, -8)
    torch.testing.assert_close(made[..., inner, inner], expected[..., inner, inner], atol=1e-5, rtol=0)


def test_gaussian_noise_has_its_sigma_in_colour_and_in_grey() -> None:
    frame = torch.full((1, 3, 100, 100), 0.5)

    colored, grey = (GaussianNoise(20, is_grey, 1)(frame) - frame for is_grey in (False, True))

    assert colored.std().item() * 255 == pytest.approx(20, rel=0.03)
    assert grey.std().item() * 255 == pytest.approx(20, rel=0.03)
    assert (grey[0, 0] - grey[0, 2]).abs().max() < 1e-6
    assert torch.corrcoef(colored[0].flatten(1))[0, 1].abs() < 0.05


def test_correlated_noise_has_the_covariance_of_its_mixing() -> None:
    frame, mixing = torch.full((1, 3, 200, 200), 0.5), noise(3, 3) * 0.05

    added = CorrelatedNoise(mixing, 1)(frame) - frame

    torch.testing.assert_close(added[0].flatten(1).cov(), mixing @ mixing.mT, atol=3e-4, rtol=0)


def test_poisson_noise_grows_with_light_and_counts_as_many_as_there_are_codes() -> None:
    frame = torch.cat([torch.full((1, 3, 80, 80), 51 / 255), torch.full((1, 3, 80, 80), 204 / 255)], dim=-1)

    added = PoissonNoise(0.1, False, 1)(frame) - frame
    dark, bright = added[..., :80].var(), added[..., 80:].var()

    assert (bright / dark).item() == pytest.approx(4, rel=0.1)
    assert dark.item() == pytest.approx(0.1**2 * 0.2 / 2, rel=0.1)
    assert added.mean().abs() < 1e-3


def test_grey_poisson_noise_is_the_same_in_all_channels() -> None:
    frame = noise(1, 3, 32, 32) * 0.2 + 0.4

    added = PoissonNoise(0.5, True, 1)(frame) - frame

    assert added.std() > 0.01
    torch.testing.assert_close(added[:, 0], added[:, 1], atol=1e-6, rtol=0)


def test_a_lower_quality_takes_more_away_and_overshoot_is_clamped() -> None:
    blurred = Blur(gaussian_kernel(7, 1.5, 1.5, 0.0))(noise(1, 3, 48, 48))
    frame = blurred * 3 - 1

    errors = [(Jpeg(quality)(frame) - frame.clamp(0, 1)).square().mean().item() for quality in (95, 60, 30)]

    assert errors == sorted(errors)
    assert 0 < errors[0] < errors[2]
