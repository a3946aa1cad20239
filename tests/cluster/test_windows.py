from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from cluster.video.decode import DecodedFrame
from cluster.video.pixels import PixelFormat, pixel_format
from cluster.windows import Window, windows


def pixels(name: str) -> PixelFormat:
    found = pixel_format(name)
    assert found is not None
    return found


def frame(pts: int, value: int = 100, size: tuple[int, int] = (64, 96), name: str = "gray") -> DecodedFrame:
    plane = np.full(size, value, np.uint8 if name == "gray" else np.uint16)
    return DecodedFrame(pts, (plane,), pixels(name), False, False, None)


def pts_of(window: Window) -> tuple[list[int], int, list[int]]:
    return [each.pts for each in window.before], window.frame.pts, [each.pts for each in window.after]


def test_a_frame_comes_with_those_around_it() -> None:
    got = [pts_of(window) for window in windows(map(frame, range(5)), 2, 1)]

    assert got == [
        ([], 0, [1]),
        ([0], 1, [2]),
        ([0, 1], 2, [3]),
        ([1, 2], 3, [4]),
        ([2, 3], 4, []),
    ]


@pytest.mark.parametrize(("num_before", "num_after"), [(0, 0), (1, 0), (0, 1), (3, 3)])
@pytest.mark.parametrize("num_frames", [0, 1, 2, 9])
def test_every_frame_comes_once_and_in_order(num_before: int, num_after: int, num_frames: int) -> None:
    got = [pts_of(window) for window in windows(map(frame, range(num_frames)), num_before, num_after)]

    assert got == [
        (
            list(range(max(0, pts - num_before), pts)) if num_before + num_after else [],
            pts,
            list(range(pts + 1, min(num_frames, pts + num_after + 1))),
        )
        for pts in range(num_frames)
    ]


def test_no_more_frames_are_read_ahead_than_the_network_sees() -> None:
    read = list[int]()

    def reading() -> Iterator[DecodedFrame]:
        for pts in range(9):
            read.append(pts)
            yield frame(pts)

    seen = windows(reading(), 2, 2)
    next(seen)
    assert read == [0, 1, 2]


def test_nothing_is_seen_across_a_cut() -> None:
    scenes = [frame(0, 40), frame(1, 40), frame(2, 200), frame(3, 200)]

    got = [pts_of(window) for window in windows(scenes, 2, 2)]

    assert got == [([], 0, [1]), ([0], 1, []), ([], 2, [3]), ([2], 3, [])]


def test_a_flash_of_one_frame_is_a_scene_of_its_own() -> None:
    got = [pts_of(window) for window in windows([frame(0, 40), frame(1, 255), frame(2, 40)], 1, 1)]

    assert got == [([], 0, []), ([], 1, []), ([], 2, [])]


def test_frames_of_another_size_or_format_are_not_seen_together() -> None:
    mixed = [frame(0), frame(1, size=(32, 96)), frame(2, 400, (32, 96), "gray10le")]

    assert all(not window.before and not window.after for window in windows(mixed, 1, 1))


@pytest.mark.parametrize("cut", range(1, 9))
def test_segments_see_what_the_whole_video_does(cut: int) -> None:
    video = [frame(pts, 40 if pts < 5 else 220) for pts in range(10)]
    whole = [pts_of(window) for window in windows(video, 2, 1)]

    first = [replace(each, is_context=each.pts >= cut) for each in video[: cut + 1]]
    second = [replace(each, is_context=each.pts < cut) for each in video[max(0, cut - 2) :]]
    parts = [pts_of(window) for part in (first, second) for window in windows(part, 2, 1)]

    assert parts == whole
