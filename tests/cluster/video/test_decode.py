from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video.decode import DecodedFrame, VideoReader, planes_of
from cluster.video.info import VideoInfo
from cluster.video.pixels import PIXEL_FORMATS
from cluster.video.probe import probe
from tests.cluster.video.clips import B_FRAMES, CLIPS, OPEN_GOP, SHARED, VFR, Clip, number_of

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


@pytest.mark.parametrize("name", ["nv12", "p010le"])
@pytest.mark.parametrize("size", [(64, 48), (35, 21)])
def test_semi_planar_frames_are_split_also_at_odd_sizes(name: str, size: tuple[int, int]) -> None:
    width, height = size
    pixels = PIXEL_FORMATS[name]
    frame = av.VideoFrame(width, height, name)
    shift = 6 if name == "p010le" else 0
    dtype = np.uint16 if shift else np.uint8
    chroma_h, chroma_w = (height + 1) // 2, (width + 1) // 2
    noise = np.random.default_rng(0)
    top = 1 << pixels.bit_depth
    luma = noise.integers(0, top, (height, width)).astype(dtype)
    chroma = noise.integers(0, top, (chroma_h, chroma_w, 2)).astype(dtype)
    for plane, values in zip(frame.planes, (luma, chroma.reshape(chroma_h, -1)), strict=True):
        strides = (plane.line_size, values.itemsize)
        np.ndarray(values.shape, dtype, buffer=plane, strides=strides)[:] = values << shift

    y, u, v = planes_of(frame, pixels)

    assert np.array_equal(y, luma)
    assert np.array_equal(u, chroma[..., 0])
    assert np.array_equal(v, chroma[..., 1])


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
