"""What is known of a source: plain values that cross processes and are stored as JSON."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic.dataclasses import dataclass

UNSPECIFIED = 2  # ITU-T H.273: the code point of primaries, transfer and matrix that are not known

ChromaLocation = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]
# Which frames are deinterlaced: none; those that say that they are interlaced; all; all, into two each.
DeinterlaceMode = Literal["off", "flagged", "frame", "field"]
StreamKind = Literal["video", "audio", "subtitle", "data", "attachment"]


@dataclass(frozen=True)
class ColorTags:
    """How a stream says that its code values are to be read.

    Attributes:
        primaries: ITU-T H.273 ColourPrimaries; 2 where the stream does not say.
        transfer: ITU-T H.273 TransferCharacteristics; 2 where the stream does not say.
        matrix: ITU-T H.273 MatrixCoefficients; 2 where the stream does not say.
        full_range: None where the stream does not say.
        chroma_location: Where chroma samples lie among luma samples; None where the stream does not say.
    """

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    full_range: bool | None = None
    chroma_location: ChromaLocation | None = None


@dataclass(frozen=True)
class MasteringDisplay:
    """The display that a film was graded on (SMPTE ST 2086).

    Attributes:
        red: CIE 1931 (x, y), as are the other three; None where only luminances are given.
        min_luminance: In cd/m2, as is the maximum; None where only colours are given.
    """

    red: tuple[Fraction, Fraction] | None
    green: tuple[Fraction, Fraction] | None
    blue: tuple[Fraction, Fraction] | None
    white: tuple[Fraction, Fraction] | None
    min_luminance: Fraction | None
    max_luminance: Fraction | None


@dataclass(frozen=True)
class ContentLight:
    """How bright a film gets (CTA-861.3), in cd/m2: its brightest pixel, its brightest frame's mean."""

    max_cll: int
    max_fall: int


@dataclass(frozen=True)
class StreamInfo:
    """One stream of a source.

    Attributes:
        codec: FFmpeg's name of the codec, not of a decoder (`av1`, not `libdav1d`); empty if not known.
        language: As tagged; empty if not.
        is_cover: A still picture attached as a video stream.
    """

    index: int
    kind: StreamKind
    codec: str
    language: str = ""
    title: str = ""
    is_cover: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """The stream that is upscaled.

    Attributes:
        pixel_format: FFmpeg's name, with the `yuvj` names replaced by `yuv` and full range.
        time_base: Seconds per pts tick.
        frame_rate: The nominal one, for encoders and containers; frame times are the pts alone.
        sample_aspect_ratio: Width / height of a pixel; None where the stream does not say.
        color: As the stream says.
        rotation_deg: Of the display matrix, counter-clockwise.
        display_matrix: As stored (FFmpeg's layout), which also says flips; None where there is none.
        num_frames: Displayed frames that the file holds: packets with data that are not discarded by edits.
        promised_num_frames: What the container's own index counts, where more is promised than is there, as
            after a copy that broke off; from the promised duration where it does not count; else None.
        side_data: What its first frames carry beside pixels, or it itself, by FFmpeg's names.
        has_repeat_flags: Frames say that fields of theirs are shown twice (soft telecine).
        timestamp_problem: Why its times need repair, so that it is one segment; empty if they are good.
        mastering_display: HDR10 static metadata; None where there is none.
        content_light: HDR10 static metadata; None where there is none.
        start_pts: pts of the first displayed frame.
        end_pts: pts of the last displayed frame plus its duration.
    """

    stream_index: int
    codec: str
    width: int
    height: int
    pixel_format: str
    time_base: Fraction
    frame_rate: Fraction
    sample_aspect_ratio: Fraction | None
    color: ColorTags
    rotation_deg: int
    is_interlaced: bool
    num_frames: int
    promised_num_frames: int | None
    start_pts: int
    end_pts: int
    side_data: tuple[str, ...] = ()
    display_matrix: tuple[int, int, int, int, int, int, int, int, int] | None = None
    has_repeat_flags: bool = False
    timestamp_problem: str = ""
    mastering_display: MasteringDisplay | None = None
    content_light: ContentLight | None = None

    @property
    def duration_s(self) -> Fraction:
        """From the first frame's start to the last frame's end."""
        return (self.end_pts - self.start_pts) * self.time_base


@dataclass(frozen=True)
class SourceInfo:
    """One source file.

    Attributes:
        format_name: FFmpeg's name of the demuxer.
        timecode: Of the first frame, as `01:00:00;00`; empty where the file does not say.
        video: The stream that is upscaled.
    """

    format_name: str
    duration_s: float
    num_chapters: int
    streams: tuple[StreamInfo, ...]
    video: VideoInfo
    timecode: str = ""
