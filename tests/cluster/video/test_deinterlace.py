from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.deinterlace import pictures
from cluster.video.info import DeinterlaceMode
from cluster.video.pixels import PIXEL_FORMATS
from cluster.video.planes import planes_of, stored_planes
from sr_core.errors import MediaError
from tests.cluster.video.clips import B_FRAMES, FIELDS, MIXED_FIELDS, Clip, flagged
from tests.cluster.video.test_decode import probed

PathOf = Callable[[Clip], Path]
Content = tuple[int, list[bytes], bool, bool]


def content_of(frame: DecodedFrame) -> Content:
    return frame.pts, [plane.tobytes() for plane in frame.planes], frame.is_corrupt, frame.is_interlaced


def frames_of(path: Path, mode: DeinterlaceMode) -> list[Content]:
    with path.open("rb") as file, VideoReader(file, probed(path)[0], 1, deinterlace=mode) as reader:
        return [content_of(frame) for frame in reader.frames(None, None)]


def combing(luma: np.ndarray) -> float:
    """How much every row differs from the two around it, more than those differ from each other."""
    rows = luma.astype(np.int32)
    return float(np.mean(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:])))


@pytest.mark.parametrize("clip", [*FIELDS, MIXED_FIELDS], ids=lambda clip: clip.name)
@pytest.mark.parametrize("mode", ["flagged", "frame", "field"])
def test_a_range_with_its_neighbours_is_the_same_part_of_the_whole(
    clip: Clip, mode: DeinterlaceMode, clip_path: PathOf
) -> None:
    path = clip_path(clip)
    video, pts = probed(path)
    per_frame = 2 if mode == "field" else 1
    whole = frames_of(path, mode)
    assert len(whole) == per_frame * len(pts)
    ends = [*pts, video.end_pts]

    with path.open("rb") as file, VideoReader(file, video, 1, deinterlace=mode) as reader:
        for first, last in [(0, 1), (0, 9), (1, 2), (9, 14), (10, 11), (13, 24), (20, len(pts))]:
            context = ends[max(0, first - 1)], ends[min(len(pts), last + 1)]
            part = [content_of(frame) for frame in reader.frames(ends[first], ends[last], context)]
            assert part == whole[per_frame * first : per_frame * last]
            assert sorted(reader.packet_pts) == pts[first:last]
            assert reader.missing_pts == []


@pytest.mark.parametrize("clip", FIELDS, ids=lambda clip: clip.name)
@pytest.mark.parametrize("mode", ["flagged", "frame", "field"])
def test_fields_of_different_times_are_no_comb_any_more(
    clip: Clip, mode: DeinterlaceMode, clip_path: PathOf
) -> None:
    path = clip_path(clip)
    video, _ = probed(path)
    with path.open("rb") as file:
        woven = [frame.planes[0] for frame in VideoReader(file, video, 1).frames(None, None)]
        whole = [frame.planes[0] for frame in VideoReader(file, video, 1, "", mode).frames(None, None)]

    assert np.mean([combing(luma) for luma in whole]) < np.mean([combing(luma) for luma in woven]) / 4


@pytest.mark.parametrize("clip", FIELDS, ids=lambda clip: clip.name)
def test_fields_come_in_the_order_that_their_frame_says(clip: Clip, clip_path: PathOf) -> None:
    """A bar moves to the right by the same way from each field to the next."""
    path = clip_path(clip)
    with path.open("rb") as file, VideoReader(file, probed(path)[0], 1, deinterlace="field") as reader:
        columns = [
            float(np.average(np.arange(clip.width), weights=frame.planes[0].mean(0) > 100))
            for frame in reader.frames(None, None)
        ]

    assert np.all(np.diff(columns[2:-2]) > 0)


def test_second_fields_lie_in_the_middle_and_the_last_one_before_the_end(clip_path: PathOf) -> None:
    path = clip_path(FIELDS[0])
    video, pts = probed(path)
    ends = [*pts, video.end_pts]

    times = [time for time, *_ in frames_of(path, "field")]

    assert times[::2] == [2 * time for time in pts]
    assert times[1::2] == [a + b for a, b in pairwise(ends)]


def test_progressive_frames_pass_untouched_where_flags_are_followed(clip_path: PathOf) -> None:
    assert frames_of(clip_path(B_FRAMES), "flagged") == frames_of(clip_path(B_FRAMES), "off")
    mixed = clip_path(MIXED_FIELDS)
    for plain, made in zip(frames_of(mixed, "off"), frames_of(mixed, "flagged"), strict=True):
        was_interlaced = plain[3]
        assert (plain == made) != was_interlaced
        assert not made[3]


def test_a_change_of_size_or_format_begins_anew() -> None:
    frames = [_noise(name, size) for name, size in (("yuv420p", 32), ("yuv420p", 32), ("yuv422p10le", 48))]

    made = list(pictures(frames, "field"))

    assert [picture.source for picture in made] == [frame for frame in frames for _ in range(2)]
    assert [picture.is_second_field for picture in made] == [False, True] * 3
    assert [(picture.image.format.name, picture.image.width) for picture in made] == [
        (frame.format.name, frame.width) for frame in frames for _ in range(2)
    ]


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
def test_every_pixel_format_keeps_its_samples_at_rest(name: str) -> None:
    """Where nothing moves, the lines of one field come from the frame and the others from its neighbours."""
    pixels = PIXEL_FORMATS[name]
    frame = _noise(name, 32)
    if name.startswith("yuv440p1"):
        with pytest.raises(MediaError, match="cannot be deinterlaced"):
            list(pictures([frame, frame, frame], "frame"))
        return

    _, middle, _ = pictures([frame, frame, frame], "frame")

    assert middle.pixels.planar == pixels.planar
    for made, given in zip(planes_of(middle.image, middle.pixels), planes_of(frame, pixels), strict=True):
        assert made.dtype == given.dtype
        assert np.array_equal(made[::2], given[::2])
        assert made.max() < 1 << pixels.bit_depth


def test_progressive_neighbours_are_neighbours_too() -> None:
    """What is at rest is seen to be at rest, so that its lines stay, only beside both neighbours."""
    plain = _noise("yuv420p", 32)
    (luma, *_) = planes_of(plain, PIXEL_FORMATS["yuv420p"])

    made = list(pictures([plain, flagged(plain, "bff"), plain, flagged(plain, "tff")], "flagged"))

    assert [picture.is_deinterlaced for picture in made] == [False, True, False, True]
    for picture in made:
        assert np.array_equal(planes_of(picture.image, picture.pixels)[0], luma)


def test_frames_that_are_too_small_are_a_media_error() -> None:
    with pytest.raises(MediaError, match="cannot be deinterlaced"):
        list(pictures([_noise("yuv420p", 4)] * 2, "frame", "tiny.avi"))


def _noise(name: str, size_px: int) -> av.VideoFrame:
    frame = av.VideoFrame(size_px, size_px, name)
    noise = np.random.default_rng(0)
    if PIXEL_FORMATS[name].is_planar:
        for plane in stored_planes(frame, PIXEL_FORMATS[name]):
            plane[:] = noise.integers(0, 1 << PIXEL_FORMATS[name].bit_depth, plane.shape)
    else:
        swapped = name.endswith("be") and not PIXEL_FORMATS[name].via
        top = 1 << PIXEL_FORMATS[name].bit_depth if swapped else 1 << 16
        for stored in frame.planes:
            codes = noise.integers(0, top, stored.buffer_size // 2)
            stored.update(codes.astype(">u2").tobytes())
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return frame


def test_damage_is_told_of_the_frame_that_has_it(clip_path: PathOf, tmp_path: Path) -> None:
    clip = FIELDS[2]
    path = clip_path(clip)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        hurt = packets[10]
        at = hurt.pos + hurt.size // 2
        content[at : at + 40] = bytes(40)
    damaged = tmp_path / clip.name
    damaged.write_bytes(content)
    plain = [(frame[0], frame[2]) for frame in frames_of(damaged, "off")]
    assert 0 < sum(is_corrupt for _, is_corrupt in plain) < len(plain)

    assert [(frame[0], frame[2]) for frame in frames_of(damaged, "frame")] == plain
    fields = [frame[2] for frame in frames_of(damaged, "field")]
    assert fields[::2] == fields[1::2] == [is_corrupt for _, is_corrupt in plain]


def test_clips_of_one_frame_are_deinterlaced_too(clip_path: PathOf) -> None:
    clip = replace(FIELDS[0], name=f"one_{FIELDS[0].name}", pts=FIELDS[0].pts[:1])

    assert len(frames_of(clip_path(clip), "flagged")) == 1
    assert len(frames_of(clip_path(clip), "field")) == 2
