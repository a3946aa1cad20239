from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sr_core.train.clips import Clips, middle_frame, still_path, whole_clip
from sr_core.train.crops import CropSettings, Pictures
from sr_core.train.motion import MotionSettings, filmed, reach_px

SIDE = 24
REST = MotionSettings(pan_px=(0.0, 0.0), zoom=0.0, turn_degrees=0.0, sway_px=0.0)
PAN = MotionSettings(pan_px=(3.0, 3.0), zoom=0.0, turn_degrees=0.0, sway_px=0.0)


def noise(num_channels: int, height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num_channels, height, width), generator=generator, dtype=torch.uint8)


def pictures(*made: Tensor) -> Pictures:
    return Pictures.packed(list(made), [str(number) for number in range(len(made))], range(len(made)))


def mixed(num_frames: int = 3) -> Pictures:
    """A still, a clip and a still that is hardly larger than a crop."""
    return pictures(noise(3, 60, 70, 0), noise(3 * num_frames, 50, 40, 1), noise(3, SIDE, SIDE + 1, 2))


def clips(
    of: Pictures, motion: MotionSettings | None = None, turned: bool = True, num_frames: int = 3
) -> Clips:
    settings = CropSettings(SIDE, is_turned=turned)
    return Clips(of, settings, motion or MotionSettings(), num_frames, seed=5)


def places(crop: Tensor, picture: Tensor) -> list[tuple[int, int]]:
    """Where a (3, side, side) crop of 0..1 lies in a (3, H, W) uint8 picture, as (top, left)."""
    codes = (crop * 255).round().byte()
    windows = picture.unfold(1, SIDE, 1).unfold(2, SIDE, 1).movedim(0, 2)
    return [(int(top), int(left)) for top, left in (windows == codes).flatten(2).all(2).nonzero()]


def test_an_item_is_the_same_in_any_order_batch_and_after_a_restart() -> None:
    whole = clips(mixed()).batch(range(12))
    restarted = clips(mixed())

    assert torch.equal(whole, restarted.batch(range(11, -1, -1)).flip(0))
    assert torch.equal(whole, torch.cat([restarted.batch([number]) for number in range(12)]))


def test_pictures_of_several_kinds_come_back_as_they_were() -> None:
    made = [noise(3, 30, 40, 0), noise(9, 24, 31, 1), noise(5, 26, 25, 2)]

    data = pictures(*[each.clone() for each in made])

    assert all(torch.equal(got, expected) for got, expected in zip(data, made, strict=True))
    assert torch.equal(data.only([2, 1])[0], made[2])
    assert torch.equal(data.only([2, 1])[1], made[1])


@pytest.mark.parametrize("num_frames", [3, 5])
def test_the_middle_frame_over_a_still_is_its_own_pixels(num_frames: int) -> None:
    still = noise(3, 60, 71, 3)

    made = clips(pictures(still), turned=False, num_frames=num_frames).batch(range(6))

    assert made.shape == (6, num_frames, 3, SIDE, SIDE)
    for clip in made:
        assert len(places(middle_frame(clip[None])[0], still)) == 1
        assert not places(clip[0], still)


def test_frames_of_a_real_clip_are_cut_and_turned_alike_in_their_order() -> None:
    clip = noise(9, 40, 50, 1)
    drawn = clips(pictures(clip)).batch(range(8))

    for frames in drawn:
        turns = [frames, frames.mT]
        turns += [each.flip(dims) for each in turns for dims in ((2,), (3,), (2, 3))]
        found = [[places(frame, clip[3 * n : 3 * n + 3]) for n, frame in enumerate(each)] for each in turns]
        assert sum(bool(each[0]) for each in found) == 1
        assert all(each[0] == each[1] == each[2] for each in found)


def test_a_camera_that_stands_still_sees_the_same_in_every_frame_and_one_that_pans_does_not() -> None:
    data = pictures(noise(3, 60, 70, 0))

    still, panned = (clips(data, motion).batch(range(4)) for motion in (REST, PAN))

    assert torch.equal(still[:, 0], still[:, 1])
    assert all(not torch.equal(clip[0], clip[1]) for clip in panned)


def test_stills_are_seen_beyond_the_crop_so_that_nothing_is_mirrored() -> None:
    path = still_path(MotionSettings((4.0, 4.0), 0.05, 4.0), 5, 0, 0, 1)
    still = torch.rand(3, 121, 131, generator=torch.Generator().manual_seed(0))
    reach = reach_px(path, (41, 51))

    seen = filmed(still, path, (41, 51))
    tight = still[:, 40 - reach : 81 + reach, 40 - reach : 91 + reach]
    short = still[:, 43 - reach : 78 + reach, 43 - reach : 88 + reach]

    torch.testing.assert_close(filmed(tight, path, (41, 51)), seen, atol=1e-4, rtol=0)
    assert not torch.allclose(filmed(short, path, (41, 51)), seen, atol=1e-4)


@pytest.mark.parametrize("size", [(60, 71), (33, 40), (16, 90)])
def test_what_is_measured_on_is_the_middle_of_a_still_in_whole_multiples(size: tuple[int, int]) -> None:
    still = noise(3, *size, 4)
    path = still_path(MotionSettings(), 3, 1, "validation", 0)

    made = whole_clip(still, path, multiple=4, least_px=16, most_px=48)

    _, _, height, width = made.shape
    assert height % 4 == width % 4 == 0
    assert 0 < max(height, width) <= 48
    windows = still.unfold(1, height, 1).unfold(2, width, 1).movedim(0, 2)
    found = (windows == (made[1] * 255).round().byte()).flatten(2).all(2).nonzero()
    assert len(found) == 1
    top, left = found[0].tolist()
    assert abs(2 * top + height - size[0]) <= 1
    assert abs(2 * left + width - size[1]) <= 1


def test_what_is_measured_on_is_the_middle_of_a_real_clip() -> None:
    clip = noise(9, 40, 51, 4)

    made = whole_clip(clip, still_path(REST, 3, 0, 0, 0), multiple=8, least_px=16, most_px=32)

    assert torch.equal((made * 255).round().byte(), clip.view(3, 3, 40, 51)[:, :, 4:36, 8:40])
