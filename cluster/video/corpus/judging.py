"""What differs between what must come of a clip and what came of it. Nothing where nothing does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cluster.report import FileOutcome
from cluster.video.corpus.case import Expected
from cluster.video.corpus.pictures import number_in
from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.info import UNSPECIFIED, ColorTags, SourceInfo, VideoInfo
from cluster.video.probe import probe
from cluster.video.source import ErrorNotes, open_source, read_packets

_CLOCK_S = Fraction(11, 10_000)  # Matroska's clock of 1 ms, by which the first frame may be off as well
_HUE_TOLERANCE = 4  # of 255, for lossy coding there and back
_MAX_SHOWN = 12  # numbers or times


@dataclass(frozen=True)
class Shown:
    """What a file shows.

    Attributes:
        starts_s: When its audio streams start, relative to the first frame.
        times_s: Of its frames, relative to the first.
        numbers: That its frames show.
        alpha_numbers: That alpha shows; empty where there is none.
        hues: Mean code values of the planes behind the first, in 8-bit terms, of the first frame.
        pixel_format: Of the first frame, as planes.
    """

    info: SourceInfo
    starts_s: tuple[Fraction, ...]
    times_s: tuple[Fraction, ...]
    numbers: tuple[int, ...]
    alpha_numbers: tuple[int, ...]
    hues: tuple[float, ...]
    pixel_format: str


def outcome_faults(
    state: str, reason: str, told: Sequence[str], least_frames: int, outcome: FileOutcome
) -> Iterator[str]:
    """What the report does not say as it must.

    Args:
        state: That the file must have.
        reason: A regular expression for why it is not done.
        told: One for each thing that must be told.
        least_frames: That must be in the output.
        outcome: The report's.
    """
    if outcome.state != state:
        why = f": {outcome.reason}" if outcome.reason else ""
        yield f"it is {outcome.state}, not {state}{why}"
    elif not re.search(reason, outcome.reason, re.IGNORECASE):
        yield f"its reason does not say {reason!r}: {outcome.reason}"
    if state == "damaged" == outcome.state and not (outcome.missing or outcome.corrupt or outcome.reason):
        yield "nothing says what is damaged"
    for words in told:
        if not any(re.search(words, line, re.IGNORECASE) for line in outcome.told):
            yield f"nobody is told of {words!r}"
    if outcome.state != "failed" and outcome.num_frames < least_frames:
        yield f"{outcome.num_frames} frames came out, not {least_frames} at least"


def video_faults(expected: Expected, outcome: FileOutcome, output: Path, scale: int) -> list[str]:
    """All that differs.

    Args:
        outcome: The report's.
        output: Where the output lies.
        scale: By which it is larger than its source.
    """
    faults = list(
        outcome_faults(expected.state, expected.reason, expected.told, expected.least_frames, outcome)
    )
    if expected.state == "failed" or outcome.state == "failed":
        return faults
    shown = show(output)
    return [*faults, *_file_faults(expected, output, shown, scale), *_frame_faults(expected, shown)]


def show(path: Path, field: Literal["", "tff", "bff"] = "") -> Shown:
    """What the file at `path` shows: of whole frames, or of interlaced ones the field that is shown first."""
    with path.open("rb") as file:
        info, _ = probe(file, path.name)
        frames = []
        with VideoReader(file, info.video, threads=2, name=path.name) as reader:
            for frame in reader.frames(None, None):
                frames.append(_seen(frame, field))
        starts = _audio_starts_s(file, path.name, info)
    first = frames[0]
    time_base = info.video.time_base
    return Shown(
        info=info,
        starts_s=starts,
        times_s=tuple((frame.pts - first.pts) * time_base for frame in frames),
        numbers=tuple(frame.number for frame in frames),
        alpha_numbers=tuple(frame.alpha_number for frame in frames if frame.alpha_number is not None),
        hues=first.hues,
        pixel_format=first.pixel_format,
    )


@dataclass(frozen=True)
class _Seen:
    pts: int
    number: int
    alpha_number: int | None
    hues: tuple[float, ...]
    pixel_format: str


def _seen(frame: DecodedFrame, field: str) -> _Seen:
    pixels, planes = frame.pixels, list(frame.planes)
    alpha = planes.pop() if pixels.has_alpha else None
    if pixels.is_rgb:
        red, green, blue = planes
        planes = [green, blue, red]
    rows = slice(int(field == "bff"), None, 2 if field else 1)
    unit = 1 << (pixels.bit_depth - 8)
    return _Seen(
        pts=frame.pts,
        number=number_in(planes[0][rows]),
        alpha_number=None if alpha is None else number_in(alpha[rows]),
        hues=tuple(float(np.mean(plane)) / unit for plane in planes[1:]),
        pixel_format=pixels.planar,
    )


def _audio_starts_s(file: Any, name: str, info: SourceInfo) -> tuple[Fraction, ...]:
    """When each audio stream starts, less what players are told to leave out."""
    starts: dict[int, Fraction] = {}
    with open_source(file, name) as container:
        streams = list(container.streams.audio)
        for packet in read_packets(container, streams, ErrorNotes()):
            if packet.pts is not None and not packet.is_discard:
                start_s = packet.pts * packet.time_base
                starts[packet.stream_index] = min(start_s, starts.get(packet.stream_index, start_s))
    first_s = info.video.start_pts * info.video.time_base
    return tuple(starts[index] - first_s for index in sorted(starts))


def _file_faults(expected: Expected, output: Path, shown: Shown, scale: int) -> Iterator[str]:
    info, video = shown.info, shown.info.video
    if expected.suffixes and output.suffix not in expected.suffixes:
        yield f"it is a {output.suffix}, not {' or '.join(expected.suffixes)}"
    if expected.size and (video.width, video.height) != tuple(edge * scale for edge in expected.size):
        yield f"{video.width}x{video.height} is not {scale} times {'x'.join(map(str, expected.size))}"
    if expected.pixel_formats and shown.pixel_format not in expected.pixel_formats:
        yield f"its pixels are {shown.pixel_format}, not {' or '.join(expected.pixel_formats)}"
    if expected.sample_aspect_ratio not in (None, video.sample_aspect_ratio):
        yield f"its pixels' shape is {video.sample_aspect_ratio}, not {expected.sample_aspect_ratio}"
    yield from _differences(expected, video)
    yield from _color_faults(expected.color, video.color)
    if expected.num_chapters not in (None, info.num_chapters):
        yield f"{info.num_chapters} chapters, not {expected.num_chapters}"
    missing = set(expected.side_data) - set(video.side_data)
    if missing:
        yield f"its frames do not carry {', '.join(sorted(missing))}"
    if expected.streams is not None:
        yield from _stream_faults(expected.streams, info)
    if expected.starts_s is not None and not _are_near(expected.starts_s, shown.starts_s):
        yield f"sounds start at {_seconds(shown.starts_s)} s, not {_seconds(expected.starts_s)} s"


def _differences(expected: Expected, video: VideoInfo) -> Iterator[str]:
    for name in ("rotation_deg", "display_matrix", "mastering_display", "content_light"):
        wanted, got = getattr(expected, name), getattr(video, name)
        if wanted is not None and wanted != got:
            yield f"{name} is {got}, not {wanted}"


def _color_faults(wanted: ColorTags | None, got: ColorTags) -> Iterator[str]:
    if wanted is None:
        return
    for name in ("primaries", "transfer", "matrix", "full_range", "chroma_location"):
        tag = getattr(wanted, name)
        if tag not in (UNSPECIFIED, None, getattr(got, name)) or (
            tag is False and got.full_range is not False
        ):
            yield f"{name} is {getattr(got, name)}, not {tag}"


def _stream_faults(wanted: Sequence[str], info: SourceInfo) -> Iterator[str]:
    there = [
        f"{'cover' if stream.is_cover else stream.kind} {stream.codec} {stream.language}"
        for stream in info.streams
        if stream.index != info.video.stream_index
    ]
    for stream in wanted:
        found = next((name for name in there if f"{name} ".startswith(f"{stream.strip()} ")), None)
        if found is None:
            yield f"no stream is {stream.strip()}"
        else:
            there.remove(found)
    yield from (f"a stream is {name.strip()}" for name in there if not name.startswith("data"))


def _frame_faults(expected: Expected, shown: Shown) -> Iterator[str]:
    if expected.num_frames not in (None, len(shown.numbers)):
        yield f"{len(shown.numbers)} frames, not {expected.num_frames}"
    if expected.state == "damaged":
        yield from _survivor_faults(expected, shown)
        return
    if expected.numbers is not None and shown.numbers != expected.numbers:
        yield f"frames show {_different(shown.numbers, expected.numbers)}"
    if expected.times_s is not None and not _are_near(expected.times_s, shown.times_s):
        yield f"frames are shown at {_seconds(shown.times_s)} s, not {_seconds(expected.times_s)} s"
    if expected.alpha and expected.numbers is not None:
        wanted = tuple(255 - number for number in expected.numbers)
        if shown.alpha_numbers != wanted:
            yield f"alpha shows {_different(shown.alpha_numbers, wanted)}"
    if expected.hues is not None:
        far = [abs(got - hue) for got, hue in zip(shown.hues, expected.hues, strict=False)]
        if len(shown.hues) < 2 or max(far) > _HUE_TOLERANCE:
            yield f"hues are {', '.join(f'{hue:.1f}' for hue in shown.hues)}, not {expected.hues}"


def _survivor_faults(expected: Expected, shown: Shown) -> Iterator[str]:
    """So many frames of a damaged source must show their own number at their own time."""
    if expected.numbers is None or expected.times_s is None:
        return
    whole = 0
    for number, time_s in zip(shown.numbers, shown.times_s, strict=True):
        if number in expected.numbers:
            own_s = expected.times_s[expected.numbers.index(number)]
            whole += abs(own_s - time_s) <= _CLOCK_S
    if whole < expected.least_frames:
        yield f"{whole} frames show their own number at their own time, not {expected.least_frames} at least"


def _are_near(wanted: Sequence[Fraction], got: Sequence[Fraction]) -> bool:
    return len(wanted) == len(got) and all(
        abs(one - other) <= _CLOCK_S for one, other in zip(wanted, got, strict=True)
    )


def _different(got: Sequence[int], wanted: Sequence[int]) -> str:
    """Both from where they differ on."""
    pairs = zip(got, wanted, strict=False)
    same = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(got), len(wanted)))
    return f"{_listed(got[same:])} from frame {same} on, not {_listed(wanted[same:])}"


def _listed(numbers: Sequence[int]) -> str:
    shown = " ".join(map(str, numbers[:_MAX_SHOWN])) or "nothing"
    return shown + " ..." * (len(numbers) > _MAX_SHOWN)


def _seconds(times_s: Sequence[Fraction]) -> str:
    shown = " ".join(f"{float(time_s):.4g}" for time_s in times_s[:_MAX_SHOWN])
    return shown + " ..." * (len(times_s) > _MAX_SHOWN)
