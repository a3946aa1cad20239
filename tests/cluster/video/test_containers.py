from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from cluster.video import containers as tables
from cluster.video.carry import Carried
from cluster.video.containers import (
    MUXERS,
    VIDEO_SUFFIXES,
    Container,
    can_hold,
    carried_streams,
    container_of,
    output_name,
)
from cluster.video.info import SourceInfo, StreamInfo
from sr_core.errors import SpecError
from tests.cluster.video.test_codecs import VIDEO

CONTAINERS: tuple[Container, ...] = ("mp4", "mov", "mkv", "webm")
AUDIO_ENCODERS = {
    **{codec: codec for codec in ("aac", "ac3", "eac3", "mp2", "flac", "alac", "tta", "wavpack")},
    **{codec: codec for codec in ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8")},
    **{codec: codec for codec in ("pcm_s16be", "pcm_s24be", "pcm_alaw", "pcm_mulaw")},
    "mp3": "libmp3lame",
    "opus": "libopus",
}


@pytest.mark.parametrize(
    ("source", "container", "expected"),
    [
        ("a/b.mp4", "auto", "a/b.mp4"),
        ("a/b.M4V", "auto", "a/b.mp4"),
        ("b.mov", "auto", "b.mov"),
        ("b.MKV", "auto", "b.mkv"),
        ("b.webm", "auto", "b.webm"),
        ("b.m2ts", "auto", "b.mp4"),
        ("b.flv", "auto", "b.mp4"),
        ("b.avi", "auto", "b.mkv"),
        ("b.mpg", "auto", "b.mkv"),
        ("b.c.mp4", "mkv", "b.c.mkv"),
    ],
)
def test_outputs_keep_the_family_of_their_source(source: str, container: str, expected: str) -> None:
    assert output_name(source, container) == expected  # type: ignore[arg-type]


def test_every_output_name_says_its_container() -> None:
    for suffix in VIDEO_SUFFIXES:
        assert container_of(output_name(f"x{suffix}", "auto")) in CONTAINERS


@pytest.mark.parametrize("name", ["notes.txt", "clip", "picture.png"])
def test_a_name_that_is_no_video_is_a_spec_error(name: str) -> None:
    with pytest.raises(SpecError):
        output_name(name, "auto")


def source_of(*streams: StreamInfo, format_name: str = "matroska,webm", num_chapters: int = 0) -> SourceInfo:
    return SourceInfo(format_name, 1.0, num_chapters, (StreamInfo(0, "video", "h264"), *streams), VIDEO)


def test_what_does_not_fit_is_dropped_and_told() -> None:
    info = source_of(
        StreamInfo(1, "audio", "opus", "eng"),
        StreamInfo(2, "subtitle", "subrip", "fra"),
        StreamInfo(3, "attachment", ""),
        StreamInfo(4, "video", "mjpeg", is_cover=True),
        StreamInfo(5, "data", "klv"),
        StreamInfo(6, "audio", ""),
        StreamInfo(7, "video", "h264"),
    )

    assert carried_streams(info, "mkv")[0] == (1, 2, 3, 4, 7)
    assert carried_streams(info, "mp4")[0] == (1, 4, 7)
    assert carried_streams(info, "mov")[0] == (7,)
    assert carried_streams(info, "webm")[0] == (1,)
    told = carried_streams(info, "webm")[1]
    assert [text.split()[1] for text in told] == ["2", "3", "4", "5", "6", "7"]
    assert "fra" in told[0]


def test_the_chapter_track_is_neither_carried_nor_told() -> None:
    info = source_of(StreamInfo(1, "data", "bin_data"), format_name="mov,mp4,m4a", num_chapters=2)

    assert carried_streams(info, "mp4") == ((), ())


def audio_file(codec: str, encoder: str) -> io.BytesIO:
    file = io.BytesIO()
    container = "mov" if codec.startswith("pcm_") else "matroska"
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(encoder, rate=48_000, layout="stereo")
        resampler = av.AudioResampler(
            stream.codec_context.format, "stereo", 48_000, stream.codec_context.frame_size
        )
        samples = np.random.default_rng(0).integers(-9000, 9000, (1, 2 * 9600)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        for piece in (frame, None):
            for converted in resampler.resample(piece):
                output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


def copied(file: io.BytesIO, container: Container) -> tuple[bytes, bytes]:
    """The payload of the one stream in `file` before and after it was copied into `container`."""
    target = io.BytesIO()
    before = b""
    with av.open(file) as source, av.open(target, "w", format=MUXERS[container]) as output:
        carried = Carried(source, (0,), container, io.BytesIO())
        carried.add_track(output, source.streams[0])
        for packet in carried.packets():
            before += bytes(packet)
            output.mux(packet)
    target.seek(0)
    with av.open(target) as result:
        return before, b"".join(bytes(packet) for packet in result.demux() if packet.size)


@pytest.mark.parametrize("codec", AUDIO_ENCODERS)
def test_audio_that_the_table_allows_is_copied_unchanged(codec: str) -> None:
    containers = [container for container in CONTAINERS if can_hold(container, StreamInfo(0, "audio", codec))]
    assert containers

    for container in containers:
        before, after = copied(audio_file(codec, AUDIO_ENCODERS[codec]), container)
        assert before
        assert before == after, container


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_muxer_knows_every_codec_that_the_table_allows(container: Container) -> None:
    with av.open(io.BytesIO(), "w", format=MUXERS[container]) as output:
        known = {
            av.Codec(name, mode).canonical_name for name in output.supported_codecs for mode in _modes(name)
        }

    for table in ("_AUDIO", "_SUBTITLES", "_VIDEO"):
        assert getattr(tables, table)[container] <= known, table


def _modes(name: str) -> list[str]:
    modes = []
    for mode in ("r", "w"):
        try:
            av.Codec(name, mode)
        except ValueError:
            continue
        modes.append(mode)
    return modes
