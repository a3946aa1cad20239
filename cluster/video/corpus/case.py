"""One case of the corpus: what it shows, how its file is made, and what must come of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from cluster.video.info import ColorTags, ContentLight, MasteringDisplay


@dataclass(frozen=True)
class Expected:
    """What must come of a clip, whatever the machine; what is None or empty is not looked at.

    Attributes:
        state: Of the file in the report.
        reason: A word of why it failed or is damaged.
        told: Words that the user must be told, each a regular expression without regard to case.
        num_frames: Of the output.
        least_frames: Of a damaged source: so many at least must show their own number at their own time.
        numbers: That the pixels show, in order.
        alpha: Whether the output's alpha shows the numbers as well, each as 255 less it.
        hues: Mean code values of the second and third plane, in 8-bit terms.
        times_s: Of all frames, relative to the first.
        size: (width, height) of the source, of which the output's are multiples.
        pixel_formats: Of which the output has one, as planes.
        sample_aspect_ratio: Of the output.
        rotation_deg: Of the output, counter-clockwise.
        display_matrix: Of the output, in FFmpeg's layout.
        color: Of the output; what is unspecified in it is not looked at.
        suffixes: Of which the output's name has one.
        streams: The output's other streams, as `kind codec language`, in any order.
        starts_s: When its audio streams start, relative to the first frame, in order.
        num_chapters: Of the output.
        mastering_display: Of the output.
        content_light: Of the output.
        side_data: What the output's frames carry, by FFmpeg's names.
    """

    state: Literal["done", "damaged", "failed"] = "done"
    reason: str = ""
    told: tuple[str, ...] = ()
    num_frames: int | None = None
    least_frames: int = 0
    numbers: tuple[int, ...] | None = None
    alpha: bool = False
    hues: tuple[int, int] | None = None
    times_s: tuple[Fraction, ...] | None = None
    size: tuple[int, int] | None = None
    pixel_formats: tuple[str, ...] = ()
    sample_aspect_ratio: Fraction | None = None
    rotation_deg: int | None = None
    display_matrix: tuple[int, ...] | None = None
    color: ColorTags | None = None
    suffixes: tuple[str, ...] = ()
    streams: tuple[str, ...] | None = None
    starts_s: tuple[Fraction, ...] | None = None
    num_chapters: int | None = None
    mastering_display: MasteringDisplay | None = None
    content_light: ContentLight | None = None
    side_data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One file of the corpus.

    Attributes:
        name: Of the file, which no other case shares even without its suffix.
        shows: What it is there for, in one sentence.
        make: Writes the file to a path; the same bytes every time.
        expected: What must come of it.
    """

    name: str
    shows: str
    make: Callable[[Path], None]
    expected: Expected
