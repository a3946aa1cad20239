"""Fields: two moments in one frame, and what of them is not what it seems."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from cluster.video.corpus.case import Case
from cluster.video.corpus.clip_case import TICK_25, clip_case
from cluster.video.corpus.clips import QSCALE, Clip, FieldOrder, Ticks
from cluster.video.corpus.mpeg2 import as_progressive_frame, with_pulldown
from cluster.video.corpus.writing import edit_payloads

_INTERLACED_MPEG2 = {"flags": "+qscale+ildct+ilme", "global_quality": "236", "g": "5"}
_NUM_PROGRESSIVE = 30  # more than anyone looks at before a file is judged
_FIELD_S = Fraction(1001, 60_000)
_FILM = Fraction(24_000, 1001)


def _mpeg2(field_order: FieldOrder) -> Clip:
    return Clip(
        encoder="mpeg2video",
        options=_INTERLACED_MPEG2,
        field_order=field_order,
        sample_aspect_ratio=Fraction(8, 9),
        muxer="vob",
        ticks=TICK_25,
    )


def _h264(field_order: FieldOrder) -> Clip:
    return Clip(
        options={"preset": "ultrafast", "qp": "8", "x264-params": f"asm=0:{field_order}=1"},
        field_order=field_order,
    )


def _late() -> Case:
    """Its first frames show one moment each, although the stream says that it is interlaced later on."""

    def progressive_first(index: int, payload: bytes) -> bytes:
        return as_progressive_frame(payload) if index < _NUM_PROGRESSIVE else payload

    clip = replace(
        _mpeg2("tff"),
        options={**_INTERLACED_MPEG2, "g": "1"},
        muxer="mpegts",
        ticks=Ticks.every(1, 25, _NUM_PROGRESSIVE + 10),
        num_woven=10,
        edit=edit_payloads(progressive_first),
    )
    return clip_case(
        "interlaced_late.ts",
        "interlacing that begins after 30 progressive frames",
        clip,
        told=("interlaced",),
    )


def _telecine() -> Case:
    """24 frames a second that are displayed as 60 fields, with every other frame's first field repeated."""

    def pull_down(index: int, payload: bytes) -> bytes:
        return with_pulldown(payload, top_field_first=index % 4 in (0, 3), repeat_first_field=index % 2 == 0)

    clip = Clip(
        encoder="mpeg2video",
        options={**QSCALE, "g": "5"},
        rate=_FILM,
        ticks=Ticks.every(1, _FILM, num=12),
        edit=edit_payloads(pull_down),
        muxer="mpegts",
    )
    starts = [sum(2 + (index % 2 == 0) for index in range(number)) for number in range(12)]
    return clip_case(
        "interlaced_soft_telecine.ts",
        "soft telecine: progressive frames that ask players to repeat fields",
        replace(clip, retimed=tuple(start * _FIELD_S for start in starts)),
        told=("telecine",),
    )


CASES = (
    clip_case(
        "interlaced_mpeg2_tff.mpg",
        "MPEG-2, upper field first, as on DVDs",
        _mpeg2("tff"),
        told=("interlaced",),
    ),
    clip_case("interlaced_mpeg2_bff.mpg", "MPEG-2, lower field first", _mpeg2("bff"), told=("interlaced",)),
    clip_case("interlaced_h264_tff.mp4", "H.264, upper field first", _h264("tff"), told=("interlaced",)),
    clip_case("interlaced_h264_bff.mp4", "H.264, lower field first", _h264("bff"), told=("interlaced",)),
    clip_case(
        "interlaced_prores.mov",
        "ProRes, upper field first",
        Clip(
            encoder="prores_ks",
            options={"profile": "hq", "vendor": "apl0", "flags": "+ildct"},
            pixel_format="yuv422p10le",
            field_order="tff",
        ),
        told=("interlaced",),
    ),
    _late(),
    _telecine(),
)
