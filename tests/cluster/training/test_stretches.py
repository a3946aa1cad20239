"""What of footage is held out."""

from __future__ import annotations

import pytest

from cluster.training.stretches import Moment, Parts, parted
from sr_core.errors import SpecError


def film(num_frames: int, seconds: float, looks: list[int] | None = None, file: int = 0) -> list[Moment]:
    """Frames that lie evenly, by default each of another look."""
    looks = looks or [0x9E3779B97F4A7C15 * (at + 1 + 1000 * file) % (1 << 64) for at in range(num_frames)]
    return [
        Moment(file, (at + 0.5) * seconds / num_frames, seconds, looks[at % len(looks)])
        for at in range(num_frames)
    ]


def held(parts: Parts) -> tuple[int, ...]:
    return (*parts.choosing, *parts.confirming)


@pytest.mark.parametrize(("num_frames", "seconds"), [(16, 8.0), (48, 24.0), (160, 300.0), (160, 5400.0)])
def test_parts_share_no_frame_and_none_is_next_to_one_of_another(num_frames: int, seconds: float) -> None:
    moments = film(num_frames, seconds)
    parts = parted(moments)
    every = [*parts.training, *held(parts)]
    assert len(set(every)) == len(every)
    gap_s = min(1.0, seconds / 16)
    for each in parts.training:
        assert all(abs(moments[each].seconds - moments[other].seconds) >= gap_s for other in held(parts))
    assert len(parts.training) >= num_frames / 3
    assert num_frames / 16 <= len(parts.confirming) <= num_frames / 6


def test_both_held_out_parts_are_spread_over_a_long_film() -> None:
    parts = parted(film(160, 5400.0))
    for part in (parts.choosing, parts.confirming):
        assert min(part) < 16
        assert max(part) >= 144


def test_what_is_nearly_the_same_as_a_held_out_frame_is_not_trained_on() -> None:
    """As where two people talk and the camera goes from one to the other, and back."""
    looks = [0x9E3779B97F4A7C15 * (at + 1) % (1 << 64) for at in range(64)]
    repeated = 40
    looks[repeated] = looks[parted(film(64, 640.0)).confirming[0]] ^ 0b111
    parts = parted(film(64, 640.0, looks))
    assert repeated not in parts.training
    assert not parts.are_alike


def test_footage_of_one_view_is_trained_on_all_the_same_and_that_is_told() -> None:
    parts = parted(film(64, 640.0, [0x0123456789ABCDEF]))
    assert parts.are_alike
    assert len(parts.training) >= 40


def test_a_short_video_among_others_is_in_one_part_as_a_whole() -> None:
    moments = [moment for file in range(16) for moment in film(4, 2.0, file=file)]
    parts = parted(moments)
    for part in (parts.training, parts.choosing, parts.confirming):
        files = [moments[at].file for at in part]
        assert all(files.count(file) == 4 for file in files)
    assert len(parts.confirming) == 8


@pytest.mark.parametrize("num_frames", [0, 1, 2, 5])
def test_too_few_frames_are_refused(num_frames: int) -> None:
    with pytest.raises(SpecError, match="too short"):
        parted(film(num_frames, num_frames / 2))
