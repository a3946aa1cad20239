"""How code values are to be read: every standard, and files that do not say."""

from __future__ import annotations

from fractions import Fraction

from cluster.video.corpus.clip_case import clip_case
from cluster.video.corpus.clips import X264, X265, X265_PARAMS, Clip, Ticks
from cluster.video.corpus.sei import hdr10_plus, with_hevc_sei
from cluster.video.corpus.writing import edit_payloads
from cluster.video.info import ColorTags, ContentLight, MasteringDisplay

_SHORT = Ticks.every(512, 12_800, num=5)
_BT601_525 = ColorTags(6, 6, 6, False)
_BT601_625 = ColorTags(5, 6, 5, False)
_BT709 = ColorTags(1, 1, 1, False)
_BT2020 = ColorTags(9, 14, 9, False)
_PQ = ColorTags(9, 16, 9, False)
_HLG = ColorTags(9, 18, 9, False)
_P3 = ColorTags(12, 1, 1, False)

# CIE 1931 coordinates in 0.00002, luminances in 0.0001 cd/m2 (SMPTE ST 2086, as in HEVC's messages).
_DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
_MASTERING = MasteringDisplay(
    red=(Fraction(34_000, 50_000), Fraction(16_000, 50_000)),
    green=(Fraction(13_250, 50_000), Fraction(34_500, 50_000)),
    blue=(Fraction(7_500, 50_000), Fraction(3_000, 50_000)),
    white=(Fraction(15_635, 50_000), Fraction(16_450, 50_000)),
    min_luminance=Fraction(1, 10_000),
    max_luminance=Fraction(1000),
)
_HDR10 = {**X265, "x265-params": f"{X265_PARAMS}:hdr10=1:master-display={_DISPLAY}:max-cll=1000,400"}


def _hevc10(color: ColorTags, options: dict[str, str] = X265) -> Clip:
    return Clip(encoder="libx265", options=options, pixel_format="yuv420p10le", color=color, ticks=_SHORT)


def _bright(index: int, payload: bytes) -> bytes:
    return with_hevc_sei(payload, hdr10_plus(max_rgb=50_000))


CASES = (
    clip_case("color_bt601_525.mp4", "BT.601 of 525 lines", Clip(color=_BT601_525), color=_BT601_525),
    clip_case("color_bt601_625.mp4", "BT.601 of 625 lines", Clip(color=_BT601_625), color=_BT601_625),
    clip_case("color_bt709.mp4", "BT.709 on a small picture", Clip(color=_BT709), color=_BT709),
    clip_case("color_bt2020.mp4", "BT.2020 without HDR", _hevc10(_BT2020), color=_BT2020),
    clip_case(
        "color_display_p3.mov", "primaries of Display P3, as telephones write", Clip(color=_P3), color=_P3
    ),
    clip_case("color_hlg.mp4", "HLG", _hevc10(_HLG), color=_HLG),
    clip_case(
        "color_hdr10.mp4",
        "PQ with a mastering display and content light",
        _hevc10(_PQ, _HDR10),
        color=_PQ,
        mastering_display=_MASTERING,
        content_light=ContentLight(1000, 400),
    ),
    clip_case(
        "color_hdr10_plus.mkv",
        "HDR10+, whose dynamic part is dropped",
        Clip(
            encoder="libx265",
            options=_HDR10,
            pixel_format="yuv420p10le",
            color=_PQ,
            ticks=Ticks.every(40, 1000, num=5),
            edit=edit_payloads(_bright),
        ),
        color=_PQ,
        mastering_display=_MASTERING,
        content_light=ContentLight(1000, 400),
        told=(r"hdr10\+",),
    ),
    clip_case(
        "color_full_range.mp4",
        "full range, as from telephones and screens",
        Clip(color=ColorTags(1, 1, 1, True)),
        color=ColorTags(1, 1, 1, True),
    ),
    clip_case(
        "color_untagged_sd_25.mp4",
        "small, 25 frames a second, and without tags: taken as BT.601 of 625 lines",
        Clip(),
        color=_BT601_625,
        told=("assumed",),
    ),
    clip_case(
        "color_untagged_sd_30.mp4",
        "small, 30 frames a second, and without tags: taken as BT.601 of 525 lines",
        Clip(rate=Fraction(30), ticks=Ticks.every(1000, 30_000)),
        color=_BT601_525,
        told=("assumed",),
    ),
    clip_case(
        "color_untagged_hd.mp4",
        "large and without tags: taken as BT.709",
        Clip(size=(1280, 720), ticks=Ticks.every(512, 12_800, num=2)),
        color=_BT709,
        told=("assumed",),
    ),
    clip_case(
        "color_siting.mp4",
        "chroma that lies at the top left, as BT.2020 wants it",
        Clip(options={**X264, "x264-params": "asm=0:mbtree=0:chromaloc=2"}, color=_BT709),
        color=ColorTags(1, 1, 1, False, "topleft"),
    ),
)
