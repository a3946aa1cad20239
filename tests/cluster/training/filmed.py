"""Short videos of views that a camera pans over, to adapt models to."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

SCENE_FRAMES = 24


def view(scene: int, height: int = 240, width: int = 320) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8: edges, waves and colours, each scene other ones."""
    draw = np.random.default_rng(scene)
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.zeros((height, width, 3))
    for _ in range(12):
        angle, period = draw.uniform(0, np.pi), draw.uniform(5, 60)
        wave = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) / period)
        picture += draw.uniform(-60, 60, 3) * np.sign(wave)[..., None]
        top, left = draw.integers(0, (height, width))
        picture[top : top + 60, left : left + 60] += draw.uniform(-80, 80, 3)
    codes: npt.NDArray[np.uint8] = (128 + picture / 3).clip(0, 255).astype(np.uint8)
    return codes


def write_film(
    path: Path,
    num_scenes: int = 10,
    encoder: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (200, 288),
) -> Path:
    """Scenes of a second each, at 24 frames a second; `size` is (height, width)."""
    height, width = size
    with av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=Fraction(24), options=options or {"crf": "30", "g": "24"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        for scene in range(num_scenes):
            picture = view(scene, height + SCENE_FRAMES, width + SCENE_FRAMES)
            for number in range(SCENE_FRAMES):
                shown = np.ascontiguousarray(picture[number : number + height, number : number + width])
                frame = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(
                    format="yuv420p", threads=1
                )
                output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
