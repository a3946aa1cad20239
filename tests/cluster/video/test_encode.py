from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.job import VideoSettings
from cluster.video.codecs import EncodeSettings, choose_encode
from cluster.video.containers import Container
from cluster.video.encode import PartWriter
from cluster.video.encoders import codec_named
from cluster.video.info import ContentLight, MasteringDisplay
from cluster.video.matroska import chroma_location
from cluster.video.pixels import PIXEL_FORMATS, pixel_format
from cluster.video.planes import planes_of
from cluster.video.source import header_of
from cluster.video.timeline import rescale
from cluster.video.verify import check_part
from sr_core.errors import OutputError
from tests.cluster.video.clips import VFR, caption_of, captioned_frames, numbered_planes
from tests.cluster.video.joining import settings_for, write_part
from tests.cluster.video.test_codecs import BT709, VIDEO, choose

CODECS = ("h264", "hevc", "av1", "vp9", "ffv1", "prores")
PTS = [pts + 135_000 for pts in VFR.pts[:12]]


def frames_at(
    times: list[int], width: int = 128, height: int = 96, pixels: str = "yuv420p"
) -> list[tuple[int, tuple[np.ndarray, ...]]]:
    return [(pts, tuple(numbered_planes(number, pixels, width, height))) for number, pts in enumerate(times)]


def fast(codec: str) -> dict[str, object]:
    return {"codec": codec, "preset": "ultrafast", "container": codec_named(codec).containers[0]}  # type: ignore[arg-type]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 12])
@pytest.mark.parametrize("codec", CODECS)
def test_times_come_back_exactly_and_the_first_packet_is_a_keyframe(
    codec: str, num_frames: int, tmp_path: Path
) -> None:
    settings = replace(choose(**fast(codec)), time_base=Fraction(1, 90_000))  # type: ignore[arg-type]
    path = tmp_path / f"part.{settings.part_container}"

    packet_pts = write_part(path, settings, frames_at(PTS[:num_frames], pixels=settings.pixel_format))

    assert sorted(packet_pts.tolist()) == PTS[:num_frames]
    with av.open(str(path)) as part:
        stream = part.streams.video[0]
        packets = [packet for packet in part.demux(stream) if packet.size]
        expected = rescale(packet_pts, settings.time_base, stream.time_base)
        assert [packet.pts for packet in packets] == expected.tolist()
    assert packets[0].is_keyframe
    check_part(path, settings, num_frames)


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_fewer_frames_than_x265_reorders_are_a_part(num_frames: int, tmp_path: Path) -> None:
    settings = choose(**{**fast("hevc"), "preset": "medium"})  # type: ignore[arg-type]
    path = tmp_path / f"part.{settings.part_container}"

    packet_pts = write_part(path, settings, frames_at([0, 256, 512][:num_frames]))

    assert sorted(packet_pts.tolist()) == [0, 256, 512][:num_frames]
    check_part(path, settings, num_frames)


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [
        *((codec, "yuv420p") for codec in ("h264", "hevc", "av1", "vp9", "ffv1")),
        *(("prores", "yuv422p10le"), ("prores", "yuva444p10le"), ("vp9", "yuva420p"), ("hevc", "gbrp12le")),
        *(("ffv1", "gbrap16le"), ("ffv1", "gbrap"), ("ffv1", "yuv420p16le")),
    ],
)
def test_equal_frames_give_equal_bytes(codec: str, pixels: str, tmp_path: Path) -> None:
    settings = replace(choose(pixels, **fast(codec)), time_base=Fraction(1, 90_000))  # type: ignore[arg-type]
    contents = set()
    for number in range(2):
        path = tmp_path / f"{number}.{settings.part_container}"
        write_part(path, settings, frames_at(PTS, pixels=pixels))
        contents.add(path.read_bytes())

    assert len(contents) == 1


@pytest.mark.parametrize("pixels", ["gbrp", "gbrap", "gbrap16le", "gbrp10le"])
def test_red_green_and_blue_are_not_mixed_up(pixels: str, tmp_path: Path) -> None:
    settings = choose(pixels, "mkv", codec="ffv1", width=128, height=96)
    known = PIXEL_FORMATS[pixels]
    dtype = np.uint8 if known.bit_depth == 8 else np.uint16
    codes = [40 << known.bit_depth - 8, 80 << known.bit_depth - 8, 120 << known.bit_depth - 8]
    opaque = [(1 << known.bit_depth) - 1] * known.has_alpha
    planes = tuple(np.full((96, 128), code, dtype) for code in (*codes, *opaque))

    write_part(tmp_path / "part.mkv", settings, [(0, planes)])

    with av.open(str(tmp_path / "part.mkv")) as part:
        frame = next(part.decode(video=0))
    assert frame.to_image().getpixel((0, 0)) == tuple(value >> known.bit_depth - 8 for value in codes)


def test_planes_with_gaps_and_odd_sizes_are_taken(tmp_path: Path) -> None:
    settings = choose(codec="ffv1", container="mkv", width=97, height=65)
    wide = numbered_planes(5, "yuv420p", 128, 96)
    planes = (wide[0][:65, :97], wide[1][:33, :49], wide[2][:33, :49])

    with PartWriter(tmp_path / "part.mkv", settings) as writer:
        writer.write(planes, 0)
        writer.close()

    pixels = pixel_format("yuv420p")
    assert pixels is not None
    with av.open(str(tmp_path / "part.mkv")) as part:
        decoded = planes_of(next(part.decode(video=0)), pixels)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, planes, strict=True))


HDR_VIDEO = replace(VIDEO, pixel_format="yuv420p10le", width=128, height=96)
POINTS = (
    *(
        (Fraction(34_000, 50_000), Fraction(16_000, 50_000)),
        (Fraction(13_250, 50_000), Fraction(34_500, 50_000)),
    ),
    *((Fraction(7500, 50_000), Fraction(3000, 50_000)), (Fraction(15_635, 50_000), Fraction(16_450, 50_000))),
)
DISPLAY = MasteringDisplay(*POINTS, Fraction(50, 10_000), Fraction(1000))
LIGHT = ContentLight(1000, 400)
HDR_CODECS: list[tuple[str, Container, str]] = [
    *(("h264", "mp4", "yuv420p10le"), ("hevc", "mp4", "yuv420p10le"), ("av1", "mp4", "yuv420p10le")),
    *(("vp9", "webm", "yuv420p"), ("ffv1", "mkv", "yuv420p10le"), ("prores", "mov", "yuv422p10le")),
]
# AV1 specification, 6.7.4; the others say what they are given.
RESOLUTION = {"av1": Fraction(1, 1 << 14)}


def hdr_part(
    folder: Path,
    how: tuple[str, Container, str],
    display: MasteringDisplay | None,
    light: ContentLight | None,
) -> Path:
    codec, container, pixels = how
    video = replace(HDR_VIDEO, pixel_format=pixels, mastering_display=display, content_light=light)
    asked = VideoSettings(codec=codec, preset="ultrafast")  # type: ignore[arg-type]
    settings = choose_encode(video, BT709, asked, container, 128, 96, 2)
    path = folder / f"part.{settings.part_container}"
    write_part(path, settings, frames_at([512, 1024, 1536], pixels=pixels))
    return path


def as_ffmpeg_says(path: Path) -> dict[str, Fraction]:
    """HDR10 metadata of the first frame, or else of the stream, as another FFmpeg reads them."""
    command = [*("ffprobe", "-v", "error", "-select_streams", "v", "-read_intervals", "%+#1")]
    command += [*("-show_streams", "-show_frames", "-of", "json"), str(path)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    every = [*said["streams"][0].get("side_data_list", []), *said["frames"][0].get("side_data_list", [])]
    values = {}
    for data in every:
        if data["side_data_type"] in ("Mastering display metadata", "Content light level metadata"):
            values |= {name: Fraction(value) for name, value in data.items() if name != "side_data_type"}
    return values


def as_pyav_says(path: Path) -> dict[str, Fraction]:
    with av.open(str(path)) as part:
        side_data = next(part.decode(video=0)).side_data
        display, light = side_data.get("MASTERING_DISPLAY_METADATA"), side_data.get("CONTENT_LIGHT_LEVEL")
    values: dict[str, Fraction] = {}
    if display is not None:
        numbers = np.frombuffer(bytes(display), np.int32).tolist()
        names = [f"{c}_{axis}" for c in ("red", "green", "blue", "white_point") for axis in "xy"]
        for index, name in enumerate([*names, "min_luminance", "max_luminance"]):
            is_said = numbers[20] if index < 8 else numbers[21]
            values |= {name: Fraction(*numbers[2 * index : 2 * index + 2])} if is_said else {}
    if light is not None:
        most, average = np.frombuffer(bytes(light), np.uint32).tolist()
        values |= {"max_content": Fraction(most), "max_average": Fraction(average)}
    return values


def wanted(display: MasteringDisplay | None, light: ContentLight | None) -> dict[str, Fraction]:
    values: dict[str, Fraction] = {}
    if display is not None and display.red is not None:
        points = (display.red, display.green, display.blue, display.white)
        for name, point in zip(("red", "green", "blue", "white_point"), points, strict=True):
            assert point is not None
            values |= {f"{name}_x": point[0], f"{name}_y": point[1]}
    if display is not None and display.min_luminance is not None:
        values |= {"min_luminance": display.min_luminance, "max_luminance": display.max_luminance}  # type: ignore[dict-item]
    if light is not None:
        values |= {"max_content": Fraction(light.max_cll), "max_average": Fraction(light.max_fall)}
    return values


@pytest.mark.parametrize("how", HDR_CODECS, ids=lambda how: how[0])
def test_hdr_metadata_come_back_exactly(how: tuple[str, Container, str], tmp_path: Path) -> None:
    path = hdr_part(tmp_path, how, DISPLAY, LIGHT)

    # FFmpeg's decoder of H.264 reads them since 6.0, which need not be the one beside PyAV's.
    is_second = shutil.which("ffprobe") and how[0] != "h264"
    readers = [as_pyav_says, as_ffmpeg_says] if is_second else [as_pyav_says]
    for read in readers:
        found, expected = read(path), wanted(DISPLAY, LIGHT)
        assert found.keys() == expected.keys()
        slack = RESOLUTION.get(how[0], 0)
        assert all(abs(found[name] - value) <= slack for name, value in expected.items())


@pytest.mark.parametrize("how", [how for how in HDR_CODECS if how[0] in ("h264", "hevc", "vp9", "ffv1")])
@pytest.mark.parametrize(
    ("display", "light"),
    [
        (MasteringDisplay(None, None, None, None, Fraction(1, 200), Fraction(1000)), None),
        (MasteringDisplay(*POINTS, None, None), None),
        (None, LIGHT),
    ],
    ids=["luminances", "colours", "light"],
)
def test_hdr_metadata_that_say_less_come_back_without_anything_made_up(
    how: tuple[str, Container, str],
    display: MasteringDisplay | None,
    light: ContentLight | None,
    tmp_path: Path,
) -> None:
    found = as_pyav_says(hdr_part(tmp_path, how, display, light))

    if how[0] == "hevc" and light is None:
        assert found.pop("max_content") == found.pop("max_average") == 0  # x265's "not known"
    assert found == wanted(display, light)


def test_hdr_metadata_between_two_codes_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    odd = replace(DISPLAY, red=(Fraction(2, 3), Fraction(1, 3)), min_luminance=Fraction(1, 3333))

    for how, unit in ((HDR_CODECS[1], 50_000), (HDR_CODECS[2], 65_536)):
        found = as_pyav_says(hdr_part(tmp_path, how, odd, None))
        assert abs(found["red_x"] - Fraction(2, 3)) <= Fraction(1, 2 * unit)


@pytest.mark.parametrize(("codec", "container"), [("vp9", "webm"), ("ffv1", "mkv")])
@pytest.mark.parametrize("display", [None, DISPLAY], ids=["plain", "hdr"])
def test_hdr_metadata_of_the_container_leave_the_rest_as_it_is(
    codec: str, container: Container, display: MasteringDisplay | None, tmp_path: Path
) -> None:
    video = replace(VIDEO, mastering_display=display, sample_aspect_ratio=Fraction(4, 3))
    color = replace(BT709, chroma_location="topleft", full_range=True, transfer=16)
    asked = VideoSettings(codec=codec, preset="ultrafast")  # type: ignore[arg-type]
    settings = choose_encode(video, color, asked, container, 128, 96, 2)

    write_part(tmp_path / "part.mkv", settings, frames_at([512, 1024]))

    with av.open(str(tmp_path / "part.mkv")) as part:
        stream = part.streams.video[0]
        assert chroma_location(header_of(stream)) == "topleft"
        assert (stream.codec_context.color_range, stream.codec_context.color_trc) == (2, 16)
        assert stream.average_rate == 25
        assert [packet.pts for packet in part.demux(stream) if packet.size] == [40, 80]


@pytest.mark.parametrize("display", [None, DISPLAY], ids=["plain", "hdr"])
def test_prores_says_which_of_its_kinds_it_is(display: MasteringDisplay | None, tmp_path: Path) -> None:
    for pixels, tag in (("yuv422p10le", "apch"), ("yuva444p10le", "ap4h")):
        path = hdr_part(tmp_path, ("prores", "mov", pixels), display, None)
        with av.open(str(path)) as part:
            assert part.streams.video[0].codec_context.codec_tag == tag


def captions_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as part:
        every = [frame.side_data.get("A53_CC") for frame in part.decode(video=0)]
    return [b"" if data is None else bytes(data) for data in every]


def write_with_captions(path: Path, settings: EncodeSettings, frames: list[av.VideoFrame]) -> None:
    with PartWriter(path, settings) as writer:
        for number, frame in enumerate(frames):
            planes = numbered_planes(number, settings.pixel_format, settings.width, settings.height)
            writer.write(planes, number * 512, frame)
        writer.close()


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("size", [(96, 64), (192, 128)])
def test_captions_stay_with_their_frames(codec: str, size: tuple[int, int], tmp_path: Path) -> None:
    settings = choose(width=size[0], height=size[1], codec=codec)

    write_with_captions(tmp_path / "part.mp4", settings, captioned_frames(12))

    assert captions_of(tmp_path / "part.mp4") == [caption_of(number) for number in range(12)]


def test_captions_bring_nothing_else_along(tmp_path: Path) -> None:
    settings = choose(width=192, height=128, codec="h264")
    frames = captioned_frames(12, "frame-packing=3:mastering-display=G(1,2)B(3,4)R(5,6)WP(7,8)L(900,10)")
    kinds = {data.type.name for data in frames[0].side_data}
    assert {"STEREO3D", "MASTERING_DISPLAY_METADATA"} <= kinds
    write_with_captions(tmp_path / "part.mp4", settings, frames)
    plain = [(n * 512, tuple(numbered_planes(n, "yuv420p", 192, 128))) for n in range(12)]
    write_part(tmp_path / "plain.mp4", settings, plain)

    def described(path: Path) -> list[tuple[object, ...]]:
        with av.open(str(path)) as part:
            packets = [(p.pts, p.dts, p.duration, p.is_keyframe) for p in part.demux(video=0) if p.size]
            part.seek(0)
            frames = [
                ({data.type.name for data in f.side_data} - {"A53_CC"}, f.pict_type, f.color_range)
                for f in part.decode(video=0)
            ]
        return [*packets, *frames]

    assert described(tmp_path / "part.mp4") == described(tmp_path / "plain.mp4")


def test_captions_do_not_touch_the_frame_that_they_come_from(tmp_path: Path) -> None:
    frames = captioned_frames(3)
    before = [planes_of(frame, PIXEL_FORMATS["yuv420p"])[0].copy() for frame in frames]

    write_with_captions(tmp_path / "part.mp4", choose("yuv420p", width=96, height=64), frames[::-1])

    after = [planes_of(frame, PIXEL_FORMATS["yuv420p"])[0] for frame in frames]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_alpha_of_vp9_survives_a_stream_copy(tmp_path: Path) -> None:
    settings = choose("yuva420p", "webm", quality="lossless")
    planes = tuple(numbered_planes(1, "yuva420p", 128, 96))
    write_part(tmp_path / "part.mkv", settings, [(0, planes), (512, planes)])

    with av.open(str(tmp_path / "part.mkv")) as part, av.open(str(tmp_path / "copy.webm"), "w") as copy:
        stream = copy.add_stream_from_template(part.streams.video[0], opaque=True)
        for packet in part.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(tmp_path / "copy.webm")) as copy:
        frames = [frame for packet in copy.demux(video=0) for frame in decoder.decode(packet)]

    assert frames[0].format.name == "yuva420p"
    decoded = planes_of(frames[0], PIXEL_FORMATS["yuva420p"])
    assert all(np.array_equal(a, b) for a, b in zip(decoded, planes, strict=True))


@pytest.mark.parametrize(
    "planes",
    [
        numbered_planes(0, "yuv420p", 64, 48),
        numbered_planes(0, "yuv420p10le", 128, 96),
        numbered_planes(0, "yuv444p", 128, 96),
        numbered_planes(0, "yuv420p", 128, 96)[:1],
    ],
    ids=["size", "depth", "sampling", "number"],
)
def test_planes_that_do_not_fit_are_refused(planes: list[np.ndarray], tmp_path: Path) -> None:
    with (
        PartWriter(tmp_path / "part.mp4", choose()) as writer,
        pytest.raises(OutputError, match="do not fit"),
    ):
        writer.write(planes, 0)


def test_nothing_is_left_of_a_part_that_was_given_up(tmp_path: Path) -> None:
    path = tmp_path / "part.mp4"
    with PartWriter(path, choose()) as writer:
        writer.write(numbered_planes(0, "yuv420p", 128, 96), 0)

    assert not path.exists()


def test_a_part_without_frames_is_an_error(tmp_path: Path) -> None:
    with PartWriter(tmp_path / "part.mp4", choose()) as writer, pytest.raises(OutputError):
        writer.close()


def test_an_encoder_that_refuses_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="libx264"):
        PartWriter(tmp_path / "part.mp4", replace(choose(), options=(("preset", "nonsense"),)))

    assert not list(tmp_path.iterdir())


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _empty])
def test_a_part_that_is_not_whole_does_not_pass_the_gate(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    settings = settings_for(replace(VIDEO, width=128, height=96), "mp4")
    path = tmp_path / "part.mp4"
    write_part(path, settings, frames_at([0, 512, 1024]))
    damage(path)

    with pytest.raises(OutputError):
        check_part(path, settings, 3)


def test_a_part_with_other_frames_does_not_pass_the_gate(tmp_path: Path) -> None:
    settings = settings_for(replace(VIDEO, width=128, height=96), "mp4")
    path = tmp_path / "part.mp4"
    write_part(path, settings, frames_at([0, 512, 1024]))

    with pytest.raises(OutputError, match="number of frames"):
        check_part(path, settings, 4)
    with pytest.raises(OutputError, match="size"):
        check_part(path, replace(settings, width=130), 3)
