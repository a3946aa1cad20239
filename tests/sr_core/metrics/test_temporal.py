from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.kernels import Kernel
from sr_core.metrics.temporal import optical_flow, visible, warp, warping_error
from sr_core.resample import AxisMap, resample


def clouds(height: int, width: int) -> Tensor:
    """Smooth noise with structures of several sizes."""
    torch.manual_seed(0)
    picture = torch.zeros(1, 3, height, width)
    for period in (6, 24):
        noise = torch.rand(1, 3, height // period + 2, width // period + 2)
        axis = AxisMap(Fraction(period))
        picture += resample(noise, (height, width), Kernel.BICUBIC, axis, axis) / 2
    return picture


def moving(right: int, down: int) -> tuple[Tensor, Tensor]:
    """A camera's two views of 96x112 pixels: what is in the first has moved so far in the second."""
    scene = clouds(160, 176)
    before = scene[..., 32:128, 32:144]
    after = scene[..., 32 - down : 128 - down, 32 - right : 144 - right]
    return before, after


@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (3, -2), (-9, 6)])
def test_flow_finds_how_far_everything_moved(right: int, down: int) -> None:
    flow = optical_flow(*moving(right, down))

    inner = flow[..., 16:-16, 16:-16]
    assert inner[:, 0].median().item() == pytest.approx(right, abs=0.05)
    assert inner[:, 1].median().item() == pytest.approx(down, abs=0.05)
    assert float((inner - torch.tensor([right, down]).view(1, 2, 1, 1)).abs().mean()) < 0.15


def test_flow_finds_a_part_of_a_pixel() -> None:
    before, after = moving(1, 0)
    half = (before + after) / 2  # of a smooth picture, about half way

    flow = optical_flow(before, half)

    assert flow[:, 0, 16:-16, 16:-16].median().item() == pytest.approx(0.5, abs=0.1)


def test_warping_takes_the_motion_out() -> None:
    before, after = moving(3, -2)
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 96, 112)

    torch.testing.assert_close(warp(after, flow)[..., 4:-4, 4:-4], before[..., 4:-4, 4:-4], atol=1e-5, rtol=0)


def test_what_leaves_the_picture_and_what_is_covered_is_not_counted() -> None:
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 3
    back = -flow
    back[:, :, 5] = 4  # there, the way back ends elsewhere

    mask = visible(flow, back)

    assert mask[0, 0, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert mask[0, 0, 5].tolist() == [0] * 8


def test_flicker_is_an_error_and_motion_is_none() -> None:
    before, after = moving(3, -2)
    flow = optical_flow(before, after)
    mask = visible(flow, optical_flow(after, before))

    steady = float(warping_error(before, after, flow, mask))
    flickering = float(warping_error(before, after + 0.05, flow, mask))

    assert steady < flickering / 50
    assert flickering == pytest.approx(0.05**2, rel=0.1)


def test_the_error_has_a_gradient_for_training() -> None:
    before, after = moving(1, 1)
    flow, mask = optical_flow(before, after), torch.ones(1, 1, 96, 112)
    sr_frames = F.avg_pool2d(after, 3, 1, 1).requires_grad_()

    warping_error(before, sr_frames, flow, mask).sum().backward()

    assert sr_frames.grad is not None
    assert float(sr_frames.grad.abs().sum()) > 0
