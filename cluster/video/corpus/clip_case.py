"""Cases whose file is one clip, from which most of what must come of it follows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from cluster.video.corpus.case import Case, Expected
from cluster.video.corpus.clips import Clip, Ticks
from cluster.video.corpus.pictures import HUES, hues_as_ycbcr
from cluster.video.corpus.writing import write_clip
from cluster.video.pixels import pixel_format

TICK_25 = Ticks.every(1, 25)  # for containers that count frames
TICK_MS = Ticks.every(40, 1000)
_CODECS = {"libopus": "opus", "libmp3lame": "mp3", "libvpx-vp9": "vp9", "libx264": "h264"}


def clip_case(name: str, shows: str, clip: Clip, **changes: Any) -> Case:
    """The case of a file with `clip` in it.

    Args:
        name: Of the file.
        shows: See `Case`.
        clip: What the file holds.
        changes: Fields of `Expected` that do not follow from `clip`.
    """
    return Case(name, shows, partial(write_clip, clip=clip), replace(expected_of(clip), **changes))


def expected_of(clip: Clip) -> Expected:
    """What must come of a file with `clip`, if its container keeps all that is in it."""
    pixels = pixel_format(clip.pixel_format)
    assert pixels is not None
    streams = [
        *(f"video {_codec(video.encoder)}" for video in clip.other_videos),
        *(f"audio {_codec(tone.encoder)} {tone.language}" for tone in clip.audio),
        *(f"subtitle {text.codec.replace('srt', 'subrip')} {text.language}" for text in clip.texts),
        *("attachment" for _ in clip.attachments),
        *(f"cover {_codec(cover.encoder)}" for cover in clip.covers),
    ]
    is_rounded = pixels.is_rgb and pixels.bit_depth == 8 and not pixels.has_alpha
    hues = hues_as_ycbcr(clip.numbers[0]) if is_rounded else HUES
    return Expected(
        num_frames=len(clip.pts),
        numbers=clip.numbers,
        hues=hues if pixels.has_chroma else None,
        alpha=pixels.has_alpha,
        times_s=clip.times_s,
        size=clip.size,
        pixel_formats=("yuv444p",) if is_rounded else (pixels.planar,),
        told=("rgb",) if is_rounded else (),
        sample_aspect_ratio=clip.sample_aspect_ratio,
        streams=tuple(streams),
        num_chapters=len(clip.chapters),
    )


def _codec(encoder: str) -> str:
    return _CODECS.get(encoder, encoder)
