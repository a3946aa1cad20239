from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from cluster.job import VideoSettings
from cluster.video.codecs import (
    EncodeSettings,
    choose_encode,
    limited_to_avx2,
    not_kept,
    other_container,
)
from cluster.video.containers import VIDEO_SUFFIXES, Container
from cluster.video.decode import VideoReader
from cluster.video.defaults import defaults_table
from cluster.video.encode import PartWriter, check_encoder
from cluster.video.encoders import CODECS, codec_named
from cluster.video.info import ColorTags, ContentLight, MasteringDisplay, VideoInfo
from cluster.video.pixels import PIXEL_FORMATS
from cluster.video.probe import probe
from sr_core.errors import MediaError, SpecError
from tests.cluster.video.clips import numbered_planes

BT709 = ColorTags(primaries=1, transfer=1, matrix=1, full_range=False, chroma_location="left")
VIDEO = VideoInfo(
    stream_index=0,
    codec="h264",
    width=64,
    height=48,
    pixel_format="yuv420p",
    time_base=Fraction(1, 12800),
    frame_rate=Fraction(25),
    sample_aspect_ratio=None,
    color=BT709,
    rotation_deg=0,
    is_interlaced=False,
    num_frames=10,
    promised_num_frames=None,
    start_pts=0,
    end_pts=5120,
)


def choose(
    pixels: str = "yuv420p",
    container: Container = "mp4",
    width: int = 128,
    height: int = 96,
    **settings: object,
) -> EncodeSettings:
    video = replace(VIDEO, pixel_format=pixels)
    return choose_encode(video, BT709, VideoSettings(**settings), container, width, height, 2)


def told(
    pixels: str = "yuv420p",
    container: Container = "mp4",
    width: int = 128,
    height: int = 96,
    color: ColorTags = BT709,
    video: VideoInfo = VIDEO,
    **settings: object,
) -> tuple[str, ...]:
    video = replace(video, pixel_format=pixels)
    encode = choose_encode(video, color, VideoSettings(**settings), container, width, height, 2)
    return not_kept(video, color, encode, container)


@pytest.mark.parametrize(
    ("pixels", "container", "expected"),
    [
        ("yuv420p", "mp4", "h264 yuv420p"),
        ("yuv444p", "mov", "h264 yuv444p"),
        ("gray", "mkv", "h264 gray"),
        ("nv12", "mp4", "h264 yuv420p"),
        ("yuv420p10le", "mp4", "hevc yuv420p10le"),
        ("p010le", "mkv", "hevc yuv420p10le"),
        ("yuv422p12le", "mov", "hevc yuv422p12le"),
        ("yuv420p", "webm", "av1 yuv420p"),
        ("gray", "webm", "av1 yuv420p"),
        ("yuv420p10le", "webm", "av1 yuv420p10le"),
        ("yuv444p", "webm", "vp9 yuv444p"),
        # Nothing is lost where a codec has no such format, but a finer one.
        ("yuv411p", "mp4", "h264 yuv422p"),
        ("yuv411p", "mkv", "h264 yuv422p"),
        ("yuv410p", "mp4", "h264 yuv420p"),
        ("yuv440p", "mp4", "h264 yuv444p"),
        ("yuv440p", "webm", "vp9 yuv440p"),
        ("yuv420p9le", "mp4", "hevc yuv420p10le"),
        ("yuv440p10le", "mp4", "hevc yuv444p10le"),
        ("yuv420p16le", "mkv", "ffv1 yuv420p16le"),
        ("gray16le", "mkv", "ffv1 gray16le"),
        # RGB
        ("rgb24", "mp4", "h264 yuv444p"),
        ("x2rgb10le", "mp4", "hevc gbrp10le"),
        ("rgb24", "webm", "vp9 gbrp"),
        ("rgb48le", "mkv", "ffv1 gbrp16le"),
        # Alpha
        ("yuva444p12le", "mov", "prores yuva444p10le"),
        ("rgba", "mov", "prores yuva444p10le"),
        ("rgba64le", "mkv", "ffv1 gbrap16le"),
        ("yuva420p", "webm", "vp9 yuva420p"),
        ("bgra", "webm", "vp9 yuva420p"),
        ("bgra", "mp4", "h264 yuv444p"),
        # The last resort.
        ("yuv420p16le", "mp4", "hevc yuv420p12le"),
        ("gbrp16le", "mp4", "hevc gbrp12le"),
        ("yuv422p10le", "webm", "av1 yuv420p10le"),
        ("yuv444p16le", "webm", "av1 yuv420p10le"),
    ],
)
def test_auto_takes_the_usual_codec_of_the_container_that_loses_least(
    pixels: str, container: Container, expected: str
) -> None:
    settings = choose(pixels, container)

    assert f"{settings.codec} {settings.pixel_format}" == expected


@pytest.mark.parametrize(
    ("codec", "pixels", "expected"),
    [
        ("prores", "yuv420p", "yuv422p10le"),
        ("prores", "gray", "yuv422p10le"),
        ("prores", "yuv411p", "yuv422p10le"),
        ("prores", "yuv440p", "yuv444p10le"),
        ("prores", "gbrp", "yuv444p10le"),
        ("prores", "gbrap10le", "yuva444p10le"),
        ("prores", "yuv444p12le", "yuv444p10le"),
        ("h264", "rgb24", "yuv444p"),
        ("hevc", "yuva420p", "yuv420p"),
        ("hevc", "yuv420p9le", "yuv420p10le"),
        ("vp9", "rgba", "yuva420p"),
        ("ffv1", "yuv410p", "yuv410p"),
    ],
)
def test_a_named_codec_takes_what_it_can_hold(codec: str, pixels: str, expected: str) -> None:
    container = codec_named(codec).containers[0]  # type: ignore[arg-type]

    assert choose(pixels, container, codec=codec).pixel_format == expected


def test_every_pixel_format_finds_a_codec_in_every_container() -> None:
    for container in get_args(Container):
        for name, pixels in PIXEL_FORMATS.items():
            target = PIXEL_FORMATS[choose(name, container).pixel_format]
            keeps_alpha = target.has_alpha or not pixels.has_alpha
            assert keeps_alpha == (container != "mp4" or not pixels.has_alpha), (container, name)


def test_ffv1_and_mkv_lose_nothing_of_any_pixel_format() -> None:
    for name, pixels in PIXEL_FORMATS.items():
        assert choose(name, "mkv", codec="ffv1").pixel_format == pixels.planar
        assert choose(name, "mkv", quality="lossless").codec in ("h264", "hevc", "ffv1")
        assert not any("would keep" in text for text in told(name, "mkv", quality="lossless"))


def test_auto_leaves_h264_and_hevc_for_odd_sizes() -> None:
    assert choose(width=161, height=121).codec == "av1"
    assert choose("yuv444p", width=161, height=121).codec == "h264"
    assert choose("yuv422p10le", "mkv", width=161, height=121).codec == "ffv1"
    assert choose("yuv422p10le", "mp4", width=161, height=121).pixel_format == "yuv444p10le"


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (4096, 2304, "h264"),
        (4096, 2320, "hevc"),
        (7680, 4320, "hevc"),
        (16_384, 8704, "hevc"),
        (20_000, 8704, "vp9"),
        (24, 24, "h264"),
    ],
)
def test_auto_leaves_a_codec_whose_levels_end(width: int, height: int, expected: str) -> None:
    assert choose(width=width, height=height).codec == expected


@pytest.mark.parametrize(
    ("codec", "width", "height", "limit"),
    [
        ("h264", 8192, 4368, "level 6.2"),
        ("h264", 16_400, 64, "16384"),
        ("hevc", 16_386, 8704, "level 7.2"),
        ("hevc", 33_792, 64, "33776"),
        ("av1", 8704, 16_384, "8704"),
        ("vp9", 65_538, 64, "65536"),
        ("prores", 65_536, 64, "65535"),
        ("ffv1", 17_000, 17_000, "FFmpeg"),
        ("hevc", 16, 16, "from 32"),
    ],
)
def test_a_named_codec_refuses_frames_beyond_its_limits_and_names_those_that_can(
    codec: str, width: int, height: int, limit: str
) -> None:
    container = codec_named(codec).containers[0]  # type: ignore[arg-type]
    with pytest.raises(SpecError) as caught:
        choose("yuv420p", container, width, height, codec=codec)

    assert limit in caught.value.expected
    assert codec not in caught.value.next_step
    assert caught.value.next_step


def test_beyond_the_usual_levels_few_players_are_told() -> None:
    assert any("6.2" in text for text in told(width=8192, height=4354, codec="hevc"))
    assert any("5.2" in text for text in told(width=7680, height=4320, codec="h264"))
    assert not told(width=7680, height=4320, codec="hevc")


def test_large_frames_are_encoded_with_little_lookahead_whatever_else_is_asked() -> None:
    def parameters(width: int, codec: str, name: str) -> str:
        return dict(choose(width=width, height=8640, codec=codec).options).get(name, "")

    assert "rc-lookahead" in parameters(15_360, "hevc", "x265-params")
    assert "rc-lookahead" not in parameters(3840, "hevc", "x265-params")
    assert "lookahead=0" in parameters(15_360, "av1", "svtav1-params")
    assert not parameters(3840, "av1", "svtav1-params")


def test_auto_lossless_in_webm_is_vp9_because_av1_changes_samples() -> None:
    assert choose(container="webm", quality="lossless").codec == "vp9"


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"codec": "ffv1"}, "video.codec"),
        ({"codec": "av1", "container": "mov"}, "video.codec"),
        ({"codec": "h264", "container": "webm"}, "video.codec"),
        ({"codec": "vp9", "container": "mkv", "pixels": "yuv420p10le"}, "video.codec"),
        ({"codec": "h264", "pixels": "yuv420p12le"}, "video.codec"),
        ({"codec": "hevc", "width": 161}, "video.codec"),
        ({"codec": "hevc", "width": 16, "height": 16}, "video.codec"),
        ({"codec": "prores"}, "video.codec"),
        ({"codec": "prores", "container": "mov", "pixels": "yuv422p16le"}, "video.codec"),
        ({"codec": "prores", "container": "mov", "quality": 3}, "video.quality"),
        ({"codec": "prores", "container": "mov", "quality": "lossless"}, "video.quality"),
        ({"codec": "prores", "container": "mov", "preset": "8"}, "video.preset"),
        ({"codec": "av1", "pixels": "yuv422p"}, "video.codec"),
        ({"codec": "vp9", "pixels": "yuva420p10le"}, "video.codec"),
        ({"codec": "av1", "quality": "lossless"}, "video.quality"),
        ({"codec": "av1", "quality": 24.5}, "video.quality"),
        ({"codec": "ffv1", "quality": 3, "container": "mkv"}, "video.quality"),
        ({"quality": 52}, "video.quality"),
        ({"preset": "8"}, "video.preset"),
        ({"container": "webm", "preset": "quick"}, "video.preset"),
    ],
)
def test_what_a_codec_cannot_do_is_a_spec_error_that_says_what_can(
    arguments: dict[str, object], where: str
) -> None:
    with pytest.raises(SpecError) as caught:
        choose(**arguments)

    assert caught.value.where == where
    assert caught.value.got
    assert caught.value.expected


def test_an_unknown_pixel_format_is_a_media_error() -> None:
    with pytest.raises(MediaError):
        choose("bayer_rggb8")


def test_threads_and_quality_are_part_of_the_settings() -> None:
    settings = choose(codec="hevc", quality=20.5, preset="fast")

    assert ("crf", "20.5") in settings.options
    assert ("preset", "fast") in settings.options
    assert "info=0" in dict(settings.options)["x265-params"]
    assert settings.threads == 2


def test_what_a_container_does_not_keep_is_told() -> None:
    wide = replace(VIDEO, sample_aspect_ratio=Fraction(32, 27))

    assert any("32/27" in text for text in told(container="webm", video=wide))
    assert any("1 ms" in text for text in told(container="webm", video=wide))
    assert told() == ()
    assert told(container="mkv", video=replace(VIDEO, time_base=Fraction(1, 1000))) == ()


FULL = replace(BT709, full_range=True)
CAPTIONED = replace(VIDEO, side_data=("A53_CC",))
CENTERED = replace(BT709, chroma_location="center")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"pixels": "yuv420p16le"}, "16 bit are rounded to 12, as hevc in mp4 asks; ffv1 in mkv would keep"),
        ({"pixels": "yuv444p16le", "container": "webm"}, "4:4:4 is reduced to 4:2:0"),
        ({"pixels": "yuva420p"}, "alpha channel is dropped, as h264 in mp4 cannot hold it; vp9 in mkv or"),
        ({"pixels": "rgba", "container": "webm"}, "and the alpha channel is kept, which vp9 in webm"),
        ({"pixels": "rgb24"}, "RGB is converted to YUV and rounded, as h264 in mp4 asks; hevc in mp4"),
        ({"pixels": "yuv411p"}, "4:1:1 is stored as 4:2:2, because h264 has no other"),
        ({"pixels": "gray", "container": "webm"}, "grey is stored as 4:2:0"),
        ({"pixels": "yuv422p10le", "width": 161}, "4:2:2 is stored as 4:4:4, because of the odd size"),
        ({"container": "mov", "codec": "prores"}, "8 bit are stored in 10"),
        ({"container": "mov", "codec": "prores", "color": FULL}, "full range is converted"),
        ({"container": "webm", "video": CAPTIONED}, "closed captions are dropped"),
        ({"codec": "vp9", "color": CENTERED}, "siting cannot be written"),
    ],
)
def test_what_the_codec_changes_is_told_with_what_would_keep_it(
    arguments: dict[str, object], expected: str
) -> None:
    assert any(expected in text for text in told(**arguments))  # type: ignore[arg-type]


def test_h264_and_hevc_keep_captions() -> None:
    assert told(video=CAPTIONED) == told("yuv420p10le", video=CAPTIONED) == ()


def test_rgb_becomes_yuv_of_its_primaries_in_limited_range() -> None:
    srgb = ColorTags(primaries=1, transfer=13, matrix=0, full_range=True, chroma_location="left")

    def color_of(primaries: int, pixels: str) -> ColorTags:
        video, asked = replace(VIDEO, pixel_format=pixels), VideoSettings()
        return choose_encode(video, replace(srgb, primaries=primaries), asked, "mp4", 64, 48, 2).color

    assert color_of(1, "rgb24") == replace(srgb, matrix=1, full_range=False)
    assert color_of(9, "rgb24") == replace(srgb, primaries=9, matrix=9, full_range=False)
    assert color_of(1, "gbrp10le") == srgb


def test_prores_is_limited_range_and_cosited() -> None:
    video = replace(VIDEO, color=FULL)
    color = replace(FULL, chroma_location="center")

    settings = choose_encode(video, color, VideoSettings(codec="prores"), "mov", 64, 48, 2)

    assert (settings.color.full_range, settings.color.chroma_location) == (False, "left")


def test_parameters_of_an_encoder_are_one_option() -> None:
    video = replace(VIDEO, content_light=ContentLight(1000, 400))

    encode = choose_encode(video, BT709, VideoSettings(), "mp4", 64, 48, 2)
    options = [value for name, value in limited_to_avx2(encode).options if name == "x264-params"]

    assert options == ["cll=1000,400:asm=avx2"]


@pytest.mark.parametrize(("codec", "container"), [("av1", "mp4"), ("vp9", "mkv"), ("prores", "mov")])
def test_hdr_metadata_that_cannot_be_written_are_told(codec: str, container: Container) -> None:
    luminances = MasteringDisplay(None, None, None, None, Fraction(1, 200), Fraction(1000))
    video = replace(VIDEO, mastering_display=luminances)

    is_told = any("mastering display" in text for text in told(container=container, video=video, codec=codec))

    assert is_told == (codec != "vp9")


def test_a_codec_goes_to_the_nearest_container() -> None:
    assert other_container("mp4", "prores") == "mov"
    assert other_container("webm", "prores") == "mkv"
    assert other_container("mov", "ffv1") == "mkv"


def test_the_table_of_defaults_covers_every_suffix_and_container() -> None:
    rows = list(defaults_table())

    assert {suffix for row in rows for suffix in row.suffixes} == set(VIDEO_SUFFIXES)
    assert {row.container for row in rows} == set(get_args(Container))
    first = rows[0]
    assert (first.codec, first.preset, first.quality) == ("h264", "medium", 17)


_EVERY = [(codec.name, name) for codec in CODECS for name in sorted(codec.formats)]


@pytest.mark.parametrize(("codec", "pixels"), _EVERY)
def test_every_encoder_takes_every_format_that_the_table_says(codec: str, pixels: str) -> None:
    settings = choose(pixels, codec_named(codec).containers[0], codec=codec)  # type: ignore[arg-type]

    assert settings.pixel_format == pixels
    check_encoder(settings)


@pytest.mark.parametrize(("codec", "pixels"), _EVERY)
def test_the_smallest_frames_of_the_table_can_be_encoded(codec: str, pixels: str) -> None:
    known = codec_named(codec)  # type: ignore[arg-type]
    smallest = known.limits.min_px

    for edge in (smallest, smallest + 1):
        if known.takes_size(PIXEL_FORMATS[pixels], edge, edge):
            check_encoder(choose(pixels, known.containers[0], edge, edge, codec=codec))


@pytest.mark.parametrize(
    ("codec", "width", "height"),
    [("h264", 16_384, 64), ("hevc", 33_776, 64), ("av1", 16_384, 64), ("ffv1", 70_000, 64)],
)
def test_the_widest_frames_of_the_table_can_be_encoded(codec: str, width: int, height: int) -> None:
    check_encoder(choose("yuv420p", "mkv", width, height, codec=codec, preset="ultrafast"))


@pytest.mark.parametrize("size", [(99, 67), (1919, 107), (4097, 2161)])
def test_ffv1_takes_odd_and_large_frames_of_every_sampling(size: tuple[int, int]) -> None:
    for pixels in ("yuv420p", "yuv411p", "yuv410p", "gbrap16le"):
        check_encoder(choose(pixels, "mkv", *size, codec="ffv1"))


@pytest.mark.parametrize(("codec", "pixels"), [pair for pair in _EVERY if codec_named(pair[0]).lossless])
def test_lossless_gives_back_every_sample_and_every_tag(codec: str, pixels: str, tmp_path: Path) -> None:
    color = ColorTags(primaries=9, transfer=16, matrix=9, full_range=True, chroma_location="topleft")
    video = replace(VIDEO, pixel_format=pixels, sample_aspect_ratio=Fraction(4, 3))
    wish = VideoSettings(codec=codec, quality="lossless", preset="ultrafast")
    settings = choose_encode(video, color, wish, "mkv", 64, 48, 2)
    path = tmp_path / f"part.{settings.part_container}"
    noise = np.random.default_rng(0)
    frames = [
        [(plane + noise.integers(0, 30, plane.shape)).astype(plane.dtype) for plane in planes]
        for planes in (numbered_planes(number, pixels, 64, 48) for number in range(3))
    ]

    writer = PartWriter(path, settings)
    for number, planes in enumerate(frames):
        writer.write(planes, number * 512)
    writer.close()

    with path.open("rb") as file:
        found = probe(file, "part")[0].video
        assert found is not None
        with VideoReader(file, found, 1) as reader:
            decoded = [frame.planes for frame in reader.frames(None, None)]
    assert len(decoded) == len(frames)
    for planes, expected in zip(decoded, frames, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(planes, expected, strict=False))
    assert (found.color.primaries, found.color.transfer, found.color.full_range) == (9, 16, True)
    assert found.color.matrix == (0 if "gb" in pixels else 9) or "gray" in pixels
    if "420" in pixels:
        assert found.color.chroma_location == "topleft"


def test_an_option_that_the_encoder_does_not_know_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="nonsense"):
        check_encoder(replace(choose(), options=(("nonsense", "1"),)))


def test_a_value_that_the_encoder_refuses_is_a_spec_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match="libx264 refuses"):
        check_encoder(replace(choose(), options=(("preset", "nonsense"),)))
