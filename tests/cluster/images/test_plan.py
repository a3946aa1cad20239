from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from pydantic import TypeAdapter

from cluster.images.info import ImageFormat, ImageInfo
from cluster.images.plan import MAX_FRAMES, ImageTreatment, image_quality_misfit, plan_image
from cluster.job import ImageSettings
from sr_core.errors import MediaError, SpecError
from tests.cluster.images.pictures import planned

PNG = ImageInfo("png", 40, 30, is_lossless=True)
JPEG = ImageInfo("jpeg", 40, 30, subsampling="4:2:0")
ANIMATION = ImageInfo("webp", 40, 30, num_frames=3, delays_s=(Fraction(1, 30),) * 3, loop=2)
FORMATS: tuple[ImageFormat, ...] = ("png", "jpeg", "webp", "avif", "tiff", "bmp", "gif")


@pytest.mark.parametrize(
    ("scale", "height", "model_scale", "expected"),
    [
        (3, None, 4, (120, 90, 4)),
        (None, None, 4, (160, 120, 4)),
        (None, None, None, (80, 60, 2)),
        (None, 45, None, (60, 45, 2)),
        (None, 31, 2, (41, 31, 2)),
    ],
)
def test_the_size_follows_scale_model_or_height(
    scale: int | None, height: int | None, model_scale: int | None, expected: tuple[int, int, int]
) -> None:
    made = plan_image(PNG, ImageSettings(), scale, height, model_scale, "a.png")
    assert (made.width, made.height, made.model_scale) == expected


def test_a_height_below_the_source_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 30"):
        plan_image(PNG, ImageSettings(), None, 29, None, "a.png")


@pytest.mark.parametrize("info", [PNG, JPEG, ANIMATION, replace(PNG, bit_depth=16, has_alpha=True)])
def test_a_treatment_survives_json(info: ImageInfo) -> None:
    adapter, treatment = TypeAdapter(ImageTreatment), planned(info)
    assert adapter.validate_json(adapter.dump_json(treatment)) == treatment
    infos = TypeAdapter(ImageInfo)
    assert infos.validate_json(infos.dump_json(info)) == info


@pytest.mark.parametrize(
    ("change", "holding"),
    [
        ({"bit_depth": 16}, {"png", "tiff"}),
        ({"bit_depth": 10}, {"png", "tiff", "avif"}),
        ({"has_alpha": True}, {"png", "webp", "avif", "tiff", "bmp", "gif"}),
        ({"layout": "cmyk"}, {"jpeg", "tiff"}),
        ({"num_frames": 2, "delays_s": (Fraction(1, 10),) * 2}, {"png", "webp", "gif"}),
        ({"num_frames": 2}, {"tiff"}),
        ({"orientation": 6}, {"png", "jpeg", "webp", "avif", "tiff"}),
        ({"bit_depth": 16, "has_alpha": True, "orientation": 3}, {"png", "tiff"}),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_those_that_can(
    change: dict[str, object], holding: set[str]
) -> None:
    info = replace(PNG, **change)  # type: ignore[arg-type]
    for format_ in FORMATS:
        if format_ in holding:
            assert planned(info, format_).bit_depth >= info.bit_depth
            continue
        with pytest.raises(SpecError) as caught:
            planned(info, format_)
        assert set(caught.value.expected.removeprefix("one of ").split(", ")) == holding


@pytest.mark.parametrize(
    ("info", "format_", "expected"),
    [
        (JPEG, "auto", (95, False, "4:2:0")),
        (replace(JPEG, subsampling="4:4:4"), "auto", (95, False, "4:4:4")),
        (PNG, "jpeg", (95, False, "4:4:4")),
        (PNG, "webp", (None, True, "")),
        (JPEG, "webp", (90, False, "4:2:0")),
        (PNG, "avif", (None, True, "4:4:4")),
        (JPEG, "avif", (90, False, "4:2:0")),
        (JPEG, "png", (None, True, "")),
    ],
)
def test_lossless_stays_lossless_and_chroma_stays_as_fine(
    info: ImageInfo, format_: str, expected: tuple[int | None, bool, str]
) -> None:
    made = planned(info, format_)
    assert (made.quality, made.is_lossless, made.subsampling) == expected


def test_a_large_source_is_refused_before_any_pixel() -> None:
    for info in (
        replace(PNG, width=60_000, height=60_000),
        replace(PNG, width=65_536, height=1),
        replace(ANIMATION, width=1, height=1, num_frames=MAX_FRAMES + 1),
        replace(ANIMATION, width=4000, height=4000, num_frames=20),
    ):
        with pytest.raises(MediaError, match="too large"):
            planned(info)


@pytest.mark.parametrize(
    ("format_", "width", "others"), [("webp", 8200, "png"), ("jpeg", 40_000, "tiff"), ("gif", 33_000, "png")]
)
def test_an_output_beyond_its_format_is_refused_with_those_that_can(
    format_: str, width: int, others: str
) -> None:
    info = replace(PNG, width=width, height=4)
    with pytest.raises(SpecError, match=others):
        planned(info, format_)
    assert planned(info, "png").width == 2 * width


def test_what_changes_is_told() -> None:
    info = replace(JPEG, orientation=6, dropped=("the EXIF thumbnail",))
    assert "EXIF orientation 6" in " ".join(planned(info).told)
    assert "dropped: the EXIF thumbnail" in planned(info).told
    assert "palette" in " ".join(planned(replace(PNG, is_palette=True)).told)
    assert "256 colours" in " ".join(planned(ANIMATION, "gif").told)
    assert "1/100 s" in " ".join(planned(ANIMATION, "gif").told)
    assert planned(PNG).told == ()


def test_delays_take_the_nearest_that_the_format_can_say() -> None:
    assert planned(ANIMATION, "gif").delays_s == (Fraction(3, 100),) * 3
    assert planned(ANIMATION, "webp").delays_s == (Fraction(33, 1000),) * 3
    assert planned(ANIMATION, "png").delays_s == (Fraction(1, 30),) * 3


@pytest.mark.parametrize(
    ("settings", "is_fine"),
    [
        (ImageSettings("jpeg", 90), True),
        (ImageSettings("jpeg", 0), False),
        (ImageSettings("jpeg", "lossless"), False),
        (ImageSettings("webp", "lossless"), True),
        (ImageSettings("png", 90), False),
        (ImageSettings("auto", 101), False),
        (ImageSettings("auto", 60), True),
    ],
)
def test_qualities_that_no_image_can_have_are_found(settings: ImageSettings, is_fine: bool) -> None:
    assert (image_quality_misfit(settings) is None) == is_fine


def test_lossless_that_the_source_format_cannot_be_is_told() -> None:
    assert "lossless" in " ".join(planned(JPEG, quality="lossless").told)
