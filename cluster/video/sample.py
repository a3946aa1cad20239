"""The sample clip: pictures and a tone that are computed, the same on every call."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from cluster.video.planes import SCALER_THREADS

FRAME_RATE = Fraction(24)
NUM_FRAMES = 72
WIDTH, HEIGHT = 320, 180
_SAMPLE_RATE = 48_000
_AUDIO_FRAME_SAMPLES = 1024
_BT709 = 1  # ITU-T H.273: the code point of primaries, transfer and matrix of BT.709
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG

FloatImage = npt.NDArray[np.float32]
FrameU8 = npt.NDArray[np.uint8]

# Letters of 5x7 dots, a row each.
_GLYPHS = {
    "F": ("11111", "10000", "11110", "10000", "10000", "10000", "10000"),
    "R": ("11110", "10001", "11110", "10100", "10010", "10001", "10001"),
    "A": ("01110", "10001", "10001", "11111", "10001", "10001", "10001"),
    "M": ("10001", "11011", "10101", "10101", "10001", "10001", "10001"),
    "E": ("11111", "10000", "11110", "10000", "10000", "10000", "11111"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "I": ("01110", "00100", "00100", "00100", "00100", "00100", "01110"),
    "T": ("11111", "00100", "00100", "00100", "00100", "00100", "00100"),
}


def sample_frames() -> Iterator[FrameU8]:
    """The pictures: (HEIGHT, WIDTH, 3) 8-bit R'G'B', each different from every other."""
    for index in range(NUM_FRAMES):
        time_s = float(index / FRAME_RATE)
        picture = _sky(time_s)
        _blend(picture, _wheel(time_s), (0.95, 0.85, 0.25))
        _blend(picture, _disc(40 + 80 * time_s, 120 + 30 * np.sin(4 * time_s), 18), (0.9, 0.2, 0.25))
        _blend(picture, _text("FRAMELIFT", 12 + 10 * time_s, 14, 3), (1.0, 1.0, 1.0))
        _blend(picture, _text("FRAMELIFT", 200, 160, 1), (0.1, 0.1, 0.1))
        yield np.round(picture.clip(0, 1) * 255).astype(np.uint8)


def write_sample(path: Path) -> None:
    """Writes the clip as MP4 with H.264 and AAC to `path`."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # With its macroblock tree, x264 on AVX-512 was seen to give other bytes on every run at this width.
        options = {"crf": "20", "x264-params": "mbtree=0"}
        video = container.add_stream("libx264", rate=FRAME_RATE, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.time_base = Fraction(1, 24 * 512)
        context = video.codec_context
        context.thread_count = 1
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED_RANGE
        audio = container.add_stream("aac", rate=_SAMPLE_RATE, layout="mono", options={"b": "64k"})
        for picture in (*_video_frames(), None):
            container.mux(video.encode(picture))
        for block in (*_audio_frames(), None):
            container.mux(audio.encode(block))


def _sky(time_s: float) -> FloatImage:
    """A moving gradient over stripes that grow finer to the right."""
    y, x = _grid()
    stripes = 0.08 * np.sin(x * x / 260) * (y > 120)
    red = 0.35 + 0.25 * np.sin(x / 60 + time_s)
    green = 0.45 + 0.25 * np.sin(y / 45 + 2 * time_s)
    blue = 0.65 - 0.25 * y / HEIGHT
    return np.stack([red + stripes, green + stripes, blue + stripes], axis=-1).astype(np.float32)


def _wheel(time_s: float) -> FloatImage:
    """A turning wheel of 16 spokes: how much of each pixel it covers."""
    y, x = _grid()
    dy, dx = y - 90, x - 240
    spokes = 0.5 + 0.5 * np.tanh(8 * np.sin(16 * np.arctan2(dy, dx) + 3 * time_s))
    covered: FloatImage = (spokes * _disc(240, 90, 55)).astype(np.float32)
    return covered


def _disc(center_x: float, center_y: float, radius: float) -> FloatImage:
    y, x = _grid()
    inside: FloatImage = (radius - np.hypot(x - center_x, y - center_y) + 0.5).clip(0, 1).astype(np.float32)
    return inside


def _text(text: str, left: float, top: int, dot_px: int) -> FloatImage:
    """Letters whose left edge lies at `left`, which need not be whole."""
    rows = ["0".join(_GLYPHS[letter][row] for letter in text) for row in range(7)]
    dots = np.array([[float(dot) for dot in row] for row in rows], np.float32).repeat(dot_px, 0)
    dots = np.pad(dots.repeat(dot_px, 1), ((0, 0), (1, 1)))
    whole = int(left)
    share = left - whole
    moved = dots * (1 - share) + np.roll(dots, 1, axis=1) * share
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[top : top + moved.shape[0], whole : whole + moved.shape[1]] = moved
    return mask


def _blend(picture: FloatImage, mask: FloatImage, color: tuple[float, float, float]) -> None:
    picture += mask[..., None] * (np.array(color, np.float32) - picture)


def _grid() -> tuple[FloatImage, FloatImage]:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    return y, x


def _video_frames() -> Iterator[av.VideoFrame]:
    for index, picture in enumerate(sample_frames()):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", threads=SCALER_THREADS
        )
        frame.pts, frame.time_base = index * 512, Fraction(1, 24 * 512)
        yield frame


def _audio_frames() -> Iterator[av.AudioFrame]:
    """A tone that rises from 330 Hz to 660 Hz."""
    num_samples = int(NUM_FRAMES / FRAME_RATE * _SAMPLE_RATE)
    time_s = np.arange(num_samples) / _SAMPLE_RATE
    samples = (0.2 * np.sin(2 * np.pi * (330 + 55 * time_s) * time_s)).astype(np.float32)
    for start in range(0, num_samples, _AUDIO_FRAME_SAMPLES):
        block = samples[None, start : start + _AUDIO_FRAME_SAMPLES]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = _SAMPLE_RATE, start, Fraction(1, _SAMPLE_RATE)
        yield frame
