from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video import containers as tables
from cluster.video.carry import Carried
from cluster.video.containers import (
    MUXERS,
    VIDEO_SUFFIXES,
    Container,
    carried_streams,
    container_of,
    output_name,
    sound_encoder,
)
from cluster.video.info import SourceInfo, StreamInfo
from cluster.video.opening import opening_encoder
from cluster.video.probe import probe
from sr_core.errors import SpecError
from tests.cluster.video.test_codecs import VIDEO

CONTAINERS: tuple[Container, ...] = ("mp4", "mov", "mkv", "webm")
AUDIO_ENCODERS = {
    **{codec: codec for codec in ("aac", "ac3", "eac3", "mp2", "flac", "alac", "tta", "wavpack", "vorbis")},
    **{codec: codec for codec in ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8", "pcm_s8")},
    **{codec: codec for codec in ("pcm_s16be", "pcm_s24be", "pcm_s32be", "pcm_f32be", "pcm_f64be")},
    **{codec: codec for codec in ("pcm_f64le", "pcm_alaw", "pcm_mulaw", "adpcm_ima_qt")},
    "mp3": "libmp3lame",
    "opus": "libopus",
    "amr_nb": "libopencore_amrnb",
    "ra_144": "real_144",
}
# FFmpeg encodes none of these here: what a file of them holds is made up, and the demuxer's name is given.
UNCODED_AUDIO = {"dts": "dca", "amr_wb": "amrwb", "mp1": "mp1"}
TEXTS = {"hdmv_pgs_subtitle": "pgssub", "dvb_subtitle": "dvbsub", "dvd_subtitle": "dvdsub"}
# From frames alone their muxers cannot tell them: real packets must start with a sync word.
UNTRIED = {"mlp", "truehd"}
VIDEO_ENCODERS = {
    **{codec: codec for codec in ("mpeg4", "mpeg1video", "mpeg2video", "jpeg2000", "png", "qtrle", "svq1")},
    **{codec: codec for codec in ("cfhd", "cinepak", "v210", "ffv1", "dvvideo", "h263")},
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "mjpeg": "mjpeg",
    "prores": "prores_ks",
    "msmpeg4v3": "msmpeg4",
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
        ("b.WMV", "auto", "b.mkv"),
        ("b.3gp", "auto", "b.mov"),
        ("b.mxf", "auto", "b.mov"),
        ("b.dv", "auto", "b.mov"),
        ("b.ogv", "webm", "b.webm"),
        ("b.gif", "mp4", "b.mp4"),
        ("b.c.mp4", "mkv", "b.c.mkv"),
    ],
)
def test_outputs_keep_the_family_of_their_source(source: str, container: str, expected: str) -> None:
    assert output_name(source, container) == expected  # type: ignore[arg-type]


def test_every_output_name_says_its_container() -> None:
    for suffix in VIDEO_SUFFIXES:
        assert container_of(output_name(f"x{suffix}", "auto")) in CONTAINERS


@pytest.mark.parametrize("name", ["notes.txt", "clip", "picture.png", "animation.gif", "raw.h264"])
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
    assert carried_streams(info, "mov")[0] == (1, 7)
    assert carried_streams(info, "webm")[0] == (1,)
    told = carried_streams(info, "webm")[1]
    assert [text.split()[1] for text in told] == ["2", "3", "4", "5", "6", "7"]
    assert "fra" in told[0]


@pytest.mark.parametrize(
    ("codec", "container", "told"),
    [
        ("wmav2", "mkv", "is coded anew as flac, as mkv cannot hold it"),
        ("vorbis", "mp4", "is coded anew as flac, as mp4 cannot hold it"),
        ("cook", "mov", "is coded anew as alac, as mov cannot hold it"),
        ("pcm_f32le", "mp4", "is coded anew as flac with 24 bits, as mp4 cannot hold it"),
        (
            "aac",
            "webm",
            "is coded anew as opus, which loses a little, as webm can hold neither it nor anything"
            " without loss",
        ),
    ],
)
def test_sound_that_does_not_fit_is_carried_and_told(codec: str, container: Container, told: str) -> None:
    info = source_of(StreamInfo(1, "audio", codec, "eng"), format_name="mpegts")

    assert carried_streams(info, container) == ((1,), (f"stream 1 (audio, {codec} eng) {told}",))


def test_sound_of_an_unknown_codec_is_dropped_and_told() -> None:
    told = ("stream 1 (audio) is dropped: its codec is not known",)

    assert carried_streams(source_of(StreamInfo(1, "audio", "")), "mkv") == ((), told)


@pytest.mark.parametrize("container", CONTAINERS)
def test_sound_is_coded_anew_as_something_that_its_container_holds(container: Container) -> None:
    encoder = sound_encoder(container, "cook")

    assert encoder is not None
    assert av.Codec(encoder, "w").canonical_name in tables._AUDIO[container]
    assert all(sound_encoder(container, codec) is None for codec in tables._AUDIO[container])
    assert sound_encoder(container, "") is None


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("time_base", [Fraction(1, 25), Fraction(1001, 30_000), Fraction(1, 1_200_000)])
def test_the_clock_of_a_track_is_what_the_muxer_makes(
    container: Container, time_base: Fraction, tmp_path: Path
) -> None:
    path = tmp_path / f"clock.{container}"
    with av.open(str(path), "w", options=tables.muxer_options(container, time_base)) as output:
        video = output.add_stream("libx264", width=64, height=64, pix_fmt="yuv420p")
        video.time_base = video.codec_context.time_base = time_base
        frame = av.VideoFrame(64, 64, "yuv420p")
        frame.pts, frame.time_base = 0, time_base
        output.mux([*video.encode(frame), *video.encode(None)])
    with av.open(str(path)) as written:
        assert written.streams[0].time_base == Fraction(1, tables.track_timescale(time_base))


@pytest.mark.parametrize(
    ("language", "container", "told"),
    [
        ("glg", "mov", "loses its language, as mov has no code for what it is in"),
        ("en", "mp4", "loses its language, as mp4 has no code for what it is in"),
        ("eng,deu", "mp4", "is told to be in eng, as mp4 has no code for what it is in"),
        ("de-AT", "mkv", ""),
        ("eng,deu", "mkv", ""),
        ("deu", "mov", ""),
        ("und", "mov", ""),
        ("", "mov", ""),
    ],
)
def test_languages_that_a_container_has_no_code_for_are_told(
    language: str, container: Container, told: str
) -> None:
    sound = source_of(StreamInfo(1, "audio", "aac", language))
    picture = replace(source_of(), streams=(StreamInfo(0, "video", "h264", language),))

    expected = (f"stream 1 (audio, aac {language}) {told}",) if told else ()
    assert carried_streams(sound, container) == ((1,), expected)
    expected = (f"stream 0 (video, h264 {language}) {told}",) if told else ()
    assert carried_streams(picture, container) == ((), expected)


def test_the_chapter_track_is_neither_carried_nor_told() -> None:
    info = source_of(StreamInfo(1, "data", "bin_data"), format_name="mov,mp4,m4a", num_chapters=2)

    assert carried_streams(info, "mp4") == ((), ())


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_the_track_of_a_timecode_that_is_carried_is_not_told_as_dropped(container: Container) -> None:
    info = source_of(StreamInfo(1, "data", "tmcd"), StreamInfo(2, "data", "klv"), format_name="mov,mp4")

    with_timecode = carried_streams(replace(info, timecode="01:00:00:00"), container)
    without = carried_streams(info, container)

    assert [text.split()[1] for text in with_timecode[1] if "dropped" in text] == ["2"]
    assert "stream 1 (data, tmcd) is written anew" in with_timecode[1][0]
    assert [text.split()[1] for text in without[1] if "dropped" in text] == ["1", "2"]
    assert with_timecode[0] == without[0] == ()


def test_probing_knows_the_track_of_a_timecode(tmp_path: Path) -> None:
    path = tmp_path / "timecode.mov"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.metadata["timecode"] = "01:00:00:00"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        output.mux(stream.encode(None))

    with path.open("rb") as file:
        info, _ = probe(file, path.name)

    assert [(stream.kind, stream.codec) for stream in info.streams] == [("video", "mpeg4"), ("data", "tmcd")]
    carried, told = carried_streams(info, "mov")
    assert carried == ()
    assert not [text for text in told if "dropped" in text]


def audio_file(codec: str, encoder: str) -> io.BytesIO:
    file = io.BytesIO()
    is_telephone = codec in ("amr_nb", "ra_144")
    rate, layout = (8000, "mono") if is_telephone else (48_000, "stereo")
    container = "mov" if codec.startswith(("pcm_", "amr", "adpcm")) else "matroska"
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(encoder, rate=rate, layout=layout, options={"strict": "-2"})
        output.start_encoding()
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(stream.codec_context.format, layout, rate, size)
        samples = np.random.default_rng(0).integers(-9000, 9000, (1, rate // 5)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, "s16", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for piece in (frame, None):
            for converted in resampler.resample(piece):
                output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


def made_up_file(name: str, container: str, rate: int | None) -> io.BytesIO:
    """A stream of the codec that FFmpeg calls `name`, with packets that mean nothing."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_mux_stream(name, rate=rate) if rate else output.add_mux_stream(name)
        stream.time_base = Fraction(1, 1000)
        for number in range(4):
            packet = av.Packet(bytes((number * 7 + index) % 251 for index in range(61)))
            packet.pts = packet.dts = number * 100
            packet.duration, packet.time_base, packet.stream = 100, stream.time_base, stream
            output.mux(packet)
    file.seek(0)
    return file


def video_file(codec: str, encoder: str) -> io.BytesIO:
    file = io.BytesIO()
    is_open = codec in ("av1", "vp8", "vp9", "ffv1", "msmpeg4v3")
    with opening_encoder(), av.open(file, "w", format="matroska" if is_open else "mov") as output:
        stream = output.add_stream(encoder, rate=25)
        width, height = (720, 576) if codec == "dvvideo" else (352, 288)
        formats = [found.name for found in stream.codec_context.codec.video_formats]
        name = next((name for name in ("yuvj420p", "yuv420p") if name in formats), formats[0])
        stream.width, stream.height, stream.pix_fmt = width, height, name
        for number in range(3):
            frame = av.VideoFrame(width, height, "gray")
            frame.planes[0].update(bytes([60 + number]) * frame.planes[0].buffer_size)
            frame = frame.reformat(format=name)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


def copied(file: io.BytesIO, container: Container) -> tuple[bytes, bytes]:
    """The payload of the one stream in `file` before and after it was copied into `container`."""
    target = io.BytesIO()
    before = b""
    with av.open(file) as source, av.open(target, "w", format=MUXERS[container]) as output:
        carried = Carried(source, replace(VIDEO, stream_index=1), (0,), container, io.BytesIO())
        carried.add_track(output, source.streams[0])
        for packet in carried.packets():
            before += bytes(packet)
            output.mux(packet)
    target.seek(0)
    with av.open(target) as result:
        return before, b"".join(bytes(packet) for packet in result.demux() if packet.size)


def claims(table: dict[Container, set[str]]) -> list[tuple[str, Container]]:
    return [(codec, container) for container in CONTAINERS for codec in sorted(table[container])]


@pytest.mark.parametrize(("codec", "container"), claims(tables._AUDIO))
def test_audio_that_the_table_allows_is_copied_unchanged(codec: str, container: Container) -> None:
    if codec in UNTRIED:
        pytest.skip("nothing here makes such packets")
    if codec in UNCODED_AUDIO:
        file = made_up_file(UNCODED_AUDIO[codec], "mov" if codec == "amr_wb" else "matroska", 16_000)
    else:
        file = audio_file(codec, AUDIO_ENCODERS[codec])

    before, after = copied(file, container)

    assert before
    assert before == after


@pytest.mark.parametrize(("codec", "container"), claims(tables._SUBTITLES))
def test_subtitles_that_the_table_allows_are_copied_unchanged(codec: str, container: Container) -> None:
    is_apple = codec in ("mov_text", "eia_608")
    file = made_up_file(TEXTS.get(codec, codec), "mov" if is_apple else "matroska", None)

    before, after = copied(file, container)

    assert before
    assert before == after


@pytest.mark.parametrize(("codec", "container"), claims(tables._VIDEO))
def test_further_video_that_the_table_allows_is_copied_unchanged(codec: str, container: Container) -> None:
    before, after = copied(video_file(codec, VIDEO_ENCODERS[codec]), container)

    assert before
    assert before == after


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
