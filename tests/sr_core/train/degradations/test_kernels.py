from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.train.degradations.kernels import (
    KernelSettings,
    Shape,
    drawn_final_sinc,
    drawn_kernel,
    gaussian_kernel,
    plateau_kernel,
    sinc_kernel,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(shape: Shape) -> KernelSettings:
    shares = tuple(float(each is shape) for each in Shape)
    return KernelSettings(shape_probabilities=shares, sinc_probability=0.0)


def moments(kernel: Tensor) -> tuple[float, float, float]:
    """Variances along x and y, and the covariance, around the kernel's middle."""
    places = torch.arange(kernel.shape[0]) - kernel.shape[0] // 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    return tuple(float((kernel * product).sum()) for product in (x * x, y * y, x * y))


@pytest.mark.parametrize("shape", Shape)
def test_drawn_kernels_of_every_shape_sum_to_1_around_their_middle(shape: Shape) -> None:
    for seed in range(60):
        kernel = drawn_kernel(seeded(seed), only(shape))

        assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert 7 <= kernel.shape[0] <= 21
        torch.testing.assert_close(kernel, kernel.flip(0, 1), atol=1e-6, rtol=0)
        assert kernel.min() >= 0


def test_drawn_sincs_sum_to_1_and_ring() -> None:
    kernels = [drawn_final_sinc(seeded(seed), (7, 21)) for seed in range(60)]

    assert all(kernel.sum().item() == pytest.approx(1, abs=1e-5) for kernel in kernels)
    assert any(kernel.min() < -0.001 for kernel in kernels)
    assert {kernel.shape[0] for kernel in kernels} == set(range(7, 22, 2))


def test_round_kernels_are_round_and_the_others_are_not() -> None:
    for shape in Shape:
        kernels = [drawn_kernel(seeded(seed), only(shape)) for seed in range(20)]
        is_round = all(torch.allclose(kernel, kernel.rot90(), atol=1e-6) for kernel in kernels)
        assert is_round == shape.is_round


def test_a_gaussian_has_the_variances_and_the_direction_that_it_was_given() -> None:
    upright = moments(gaussian_kernel(31, 3.0, 1.5, 0.0))
    tilted = moments(gaussian_kernel(31, 3.0, 1.5, math.pi / 4))

    assert upright == pytest.approx((9.0, 2.25, 0.0), abs=0.05)
    assert tilted == pytest.approx((5.625, 5.625, 3.375), abs=0.05)


def test_a_larger_exponent_flattens_the_middle() -> None:
    plain, boxy, plateau = (
        kernel / kernel.max()
        for kernel in (
            gaussian_kernel(21, 3.0, 3.0, 0.0),
            gaussian_kernel(21, 3.0, 3.0, 0.0, 4.0),
            plateau_kernel(21, 3.0, 3.0, 0.0, 2.0),
        )
    )

    assert plain[10, 12] < plateau[10, 12] < boxy[10, 12]


def test_a_sinc_passes_what_lies_below_its_cutoff_and_stops_the_rest() -> None:
    response = torch.fft.fft2(sinc_kernel(61, math.pi / 2), s=(64, 64)).abs()

    assert response[0, 8] == pytest.approx(1, abs=0.1)
    assert response[0, 28] < 0.1


def test_shapes_come_as_often_as_published() -> None:
    settings = KernelSettings()
    kernels = [drawn_kernel(seeded(seed), settings) for seed in range(1500)]

    share = sum(torch.allclose(each, each.rot90(), atol=1e-6) for each in kernels) / len(kernels)

    assert share == pytest.approx(0.1 + 0.9 * (0.45 + 0.12 + 0.12), abs=0.05)


def test_settings_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(SpecError, match="odd"):
        KernelSettings(sides_px=(8, 21))
    with pytest.raises(SpecError, match="sum to"):
        KernelSettings(shape_probabilities=(1.0, 0.5, 0, 0, 0, 0))
    with pytest.raises(SpecError, match="ascending"):
        KernelSettings(sigma_px=(3.0, 0.2))
