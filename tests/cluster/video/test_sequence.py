"""Numbered images, made with FFmpeg's encoders, read as one video."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
import pytest

from cluster.video.info import VideoInfo
from cluster.video.pixels import pixel_format
from cluster.video.planes import planes_of
from cluster.video.sequence import SequenceReader, probe_sequence
from sr_core.errors import MediaError
from tests.cluster.video.clips import number_of, numbered_planes

WIDTH, HEIGHT = 96, 64
RATE = Fraction(24000, 1001)


def encoded(encoder: str, format_name: str, planes: list[np.ndarray]) -> bytes:
    """One image; `planes` are those of the planar format."""
    context = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, format_name
    context.time_base = Fraction(1, 25)
    pixels = pixel_format(format_name)
    frame = av.VideoFrame(WIDTH, HEIGHT, pixels.planar if pixels else format_name)
    for plane, target in zip(planes, frame.planes, strict=True):
        strides = (target.line_size, plane.itemsize)
        np.ndarray(plane.shape, plane.dtype, buffer=target, strides=strides)[:] = plane
    if frame.format.name != format_name:
        frame = frame.reformat(format=format_name, threads=1)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def image(encoder: str, format_name: str, number: int) -> bytes:
    pixels = pixel_format(format_name)
    assert pixels is not None
    return encoded(encoder, format_name, numbered_planes(number, pixels.planar, WIDTH, HEIGHT))


class Folder:
    """Images by number."""

    def __init__(self, images: dict[int, bytes]) -> None:
        self.images = images

    def open(self, number: int) -> BinaryIO:
        return io.BytesIO(self.images[number])

    @property
    def reader(self) -> SequenceReader:
        return SequenceReader(self.open, sorted(self.images), "x.[1-9]")

    @property
    def video(self) -> VideoInfo:
        return probe_sequence(self.open, sorted(self.images), RATE, "x.[1-9]")[0].video


@pytest.mark.parametrize(
    ("encoder", "format_name", "planar"),
    [
        ("png", "rgb24", "gbrp"),
        ("png", "rgb48be", "gbrp16le"),
        ("png", "gray16be", "gray16le"),
        ("png", "rgba64be", "gbrap16le"),
        ("tiff", "rgb48le", "gbrp16le"),
        ("dpx", "gbrp10le", "gbrp10le"),
        ("dpx", "gbrp12le", "gbrp12le"),
        ("dpx", "rgb48le", "gbrp16le"),
        ("bmp", "bgr24", "gbrp"),
    ],
)
def test_lossless_images_come_in_their_order_with_their_very_samples(
    encoder: str, format_name: str, planar: str
) -> None:
    folder = Folder({number: image(encoder, format_name, number) for number in (9, 10, 11)})
    frames = list(folder.reader.frames(None, None))
    assert [frame.pts for frame in frames] == [0, 1, 2]
    pixels = pixel_format(planar)
    assert pixels is not None
    for number, frame in zip((9, 10, 11), frames, strict=True):
        wanted = numbered_planes(number, planar, WIDTH, HEIGHT)
        if pixels.is_rgb:
            green, blue, red, *alpha = wanted
            wanted = [red, green, blue, *alpha]
        assert frame.pixels.planar == planar
        for got, plane in zip(frame.planes, wanted, strict=True):
            assert np.array_equal(got, plane)


def test_images_around_a_range_come_marked() -> None:
    folder = Folder({number: image("png", "gray", number) for number in range(5)})

    frames = list(folder.reader.frames(2, 3, None, (1, None)))

    assert [(frame.pts, frame.is_context) for frame in frames] == [
        (1, True),
        (2, False),
        (3, True),
        (4, True),
    ]


@pytest.mark.parametrize(
    ("format_name", "location"), [("yuvj420p", "center"), ("yuvj422p", "center"), ("yuvj444p", None)]
)
def test_chroma_of_jpegs_lies_in_the_middle(format_name: str, location: str | None) -> None:
    """ITU-T T.871 (JFIF), 10.4, for both directions in which there is less of it."""
    planes = numbered_planes(1, format_name.replace("j", ""), WIDTH, HEIGHT)
    folder = Folder({1: encoded("mjpeg", format_name, planes)})
    assert folder.video.color.chroma_location == location


def test_jpegs_are_full_range_ycbcr() -> None:
    planes = {number: numbered_planes(number, "yuv420p", WIDTH, HEIGHT) for number in (1, 2)}
    folder = Folder({number: encoded("mjpeg", "yuvj420p", each) for number, each in planes.items()})
    video = folder.video
    assert (video.pixel_format, video.color.full_range) == ("yuv420p", True)
    assert [number_of(frame.planes[0]) for frame in folder.reader.frames(None, None)] == [1, 2]


def test_linear_light_is_coded_with_the_curve_of_srgb() -> None:
    light = np.array([0.0, 0.0031308, 0.18, 0.5, 1.0, 4.0, -1.0, np.nan], np.float32)
    plane = np.tile(light, (HEIGHT, WIDTH // len(light)))
    folder = Folder({number: encoded("exr", "gbrpf32le", [plane] * 3) for number in (1, 2)})
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.abs(light) ** (1 / 2.4) - 0.055)
    wanted = np.nan_to_num(curve, nan=0.0).clip(0, 1) * 65535
    wanted[6] = 0
    frame = next(folder.reader.frames(None, None))
    assert frame.pixels.name == "gbrp16le"
    assert folder.video.color.transfer == 13
    for plane_of_color in frame.planes:
        assert np.abs(plane_of_color[0, : len(light)] - wanted).max() <= 2


def test_times_are_the_distances_of_numbers() -> None:
    folder = Folder({number: image("png", "gray", number) for number in (5, 6, 9)})
    info, timeline = probe_sequence(folder.open, [5, 6, 9], RATE, "x")
    assert timeline.pts.tolist() == [0, 1, 4]
    assert timeline.keyframe_pts.tolist() == [0, 1, 4]
    assert (info.video.time_base, info.video.end_pts, info.video.num_frames) == (1 / RATE, 5, 3)


@pytest.mark.parametrize(("start", "end", "pts"), [(None, 2, [0, 1]), (1, 3, [1, 2]), (3, None, [3])])
def test_a_range_holds_just_its_images(start: int | None, end: int | None, pts: list[int]) -> None:
    folder = Folder({number: image("png", "gray", number) for number in (1, 2, 3, 4)})
    reader = folder.reader
    assert [frame.pts for frame in reader.frames(start, end)] == pts
    assert list(reader.packet_pts) == pts


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n and no more"])
def test_an_image_that_does_not_decode_is_missing_and_told(content: bytes) -> None:
    good = image("png", "gray", 1)
    reader = Folder({1: good, 2: content, 3: good}).reader
    assert [frame.pts for frame in reader.frames(None, None)] == [0, 2]
    assert reader.missing_pts == [1]
    assert "number 2" in reader.errors[0]


def test_an_image_of_another_size_keeps_it() -> None:
    small = image("png", "gray", 2)
    picture = av.VideoFrame(32, 16, "gray")
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 32, 16, "gray", Fraction(1, 25)
    other = b"".join(bytes(packet) for packet in context.encode(picture))
    shapes = [frame.planes[0].shape for frame in Folder({1: small, 2: other}).reader.frames(None, None)]
    assert shapes == [(HEIGHT, WIDTH), (16, 32)]


def test_a_sequence_that_begins_with_no_image_is_refused_by_its_name() -> None:
    with pytest.raises(MediaError, match=r"x.\[1-9\], number 1.*PNG, TIFF, DPX, OpenEXR"):
        assert Folder({1: b"text", 2: b"text"}).video


def test_the_planes_of_an_image_are_those_that_ffmpeg_decodes() -> None:
    content = image("png", "rgb24", 77)
    decoder = av.CodecContext.create("png", "r")
    frame = [*decoder.decode(av.Packet(content)), *decoder.decode(None)][0]
    pixels = pixel_format("rgb24")
    assert pixels is not None
    [mine] = Folder({1: content}).reader.frames(None, None)
    for got, wanted in zip(mine.planes, planes_of(frame, pixels), strict=True):
        assert np.array_equal(got, wanted)
