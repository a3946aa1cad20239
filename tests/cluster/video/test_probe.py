from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from cluster.video.probe import probe
from sr_core.errors import MediaError
from tests.cluster.video.clips import (
    CFR,
    CLIPS,
    FULL_RANGE,
    LATE_TS,
    MANY_STREAMS,
    MP4_EXTRAS,
    ODD,
    VFR,
    Clip,
)

PathOf = Callable[[Clip], Path]


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_every_displayed_frame_is_found_at_its_time(clip: Clip, clip_path: PathOf) -> None:
    with clip_path(clip).open("rb") as file:
        info, timeline = probe(file, clip.name)

    shift = timeline.pts[0] - clip.pts[0] if clip is LATE_TS else 0  # that muxer adds a delay
    times = [int(pts - shift) * info.video.time_base for pts in timeline.pts]
    assert times == [pts * clip.time_base for pts in clip.pts]
    assert info.video.num_frames == len(clip.pts)
    assert info.video.promised_num_frames is None
    assert (info.video.width, info.video.height) == (clip.width, clip.height)
    assert info.video.pixel_format == clip.pixel_format
    assert timeline.problem == ""
    assert timeline.keyframe_pts[0] == timeline.pts[0]
    assert info.video.end_pts == timeline.end_pts > timeline.pts[-1]


def test_the_nominal_rate_is_not_the_clock(clip_path: PathOf) -> None:
    for clip, rate in ((CFR, 25), (MANY_STREAMS, 25)):
        with clip_path(clip).open("rb") as file:
            video = probe(file, clip.name)[0].video
        assert video is not None
        assert video.frame_rate == rate
    with clip_path(VFR).open("rb") as file:
        video = probe(file, VFR.name)[0].video
    assert video is not None
    measured = Fraction(len(VFR.pts) - 1) / ((VFR.pts[-1] - VFR.pts[0]) * VFR.time_base)
    assert abs(video.frame_rate / measured - 1) < Fraction(1, 10)


def test_full_range_is_a_tag_and_not_a_pixel_format(clip_path: PathOf) -> None:
    with clip_path(FULL_RANGE).open("rb") as file:
        video = probe(file, "full")[0].video

    assert video is not None
    assert video.pixel_format == "yuv420p"
    assert video.color.full_range is True


def test_all_streams_are_listed(clip_path: PathOf) -> None:
    with clip_path(MANY_STREAMS).open("rb") as file:
        info = probe(file, "many")[0]

    assert [(stream.kind, stream.codec, stream.language) for stream in info.streams] == [
        ("video", "h264", ""),
        ("audio", "opus", "eng"),
        ("audio", "opus", "deu"),
        ("subtitle", "subrip", "fra"),
        ("video", "png", ""),
        ("attachment", "", ""),
    ]
    assert [stream.is_cover for stream in info.streams] == [False, False, False, False, True, False]
    assert info.num_chapters == 2


def test_chapters_of_mp4_are_counted(clip_path: PathOf) -> None:
    with clip_path(MP4_EXTRAS).open("rb") as file:
        assert probe(file, "extras")[0].num_chapters == 2


@pytest.mark.parametrize(
    "content", [b"", b"junk" * 1000, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"], ids=["empty", "junk", "list"]
)
def test_what_is_no_media_file_is_a_media_error(content: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        probe(io.BytesIO(content), "holiday.mp4")

    assert caught.value.where == "holiday.mp4"


def test_a_file_without_video_is_a_media_error() -> None:
    from tests.cluster.video.test_containers import audio_file

    with pytest.raises(MediaError, match="no video"):
        probe(audio_file("flac", "flac"), "song.mkv")


def test_video_that_does_not_decode_is_a_media_error(clip_path: PathOf) -> None:
    content = bytearray(clip_path(ODD).read_bytes())
    start = content.index(bytes.fromhex("1f43b675"))  # the first cluster: all packets lie behind it
    for position in range(start + 40, len(content)):
        content[position] ^= 0x5A

    with pytest.raises(MediaError):
        probe(io.BytesIO(bytes(content)), "odd.mkv")


@pytest.mark.parametrize("clip", [MANY_STREAMS, MP4_EXTRAS], ids=lambda clip: clip.name)
def test_a_copy_that_broke_off_is_seen(clip: Clip, clip_path: PathOf, tmp_path: Path) -> None:
    whole = clip_path(clip)
    content = whole.read_bytes()
    if clip is MP4_EXTRAS:
        content = _moov_first(whole, tmp_path / "fast.mp4")
    with pytest.MonkeyPatch.context():
        info, timeline = probe(io.BytesIO(content[: len(content) * 6 // 10]), clip.name)

    assert len(timeline.pts) < len(clip.pts)
    assert info.video.promised_num_frames is not None
    assert abs(info.video.promised_num_frames - len(clip.pts)) <= 2


def test_repeated_times_are_a_problem_and_not_a_crash(tmp_path: Path) -> None:
    import av

    path = tmp_path / "twice.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height = 32, 32
        stream.codec_context.time_base = Fraction(1, 1000)
        for pts in (0, 40, 80):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            for packet in stream.encode(frame):
                packet.pts = packet.dts = min(packet.pts, 40)
                output.mux(packet)

    with path.open("rb") as file:
        timeline = probe(file, "twice")[1]

    assert "timestamp of another" in timeline.problem


def _moov_first(path: Path, target: Path) -> bytes:
    import av

    with (
        av.open(str(path)) as source,
        av.open(str(target), "w", container_options={"movflags": "+faststart"}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return target.read_bytes()
