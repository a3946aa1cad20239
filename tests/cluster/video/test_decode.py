from __future__ import annotations

import errno
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.info import VideoInfo
from cluster.video.pixels import PIXEL_FORMATS
from cluster.video.planes import planes_of, stored_planes
from cluster.video.probe import probe
from tests.cluster.video.clips import (
    ANIMATION,
    B_FRAMES,
    CAPTION,
    CLIPS,
    OPEN_GOP,
    PRORES_ALPHA,
    SHARED,
    VFR,
    VP8_ALPHA,
    VP9_ALPHA,
    Clip,
    number_of,
    write_captioned,
    write_changing,
    write_clip,
)

PathOf = Callable[[Clip], Path]


def probed(path: Path) -> tuple[VideoInfo, list[int]]:
    with path.open("rb") as file:
        info, timeline = probe(file, path.name)
    return info.video, timeline.pts.tolist()


def content_of(frame: DecodedFrame) -> tuple[int, list[bytes]]:
    return frame.pts, [plane.tobytes() for plane in frame.planes]


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_any_cut_gives_every_frame_exactly_once(clip: Clip, clip_path: PathOf) -> None:
    path = clip_path(clip)
    video, pts = probed(path)
    with path.open("rb") as file, VideoReader(file, video, 1) as reader:
        whole = [content_of(frame) for frame in reader.frames(None, None)]
        numbers = [
            number_of(np.frombuffer(planes[0], _dtype(clip)).reshape(clip.height, -1)) for _, planes in whole
        ]
        assert numbers == list(range(len(clip.pts)))
        assert [time for time, _ in whole] == pts
        for cut in [*pts[1:], pts[3] + 1]:
            before = [content_of(frame) for frame in reader.frames(None, cut)]
            after = [content_of(frame) for frame in reader.frames(cut, None)]
            assert before + after == whole


def _dtype(clip: Clip) -> type:
    return np.uint16 if clip.pixel_format.endswith("le") else np.uint8


@pytest.mark.parametrize("clip", [B_FRAMES, OPEN_GOP, VFR], ids=lambda clip: clip.name)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_range_does_not_depend_on_what_was_read_before(clip: Clip, threads: int, clip_path: PathOf) -> None:
    path = clip_path(clip)
    video, pts = probed(path)
    ranges = [(pts[at], pts[at + 5]) for at in (20, 3, 11, 19, 0, 3)]

    with path.open("rb") as file, VideoReader(file, video, threads) as reader:
        in_turn = [[content_of(frame) for frame in reader.frames(*range_)] for range_ in ranges]
    alone = []
    for range_ in ranges:
        with path.open("rb") as file, VideoReader(file, video, 1) as reader:
            alone.append([content_of(frame) for frame in reader.frames(*range_)])

    assert in_turn == alone
    assert all(len(frames) == 5 for frames in in_turn)


def test_packets_of_the_range_are_counted(clip_path: PathOf) -> None:
    path = clip_path(B_FRAMES)
    video, pts = probed(path)
    with path.open("rb") as file, VideoReader(file, video, 1) as reader:
        frames = list(reader.frames(pts[7], pts[15]))

        assert sorted(reader.packet_pts) == pts[7:15] == [frame.pts for frame in frames]
        assert reader.errors == []


def test_frames_stay_valid_after_the_next_and_after_close(clip_path: PathOf) -> None:
    path = clip_path(B_FRAMES)
    video, pts = probed(path)
    with path.open("rb") as file:
        with VideoReader(file, video, 2) as reader:
            frames = list(reader.frames(None, None))
        assert [number_of(frame.planes[0]) for frame in frames] == list(range(len(pts)))


def test_a_reader_that_was_left_in_the_middle_can_go_on(clip_path: PathOf) -> None:
    path = clip_path(OPEN_GOP)
    video, pts = probed(path)
    with path.open("rb") as file, VideoReader(file, video, 2) as reader:
        first = next(reader.frames(pts[12], None))
        again = next(reader.frames(None, None))

    assert (first.pts, again.pts) == (pts[12], pts[0])


def test_damage_is_noted_and_the_rest_decodes(clip_path: PathOf, tmp_path: Path) -> None:
    path = clip_path(B_FRAMES)
    video, pts = probed(path)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        hurt = next(packet for packet in packets if packet.is_keyframe and packet.pts)
        content[hurt.pos : hurt.pos + hurt.size] = bytes(hurt.size)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)

    with damaged.open("rb") as file, VideoReader(file, video, 1) as reader:
        frames = list(reader.frames(None, None))

    assert reader.errors
    assert len(reader.packet_pts) == len(pts)
    assert 0 < len(frames) < len(pts)


# Formats into which FFmpeg's scaler does not write exactly, or not at all: their memory is made here.
_MADE_HERE = (
    *[f"p{name}le" for name in ("010", "012", "016", "210", "212", "216", "410", "412", "416")],
    *[f"{family}{order}" for family in ("rgb555", "bgr555", "rgb565", "bgr565") for order in ("le", "be")],
    *["pal8", "monow", "monob", "uyyvyy411", "xv48le"],
)


@pytest.mark.parametrize("size", [(64, 48), (35, 21)])
@pytest.mark.parametrize("name", sorted(set(PIXEL_FORMATS) - set(_MADE_HERE)))
def test_planes_of_every_pixel_format_are_its_samples(name: str, size: tuple[int, int]) -> None:
    pixels = PIXEL_FORMATS[name]
    planar = PIXEL_FORMATS[pixels.planar]
    frame = av.VideoFrame(*size, pixels.planar)
    noise = np.random.default_rng(0)
    for plane in stored_planes(frame, pixels):
        plane[:] = noise.integers(0, 1 << pixels.bit_depth, plane.shape)

    planes = planes_of(frame.reformat(format=name, threads=1), pixels)

    for got, expected in zip(planes, planes_of(frame, planar), strict=True):
        assert np.array_equal(got, expected)


def test_planes_of_rgb_are_red_green_and_blue() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (21, 35, 4), dtype=np.uint8)

    planes = planes_of(av.VideoFrame.from_ndarray(picture, "rgba"), PIXEL_FORMATS["rgba"])

    assert np.array_equal(np.stack(planes, -1), picture)


def _memory(name: str, width: int, height: int) -> tuple[av.VideoFrame, list[np.ndarray]]:
    """A frame of noise, and the bytes of its planes' rows."""
    frame = av.VideoFrame(width, height, name)
    noise = np.random.default_rng(0)
    rows = []
    for plane in frame.planes:
        plane.update(noise.integers(0, 256, plane.buffer_size, dtype=np.uint8).tobytes())
        num_rows = 1 if plane.line_size == 0 else plane.height
        rows.append(
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size or plane.buffer_size)[:num_rows]
        )
    return frame, rows


@pytest.mark.parametrize("size", [(64, 48), (35, 21)])
@pytest.mark.parametrize("depth", [10, 12, 16])
@pytest.mark.parametrize("family", ["p0", "p2", "p4"])
def test_semi_planar_codes_lie_in_the_upper_bits(family: str, depth: int, size: tuple[int, int]) -> None:
    name = f"{family}{depth}le"
    pixels = PIXEL_FORMATS[name]
    frame, (luma, chroma) = _memory(name, *size)

    y, u, v = planes_of(frame, pixels)

    (_, width), (_, chroma_width), _ = pixels.plane_sizes(*size)
    codes = chroma.view("<u2")[:, : 2 * chroma_width] >> (16 - depth)
    assert np.array_equal(y, luma.view("<u2")[:, :width] >> (16 - depth))
    assert np.array_equal(u, codes[:, ::2])
    assert np.array_equal(v, codes[:, 1::2])


def test_unpacking_gives_the_same_samples_every_time() -> None:
    """With several threads, FFmpeg's scaler spoils the first samples of some rows in most of these."""
    for _ in range(20):
        frame, (luma, _) = _memory("p010le", 721, 480)
        assert np.array_equal(planes_of(frame, PIXEL_FORMATS["p010le"])[0], luma.view("<u2")[:, :721] >> 6)


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("family", ["rgb555", "bgr555", "rgb565", "bgr565"])
def test_rgb_of_few_bits_is_widened_by_repeating_the_upper_ones(family: str, order: str) -> None:
    width, height = 35, 21
    frame, (stored,) = _memory(family + order, width, height)

    planes = planes_of(frame, PIXEL_FORMATS[family + order])

    codes = stored.view("<u2" if order == "le" else ">u2")[:, :width].astype(np.int32)
    green_bits = int(family[4])
    parts = [(codes >> (5 + green_bits), 5), (codes >> 5, green_bits), (codes, 5)]
    wide = []
    for part, bits in parts:
        value = part & ((1 << bits) - 1)
        wide.append(value << (8 - bits) | value >> (2 * bits - 8))
    if family.startswith("bgr"):
        wide.reverse()
    for got, expected in zip(planes, wide, strict=True):
        assert np.array_equal(got, expected)


def test_palettes_single_bits_and_old_411_are_read() -> None:
    width, height = 40, 12
    frame, (indices, palette) = _memory("pal8", width, height)
    colors = palette.reshape(256, 4)[indices[:, :width]]
    assert np.array_equal(np.stack(planes_of(frame, PIXEL_FORMATS["pal8"]), -1), colors[..., [2, 1, 0, 3]])

    for name, of_set in (("monow", 0), ("monob", 255)):
        frame, (bits,) = _memory(name, width, height)
        expected = np.where(np.unpackbits(bits, axis=1)[:, :width] == 1, of_set, 255 - of_set)
        assert np.array_equal(planes_of(frame, PIXEL_FORMATS[name])[0], expected)

    frame, (packed,) = _memory("uyyvyy411", width, height)
    groups = packed[:, : width * 3 // 2].reshape(height, -1, 6)
    y, u, v = planes_of(frame, PIXEL_FORMATS["uyyvyy411"])
    assert np.array_equal(y, groups[..., [1, 2, 4, 5]].reshape(height, width))
    assert np.array_equal(u, groups[..., 0])
    assert np.array_equal(v, groups[..., 3])


def test_packed_444_of_16_bits_is_read() -> None:
    width, height = 35, 21
    frame, (packed,) = _memory("xv48le", width, height)
    codes = packed.view("<u2")[:, : width * 4].reshape(height, width, 4)

    for got, at in zip(planes_of(frame, PIXEL_FORMATS["xv48le"]), (1, 0, 2), strict=True):
        assert np.array_equal(got, codes[..., at])


@pytest.mark.parametrize("clip", [VP9_ALPHA, VP8_ALPHA, PRORES_ALPHA, ANIMATION], ids=lambda clip: clip.name)
def test_alpha_is_decoded_in_every_range(clip: Clip, clip_path: PathOf) -> None:
    path = clip_path(clip)
    video, pts = probed(path)
    with path.open("rb") as file, VideoReader(file, video, 2) as reader:
        frames = list(reader.frames(None, None))
        parts = [
            content_of(frame) for cut in range(0, 30, 7) for frame in reader.frames(*_range(pts, cut, 7))
        ]

    assert video.pixel_format in (clip.pixel_format, "yuva444p12le")
    assert parts == [content_of(frame) for frame in frames]
    assert all(len(frame.planes) == 4 and frame.pixels.has_alpha for frame in frames)
    # Alpha is another plane in every clip frame: not one value, and not the same in all frames.
    assert len({round(float(frame.planes[3].mean())) for frame in frames}) > 3


def _range(pts: list[int], first: int, num: int) -> tuple[int, int | None]:
    return pts[first], pts[first + num] if first + num < len(pts) else None


@pytest.mark.parametrize(
    ("codec", "ending"),
    [("mpeg2video", "mkv"), ("mpeg2video", "ts"), ("libx264", "ts")],
)
def test_frames_that_change_in_the_middle_come_as_they_are(codec: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"change.{ending}"
    write_changing(path, [(96, 64, "yuv420p"), (64, 48, "yuv420p"), (64, 48, "yuv422p")], codec)
    video, pts = probed(path)

    with path.open("rb") as file, VideoReader(file, video, 1) as reader:
        frames = list(reader.frames(None, None))
        late = [content_of(frame) for frame in reader.frames(pts[13], None)]

    assert [(frame.planes[0].shape, frame.planes[1].shape, frame.pixels.name) for frame in frames] == [
        *[((64, 96), (32, 48), "yuv420p")] * 5,
        *[((48, 64), (24, 32), "yuv420p")] * 5,
        *[((48, 64), (48, 32), "yuv422p")] * 5,
    ]
    assert late == [content_of(frame) for frame in frames[13:]]
    assert reader.missing_pts == []


def test_packets_that_give_no_frame_are_missing_where_they_lie_in_the_range(
    clip_path: PathOf, tmp_path: Path
) -> None:
    path = clip_path(B_FRAMES)
    video, pts = probed(path)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size and 11 <= pts.index(packet.pts) < 14:
                content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)

    with damaged.open("rb") as file, VideoReader(file, video, 1) as reader:
        got = [frame.pts for frame in reader.frames(pts[5], pts[13], (pts[4], pts[20]))]
        assert reader.missing_pts == sorted(set(pts[5:13]) - set(got)) != []
        before = [frame.pts for frame in reader.frames(pts[5], pts[10], (pts[4], pts[20]))]

    assert before == pts[5:10]
    assert reader.missing_pts == []


def test_frames_around_a_range_come_marked_and_are_not_missed(clip_path: PathOf) -> None:
    path = clip_path(B_FRAMES)
    video, pts = probed(path)

    with path.open("rb") as file, VideoReader(file, video, 1) as reader:
        around = list(reader.frames(pts[5], pts[9], None, (pts[3], pts[10])))
        alone = [content_of(frame) for frame in reader.frames(pts[3], pts[10])]

    assert [frame.pts for frame in around if frame.is_context] == [pts[3], pts[4], pts[9]]
    assert [content_of(frame) for frame in around] == alone
    assert reader.missing_pts == []


def test_frames_with_captions_come_along_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "captions.mkv"
    write_captioned(path, with_captions={2, 3})
    video, _ = probed(path)

    for mode, expected in (("off", [2, 3]), ("frame", [2, 3]), ("field", [4, 6])):
        with path.open("rb") as file, VideoReader(file, video, 1, deinterlace=mode) as reader:
            frames = list(reader.frames(None, None))
        assert [at for at, frame in enumerate(frames) if frame.props is not None] == expected
        for at in expected:
            assert bytes(frames[at].props.side_data.get("A53_CC")) == CAPTION


def test_decoders_that_follow_old_encoder_bugs_know_the_encoder_in_every_range() -> None:
    """x264 says its version in the first packet alone; 4:4:4 of old versions decodes otherwise without it."""
    path = SHARED / "cockatoo_yuv444_mp3.mp4"
    if not path.exists():
        pytest.skip("needs the shared clips")
    video, pts = probed(path)
    with path.open("rb") as file, VideoReader(file, video, 1) as reader:
        whole = {frame.pts: content_of(frame) for frame in reader.frames(pts[0], pts[130])}
        part = [content_of(frame) for frame in reader.frames(pts[120], pts[130])]

    assert part == [whole[pts[at]] for at in range(120, 130)]


@pytest.mark.parametrize("ending", ["avi", "mov"])
def test_a_picture_of_which_half_is_there_is_damaged(ending: str, tmp_path: Path) -> None:
    options = {"movflags": "+faststart"} if ending == "mov" else {}
    clip = Clip(
        f"half.{ending}",
        encoder="mjpeg",
        options={},
        full_range=True,
        time_base=Fraction(1, 25),
        pts=range(10),
    )
    path = tmp_path / f"front.{ending}"
    with (
        av.open(str(write_clip(tmp_path, clip))) as source,
        av.open(str(path), "w", options=options) as output,
    ):
        target = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = target
                output.mux(packet)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: packets[6].pos + packets[6].size * 9 // 10])
    video, pts = probed(path)

    with path.open("rb") as file, VideoReader(file, video, 1) as reader:
        frames = list(reader.frames(None, None))

    assert [frame.pts for frame in frames] == pts
    assert [frame.is_corrupt for frame in frames] == [False] * 6 + [True]


def test_what_refers_to_lost_packets_is_damaged_up_to_the_next_keyframe(tmp_path: Path) -> None:
    clip = Clip(
        "reception.ts",
        options={"preset": "ultrafast", "crf": "10", "g": "10"},
        time_base=Fraction(1, 90_000),
        pts=tuple(range(0, 30 * 3600, 3600)),
    )
    path = write_clip(tmp_path, clip)
    _, pts = probed(path)
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    path.write_bytes(content[: starts[13]] + content[starts[15] :])
    video, left = probed(path)
    assert set(left) == set(pts) - set(pts[13:15])

    with path.open("rb") as file, VideoReader(file, video, 1) as reader:
        frames = list(reader.frames(None, None))
        whole_errors = reader.errors
        late = list(reader.frames(pts[17], pts[23]))

    hurt = [pts.index(frame.pts) for frame in frames if frame.is_corrupt]
    assert set(range(15, 20)) <= set(hurt) <= set(range(12, 20))
    assert [frame.is_corrupt for frame in late] == [True] * 3 + [False] * 3
    start_s, end_s = (float(pts[at] * video.time_base) for at in (13, 15))
    assert f"reading: packets are lost, about 2 frames from {start_s:.3f} to {end_s:.3f} s" in whole_errors


def test_a_frame_of_dv_that_broke_off_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "tape.dv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for at in range(3):
            frame = av.VideoFrame(720, 576, "yuv420p")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    frame_bytes = 144_000  # IEC 61834-2, of a system of 625 lines at 25 Mb/s
    path.write_bytes(path.read_bytes()[: frame_bytes * 5 // 2])
    video, pts = probed(path)

    with path.open("rb") as file, VideoReader(file, video, 1) as reader:
        frames = [(frame.pts, frame.is_corrupt) for frame in reader.frames(None, None)]

    assert frames == list(zip(pts, [False, False, True], strict=True))


class CountingFile(io.FileIO):
    """Counts the bytes that are read."""

    num_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size) or b""
        self.num_bytes += len(content)
        return content


def test_a_late_range_of_a_transport_stream_with_rare_keyframes_is_not_read_from_the_start(
    tmp_path: Path,
) -> None:
    path = tmp_path / "long.ts"
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        options = {"preset": "ultrafast", "crf": "10", "x264-params": "keyint=125:scenecut=0"}
        stream = output.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(3000):
            image = noise.integers(0, 255, (96, 128, 3), dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        output.mux(stream.encode(None))
    video, pts = probed(path)
    with CountingFile(path) as file, VideoReader(file, video, 1) as reader:  # type: ignore[arg-type]
        frames = list(reader.frames(pts[2720], pts[2770]))
    assert [frame.pts for frame in frames] == pts[2720:2770]
    assert file.num_bytes < path.stat().st_size // 3


class Starved:
    """A decoder that finds no memory."""

    def decode(self, packet: object) -> list[object]:
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    def flush_buffers(self) -> None:
        pass


def test_a_decoder_without_memory_is_no_damage(clip_path: PathOf, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip_path(B_FRAMES)
    video, _ = probed(path)
    monkeypatch.setattr("cluster.video.decode.new_decoder", lambda stream, threads: Starved())

    with path.open("rb") as file, VideoReader(file, video, 1) as reader, pytest.raises(MemoryError):
        list(reader.frames(None, None))
