import math

import pytest
import torch

from sr_core.metrics.ssim import ssim


def test_equal_pictures_are_wholly_similar() -> None:
    picture = torch.rand(2, 3, 16, 20, dtype=torch.float64)

    assert ssim(picture, picture).tolist() == pytest.approx([1, 1])


def test_one_window_gives_what_the_formula_of_the_paper_gives() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(2, 11, 11, dtype=torch.float64)
    weights = [
        [math.exp(-((row - 5) ** 2 + (column - 5) ** 2) / (2 * 1.5**2)) for column in range(11)]
        for row in range(11)
    ]
    w = torch.tensor(weights, dtype=torch.float64)
    w /= w.sum()
    mean_x, mean_y = float((w * x).sum()), float((w * y).sum())
    variance_x = float((w * (x - mean_x) ** 2).sum())
    variance_y = float((w * (y - mean_y) ** 2).sum())
    covariance = float((w * (x - mean_x) * (y - mean_y)).sum())
    expected = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_x**2 + mean_y**2 + 1e-4) * (variance_x + variance_y + 9e-4)

    assert ssim(x[None, None], y[None, None]).item() == pytest.approx(expected, rel=1e-9)


def test_each_picture_of_a_batch_has_its_own_value_and_a_gradient() -> None:
    hr_frames = torch.rand(2, 3, 16, 16)
    sr_frames = torch.stack([hr_frames[0], torch.rand(3, 16, 16)]).requires_grad_()

    measured = ssim(sr_frames, hr_frames)
    measured[1].backward()

    assert measured[0].item() == pytest.approx(1, abs=1e-4)
    assert measured[1].item() < 0.2
    assert sr_frames.grad is not None
    assert float(sr_frames.grad[1].abs().sum()) > 0
