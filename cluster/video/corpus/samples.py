"""Every kind of samples: depths, samplings, grey, RGB, palettes and alpha."""

from __future__ import annotations

from cluster.video.corpus.case import Case
from cluster.video.corpus.clip_case import TICK_25, TICK_MS, clip_case
from cluster.video.corpus.clips import VP9, X264, X265, Clip, Ticks

_SHORT_MS = Ticks.every(40, 1000, num=5)
_SHORT = Ticks.every(512, 12_800, num=5)

# RGB with alpha has no other codec in QuickTime that players know.
_PRORES_ALPHA = ("yuva444p10le", "yuva444p12le")


def _ffv1(name: str, shows: str, pixel_format: str, *kept_as: str, told: tuple[str, ...] = ()) -> Case:
    clip = Clip(encoder="ffv1", options={}, pixel_format=pixel_format, ticks=_SHORT_MS)
    case_formats = {"pixel_formats": kept_as} if kept_as else {}
    return clip_case(name, shows, clip, told=told, **case_formats)


def _hevc(name: str, shows: str, pixel_format: str) -> Case:
    return clip_case(
        name, shows, Clip(encoder="libx265", options=X265, pixel_format=pixel_format, ticks=_SHORT)
    )


CASES = (
    clip_case("samples_h264_422.mp4", "8-bit 4:2:2 H.264", Clip(options=X264, pixel_format="yuv422p")),
    clip_case("samples_h264_444.mp4", "8-bit 4:4:4 H.264", Clip(options=X264, pixel_format="yuv444p")),
    clip_case(
        "samples_h264_grey.mp4",
        "grey H.264, which FFmpeg decodes as 4:2:0 without colour",
        Clip(options=X264, pixel_format="gray"),
        pixel_formats=("gray", "yuv420p"),
    ),
    clip_case("samples_h264_10bit.mp4", "10-bit H.264", Clip(options=X264, pixel_format="yuv420p10le")),
    _hevc("samples_hevc_10bit.mp4", "10-bit HEVC", "yuv420p10le"),
    _hevc("samples_hevc_12bit.mp4", "12-bit HEVC", "yuv420p12le"),
    _hevc("samples_hevc_422_12bit.mov", "12-bit 4:2:2 HEVC, as from cinema cameras", "yuv422p12le"),
    _hevc("samples_hevc_rgb.mp4", "RGB HEVC", "gbrp"),
    clip_case(
        "samples_av1_10bit.webm",
        "10-bit AV1",
        Clip(
            encoder="libsvtav1",
            options={"preset": "13", "crf": "10", "svtav1-params": "lp=1"},
            pixel_format="yuv420p10le",
            ticks=TICK_MS,
        ),
    ),
    clip_case(
        "samples_vp9_444.webm",
        "4:4:4 VP9",
        Clip(encoder="libvpx-vp9", options=VP9, pixel_format="yuv444p", ticks=TICK_MS),
    ),
    clip_case(
        "samples_vp9_440.webm",
        "4:4:0 VP9: chroma has half the rows",
        Clip(encoder="libvpx-vp9", options=VP9, pixel_format="yuv440p", ticks=TICK_MS),
        pixel_formats=("yuv440p", "yuv444p"),
    ),
    _ffv1("samples_411.mkv", "4:1:1 without fields", "yuv411p", "yuv422p", told=("4:1:1|yuv411p",)),
    _ffv1("samples_440.mkv", "4:4:0", "yuv440p", "yuv440p", "yuv444p"),
    _ffv1("samples_grey_10bit.mkv", "10-bit grey", "gray10le"),
    _ffv1("samples_grey_16bit.mkv", "16-bit grey, as from microscopes", "gray16le"),
    _ffv1("samples_rgb.mkv", "8-bit RGB", "bgr0"),
    _ffv1("samples_rgb_10bit.mkv", "10-bit RGB, as from film scanners", "gbrp10le"),
    _ffv1("samples_rgb_16bit.mkv", "16-bit RGB", "gbrp16le"),
    _ffv1("samples_420_16bit.mkv", "16-bit 4:2:0", "yuv420p16le"),
    _ffv1("samples_444_16bit.mkv", "16-bit 4:4:4", "yuv444p16le"),
    _ffv1("samples_ffv1_alpha.mkv", "4:2:0 with alpha in Matroska", "yuva420p"),
    _ffv1("samples_rgba.mkv", "RGB with alpha in Matroska", "bgra", "gbrap"),
    _ffv1("samples_rgba_16bit.mkv", "16-bit RGB with alpha", "gbrap16le"),
    clip_case(
        "samples_prores_alpha.mov",
        "ProRes 4444 with alpha",
        Clip(
            encoder="prores_ks",
            options={"profile": "4444", "vendor": "apl0", "alpha_bits": "16"},
            pixel_format="yuva444p10le",
            ticks=_SHORT,
        ),
        pixel_formats=("yuva444p12le",),
        suffixes=(".mov",),
    ),
    clip_case(
        "samples_vp9_alpha.webm",
        "VP9 with alpha, as browsers play it",
        Clip(
            encoder="libvpx-vp9",
            options={**VP9, "auto-alt-ref": "0"},
            pixel_format="yuva420p",
            stream_metadata={"alpha_mode": "1"},
            ticks=TICK_MS,
        ),
        suffixes=(".webm",),
    ),
    clip_case(
        "samples_png_alpha.mov",
        "PNG with alpha in QuickTime",
        Clip(encoder="png", options={}, pixel_format="rgba", ticks=_SHORT),
        pixel_formats=_PRORES_ALPHA,
        hues=None,
        told=("rgb",),
    ),
    clip_case(
        "samples_qtrle_alpha.mov",
        "QuickTime Animation with alpha",
        Clip(encoder="qtrle", options={}, pixel_format="argb", ticks=_SHORT),
        pixel_formats=_PRORES_ALPHA,
        hues=None,
        told=("rgb",),
    ),
    clip_case(
        "samples_palette.avi",
        "a palette, in Microsoft's run-length code",
        Clip(encoder="msrle", options={}, pixel_format="pal8", ticks=TICK_25),
        pixel_formats=("gbrp", "gbrap"),
        alpha=False,
    ),
    clip_case(
        "samples_utvideo_rgb.avi",
        "RGB in Ut Video, as from screen recorders",
        Clip(encoder="utvideo", options={}, pixel_format="gbrp", ticks=TICK_25),
    ),
)
