from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cluster.job import VideoSettings
from cluster.video.codecs import CODECS, EncodeSettings, choose_encode, not_kept
from cluster.video.containers import Container
from cluster.video.decode import VideoReader
from cluster.video.encode import PartWriter, check_encoder
from cluster.video.info import ColorTags, VideoInfo
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


@pytest.mark.parametrize(
    ("pixels", "container", "expected"),
    [
        ("yuv420p", "mp4", "h264"),
        ("yuv444p", "mov", "h264"),
        ("gray", "mkv", "h264"),
        ("nv12", "mp4", "h264"),
        ("yuv420p10le", "mp4", "hevc"),
        ("p010le", "mkv", "hevc"),
        ("yuv422p12le", "mov", "hevc"),
        ("yuv420p", "webm", "av1"),
        ("yuv420p10le", "webm", "av1"),
        ("yuv444p", "webm", "vp9"),
    ],
)
def test_auto_takes_the_usual_codec_of_the_container(
    pixels: str, container: Container, expected: str
) -> None:
    assert choose(pixels, container).codec == expected


def test_auto_leaves_h264_and_hevc_for_odd_sizes() -> None:
    assert choose(width=161, height=121).codec == "av1"
    assert choose("yuv444p", width=161, height=121).codec == "h264"
    assert choose("yuv422p10le", "mkv", width=161, height=121).codec == "ffv1"


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
        ({"codec": "av1", "quality": "lossless"}, "video.quality"),
        ({"codec": "av1", "quality": 24.5}, "video.quality"),
        ({"codec": "ffv1", "quality": 3, "container": "mkv"}, "video.quality"),
        ({"quality": 52}, "video.quality"),
        ({"preset": "8"}, "video.preset"),
        ({"container": "webm", "preset": "quick"}, "video.preset"),
        ({"container": "webm", "pixels": "yuv422p10le"}, "video.codec"),
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
        choose("bgra")


def test_threads_and_quality_are_part_of_the_settings() -> None:
    settings = choose(codec="hevc", quality=20.5, preset="fast")

    assert ("crf", "20.5") in settings.options
    assert ("preset", "fast") in settings.options
    assert "info=0" in dict(settings.options)["x265-params"]
    assert settings.threads == 2


def test_what_a_container_does_not_keep_is_told() -> None:
    wide = replace(choose(container="webm"), sample_aspect_ratio=Fraction(32, 27))

    assert any("32/27" in text for text in not_kept(wide, "webm"))
    assert any("1 ms" in text for text in not_kept(wide, "webm"))
    assert not_kept(choose(), "mp4") == ()
    assert not_kept(replace(choose(container="mkv"), time_base=Fraction(1, 1000)), "mkv") == ()


_EVERY = [(codec.name, name) for codec in CODECS for name in sorted(codec.formats)]


@pytest.mark.parametrize(("codec", "pixels"), _EVERY)
def test_every_encoder_takes_every_format_that_the_table_says(codec: str, pixels: str) -> None:
    container: Container = "mkv" if codec in ("ffv1", "vp9") else "mp4"

    check_encoder(choose(pixels, container, codec=codec))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_the_smallest_frames_of_the_table_can_be_encoded(codec: object) -> None:
    smallest = codec.min_px  # type: ignore[attr-defined]
    settings = choose(width=smallest, height=smallest, codec=codec.name, container="mkv")  # type: ignore[attr-defined]

    check_encoder(settings)


@pytest.mark.parametrize(
    ("codec", "pixels"), [pair for pair in _EVERY if pair[0] not in ("av1",) and "422" not in pair[1]]
)
def test_lossless_gives_back_every_sample_and_every_tag(codec: str, pixels: str, tmp_path: Path) -> None:
    color = ColorTags(primaries=9, transfer=16, matrix=9, full_range=True, chroma_location="topleft")
    video = replace(VIDEO, pixel_format=pixels, sample_aspect_ratio=Fraction(4, 3))
    wish = VideoSettings(codec=codec, quality="lossless", preset=None if codec in ("ffv1", "vp9") else "fast")
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
    assert found.color.matrix == 9 or "gray" in pixels
    if "420" in pixels:
        assert found.color.chroma_location == "topleft"


def test_an_option_that_the_encoder_does_not_know_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="nonsense"):
        check_encoder(replace(choose(), options=(("nonsense", "1"),)))


def test_a_value_that_the_encoder_refuses_is_a_spec_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match="libx264 refuses"):
        check_encoder(replace(choose(), options=(("preset", "nonsense"),)))
