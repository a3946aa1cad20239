"""What outputs get where nothing is asked for, as a table for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from cluster.job import VideoSettings
from cluster.video.choice import choose
from cluster.video.containers import Container, suffixes_of
from cluster.video.pixels import PIXEL_FORMATS

_WIDTH, _HEIGHT = 1920, 1080

# One format for all that are treated alike.
_FOOTAGE = {
    "8 bit, 4:2:0": "yuv420p",
    "8 bit, 4:2:2 and 4:4:4": "yuv422p",
    "9 and 10 bit, 4:2:0": "yuv420p10le",
    "12 bit": "yuv422p12le",
    "14 and 16 bit": "yuv422p16le",
    "RGB, 8 bit": "gbrp",
    "alpha": "yuva420p",
}


@dataclass(frozen=True)
class Default:
    """How one kind of footage is encoded.

    Attributes:
        suffixes: Of the sources.
        footage: What the source's samples are, in words.
        preset: The encoder's own name; empty where it has none.
        quality: In the encoder's own unit; None where it has none.
    """

    suffixes: tuple[str, ...]
    container: Container
    footage: str
    codec: str
    pixel_format: str
    preset: str
    quality: float | None


def defaults_table() -> Iterator[Default]:
    """Every container with every kind of footage, for frames of 1920x1080."""
    for container in get_args(Container):
        for footage, name in _FOOTAGE.items():
            choice = choose(PIXEL_FORMATS[name], VideoSettings(), container, _WIDTH, _HEIGHT)
            codec = choice.codec
            yield Default(
                suffixes=suffixes_of(container),
                container=container,
                footage=footage,
                codec=codec.name,
                pixel_format=choice.conversion.target.name,
                preset=codec.preset,
                quality=None if codec.quality_range[0] == codec.quality_range[1] else codec.quality,
            )
