from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from sr_core.jpeg import jpeg
from sr_core.metrics.psnr import psnr
from sr_core.shrink import Degradation, degrade, mod_crop, rounded, shrink


def imresize_weights(size: int, scale: int) -> npt.NDArray[np.float64]:
    """(size / scale, size): MATLAB's bicubic, written down as its documentation says it."""

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    weights = np.zeros((size // scale, size))
    for row in range(size // scale):
        center = (row + 0.5) * scale - 0.5
        for place in range(int(center) - 2 * scale, int(center) + 2 * scale + 2):
            mirrored = min(place % (2 * size), 2 * size - 1 - place % (2 * size))
            weights[row, mirrored] += kernel((place - center) / scale)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_shrinking_is_matlabs_up_to_the_edges(scale: int) -> None:
    torch.manual_seed(0)
    hr_frame = torch.rand(1, 1, 12 * scale, 5 * scale)
    rows, columns = (imresize_weights(side, scale) for side in hr_frame.shape[-2:])
    expected = rows @ hr_frame[0, 0].double().numpy() @ columns.T

    made = shrink(hr_frame, scale)

    torch.testing.assert_close(made[0, 0].double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_what_makes_no_whole_lr_pixel_is_cut_off_below_and_right() -> None:
    frame = torch.arange(7 * 8.0).view(1, 1, 7, 8)

    assert torch.equal(mod_crop(frame, 3), frame[..., :6, :6])


def slopes(height: int, width: int) -> Tensor:
    """Channels that rise to the right, downwards, and along both."""
    right = torch.linspace(0.1, 0.9, width).expand(height, -1)
    down = torch.linspace(0.1, 0.9, height).view(-1, 1).expand(-1, width)
    return torch.stack([right, down, (right + down) / 2])[None]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("degradation", [*Degradation])
def test_no_degradation_moves_the_picture(degradation: Degradation, scale: int) -> None:
    hr_frame = slopes(96 * scale, 96 * scale)
    plain = shrink(hr_frame, scale)

    made = degrade(hr_frame, scale, degradation, seed=0)

    assert made.shape == (1, 3, 96, 96)
    difference = (made - plain)[..., 8:-8, 8:-8].mean((2, 3))
    # Half an LR pixel would be 0.004.
    assert float(difference.abs().max()) < 0.002


@pytest.mark.parametrize("degradation", [*Degradation])
def test_lr_frames_have_eight_bits_and_are_the_same_for_the_same_seed(degradation: Degradation) -> None:
    hr_frame = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))

    made = degrade(hr_frame, 2, degradation, seed=7)

    assert torch.equal(made, degrade(hr_frame, 2, degradation, seed=7))
    torch.testing.assert_close(made * 255, (made * 255).round(), atol=1e-4, rtol=0)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_another_seed_is_other_noise_of_the_promised_strength() -> None:
    hr_frame = torch.full((1, 3, 128, 128), 0.5)

    first, second = (degrade(hr_frame, 2, Degradation.NOISE, seed) for seed in (1, 2))

    assert not torch.equal(first, second)
    assert float(first.std()) == pytest.approx(10 / 255, rel=0.05)


def test_blur_is_a_gaussian_of_the_promised_width() -> None:
    hr_frame = torch.zeros(1, 3, 63, 63)
    hr_frame[..., 31, :] = 1

    made = degrade(hr_frame, 3, Degradation.BLUR, seed=0)[0, 0, :, 10]

    # A line in the middle of row 10, whose neighbours' middles are 3 pixels away.
    assert float(made[11] / made[10]) == pytest.approx(float(np.exp(-9 / (2 * 1.6**2))), abs=0.01)
    assert float(made[10]) == pytest.approx(1 / (1.6 * float(np.sqrt(2 * np.pi))), abs=0.005)


@pytest.mark.parametrize("quality", [25, 50, 90])
def test_jpeg_is_what_a_jpeg_file_gives(quality: int) -> None:
    torch.manual_seed(0)
    picture = rounded(torch.nn.functional.interpolate(torch.rand(1, 3, 9, 11), (50, 69), mode="bicubic"))
    codes = (picture[0] * 255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(buffer) as image:
        stored = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255

    made = jpeg(picture, quality)

    # Two decoders differ by rounding; the coding itself costs far more.
    assert float(psnr(made, stored)) > float(psnr(stored, picture)) + 6
    assert float(psnr(made, stored)) > 38
