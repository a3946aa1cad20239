"""Shapes: odd, tiny and huge frames, pixels that are no squares, turned pictures, and one frame alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from cluster.video.corpus.case import Case
from cluster.video.corpus.clip_case import TICK_25, TICK_MS, clip_case
from cluster.video.corpus.clips import QSCALE, VP9, Clip, Ticks
from cluster.video.corpus.joining import FIRST, FRAME, joined_case, recording

_ONE = 1 << 16  # 16.16 fixed point
_UNIT = 1 << 30  # 2.30 fixed point, of the last column
_ONE_FRAME = Ticks.every(512, 12_800, num=1)
_8K = (7680, 4320)
_PAL_16_9 = Fraction(64, 45)


def _turned(name: str, shows: str, rotation_deg: int | None, a: int, b: int, c: int, d: int) -> Case:
    """A display matrix (ISO/IEC 14496-12, 8.2.2) whose corner is (a, b, c, d)."""
    matrix = (a * _ONE, b * _ONE, 0, c * _ONE, d * _ONE, 0, 0, 0, _UNIT)
    return clip_case(
        name,
        shows,
        Clip(display_matrix=matrix),
        rotation_deg=rotation_deg,
        display_matrix=matrix,
        told=("rotat|matrix",),
    )


CASES = (
    clip_case(
        "size_odd_vp9.webm",
        "odd width and height",
        Clip(encoder="libvpx-vp9", options=VP9, size=(97, 65), ticks=TICK_MS),
    ),
    clip_case(
        "size_odd_ffv1.mkv",
        "odd width and height, of which half the chroma is no whole number",
        Clip(encoder="ffv1", options={}, size=(99, 67), ticks=TICK_MS),
    ),
    clip_case("size_odd_444.mp4", "odd H.264", Clip(pixel_format="yuv444p", size=(97, 65))),
    clip_case("size_tiny.mp4", "16x16 pixels", Clip(size=(16, 16))),
    clip_case(
        "size_thin.mkv", "1000x10 pixels", Clip(encoder="ffv1", options={}, size=(1000, 10), ticks=TICK_MS)
    ),
    clip_case(
        "size_8k.mp4",
        "two frames of 8K",
        # Here the assembly is needed, and the content too plain for it to make a difference.
        Clip(
            options={"preset": "ultrafast", "qp": "40", "coder": "cabac"},
            size=_8K,
            ticks=Ticks.every(512, 12_800, num=2),
        ),
    ),
    joined_case(
        "size_changes.ts",
        "a recording whose frames become larger in the middle",
        (recording(), replace(recording(FIRST + 10 * FRAME, first_number=11), size=(128, 96))),
        told=("size|[0-9]x[0-9]",),
    ),
    clip_case("size_one_frame.mp4", "one frame", Clip(ticks=_ONE_FRAME)),
    clip_case(
        "size_one_picture.webm",
        "one frame in WebM",
        Clip(encoder="libvpx-vp9", options=VP9, ticks=Ticks.every(40, 1000, num=1)),
    ),
    clip_case(
        "size_one_jpeg.avi",
        "one JPEG in AVI",
        Clip(encoder="mjpeg", options={"strict": "unofficial", **QSCALE}, ticks=Ticks.every(1, 25, num=1)),
    ),
    clip_case(
        "size_anamorphic.mp4",
        "pixels that are wider than high, as of widescreen DVDs",
        Clip(sample_aspect_ratio=_PAL_16_9),
    ),
    clip_case(
        "size_anamorphic_high.mkv",
        "pixels that are higher than wide, in Matroska",
        Clip(sample_aspect_ratio=Fraction(8, 9), ticks=TICK_MS),
    ),
    clip_case(
        "size_anamorphic_mpeg4.avi",
        "pixels that are no squares, said in MPEG-4's own header",
        Clip(encoder="mpeg4", options=QSCALE, sample_aspect_ratio=Fraction(12, 11), ticks=TICK_25),
    ),
    _turned(
        "rotated_90.mp4", "a picture to be turned by a quarter, as telephones write it", -90, 0, 1, -1, 0
    ),
    _turned("rotated_180.mov", "a picture that stands on its head", -180, -1, 0, 0, -1),
    _turned("rotated_270.mp4", "a picture to be turned by three quarters", 90, 0, -1, 1, 0),
    _turned("rotated_flip.mp4", "a picture to be mirrored", None, -1, 0, 0, 1),
)
