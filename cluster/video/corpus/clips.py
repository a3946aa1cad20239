"""What a clip is made of: a video stream and what lies beside it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from cluster.video.corpus.pictures import NUM_BITS
from cluster.video.info import ColorTags

if TYPE_CHECKING:
    import av

Packet: TypeAlias = "av.Packet[Any]"  # its class is generic in the stubs alone
Edit: TypeAlias = "Callable[[list[Packet]], list[Packet]]"
FieldOrder = Literal["", "tff", "bff"]

_SAMPLE_RATE = 48_000

# x264 and x265 without assembly, as that of AVX-512 was seen to give other bytes on every run.
X264 = {"preset": "ultrafast", "qp": "12", "x264-params": "asm=0:mbtree=0"}
X264_B = {**X264, "bf": "2", "g": "10", "x264-params": "asm=0:mbtree=0:b-adapt=0:scenecut=0"}
X265_PARAMS = "log-level=none:info=0:asm=0:pools=none:frame-threads=1"
X265 = {"preset": "ultrafast", "crf": "14", "x265-params": X265_PARAMS}
QSCALE = {"flags": "+qscale", "global_quality": "236"}  # 2 in units of 118, for FFmpeg's own encoders
VP9 = {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "0"}


@dataclass(frozen=True)
class Tone:
    """An audio stream.

    Attributes:
        encoder: FFmpeg's name of it.
        start_s: When it starts.
        seconds: How long it lasts; 0 is a stream without packets.
    """

    encoder: str = "aac"
    language: str = "eng"
    title: str = ""
    start_s: Fraction = Fraction(0)
    seconds: Fraction = Fraction(2, 5)
    rate: int = _SAMPLE_RATE
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A subtitle stream: every line is shown for 100 ms, at every 200 ms.

    Attributes:
        codec: FFmpeg's name: `subrip`, `ass` or `mov_text`.
    """

    codec: str
    language: str = "eng"
    lines: tuple[str, ...] = ("one", "two")


@dataclass(frozen=True)
class Ticks:
    """When frames are shown.

    Attributes:
        time_base: Seconds per tick.
        pts: Of every frame, ascending, in ticks.
    """

    time_base: Fraction
    pts: tuple[int, ...]

    @classmethod
    def every(cls, step: int, hz: int | Fraction, num: int = 10, first: int = 0) -> Self:
        """`num` frames that are `step` ticks apart, of which there are `hz` a second."""
        return cls(1 / Fraction(hz), tuple(first + step * index for index in range(num)))


@dataclass(frozen=True)
class Clip:
    """A video stream and what lies beside it.

    Attributes:
        options: Of the encoder.
        pixel_format: What the encoder is given.
        ticks: When frames are shown, as the encoder is told.
        first_number: That the pictures show, of the first frame; the next one's is one more.
        field_order: If set, every frame holds two fields with a number each, so that numbers go by two.
        color: What the stream says; nothing is written for what is not specified.
        edit: Changes the encoded packets before they are written.
        muxer: FFmpeg's name; empty goes by the path's suffix.
        other_videos: Further video streams, behind this one.
        is_audio_first: Whether audio streams lie before the video.
        chapters: Titles of chapters that last 200 ms each.
        attachments: (name, media type, content) of attached files.
        data: Packets of a data stream, 40 ms apart.
        covers: Pictures that are attached.
        is_cover: Whether this is one.
        num_woven: How many frames at the end hold two fields, where not all do.
        retimed: When frames are shown, in seconds, where the encoder cannot be told so.
        is_textured: Whether noise lies over the pictures, so that packets have a size to be damaged.
    """

    encoder: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: dict(X264))
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = (96, 64)
    ticks: Ticks = field(default_factory=lambda: Ticks.every(512, 12_800))
    rate: Fraction = Fraction(25)
    first_number: int = 1
    field_order: FieldOrder = ""
    sample_aspect_ratio: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    color: ColorTags = field(default_factory=ColorTags)
    edit: Edit | None = None
    muxer: str = ""
    muxer_options: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    stream_metadata: dict[str, str] = field(default_factory=dict)
    other_videos: tuple[Clip, ...] = ()
    audio: tuple[Tone, ...] = ()
    texts: tuple[Text, ...] = ()
    is_audio_first: bool = False
    chapters: tuple[str, ...] = ()
    attachments: tuple[tuple[str, str, bytes], ...] = ()
    data: tuple[bytes, ...] = ()
    covers: tuple[Clip, ...] = ()
    is_cover: bool = False
    is_textured: bool = False
    num_woven: int | None = None
    retimed: tuple[Fraction, ...] = ()

    def __post_init__(self) -> None:
        assert self.numbers[-1] < 1 << NUM_BITS

    @property
    def pts(self) -> tuple[int, ...]:
        """Of every frame, in `time_base`."""
        return self.ticks.pts

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick."""
        return self.ticks.time_base

    @property
    def numbers(self) -> tuple[int, ...]:
        """What the frames show, in order: of interlaced ones the field that is shown first."""
        numbers, number = [], self.first_number
        for index in range(len(self.pts)):
            numbers.append(number)
            number += 2 if self.is_woven(index) else 1
        return tuple(numbers)

    @property
    def times_s(self) -> tuple[Fraction, ...]:
        """When the frames are shown, relative to the first."""
        if self.retimed:
            return tuple(time_s - self.retimed[0] for time_s in self.retimed)
        return tuple((pts - self.pts[0]) * self.time_base for pts in self.pts)

    def is_woven(self, index: int) -> bool:
        """Whether a frame holds two fields with a number each."""
        num_woven = len(self.pts) if self.num_woven is None else self.num_woven
        return bool(self.field_order) and index >= len(self.pts) - num_woven
