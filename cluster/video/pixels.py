"""Pixel formats by name: what the samples of a frame are, and how they are stored. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class PixelFormat:
    """One of FFmpeg's pixel formats.

    Attributes:
        name: FFmpeg's.
        planar: The format with the very same samples in one plane each, the code in the low bits, and above
            8 bits the lower byte first. Its planes are Y, Cb, Cr or, in this order, G, B, R; alpha is last.
        via: The formats between, in turn, where FFmpeg's scaler (8.1) is exact in more than one step alone.
        bit_depth: 8 to 16, of every plane.
        chroma_w_shift: log2 of luma columns per chroma column.
        chroma_h_shift: log2 of luma rows per chroma row.
        has_chroma: False for grey.
        is_rgb: The planes are colours rather than luma and chroma.
        has_alpha: The last plane is opacity.
    """

    name: str
    planar: str
    bit_depth: int
    chroma_w_shift: int = 0
    chroma_h_shift: int = 0
    has_chroma: bool = True
    is_rgb: bool = False
    has_alpha: bool = False
    via: tuple[str, ...] = ()

    @property
    def is_planar(self) -> bool:
        """Whether frames are stored as `planar` says."""
        return self.name == self.planar

    @property
    def is_420(self) -> bool:
        """Whether chroma has half the columns and half the rows."""
        return (self.chroma_w_shift, self.chroma_h_shift) == (1, 1)

    @property
    def is_subsampled(self) -> bool:
        """Whether chroma has fewer samples than luma."""
        return bool(self.chroma_w_shift or self.chroma_h_shift)

    def plane_sizes(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of every plane of the planar format; odd frames have a last, shared sample."""
        luma = (height, width)
        chroma = (-(-height >> self.chroma_h_shift), -(-width >> self.chroma_w_shift))
        return luma, *[chroma] * (2 * self.has_chroma), *[luma] * self.has_alpha


_SHIFTS = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}

# What is not planar, and the planar format with the same samples, into which FFmpeg's scaler (8.1) turns it
# without a change. (The other way it is not exact for all of them.) Fewer than 8 bits are widened as that
# scaler does, by repeating the upper bits below. rgb444, rgb8, ya8 and nv20 do not come out exact.
_UNPACKED = {
    **dict.fromkeys(["rgb24", "bgr24", "rgb0", "bgr0", "0rgb", "0bgr"], "gbrp"),
    **dict.fromkeys(["rgba", "bgra", "argb", "abgr", "pal8"], "gbrap"),
    **dict.fromkeys(["rgb48le", "rgb48be", "bgr48le", "bgr48be"], "gbrp16le"),
    **dict.fromkeys(["rgba64le", "rgba64be", "bgra64le", "bgra64be"], "gbrap16le"),
    **dict.fromkeys(["x2rgb10le", "x2bgr10le"], "gbrp10le"),
    **dict.fromkeys(["monow", "monob"], "gray"),
    "uyyvyy411": "yuv411p",
    **dict.fromkeys(["nv12", "nv21"], "yuv420p"),
    **dict.fromkeys(["yuyv422", "uyvy422", "yvyu422", "nv16"], "yuv422p"),
    **dict.fromkeys(["nv24", "nv42", "vyu444", "vuyx"], "yuv444p"),
    **dict.fromkeys(["ayuv", "vuya", "uyva"], "yuva444p"),
    "ayuv64le": "yuva444p16le",
    "p010le": "yuv420p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    **dict.fromkeys(["p210le", "y210le"], "yuv422p10le"),
    **dict.fromkeys(["p212le", "y212le"], "yuv422p12le"),
    **dict.fromkeys(["p216le", "y216le"], "yuv422p16le"),
    **dict.fromkeys(["p410le", "xv30le", "v30xle"], "yuv444p10le"),
    **dict.fromkeys(["p412le", "xv36le"], "yuv444p12le"),
    **dict.fromkeys(["p416le", "xv48le"], "yuv444p16le"),
}

# RGB of 15 and 16 bits: straight to planes, white would become 248; to 24 bits, the lower byte must be first.
_IN_STEPS = {
    f"{family}{order}": ([f"{family}le"] if order == "be" else []) + ["rgb24"]
    for family in ("rgb555", "bgr555", "rgb565", "bgr565")
    for order in ("le", "be")
}


def _families() -> Iterator[tuple[str, PixelFormat, tuple[int, ...]]]:
    """(name without depth, what it is at 8 bit, depths) of the planar formats."""
    depths = (8, 9, 10, 12, 14, 16)
    for sampling, (across, down) in _SHIFTS.items():
        known = {"440": (8, 10, 12), "411": (8,), "410": (8,)}.get(sampling, depths)
        yield f"yuv{sampling}p", PixelFormat("", "", 8, across, down), known
    for sampling in ("420", "422", "444"):
        known = (8, 9, 10, 16) if sampling == "420" else (8, 9, 10, 12, 16)
        yield f"yuva{sampling}p", PixelFormat("", "", 8, *_SHIFTS[sampling], has_alpha=True), known
    yield "gray", PixelFormat("", "", 8, has_chroma=False), depths
    yield "gbrp", PixelFormat("", "", 8, is_rgb=True), depths
    yield "gbrap", PixelFormat("", "", 8, is_rgb=True, has_alpha=True), (8, 10, 12, 14, 16)


def _formats() -> dict[str, PixelFormat]:
    found = {}
    for family, what, depths in _families():
        for depth in depths:
            little = family if depth == 8 else f"{family}{depth}le"
            for name in {little, little.replace("le", "be")}:
                found[name] = _named(what, name, little, depth)
    for name, planar in _UNPACKED.items():
        found[name] = _named(found[planar], name, planar, found[planar].bit_depth)
    for name, via in _IN_STEPS.items():
        found[name] = replace(_named(found["gbrp"], name, "gbrp", 8), via=tuple(via))
    return found


def _named(what: PixelFormat, name: str, planar: str, depth: int) -> PixelFormat:
    return PixelFormat(
        name,
        planar,
        depth,
        what.chroma_w_shift,
        what.chroma_h_shift,
        what.has_chroma,
        what.is_rgb,
        what.has_alpha,
    )


PIXEL_FORMATS = _formats()


def pixel_format(name: str) -> PixelFormat | None:
    """The format of that name; None where Framelift does not know it."""
    return PIXEL_FORMATS.get(name)


def without_full_range(name: str) -> tuple[str, bool]:
    """FFmpeg's old names of full range (`yuvj420p`) as (the usual name, True); others as they are, False."""
    return (name.replace("yuvj", "yuv"), True) if name.startswith("yuvj") else (name, False)
