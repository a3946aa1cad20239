"""Sound that an output's container cannot hold is coded anew, and is the same sound at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video.concat import join
from cluster.video.frame_times import NOT_IN_DISPLAY_ORDER
from cluster.video.sound import SoundConverter, nearest_layout
from cluster.video.source import ErrorNotes, open_source, read_packets
from tests.cluster.video.clips import X264_B, Clip, write_clip
from tests.cluster.video.joining import Joined, split_and_join
from tests.cluster.video.test_join import verified
from tests.cluster.video.test_repair import Edit, end_to_end, moved, rewritten

NUM_FRAMES = 20
RATE = 44_100


@dataclass(frozen=True)
class Sound:
    """Of a source.

    Attributes:
        pieces_s: When its pieces of sound start and end, in seconds; what lies between is in no packet.
    """

    encoder: str
    suffix: str
    rate: int = RATE
    layout: str = "stereo"
    pieces_s: Sequence[tuple[float, float]] = ((0.0, 0.7),)
    bit_rate: int = 0


def samples_of(sound: Sound) -> np.ndarray:
    """A tone with noise for each channel, of shape (samples, channels), from time 0 on."""
    num_channels = av.AudioLayout(sound.layout).nb_channels
    times = np.arange(round(sound.pieces_s[-1][1] * sound.rate)) / sound.rate
    tones = [np.sin(2 * np.pi * 330 * (1 + channel) * times) for channel in range(num_channels)]
    noise = np.random.default_rng(1).normal(0, 300, (len(times), num_channels))
    return (6000 * np.stack(tones, axis=1) + noise).astype(np.int16)


def sound_packets(stream: av.AudioStream, sound: Sound) -> list[av.Packet]:
    samples, packets = samples_of(sound), []
    context = stream.codec_context
    size = context.frame_size or 1000
    for start_s, end_s in sound.pieces_s:
        resampler = av.AudioResampler(context.format, sound.layout, sound.rate)
        first, end = round(start_s * sound.rate), round(end_s * sound.rate)
        for start in range(first, end, size):
            piece = samples[start : min(start + size, end)].reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), "s16", sound.layout)
            frame.sample_rate, frame.pts, frame.time_base = sound.rate, start, Fraction(1, sound.rate)
            for converted in resampler.resample(frame):
                packets += stream.encode(converted)
    return packets + stream.encode(None)


def film(folder: Path, sound: Sound) -> Path:
    """A film of `NUM_FRAMES` frames of 40 ms with `sound` beside it."""
    path = folder / f"film{sound.suffix}"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        options = {"strict": "-2"} if sound.encoder == "vorbis" else {}
        audio = output.add_stream(sound.encoder, rate=sound.rate, layout=sound.layout, options=options)
        if sound.bit_rate:
            audio.bit_rate = sound.bit_rate
        audio.metadata["language"], audio.metadata["title"] = "deu", "Ton"
        packets = []
        for number in range(NUM_FRAMES):
            frame = av.VideoFrame(96, 64, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([90 + number]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        output.start_encoding()
        packets += sound_packets(audio, sound)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


@dataclass(frozen=True)
class Heard:
    """What a player makes of a file's sound.

    Attributes:
        start_s: When it starts, beside the first frame of the video.
        samples: In 24 bits, of shape (samples, channels).
    """

    codec: str
    rate: int
    start_s: float
    samples: np.ndarray


def heard(path: Path, layout: str = "stereo") -> Heard:
    with av.open(str(path)) as container:
        video = next(container.decode(video=0))
        video_start_s = video.pts * video.time_base
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("s32", layout, stream.codec_context.sample_rate)
        times_s, samples = [], []
        for frame in container.decode(stream):
            if frame.pts is not None:  # FFmpeg gives none to further frames of a packet
                times_s.append(frame.pts * frame.time_base)
            for converted in resampler.resample(frame):
                samples.append(converted.to_ndarray().reshape(-1, converted.layout.nb_channels) >> 8)
        return Heard(
            codec=stream.codec_context.codec.canonical_name,
            rate=stream.codec_context.sample_rate,
            start_s=float(times_s[0] - video_start_s),
            samples=np.concatenate(samples),
        )


def joined_with(source: Path, folder: Path, container: str) -> Joined:
    codec = "vp9" if container == "webm" else "h264"
    joined = split_and_join(source, folder, container, codec, num_parts=1)
    verified(joined)
    return joined


LOSSLESS = [
    (Sound("wmav2", ".wmv", bit_rate=128_000), "mkv", "flac"),
    (Sound("wmav2", ".wmv", bit_rate=128_000), "mov", "alac"),
    (Sound("wmav1", ".wmv", bit_rate=128_000), "mp4", "flac"),
    (Sound("adpcm_ms", ".avi"), "mkv", "flac"),
    (Sound("adpcm_ms", ".avi"), "mp4", "flac"),
    (Sound("adpcm_ms", ".avi"), "mov", "alac"),
    (Sound("adpcm_ima_wav", ".avi", layout="mono"), "mkv", "flac"),
    (Sound("pcm_alaw", ".avi", 8000, "mono"), "mkv", "flac"),
    (Sound("pcm_mulaw", ".mov"), "mkv", "flac"),
    (Sound("pcm_mulaw", ".mov"), "mp4", "flac"),
    (Sound("libopencore_amrnb", ".3gp", 8000, "mono"), "mkv", "flac"),
    (Sound("vorbis", ".mkv"), "mp4", "flac"),
    (Sound("vorbis", ".mkv"), "mov", "alac"),
    (Sound("libopus", ".mkv", 48_000), "mov", "alac"),
    (Sound("libopus", ".mkv", 48_000, "5.1"), "mov", "alac"),
    (Sound("pcm_u8", ".avi"), "mp4", "flac"),
    (Sound("pcm_s16le", ".mkv", 96_000), "mp4", "flac"),
    (Sound("pcm_s24le", ".mkv", 192_000), "mp4", "flac"),
    (Sound("pcm_s16be", ".mov", 48_000, "5.1"), "mp4", "flac"),
    (Sound("pcm_s32le", ".mkv"), "mp4", "flac"),
    (Sound("pcm_f64be", ".mov"), "mkv", "flac"),
    (Sound("flac", ".mkv", 48_000, "5.1(side)"), "mov", "alac"),
    (Sound("wavpack", ".mkv", 48_000, "quad"), "mp4", "flac"),
]


def name_of(value: object) -> str:
    return f"{value.encoder}{value.suffix}" if isinstance(value, Sound) else str(value)


@pytest.mark.parametrize(("sound", "container", "codec"), LOSSLESS, ids=name_of)
def test_every_sample_comes_out_at_its_time(sound: Sound, container: str, codec: str, tmp_path: Path) -> None:
    source = film(tmp_path, sound)

    joined = joined_with(source, tmp_path, container)

    before, after = heard(source, sound.layout), heard(joined.path, sound.layout)
    assert (after.codec, after.rate) == (codec, before.rate)
    assert np.array_equal(after.samples, before.samples)
    assert abs(after.start_s - before.start_s) < 0.002


@pytest.mark.parametrize(
    "sound",
    [
        Sound("wmav2", ".wmv", bit_rate=128_000),
        Sound("adpcm_ms", ".avi"),
        Sound("aac", ".mp4", 32_000, "mono"),
        Sound("ac3", ".mkv", 48_000, "5.1(side)"),
        Sound("pcm_s16le", ".mkv", pieces_s=((0.2, 0.7),)),
    ],
    ids=name_of,
)
def test_webm_gets_opus_that_is_in_time_and_as_long(sound: Sound, tmp_path: Path) -> None:
    source = film(tmp_path, sound)

    joined = joined_with(source, tmp_path, "webm")

    before, after = heard(source, "mono"), heard(joined.path, "mono")
    assert (after.codec, after.rate) == ("opus", 48_000)
    assert abs(after.start_s - before.start_s) < 0.002
    assert abs(len(after.samples) / 48_000 - len(before.samples) / before.rate) < 0.0005
    assert abs(delay_s(before, after)) < 0.001
    with av.open(str(joined.path)) as output:
        times = [packet.pts for packet in output.demux(audio=0) if packet.size]
    assert set(np.diff(times)) <= {19, 20, 21}  # ms, of packets that last 20


def delay_s(before: Heard, after: Heard) -> float:
    """How much later the samples of `after` are than those of `before`, counted from where each starts."""
    size = 1 << 16
    times = np.arange(int(0.4 * 48_000)) / 48_000
    sounds = [
        np.interp(times, np.arange(len(one.samples)) / one.rate, one.samples[:, 0]) for one in (before, after)
    ]
    first, second = (np.fft.rfft(one, size) for one in sounds)
    delay = int(np.argmax(np.fft.irfft(second * np.conj(first))))
    return (delay - size if delay > size // 2 else delay) / 48_000


def bursts_s(path: Path) -> list[float]:
    """When sound sets in behind silence or a gap, beside the first frame, to a few ms."""
    with av.open(str(path)) as container:
        video = next(container.decode(video=0))
        video_start_s = float(video.pts * video.time_base)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("s32", "mono", stream.codec_context.sample_rate)
        starts_s, last_s = [], -1.0
        for frame in container.decode(stream):
            start_s = float(frame.pts * frame.time_base) - video_start_s
            loud = np.abs(resampler.resample(frame)[0].to_ndarray()[0]) > 1 << 26
            for at_s in (start_s + np.flatnonzero(loud) / frame.sample_rate).tolist():
                starts_s += [at_s] if at_s - last_s > 0.04 else []
                last_s = at_s
    return starts_s


@pytest.mark.parametrize("container", ["mp4", "webm"])
@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_sound_behind_gaps_stays_at_its_time(container: str, rate: int, tmp_path: Path) -> None:
    pieces_s = ((0.04, 0.2), (0.26, 0.4), (0.6, 0.78))
    source = film(tmp_path, Sound("pcm_s16le", ".nut", rate, "mono", pieces_s))

    joined = joined_with(source.rename(source.with_suffix(".mkv")), tmp_path, container)

    assert bursts_s(joined.path) == pytest.approx([start_s for start_s, _ in pieces_s], abs=0.004)


def converted(
    source: Path, edit: Edit = lambda packet: None
) -> tuple[list[av.Packet], np.ndarray, list[str]]:
    """Packets in FLAC of the last stream of `source`, their samples by channel, and what was told of them."""
    notes = ErrorNotes()
    with source.open("rb") as file, open_source(file, source.name) as container:
        stream = container.streams[-1]
        converter = SoundConverter(stream, "flac", notes)
        packets = []
        for packet in read_packets(container, [stream], notes):
            edit(packet)
            packets += converter.add(packet)
        packets += converter.finish()
        decoder = av.CodecContext.create("flac", "r")
        decoder.extradata = converter.template.codec_context.extradata
        frames = [frame for packet in packets for frame in decoder.decode(packet)]
    rows = [frame.to_ndarray().reshape(-1, frame.layout.nb_channels) for frame in frames]
    return packets, np.concatenate(rows), notes.texts


def end_s(packets: list[av.Packet]) -> float:
    return float((packets[-1].pts + packets[-1].duration) * packets[-1].time_base)


def test_of_sound_that_overlaps_the_first_is_kept_and_the_rest_is_in_time(tmp_path: Path) -> None:
    source = film(tmp_path, Sound("pcm_s16le", ".nut", 48_000, "mono", ((0.0, 0.7),)))
    _, whole, _ = converted(source)

    packets, kept, _ = converted(source, moved(-0.1, "audio", 0.29))

    assert end_s(packets) == pytest.approx(0.6, abs=1e-4)
    assert len(kept) == len(whole) - 4800
    assert np.array_equal(kept[:13_000], whole[:13_000])
    assert np.array_equal(kept[-13_000:], whole[-13_000:])


def test_sound_whose_clock_was_set_back_is_kept(tmp_path: Path) -> None:
    source = film(tmp_path, Sound("pcm_s16le", ".nut", 48_000, "mono", ((2.0, 2.7),)))
    _, whole, _ = converted(source)

    packets, kept, told = converted(source, moved(-2, "audio", 2.29))

    assert np.array_equal(kept, whole)
    assert end_s(packets) == pytest.approx(2.7, abs=1e-4)
    assert any("times go back" in text for text in told)


def test_small_jitter_of_times_changes_no_sample(tmp_path: Path) -> None:
    source = film(tmp_path, Sound("pcm_s16le", ".nut", 48_000, "mono"))
    packets, whole, _ = converted(source)

    def edit(packet: av.Packet) -> None:
        packet.pts += (packet.pts * 7919) % 1400

    shaken, same, told = converted(source, edit)

    assert np.array_equal(same, whole)
    assert [packet.pts for packet in shaken] == [packet.pts for packet in packets]
    assert told == []


def test_what_does_not_decode_is_a_gap_that_moves_nothing(tmp_path: Path) -> None:
    source = film(tmp_path, Sound("vorbis", ".mkv"))
    before = heard(source)
    content = source.read_bytes()
    with av.open(str(source)) as reader:
        payloads = [bytes(packet) for packet in reader.demux(audio=0) if packet.size]
    for payload in payloads[8:12]:
        content = content.replace(payload, b"\xff" * len(payload))
    source.write_bytes(content)

    joined = joined_with(source, tmp_path, "mp4")

    after = heard(joined.path)
    assert any("does not decode" in told for told in joined.result.told)
    assert np.array_equal(after.samples[:6_000], before.samples[:6_000])
    assert np.array_equal(after.samples[-15_000:], before.samples[-15_000:])
    with av.open(str(joined.path)) as output:
        packets = [packet for packet in output.demux(audio=0) if packet.size]
    assert end_s(packets) == pytest.approx(len(before.samples) / RATE, abs=0.002)


def test_sound_of_which_nothing_decodes_is_dropped_and_told(tmp_path: Path) -> None:
    source = film(tmp_path, Sound("vorbis", ".mkv"))
    content = source.read_bytes()
    with av.open(str(source)) as reader:
        for packet in reader.demux(audio=0):
            if packet.size:
                content = content.replace(bytes(packet), b"\xff" * packet.size)
    source.write_bytes(content)

    joined = joined_with(source, tmp_path, "mp4")

    assert joined.result.carried == ()
    assert any("stream 1 is dropped" in told for told in joined.result.told)


def test_sound_is_converted_on_the_repaired_clock(tmp_path: Path) -> None:
    clip = Clip(
        "repaired.avi",
        options=X264_B,
        time_base=Fraction(1, 25),
        pts=range(25),
        num_audio=1,
        audio_codec="adpcm_ms",
    )
    source = write_clip(tmp_path, clip)

    joined = joined_with(source, tmp_path, "mkv")

    before, after = heard(source, "mono"), heard(joined.path, "mono")
    assert joined.video.timestamp_problem == NOT_IN_DISPLAY_ORDER
    assert after.codec == "flac"
    assert np.array_equal(after.samples, before.samples)


def test_sound_goes_with_a_clock_that_jumps(tmp_path: Path) -> None:
    sound = Sound("mp2", ".ts", 48_000, "mono", ((0.1, 0.7),))
    first = rewritten(film(tmp_path, sound), tmp_path / "first.ts", moved(100))
    second = rewritten(film(tmp_path, sound), tmp_path / "second.ts", moved(5))

    both = end_to_end(tmp_path / "both.ts", first, second)

    joined = joined_with(both, tmp_path, "webm")

    copied = joined_with(both, tmp_path, "mkv")
    assert joined.video.timestamp_problem
    assert len(bursts_s(copied.path)) == 2
    assert bursts_s(joined.path) == pytest.approx(bursts_s(copied.path), abs=0.002)


def test_what_is_said_of_the_stream_is_carried(tmp_path: Path) -> None:
    plain = film(tmp_path, Sound("pcm_alaw", ".nut"))
    said = tmp_path / "said.nut"
    with av.open(str(plain)) as reader, av.open(str(said), "w") as output:
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in reader.streams]
        copies[1].metadata.update({"language": "deu", "title": "Ton"})
        copies[1].disposition = av.stream.Disposition.comment
        for packet in reader.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)

    joined = joined_with(said, tmp_path, "mkv")

    with av.open(str(joined.path)) as output:
        stream = output.streams.audio[0]
        assert stream.codec_context.name == "flac"
        assert (stream.metadata["language"], stream.metadata["title"]) == ("deu", "Ton")
        assert stream.disposition == av.stream.Disposition.comment


@pytest.mark.parametrize("container", ["mkv", "mov", "webm"])
def test_the_same_sound_gives_the_same_bytes(container: str, tmp_path: Path) -> None:
    source = film(tmp_path, Sound("wmav2", ".wmv", bit_rate=128_000))
    joined = joined_with(source, tmp_path, container)
    again = tmp_path / f"again.{container}"

    with source.open("rb") as file:
        join(joined.parts, joined.packet_pts, joined.settings, file, "again", again)

    assert again.read_bytes() == joined.path.read_bytes()
    assert b"Lavc" not in again.read_bytes()


def test_packets_are_given_as_they_come_and_not_at_the_end(tmp_path: Path) -> None:
    source = film(tmp_path, Sound("pcm_s16le", ".mkv", pieces_s=((0.0, 3.0),)))

    with source.open("rb") as file, open_source(file, source.name) as container:
        converter = SoundConverter(container.streams[1], "flac", ErrorNotes())
        packets = read_packets(container, [container.streams[1]], ErrorNotes())
        early = sum(len(list(converter.add(packet))) for packet in packets)
        late = len(list(converter.finish()))

    assert early >= 25
    assert late <= 1


@pytest.mark.parametrize(
    ("encoder", "layout", "expected"),
    [
        ("flac", "5.1(side)", "5.1(side)"),
        ("alac", "5.1(side)", "5.1"),
        ("libopus", "5.0(side)", "5.0"),
        ("alac", "quad", "5.0"),
        ("flac", "2.1", "5.1"),
        ("flac", "4.0", "6.1"),
        ("alac", "7.1", "5.1"),
        ("flac", "hexadecagonal", "7.1"),
        ("libopus", "downmix", "stereo"),
        ("flac", "1 channels", "mono"),
        ("alac", "4 channels", "4.0"),
        ("flac", "10 channels", "7.1"),
    ],
)
def test_channels_go_where_most_of_them_are_kept(encoder: str, layout: str, expected: str) -> None:
    assert nearest_layout(encoder, av.AudioLayout(layout)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layout", "kept"),
    [("3 channels", 3), ("4 channels", 4), ("8 channels", 8), ("10 channels", 8)],
)
def test_no_channel_is_lost_that_flac_has_room_for(layout: str, kept: int, tmp_path: Path) -> None:
    num_channels = av.AudioLayout(layout).nb_channels
    tones = np.arange(1, num_channels + 1) * 1000 + np.arange(9_600)[:, None] % 50
    source = tmp_path / "many.nut"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=48_000, layout=layout)
        frame = av.AudioFrame.from_ndarray(tones.astype(np.int16).reshape(1, -1), "s16", layout)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    _, rows, told = converted(source)

    found = [channel for channel in range(num_channels) if (rows == tones[:, [channel]]).all(axis=0).any()]
    assert found == list(range(kept))
    assert len(told) == (layout == "10 channels")
