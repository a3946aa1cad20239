"""What lies beside the video: sound, texts, chapters, files, covers, captions, timecodes, further videos."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from cluster.video.corpus.clip_case import TICK_25, TICK_MS, clip_case
from cluster.video.corpus.clips import QSCALE, X264, Clip, Text, Ticks, Tone
from cluster.video.corpus.sei import captions, with_h264_sei
from cluster.video.corpus.writing import edit_payloads

_TICK_90K = Ticks.every(3600, 90_000, first=90_000)
# SMPTE ST 336, what cameras in the air write: a universal key, a length, and so many bytes.
_KLV = bytes.fromhex("060e2b34020b01010e01030101000000") + b"\4data"
_COVER = Clip(
    encoder="png",
    options={},
    pixel_format="rgb24",
    size=(32, 32),
    ticks=Ticks.every(512, 12_800, num=1),
    is_cover=True,
)
_MANY = Clip(
    audio=(Tone("flac", "eng", "film"), Tone("libopus", "deu"), Tone("pcm_s16le", "fra", "comment")),
    texts=(Text("subrip", "eng"), Text("ass", "deu")),
    chapters=("one", "two"),
    attachments=(("font.ttf", "application/x-truetype-font", b"no font"),),
    metadata={"title": "a film"},
    ticks=TICK_MS,
)


def _captioned(index: int, payload: bytes) -> bytes:
    return with_h264_sei(payload, captions("ab"))


CASES = (
    clip_case("tracks_many.mkv", "three sounds, two subtitles, chapters and a font", _MANY),
    clip_case(
        "tracks_texts.mp4",
        "two sounds, two subtitles and chapters in MP4",
        Clip(
            audio=(Tone("aac", "eng"), Tone("aac", "deu")),
            texts=(Text("mov_text", "eng"), Text("mov_text", "deu")),
            chapters=("one", "two"),
        ),
    ),
    clip_case(
        "tracks_cover.mkv",
        "a cover in Matroska, which is an attached file",
        replace(_MANY, audio=(), texts=(), attachments=(), covers=(_COVER,)),
    ),
    clip_case("tracks_cover_art.mp4", "a cover in MP4", Clip(covers=(_COVER,))),
    clip_case("tracks_none.mov", "nothing but a video", Clip()),
    clip_case(
        "tracks_audio_first.mp4",
        "a sound that comes before the video",
        Clip(audio=(Tone(),), is_audio_first=True),
    ),
    clip_case(
        "tracks_two_videos.mkv",
        "two videos, of which the second is copied",
        Clip(
            other_videos=(Clip(size=(64, 48), first_number=101, ticks=TICK_MS),),
            audio=(Tone("flac"),),
            ticks=TICK_MS,
        ),
        told=("copied",),
    ),
    clip_case(
        "tracks_empty.mkv",
        "a sound and a subtitle track without anything in them",
        Clip(
            audio=(Tone("flac", "eng"), Tone("pcm_s16le", "deu", seconds=Fraction(0))),
            texts=(Text("subrip", lines=()),),
            ticks=TICK_MS,
        ),
    ),
    clip_case(
        "tracks_data.ts",
        "a data stream, as drones write it",
        Clip(data=(_KLV, _KLV), ticks=_TICK_90K),
        streams=None,
        told=("data",),
    ),
    clip_case(
        "tracks_timecode.mov",
        "a timecode track, as cameras write it",
        Clip(stream_metadata={"timecode": "01:00:00:00"}),
        streams=None,
        told=("timecode|tmcd",),
    ),
    clip_case(
        "tracks_gop_timecode.mpg",
        "a timecode in MPEG-2's groups of pictures",
        Clip(
            encoder="mpeg2video",
            options={**QSCALE, "g": "5", "gop_timecode": "01:00:00:00"},
            ticks=TICK_25,
            muxer="vob",
        ),
        told=("timecode",),
    ),
    clip_case(
        "tracks_captions.ts",
        "closed captions within H.264",
        Clip(options=X264, edit=edit_payloads(_captioned), ticks=_TICK_90K),
        side_data=("A53_CC",),
    ),
)
