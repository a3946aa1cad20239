"""Small clips made with PyAV alone, whose frames carry their own number in their pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cluster.video.pixels import pixel_format

NUM_BITS = 8
SHARED = Path(__file__).parents[4] / "shared" / "data" / "video"


@dataclass(frozen=True)
class Clip:
    """What a test clip is made of."""

    name: str
    encoder: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"preset": "ultrafast", "crf": "10"})
    pixel_format: str = "yuv420p"
    width: int = 96
    height: int = 64
    time_base: Fraction = Fraction(1, 12800)
    pts: Sequence[int] = tuple(range(0, 30 * 512, 512))
    num_audio: int = 0
    audio_codec: str = ""
    has_extras: bool = False
    full_range: bool = False


def numbered_planes(number: int, pixel_name: str, width: int, height: int) -> list[np.ndarray]:
    """Planes of a frame with `number` as bright and dark columns, and some chroma that depends on it."""
    pixels = pixel_format(pixel_name)
    assert pixels is not None
    dtype = np.uint8 if pixels.bit_depth == 8 else np.uint16
    unit = 1 << (pixels.bit_depth - 8)
    planes = []
    for index, size in enumerate(pixels.plane_sizes(width, height)):
        plane = np.full(size, (120 + number % 7 * index) * unit, dtype)
        if index == 0:
            for bit in range(NUM_BITS):
                plane[:, _column(bit, width)] = (200 if number >> bit & 1 else 50) * unit
        planes.append(plane)
    return planes


def number_of(luma: np.ndarray) -> int:
    """The number that `numbered_planes` put there, also after lossy coding."""
    unit = 1 if luma.dtype == np.uint8 else 1 << (2 if luma.max() < 1024 else 4)
    columns = [luma[:, _column(bit, luma.shape[1])].mean() / unit for bit in range(NUM_BITS)]
    return sum((mean > 125) << bit for bit, mean in enumerate(columns))


def write_clip(folder: Path, clip: Clip) -> Path:
    """Writes `clip` below `folder`."""
    path = folder / clip.name
    with av.open(str(path), "w") as output:
        video = output.add_stream(clip.encoder, rate=25, options=clip.options)
        video.width, video.height, video.pix_fmt = clip.width, clip.height, clip.pixel_format
        video.time_base = video.codec_context.time_base = clip.time_base
        video.codec_context.thread_count = 1
        if clip.full_range:
            video.codec_context.color_range = 2
        audio = [_add_audio(output, index, clip.audio_codec) for index in range(clip.num_audio)]
        subtitles = _add_extras(output) if clip.has_extras else None
        packets = [
            packet
            for number, pts in enumerate(clip.pts)
            for packet in video.encode(_frame(clip, number, pts))
        ]
        packets += video.encode(None)
        end_s = float((clip.pts[-1] + 1) * clip.time_base)
        for index, stream in enumerate(audio):
            packets += _audio_packets(stream, index, end_s)
        if subtitles is not None:
            packets += _subtitle_packets(subtitles)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        output.mux(packets)
    return path


def png_bytes() -> bytes:
    """A picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as output:
        stream = output.add_stream("png", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb24"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), "rgb24")))
        output.mux(stream.encode(None))
    return file.getvalue()


def _column(bit: int, width: int) -> slice:
    return slice(bit * width // NUM_BITS, (bit + 1) * width // NUM_BITS)


def _frame(clip: Clip, number: int, pts: int) -> av.VideoFrame:
    frame = av.VideoFrame(clip.width, clip.height, clip.pixel_format)
    for plane, target in zip(
        numbered_planes(number, clip.pixel_format, clip.width, clip.height), frame.planes, strict=True
    ):
        strides = (target.line_size, plane.itemsize)
        np.ndarray(plane.shape, plane.dtype, buffer=target, strides=strides)[:] = plane
    frame.pts, frame.time_base = pts, clip.time_base
    return frame


def _add_audio(output, index: int, codec: str):
    is_open = "matroska" in output.format.name or "webm" in output.format.name
    codec = codec or ("libopus" if is_open else "mp2" if "mpegts" in output.format.name else "aac")
    stream = output.add_stream(codec, rate=48_000, layout="mono")
    stream.metadata["language"] = ("eng", "deu")[index % 2]
    return stream


def _audio_packets(stream, index: int, end_s: float):
    packets = []
    times = np.arange(int(end_s * 48_000)) / 48_000
    samples = (8000 * np.sin(times * 2 * np.pi * (440 + 110 * index))).astype(np.int16)
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48_000)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, start
        for converted in resampler.resample(frame):
            packets += stream.encode(converted)
    return packets + stream.encode(None)


def _add_extras(output):
    """Chapters, titles, and in Matroska a subtitle track, a font and a cover."""
    output.metadata["title"] = "a clip"
    output.set_chapters(
        [
            {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},
            {
                "id": 2,
                "start": 500,
                "end": 1200,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": "two"},
            },
        ]
    )
    if "matroska" not in output.format.name:
        return None
    output.add_attachment("cover.png", "image/png", png_bytes())
    output.add_attachment("font.ttf", "application/x-truetype-font", b"not really a font")
    stream = output.add_mux_stream("subrip")
    stream.time_base = Fraction(1, 1000)
    stream.metadata["language"] = "fra"
    return stream


def _subtitle_packets(stream):
    packets = []
    for start, text in ((100, b"bonjour"), (600, b"au revoir")):
        packet = av.Packet(text)
        packet.pts = packet.dts = start
        packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), stream
        packets.append(packet)
    return packets


X264_B = {"preset": "ultrafast", "crf": "10", "bf": "3", "g": "10"}
X264_OPEN = {**X264_B, "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0", "refs": "4"}
VFR_PTS = tuple(number * 2800 + 900 * (number * number % 5) for number in range(30))

CFR = Clip("cfr.mp4")
B_FRAMES = Clip("b_frames.mp4", options=X264_B)
OPEN_GOP = Clip("open_gop.mkv", options=X264_OPEN, time_base=Fraction(1, 1000), pts=tuple(range(0, 1200, 40)))
VFR = Clip("vfr.mp4", options=X264_B, time_base=Fraction(1, 90_000), pts=VFR_PTS)
LATE_TS = Clip(
    "late.ts",
    options=X264_B,
    time_base=Fraction(1, 90_000),
    pts=tuple(range(135_000, 243_000, 3600)),
    num_audio=1,
)
WEBM = Clip(
    "plain.webm",
    encoder="libvpx-vp9",
    options={"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "0", "g": "10"},
    time_base=Fraction(1, 1000),
    pts=tuple(range(0, 1200, 40)),
    num_audio=1,
)
TEN_BIT = Clip("ten_bit.mp4", options=X264_B, pixel_format="yuv420p10le")
FULL_CHROMA = Clip("full_chroma.mp4", options=X264_B, pixel_format="yuv444p")
ODD = Clip(
    "odd.mkv",
    encoder="ffv1",
    options={},
    width=97,
    height=65,
    time_base=Fraction(1, 1000),
    pts=range(0, 600, 40),
)
FULL_RANGE = Clip("full_range.mp4", full_range=True, pixel_format="yuv420p")
MANY_STREAMS = Clip(
    "many.mkv",
    options=X264_B,
    time_base=Fraction(1, 1000),
    pts=range(0, 1200, 40),
    num_audio=2,
    has_extras=True,
)
MP4_EXTRAS = Clip("extras.mp4", options=X264_B, num_audio=2, has_extras=True)
CLIPS = (CFR, B_FRAMES, OPEN_GOP, VFR, LATE_TS, WEBM, TEN_BIT, FULL_CHROMA, ODD, MANY_STREAMS, MP4_EXTRAS)
