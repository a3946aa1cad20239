"""Sound that an output's container cannot hold is coded anew, and is the same sound at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video.sound import nearest_layout
from tests.cluster.video.clips import Clip, write_clip
from tests.cluster.video.joining import split_and_join
from tests.cluster.video.test_join import verified

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
    """A tone with noise for each channel, of shape (samples, channels), from time 0 to the last piece's end."""
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
        audio = output.add_stream(sound.encoder, rate=sound.rate, layout=sound.layout, options={"strict": "-2"} if sound.encoder == "vorbis" else {})
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
