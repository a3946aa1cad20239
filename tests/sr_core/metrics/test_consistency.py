import pytest
import torch

from sr_core.metrics.consistency import consistency
from sr_core.shrink import rounded, shrink


def test_the_truth_is_consistent_up_to_the_rounding_of_its_lr_frame() -> None:
    torch.manual_seed(0)
    hr_frames = torch.rand(1, 3, 64, 64)

    # Rounding to 8 bits is noise of 1/12 code squared.
    assert consistency(hr_frames, rounded(shrink(hr_frames, 4)), 4).item() == pytest.approx(58.9, abs=0.3)


def test_what_shrinking_takes_away_costs_nothing_and_brightness_does() -> None:
    hr_frames = torch.rand(1, 3, 64, 64) / 2 + 0.25
    lr_frames = shrink(hr_frames, 2)
    checks = (torch.arange(64).view(-1, 1) + torch.arange(64)) % 2 * 0.1 - 0.05

    assert consistency(hr_frames + checks, lr_frames, 2).item() > 70
    assert consistency(hr_frames + 0.1, lr_frames, 2).item() == pytest.approx(20, abs=1e-3)
