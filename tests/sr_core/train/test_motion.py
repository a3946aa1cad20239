from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.train.motion import CameraPath, MotionSettings, drawn_path, filmed


def path(right: float = 0.0, down: float = 0.0, zoom: float = 1.0, angle: float = 0.0) -> CameraPath:
    return CameraPath(*(torch.tensor([value], dtype=torch.float64) for value in (right, down, zoom, angle)))


def ramps(height: int = 40, width: int = 60) -> Tensor:
    """x, y and 0, as parts of 100, from the middle of the picture."""
    y, x = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    return torch.stack([x, y, torch.zeros_like(x)]) / 100 + 0.5


def test_a_camera_at_rest_sees_the_middle_of_the_still() -> None:
    still = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))

    seen = filmed(still, path(), (20, 30))

    torch.testing.assert_close(seen[0], still[:, 10:30, 15:45], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("right", "down"), [(3.0, 0.0), (0.25, -1.5)])
def test_a_pan_is_by_parts_of_a_pixel(right: float, down: float) -> None:
    seen = filmed(ramps(), path(right, down), (20, 30))[0]

    expected = ramps(20, 30) + torch.tensor([right, down, 0.0]).view(3, 1, 1) / 100
    a_tenth_of_a_pixel = 1e-3
    torch.testing.assert_close(seen, expected, atol=a_tenth_of_a_pixel, rtol=0)


def test_a_zoom_and_a_turn_keep_the_middle() -> None:
    zoomed = filmed(ramps(), path(zoom=2.0), (21, 21))[0]
    turned = filmed(ramps(), path(angle=math.pi / 2), (21, 21))[0]

    torch.testing.assert_close(zoomed, (ramps(21, 21) - 0.5) / 2 + 0.5, atol=1e-5, rtol=0)
    expected = torch.stack([1 - ramps(21, 21)[1], ramps(21, 21)[0], ramps(21, 21)[2]])
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)


def test_drawn_paths_are_smooth_within_their_bounds_and_the_same_for_a_seed() -> None:
    settings = MotionSettings()
    for seed in range(50):
        found = drawn_path(torch.Generator().manual_seed(seed), settings, 9)
        again = drawn_path(torch.Generator().manual_seed(seed), settings, 9)

        sway = settings.sway_px * 2 * math.pi / settings.sway_frames[0]
        assert torch.equal(found.right_px, again.right_px)
        assert torch.hypot(found.right_px.diff(), found.down_px.diff()).max() <= 4 + sway * math.sqrt(2)
        assert found.angles.diff().abs().max() <= math.radians(0.5) + 1e-9
        assert found.zooms.log().diff().abs().max() <= -math.log(0.99) + 1e-9
        assert (found.right_px[4], found.zooms[4], found.angles[4]) == (0, 1, 0)


def test_a_clip_larger_than_the_still_is_refused() -> None:
    with pytest.raises(SpecError, match=r"70x20.*60x40"):
        filmed(ramps(), path(), (20, 70))
