import itertools
import math

import pytest
import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.metrics.ssim import ssim
from sr_core.train.losses.ms_ssim import ms_ssim, num_scales
from sr_core.train.losses.pixel import (
    CHARBONNIER,
    CHARBONNIER_EPSILON,
    FFT,
    L1,
    MS_SSIM,
    MSE,
    PIXEL_LOSSES,
    SSIM,
    PixelLoss,
    pixel_terms,
)
from sr_core.train.losses.weighted import Term, WeightedLoss
from tests.sr_core.train.losses.descent import lowered

EVERY = pytest.mark.parametrize("loss", PIXEL_LOSSES, ids=lambda loss: loss.name)


def frames(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@EVERY
def test_equal_frames_cost_nothing_and_have_a_gradient(loss: PixelLoss) -> None:
    hr_frames = frames(0, 2, 3, 48, 40)
    sr_frames = hr_frames.clone().requires_grad_()

    value = loss(sr_frames, hr_frames)
    value.backward()

    floor = CHARBONNIER_EPSILON if loss is CHARBONNIER else 0
    assert value.item() == pytest.approx(floor, abs=1e-5)
    assert sr_frames.grad is not None
    assert bool(sr_frames.grad.isfinite().all())
    assert float(sr_frames.grad.abs().max()) < 1e-3 or loss is L1


@EVERY
def test_black_frames_against_white_ones_have_a_gradient(loss: PixelLoss) -> None:
    sr_frames = torch.zeros(1, 3, 48, 48, requires_grad=True)

    value = loss(sr_frames, torch.ones(1, 3, 48, 48))
    value.backward()

    assert value.item() > 0.01
    assert sr_frames.grad is not None
    assert bool(sr_frames.grad.isfinite().all())


@EVERY
def test_its_own_gradient_leads_a_picture_to_the_truth(loss: PixelLoss) -> None:
    hr_frames = frames(0, 1, 3, 48, 48)
    start = (hr_frames + 0.4 * frames(1, 1, 3, 48, 48) - 0.2).clamp(0, 1)

    values = lowered(lambda picture: loss(picture, hr_frames), start, num_steps=8, step=0.01)

    assert all(after < before for before, after in itertools.pairwise(values))
    assert values[-1] < 0.8 * values[0]


@EVERY
def test_its_gradient_is_that_of_its_values(loss: PixelLoss) -> None:
    sr_frames, hr_frames = frames(3, 2, 1, 2, 24, 23).double()
    inputs = (sr_frames.requires_grad_(), hr_frames)

    assert torch.autograd.gradcheck(lambda x, y: loss(x, y), inputs)


@EVERY
def test_half_precision_channels_last_and_autocast_change_nothing_but_rounding(loss: PixelLoss) -> None:
    sr_frames, hr_frames = frames(0, 2, 2, 3, 64, 48).bfloat16()

    expected = loss(sr_frames.float(), hr_frames.float())
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(
            sr_frames.to(memory_format=torch.channels_last), hr_frames.to(memory_format=torch.channels_last)
        )

    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@EVERY
def test_frames_of_another_shape_are_refused(loss: PixelLoss) -> None:
    with pytest.raises(SpecError, match=rf"pixel loss {loss.name}.*\(2, 3, 48, 48\) and \(2, 3, 24, 24\)"):
        loss(frames(0, 2, 3, 48, 48), frames(0, 2, 3, 24, 24))


def test_a_constant_difference_has_the_values_that_one_computes_by_hand() -> None:
    sr_frames, hr_frames = torch.full((2, 3, 16, 12), 0.75), torch.full((2, 3, 16, 12), 0.5)

    assert L1(sr_frames, hr_frames).item() == pytest.approx(0.25)
    assert MSE(sr_frames, hr_frames).item() == pytest.approx(0.0625)
    assert CHARBONNIER(sr_frames, hr_frames).item() == pytest.approx(math.hypot(0.25, 1e-3))
    luminance = (2 * 0.75 * 0.5 + 1e-4) / (0.75**2 + 0.5**2 + 1e-4)
    assert SSIM(sr_frames, hr_frames).item() == pytest.approx(1 - luminance, abs=5e-4)
    # Of a constant, only the first of 16 * 7 real and as many imaginary parts is not 0: sqrt(16 * 12) / 4.
    assert FFT(sr_frames, hr_frames).item() == pytest.approx(0.25 * math.sqrt(16 * 12) / (2 * 16 * 7))


def test_the_spectrum_of_noise_costs_the_same_at_any_size() -> None:
    small, large = (
        torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)) for side in (32, 256)
    )

    at_small, at_large = (FFT(noise, torch.zeros_like(noise)).item() for noise in (small, large))

    assert at_small == pytest.approx(at_large, rel=0.05)


@pytest.mark.parametrize(
    ("side", "expected"), [(10, 0), (11, 1), (21, 1), (22, 2), (44, 3), (88, 4), (175, 4), (176, 5), (999, 5)]
)
def test_scales_are_as_many_as_windows_fit(side: int, expected: int) -> None:
    assert num_scales(side, 1000) == num_scales(1000, side) == expected


@pytest.mark.parametrize("side", [176, 100, 48])
def test_brightness_counts_at_the_last_scale_alone(side: int) -> None:
    # All structures are equal, so what remains is the luminance, to the power of the last scale's weight.
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)[: num_scales(side, side)]
    x, y = (torch.full((1, 2, side, side), value, dtype=torch.float64) for value in (0.2, 0.6))
    luminance = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)

    assert ms_ssim(x, y).item() == pytest.approx(luminance ** (weights[-1] / sum(weights)), rel=1e-9)


def test_one_scale_of_one_channel_is_plain_similarity() -> None:
    x, y = frames(0, 2, 3, 1, 21, 30).double()
    y = 0.7 * x + 0.3 * y

    torch.testing.assert_close(ms_ssim(x, y), ssim(x, y))


def test_opposed_structures_are_as_far_as_can_be_and_still_have_a_gradient() -> None:
    hr_frames = frames(0, 1, 3, 48, 48)
    sr_frames = (1 - hr_frames).requires_grad_()

    value = MS_SSIM(sr_frames, hr_frames)
    value.backward()

    assert 0.99 < value.item() <= 1
    assert sr_frames.grad is not None
    assert bool(sr_frames.grad.isfinite().all())


@pytest.mark.parametrize("loss", [SSIM, MS_SSIM], ids=lambda loss: loss.name)
def test_frames_below_one_window_are_refused(loss: PixelLoss) -> None:
    with pytest.raises(SpecError, match="48x10; expected at least 11x11"):
        loss(frames(0, 1, 3, 10, 48), frames(1, 1, 3, 10, 48))


def test_a_sum_is_of_its_weighted_terms_and_tells_them_unweighted() -> None:
    sr_frames, hr_frames = frames(0, 2, 1, 3, 16, 16)
    sr_frames.requires_grad_()

    total, parts = WeightedLoss(pixel_terms({"fft": 0.05, "l1": 2.0}))(sr_frames, hr_frames)

    assert list(parts) == ["fft", "l1"]
    assert parts["l1"].item() == pytest.approx((sr_frames - hr_frames).abs().mean().item())
    assert total.item() == pytest.approx(0.05 * parts["fft"].item() + 2 * parts["l1"].item())
    assert total.requires_grad
    assert not any(part.requires_grad for part in parts.values())


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"no such pixel loss; got charbonier; .*did you mean 'charbonnier'"):
        pixel_terms({"charbonier": 1.0})


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(SpecError, match=r"l1: The weight.*finite number above 0"):
        pixel_terms({"l1": weight})


def test_a_sum_of_nothing_or_of_one_name_twice_is_refused() -> None:
    for terms in ((), (Term("l1", 1.0, L1), Term("l1", 2.0, MSE))):
        with pytest.raises(SpecError, match="at least one, and each only once"):
            WeightedLoss(terms)
