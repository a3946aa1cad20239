"""Every codec of footage that is delivered, filmed or archived."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from cluster.video.corpus.case import Case
from cluster.video.corpus.clip_case import TICK_25, TICK_MS, clip_case
from cluster.video.corpus.clips import QSCALE, VP9, X265, Clip, Ticks

_MOV_CLOCK = Ticks.every(512, 12_800, num=5)
_NTSC = Fraction(30000, 1001)

_DV = Clip(
    encoder="dvvideo",
    options={},
    pixel_format="yuv411p",
    size=(720, 480),
    rate=_NTSC,
    ticks=Ticks.every(1, _NTSC, num=3),
    field_order="bff",
)


def _in_mov(encoder: str, pixel_format: str, **options: str) -> Clip:
    return Clip(encoder=encoder, options=options, pixel_format=pixel_format, ticks=_MOV_CLOCK)


def _in_avi(encoder: str, pixel_format: str, **options: str) -> Clip:
    return Clip(encoder=encoder, options=options, pixel_format=pixel_format, ticks=TICK_25)


def _dv() -> Case:
    case = clip_case(
        "codec_dv.avi",
        "DV as camcorders of 525 lines wrote it: interlaced, lower field first, 4:1:1",
        _DV,
        pixel_formats=("yuv422p",),
        sample_aspect_ratio=Fraction(8, 9),
        told=("interlaced", "4:1:1|yuv411p"),
    )
    return replace(case, expected=replace(case.expected, suffixes=(".mkv",)))


CASES = (
    clip_case("codec_hevc.mp4", "HEVC", Clip(encoder="libx265", options=X265)),
    clip_case(
        "codec_av1.mp4",
        "AV1 in MP4",
        Clip(encoder="libsvtav1", options={"preset": "13", "crf": "10", "svtav1-params": "lp=1"}),
    ),
    clip_case(
        "codec_vp8.webm",
        "VP8",
        Clip(encoder="libvpx", options={"deadline": "realtime", "crf": "10", "b": "1M"}, ticks=TICK_MS),
    ),
    clip_case("codec_vp9.mkv", "VP9 in Matroska", Clip(encoder="libvpx-vp9", options=VP9, ticks=TICK_MS)),
    clip_case(
        "codec_ffv1.mkv", "FFV1, as archives keep films", Clip(encoder="ffv1", options={}, ticks=TICK_MS)
    ),
    clip_case(
        "codec_prores_422_hq.mov",
        "ProRes 422 HQ: 10 bit, 4:2:2",
        _in_mov("prores_ks", "yuv422p10le", profile="hq", vendor="apl0"),
    ),
    clip_case(
        "codec_prores_4444.mov",
        "ProRes 4444 without alpha",
        _in_mov("prores_ks", "yuv444p10le", profile="4444", vendor="apl0"),
        pixel_formats=("yuv444p12le",),
    ),
    clip_case(
        "codec_mpeg2.mov",
        "MPEG-2 4:2:2 in QuickTime",
        Clip(encoder="mpeg2video", options=QSCALE, pixel_format="yuv422p", ticks=TICK_25),
    ),
    clip_case("codec_mpeg4.mp4", "MPEG-4 Part 2 in MP4", _in_mov("mpeg4", "yuv420p", **QSCALE)),
    clip_case(
        "codec_mjpeg.avi",
        "Motion JPEG as from cameras: full range",
        _in_avi("mjpeg", "yuv420p", strict="unofficial", **QSCALE),
    ),
    _dv(),
    clip_case(
        "codec_wmv1.wmv",
        "Windows Media 7",
        Clip(encoder="wmv1", options=QSCALE, ticks=TICK_MS),
    ),
    clip_case("codec_rawvideo.avi", "uncompressed 4:2:0 in AVI", _in_avi("rawvideo", "yuv420p")),
    clip_case("codec_uyvy.mov", "uncompressed 4:2:2, packed", _in_mov("rawvideo", "uyvy422")),
    clip_case(
        "codec_v210.mov", "uncompressed 10-bit 4:2:2, as from capture cards", _in_mov("v210", "yuv422p10le")
    ),
    clip_case("codec_huffyuv.avi", "HuffYUV, as from captures of tapes", _in_avi("huffyuv", "yuv422p")),
    clip_case("codec_utvideo.avi", "Ut Video", _in_avi("utvideo", "yuv420p")),
    clip_case("codec_qtrle.mov", "QuickTime Animation: RGB", _in_mov("qtrle", "rgb24")),
    clip_case(
        "codec_dnxhr.mov",
        "DNxHR HQX",
        replace(
            _in_mov("dnxhd", "yuv422p10le", profile="dnxhr_hqx"),
            size=(256, 128),
            ticks=Ticks.every(512, 12_800, num=3),
        ),
    ),
    clip_case("codec_cinepak.avi", "Cinepak, as on old discs", _in_avi("cinepak", "rgb24"), hues=None),
    clip_case(
        "codec_h264_lossless_rgb.mp4",
        "H.264 whose planes are colours, as from screen recorders",
        _in_mov("libx264rgb", "rgb24", preset="ultrafast", qp="0"),
    ),
)
