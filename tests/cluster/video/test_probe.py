from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video.info import ContentLight, MasteringDisplay, VideoInfo
from cluster.video.opening import opening_encoder
from cluster.video.pixels import pixel_format
from cluster.video.probe import probe
from cluster.video.source import check_size, open_source
from sr_core.errors import MediaError
from tests.cluster.video.clips import (
    ANIMATION,
    CFR,
    CLIPS,
    FIELDS,
    FULL_RANGE,
    LATE_FIELDS,
    LATE_TS,
    MANY_STREAMS,
    MP4_EXTRAS,
    ODD,
    SHARED,
    SOFT_TELECINE,
    VFR,
    VP9_ALPHA,
    X264_B,
    Clip,
    write_clip,
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
    return _copy(path, target, {"movflags": "+faststart"})


def _copy(path: Path, target: Path, options: dict[str, str]) -> bytes:
    with (
        av.open(str(path)) as source,
        av.open(str(target), "w", container_options=options) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return target.read_bytes()


def _video(content: Path | bytes) -> VideoInfo:
    file = io.BytesIO(content if isinstance(content, bytes) else content.read_bytes())
    return probe(file, "clip")[0].video


def test_interlacing_is_seen_also_where_it_begins_late(clip_path: PathOf) -> None:
    assert _video(clip_path(LATE_FIELDS)).is_interlaced
    assert _video(clip_path(FIELDS[1])).is_interlaced
    assert not _video(clip_path(CFR)).is_interlaced
    assert not _video(clip_path(SOFT_TELECINE)).is_interlaced


def test_soft_telecine_is_told_by_the_flags_alone(clip_path: PathOf) -> None:
    assert _video(clip_path(SOFT_TELECINE)).has_repeat_flags
    for clip in (CFR, VFR, *FIELDS, LATE_FIELDS):
        assert not _video(clip_path(clip)).has_repeat_flags


def test_static_hdr_metadata_are_read_exactly(tmp_path: Path) -> None:
    colors = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    said = f"master-display={colors}:max-cll=1000,400"
    clip = Clip(
        "hdr.mp4",
        encoder="libx265",
        options={"preset": "ultrafast", "x265-params": f"log-level=none:hdr10=1:{said}"},
        pixel_format="yuv420p10le",
        pts=range(0, 5 * 512, 512),
    )

    video = _video(write_clip(tmp_path, clip))

    assert video.mastering_display == MasteringDisplay(
        red=(Fraction(34000, 50000), Fraction(16000, 50000)),
        green=(Fraction(13250, 50000), Fraction(34500, 50000)),
        blue=(Fraction(7500, 50000), Fraction(3000, 50000)),
        white=(Fraction(15635, 50000), Fraction(16450, 50000)),
        min_luminance=Fraction(50, 10000),
        max_luminance=Fraction(1000),
    )
    assert video.content_light == ContentLight(1000, 400)


def test_video_without_hdr_metadata_has_none(clip_path: PathOf) -> None:
    video = _video(clip_path(CFR))

    assert (video.mastering_display, video.content_light) == (None, None)


def test_encrypted_video_is_said_to_be_encrypted(clip_path: PathOf, tmp_path: Path) -> None:
    path = tmp_path / "encrypted.mp4"
    keys = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    _copy(clip_path(CFR), path, keys)

    with pytest.raises(MediaError, match="encrypted") as caught:
        _video(path)

    assert "h264" in str(caught.value.got)


def test_files_with_too_many_streams_are_refused() -> None:
    assert len(open_source(io.BytesIO(_many_streams(1000)), "many.mkv").streams) == 1000
    for num in (1001, 3000):
        with pytest.raises(MediaError, match="too many streams"):
            open_source(io.BytesIO(_many_streams(num)), "many.mkv")


@pytest.mark.parametrize(("width", "height"), [(1 << 14, (1 << 14) + 1), (65_536, 16), (16, 65_536)])
def test_frames_that_are_too_large_are_refused(width: int, height: int) -> None:
    check_size(1 << 14, 1 << 14, "large.mkv")
    with pytest.raises(MediaError, match="too large"):
        check_size(width, height, "large.mkv")


def test_video_with_too_long_an_edge_is_refused(tmp_path: Path) -> None:
    clip = Clip("long.mkv", encoder="ffv1", options={}, width=65_540, height=16, pts=(0,))

    with pytest.raises(MediaError, match="too large"):
        _video(write_clip(tmp_path, clip))


def test_a_size_that_is_a_lie_of_the_container_allocates_nothing(clip_path: PathOf) -> None:
    content = clip_path(ANIMATION).read_bytes()
    at = content.index(struct.pack(">HH", 96, 64), content.index(b"rle "))
    lie = content[:at] + struct.pack(">HH", 40_000, 40_000) + content[at + 4 :]

    with pytest.raises(MediaError, match=r"no frame of this video.* of 268435456 pixels"):
        _video(lie)


def test_a_size_that_is_a_lie_of_the_bitstream_allocates_nothing(tmp_path: Path) -> None:
    clip = Clip("small.gif", encoder="gif", options={}, pixel_format="gray", time_base=Fraction(1, 100))
    content = write_clip(tmp_path, replace(clip, pts=(0, 4))).read_bytes()
    lie = content[:6] + struct.pack("<HH", 17_000, 17_000) + content[10:]
    assert _video(content).width == 96

    with pytest.raises(MediaError, match="no frame of this video decodes"):
        _video(lie)


def test_pixel_shape_that_stands_in_the_frames_alone_is_taken(tmp_path: Path) -> None:
    clip = Clip("wide.mp4", options={**X264_B, "x264-params": "sar=4/3"})
    content = write_clip(tmp_path, clip).read_bytes().replace(b"pasp", b"free")

    assert _video(content).sample_aspect_ratio == Fraction(4, 3)


def test_an_error_names_the_video_streams_that_would_decode(clip_path: PathOf, tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as output:
        streams = []
        for clip in (CFR, VFR):
            source = av.open(str(clip_path(clip)))
            streams.append((source, output.add_stream_from_template(source.streams.video[0], opaque=True)))
        for source, stream in streams:
            for packet in source.demux(video=0):
                if not packet.size:
                    continue
                if stream.index == 0:
                    broken = av.Packet(bytes(packet.size))
                    broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                    packet = broken
                packet.stream = stream
                output.mux(packet)

    with pytest.raises(MediaError, match="no frame") as caught:
        _video(path)

    assert "stream 0" in str(caught.value.got)
    assert "stream 1" in str(caught.value.next_step)


def test_dolby_vision_is_seen_in_the_configuration_record(clip_path: PathOf) -> None:
    record = bytes([1, 0, 0x10, 0x35, 0x10]) + bytes(19)  # profile 8, level 6, with RPU and base layer
    path = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
    content = _changed(clip_path(CFR).read_bytes(), path, lambda inner: inner + _box(b"dvvC", record))

    assert "DOVI_CONF" in _video(content).side_data
    assert "DOVI_CONF" not in _video(clip_path(CFR)).side_data


def test_colours_without_a_matrix_are_known_as_such(tmp_path: Path, clip_path: PathOf) -> None:
    rgb = Clip("rgb.mp4", encoder="libx264rgb", options={"preset": "ultrafast"}, pixel_format="rgb24")

    video = _video(write_clip(tmp_path, rgb))

    assert (video.pixel_format, video.color.matrix, video.color.full_range) == ("gbrp", 0, True)
    assert _video(clip_path(ANIMATION)).pixel_format == "argb"
    assert _video(clip_path(VP9_ALPHA)).pixel_format == "yuva420p"


def test_every_shared_clip_is_known() -> None:
    if not SHARED.exists():
        pytest.skip("needs the shared clips")
    for path in sorted(SHARED.iterdir()):
        video = _video(path)
        assert pixel_format(video.pixel_format) is not None
        assert video.is_interlaced == ("480i" in path.name)
        assert not video.has_repeat_flags


@pytest.mark.parametrize(
    ("muxer", "encoder", "size"),
    [
        ("asf", "wmv2", (96, 64)),
        ("vob", "mpeg2video", (96, 64)),
        ("mxf", "mpeg2video", (96, 64)),
        ("dv", "dvvideo", (720, 576)),
        ("ogg", "libvpx", (96, 64)),
        ("nut", "ffv1", (96, 64)),
        ("yuv4mpegpipe", "wrapped_avframe", (96, 64)),
        ("rm", "rv20", (96, 64)),
        ("mjpeg", "mjpeg", (96, 64)),
        ("m4v", "mpeg4", (96, 64)),
        ("obu", "libsvtav1", (96, 64)),
    ],
)
def test_containers_of_archives_are_read(muxer: str, encoder: str, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    with opening_encoder(), av.open(file, "w", format=muxer) as output:
        stream = output.add_stream(encoder, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        for pts in range(12):
            frame = av.VideoFrame(*size, stream.pix_fmt)
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    with open_source(file, f"clip.{muxer}") as container:
        assert len(list(container.decode(video=0))) == 12


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{path}</BaseURL></MPD>',
        "1\n00:00:00,000 --> 00:00:01,000\nhello\n\n",
        "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\n",
    ],
    ids=["hls", "concat", "sdp", "dash", "srt", "vtt", "ass"],
)
def test_lists_scripts_and_subtitles_are_no_video_whatever_their_name(text: str, clip_path: PathOf) -> None:
    content = text.format(path=clip_path(CFR)).encode()

    with pytest.raises(MediaError, match="cannot be read as a video"):
        open_source(io.BytesIO(content), "holiday.mp4")


def test_files_that_a_movie_refers_to_are_not_opened(clip_path: PathOf) -> None:
    """A data reference of QuickTime may name another file, which is then read in place of this one."""
    name = str(clip_path(CFR)).encode()
    alias = bytes(150) + struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + b"\xff\xff\0\0"
    dref = bytes(4) + struct.pack(">I", 1) + _box(b"alis", bytes(4) + alias)
    path = (b"moov", b"trak", b"mdia", b"minf", b"dinf")
    content = _changed(clip_path(CFR).read_bytes(), path, lambda _: _box(b"dref", dref))
    content = _changed(content, (b"mdat",), lambda inner: bytes(len(inner)))
    follows = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(io.BytesIO(content), container_options=follows) as container:
        assert len(list(container.decode(video=0))) == len(CFR.pts)

    with pytest.raises(MediaError, match="no frame of this video decodes"):
        _video(content)


def _box(kind: bytes, inner: bytes) -> bytes:
    return struct.pack(">I", 8 + len(inner)) + kind + inner


def _changed(content: bytes, path: tuple[bytes, ...], change: Callable[[bytes], bytes]) -> bytes:
    """`content`, boxes of ISO/IEC 14496-12, with another inside of the first box at `path`."""
    at = 0
    while content[at + 4 : at + 8] != path[0]:
        at += struct.unpack_from(">I", content, at)[0]
    end = at + struct.unpack_from(">I", content, at)[0]
    start = at + 8 + {b"stsd": 8, b"avc1": 78}.get(path[0], 0)
    inner = content[start:end]
    inner = _changed(inner, path[1:], change) if path[1:] else change(inner)
    return content[:at] + _box(path[0], content[at + 8 : start] + inner) + content[end:]


def _many_streams(num: int) -> bytes:
    """A Matroska file with so many tracks of sound."""

    def element(identifier: str, content: bytes) -> bytes:
        return bytes.fromhex(identifier) + (len(content) | 1 << 56).to_bytes(8) + content

    def track(number: int) -> bytes:
        sound = element("b5", struct.pack(">f", 8000)) + element("9f", b"\1") + element("6264", b"\x10")
        numbers = b"".join(element(key, number.to_bytes(2)) for key in ("d7", "73c5"))
        kind = element("83", b"\2") + element("86", b"A_PCM/INT/LIT")
        return element("ae", numbers + kind + element("e1", sound))

    tracks = element("1654ae6b", b"".join(track(number) for number in range(1, num + 1)))
    cluster = element("1f43b675", element("e7", b"\0") + element("a3", b"\x81\0\0\x80" + bytes(32)))
    return element("1a45dfa3", element("4282", b"matroska")) + element("18538067", tracks + cluster)


def test_a_few_frames_over_days_have_a_rate_above_nothing(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, Clip("rare.mkv", time_base=Fraction(1, 1000), pts=[0, 40, 90_000_000]))
    with clip.open("rb") as file:
        video = probe(file, clip.name)[0].video
    assert video.frame_rate > 0
    assert video.num_frames == 3


@pytest.mark.parametrize("suffix", ["avi", "mov", "mkv"])
@pytest.mark.parametrize("sampling", ["420", "422"])
def test_chroma_of_motion_jpeg_lies_in_the_middle(sampling: str, suffix: str, tmp_path: Path) -> None:
    clip = Clip(
        f"jpegs.{suffix}",
        encoder="mjpeg",
        options={},
        pixel_format=f"yuv{sampling}p",
        full_range=True,
        time_base=Fraction(1, 25),
        pts=range(3),
    )
    with write_clip(tmp_path, clip).open("rb") as file:
        color = probe(file, clip.name)[0].video.color
    assert (color.chroma_location, color.full_range) == ("center", True)


_CUT = {
    "mpeg4.avi": ("mpeg4", "avi", "pcm_s16le"),
    "mjpeg.avi": ("mjpeg", "avi", "pcm_s16le"),
    "sorenson.flv": ("flv", "flv", "pcm_s16le"),
    "mpeg2.mxf": ("mpeg2video", "mxf", "pcm_s16le"),
}


def _with_sound(name: str, num_frames: int = 50, sound_s: float = 2) -> bytes:
    """A film at 25 fps and its sound, muxed in the order of their times."""
    encoder, muxer, sound = _CUT[name]
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as output:
        video = output.add_stream(encoder, rate=25, options={"g": "12"})
        video.width, video.height = 96, 64
        video.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        rate = 44_100 if muxer == "flv" else 48_000
        audio = output.add_stream(sound, rate=rate, layout="mono")
        output.start_encoding()
        packets = []
        noise = np.random.default_rng(0)
        for at in range(num_frames):
            frame = av.VideoFrame.from_ndarray(
                noise.integers(0, 256, (64, 96, 3), dtype=np.uint8), "rgb24"
            ).reformat(format=video.pix_fmt, threads=1)
            frame.pts, frame.time_base = at, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        for at in range(int(25 * sound_s)):
            sound_frame = av.AudioFrame.from_ndarray(np.zeros((1, rate // 25), np.int16), "s16", "mono")
            sound_frame.sample_rate, sound_frame.pts = rate, at * (rate // 25)
            sound_frame.time_base = Fraction(1, rate)
            packets += audio.encode(sound_frame)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("name", list(_CUT))
def test_a_file_of_an_archive_that_broke_off_is_seen(name: str) -> None:
    content = _with_sound(name)
    assert _video(content).promised_num_frames is None

    video = _video(content[: len(content) * 55 // 100 + 7])

    assert video.num_frames < 45
    assert video.promised_num_frames is not None
    assert abs(video.promised_num_frames - 50) <= 2


@pytest.mark.parametrize("name", list(_CUT))
@pytest.mark.parametrize(("num_frames", "sound_s"), [(25, 2.0), (50, 1.0)], ids=["long sound", "short sound"])
def test_a_film_whose_streams_end_apart_is_whole(name: str, num_frames: int, sound_s: float) -> None:
    assert _video(_with_sound(name, num_frames, sound_s)).promised_num_frames is None


@pytest.mark.parametrize("name", ["mpeg4.avi", "mpeg2.mxf"])
def test_bytes_behind_the_end_of_a_whole_file_are_no_loss(name: str) -> None:
    assert _video(_with_sound(name) + b"appended" * 20).promised_num_frames is None


def test_frames_without_data_are_not_missing() -> None:
    """This AVI counts 98 frames, of which two are empty: they repeat the one before."""
    path = SHARED / "mpeg4_mp3_960x400.avi"
    if not path.exists():
        pytest.skip("needs the shared clips")
    content = path.read_bytes()

    assert _video(content).promised_num_frames is None
    cut = _video(content[: len(content) * 6 // 10])
    assert cut.promised_num_frames is not None
    assert 95 <= cut.promised_num_frames <= 98


@pytest.mark.parametrize(("said", "matrix"), [("YCgCo", 8), ("ICtCp", 14)])
def test_a_matrix_that_the_scaler_refuses_is_a_tag_all_the_same(
    said: str, matrix: int, tmp_path: Path
) -> None:
    options = {"preset": "ultrafast", "x264-params": f"colormatrix={said}"}

    assert _video(write_clip(tmp_path, Clip("matrix.mkv", options=options))).color.matrix == matrix


def test_an_error_says_what_a_file_is_that_is_no_video(tmp_path: Path) -> None:
    from tests.cluster.video.clips import png_bytes

    song = io.BytesIO()
    with av.open(song, "w", format="wav") as output:
        stream = output.add_stream("pcm_s16le", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), "s16", "mono")
        frame.sample_rate = 48_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    for content, said in ((song.getvalue(), "sound without video, WAV"), (png_bytes(), "a picture, png")):
        with pytest.raises(MediaError, match="cannot be read as a video") as caught:
            _video(content)
        assert str(caught.value.got).startswith(said)


def test_a_cover_is_told_apart_from_a_video(clip_path: PathOf, tmp_path: Path) -> None:
    with av.open(str(clip_path(MANY_STREAMS))) as source, av.open(str(tmp_path / "song.mp4"), "w") as song:
        kept = [stream for stream in source.streams if stream.index in (1, 4)]
        targets = {stream.index: song.add_stream_from_template(stream, opaque=True) for stream in kept}
        targets[4].disposition = kept[1].disposition
        song.start_encoding()
        for packet in source.demux(*kept):
            if packet.size:
                packet.stream = targets[packet.stream.index]
                song.mux(packet)

    with pytest.raises(MediaError, match="no video") as caught:
        _video(tmp_path / "song.mp4")

    assert caught.value.got == "only a cover picture and sound"
