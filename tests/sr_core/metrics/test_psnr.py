import pytest
import torch

from sr_core.metrics.psnr import psnr, studio_luma, without_border


def test_psnr_of_one_code_of_error_in_eight_bits_is_the_textbook_value() -> None:
    hr_frames = torch.rand(2, 3, 8, 8, dtype=torch.float64)

    measured = psnr(hr_frames + 1 / 255, hr_frames)

    assert measured.tolist() == pytest.approx([48.1308, 48.1308], abs=1e-4)


def test_equal_pictures_have_a_hundred_decibels_and_a_finite_gradient() -> None:
    picture = torch.rand(1, 3, 8, 8, requires_grad=True)

    measured = psnr(picture, picture.detach())
    measured.sum().backward()

    assert measured.item() == pytest.approx(100)
    assert picture.grad is not None
    assert bool(picture.grad.isfinite().all())


@pytest.mark.parametrize(
    ("rgb", "code"),
    [((0, 0, 0), 16), ((1, 1, 1), 235), ((1, 0, 0), 81.481), ((0, 1, 0), 144.553), ((0, 0, 1), 40.966)],
)
def test_luma_has_the_codes_of_bt601(rgb: tuple[float, ...], code: float) -> None:
    luma = studio_luma(torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1))

    assert luma.item() * 255 == pytest.approx(code)


def test_the_border_is_left_out_on_each_side() -> None:
    picture = torch.zeros(1, 1, 6, 7)
    picture[..., 2:4, 2:5] = 1

    assert without_border(picture, 2).shape == (1, 1, 2, 3)
    assert bool((without_border(picture, 2) == 1).all())
