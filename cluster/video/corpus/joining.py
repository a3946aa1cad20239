"""Files made of others byte by byte, as recorders and careless tools make them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from cluster.video.corpus.case import Case, Expected
from cluster.video.corpus.clips import X264_B, Clip, Ticks
from cluster.video.corpus.writing import write_clip

CLOCK = 90_000
FRAME = 3600  # 40 ms
FIRST = CLOCK  # transport streams do not start at 0


def recording(first_pts: int = FIRST, first_number: int = 1, num_frames: int = 10) -> Clip:
    """Frames of 40 ms, in a transport stream's clock."""
    return Clip(
        options=X264_B,
        ticks=Ticks.every(FRAME, CLOCK, num_frames, first_pts),
        first_number=first_number,
    )


def joined_case(name: str, shows: str, clips: tuple[Clip, ...], **changes: Any) -> Case:
    """The case of a file that is `clips` one behind the other; of all of them the frames must come out."""
    num_frames = sum(len(clip.pts) for clip in clips)
    expected = Expected(
        num_frames=num_frames,
        numbers=tuple(number for clip in clips for number in clip.numbers),
        times_s=tuple(Fraction(FRAME * index, CLOCK) for index in range(num_frames)),
        size=clips[0].size,
        pixel_formats=("yuv420p",),
        streams=(),
    )
    return Case(name, shows, partial(write_joined, clips=clips), replace(expected, **changes))


def write_joined(path: Path, clips: Sequence[Clip]) -> None:
    """Writes every clip as a file with the suffix of `path`, and to `path` one behind the other."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [Path(folder) / f"{index}{path.suffix}" for index in range(len(clips))]
        for part, clip in zip(parts, clips, strict=True):
            write_clip(part, clip)
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
