from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from cluster.video.info import ColorTags
from cluster.video.tags import assume_color, dropped_side_data
from tests.cluster.video.test_codecs import VIDEO

UNTAGGED = replace(VIDEO, color=ColorTags())


@pytest.mark.parametrize(
    ("width", "height", "rate", "expected"),
    [
        (720, 480, Fraction(30000, 1001), (6, 6, 6)),
        (720, 576, Fraction(25), (5, 6, 5)),
        (480, 360, Fraction(24), (6, 6, 6)),
        (640, 360, Fraction(25), (5, 6, 5)),
        (1280, 720, Fraction(25), (1, 1, 1)),
        (1080, 540, Fraction(25), (1, 1, 1)),
        (3840, 2160, Fraction(60), (1, 1, 1)),
    ],
)
def test_untagged_video_is_assumed_by_its_size(
    width: int, height: int, rate: Fraction, expected: tuple[int, int, int]
) -> None:
    color, told = assume_color(replace(UNTAGGED, width=width, height=height, frame_rate=rate))

    assert (color.primaries, color.transfer, color.matrix) == expected
    assert (color.full_range, color.chroma_location) == (False, "left")
    assert len(told) == 1


def test_tags_that_are_set_stay_and_nothing_is_told() -> None:
    tags = ColorTags(primaries=9, transfer=18, matrix=9, full_range=True, chroma_location="topleft")

    assert assume_color(replace(VIDEO, color=tags)) == (tags, ())


def test_partial_tags_are_completed_from_what_is_set() -> None:
    color, told = assume_color(replace(VIDEO, color=ColorTags(transfer=16)))
    assert (color.primaries, color.transfer, color.matrix) == (9, 16, 9)
    assert "BT.2020" in told[0]

    color, _ = assume_color(replace(VIDEO, color=ColorTags(matrix=5)))
    assert (color.primaries, color.transfer, color.matrix) == (5, 6, 5)

    color, _ = assume_color(replace(VIDEO, color=ColorTags(primaries=1)))
    assert (color.primaries, color.transfer, color.matrix) == (1, 1, 1)


def test_siting_is_not_told_where_chroma_is_not_subsampled() -> None:
    tags = ColorTags(primaries=1, transfer=1, matrix=1, full_range=False)

    color, told = assume_color(replace(VIDEO, color=tags, pixel_format="yuv444p"))

    assert color.chroma_location == "left"
    assert told == ()


@pytest.mark.parametrize("pixels", ["gbrp", "argb", "pal8", "rgb555le", "gbrap12le"])
def test_untagged_rgb_is_full_range_srgb_without_a_matrix(pixels: str) -> None:
    color, told = assume_color(replace(UNTAGGED, pixel_format=pixels, width=320, height=240))

    assert (color.primaries, color.transfer, color.matrix, color.full_range) == (1, 13, 0, True)
    assert len(told) == 1
    assert "sRGB" in told[0]
    assert "full range" in told[0]
    assert "siting" not in told[0]


def test_rgb_keeps_what_it_says_but_for_a_matrix_which_it_cannot_have() -> None:
    said = ColorTags(primaries=9, transfer=16, matrix=0, full_range=False)

    color, told = assume_color(replace(VIDEO, pixel_format="gbrp10le", color=said))
    assert (color.primaries, color.transfer, color.matrix, color.full_range) == (9, 16, 0, False)
    assert told == ()

    color, told = assume_color(replace(VIDEO, pixel_format="gbrp10le", color=replace(said, matrix=9)))
    assert color.matrix == 0
    assert "matrix" in told[0]


def test_luma_and_chroma_that_say_they_are_rgb_are_not_believed() -> None:
    said = ColorTags(primaries=1, transfer=1, matrix=0, full_range=False, chroma_location="left")

    assert assume_color(replace(VIDEO, color=said))[0].matrix == 1


def test_grey_is_limited_range_unless_it_says_so() -> None:
    assert assume_color(replace(UNTAGGED, pixel_format="gray"))[0].full_range is False
    full = replace(UNTAGGED, pixel_format="gray10le", color=ColorTags(full_range=True))
    assert assume_color(full)[0].full_range is True


def test_what_is_not_carried_is_told_once_and_what_is_carried_is_not() -> None:
    carried = ("A53_CC", "CONTENT_LIGHT_LEVEL", "MASTERING_DISPLAY_METADATA", "SEI_UNREGISTERED")
    dropped = ("DOVI_CONF", "DOVI_METADATA", "DYNAMIC_HDR_PLUS")

    assert dropped_side_data(replace(VIDEO, side_data=carried)) == ()
    assert dropped_side_data(replace(VIDEO, side_data=carried + dropped)) == (
        "not carried, and dropped: Dolby Vision and HDR10+ dynamic metadata",
    )
