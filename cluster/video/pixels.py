"""Pixel formats by name: how the planes of a frame are stored. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PixelFormat:
    """One of FFmpeg's pixel formats.

    Attributes:
        name: FFmpeg's.
        planar: The format with the same samples in one plane each and the code in the low bits.
        bit_depth: 8, 10 or 12; above 8 a sample takes two bytes, the lower one first.
        chroma_w_shift: log2 of luma columns per chroma column.
        chroma_h_shift: log2 of luma rows per chroma row.
        has_chroma: False for grey.
        is_semi_planar: Cb and Cr take turns in one plane.
        is_msb_aligned: The code is in the high bits.
    """

    name: str
    planar: str
    bit_depth: int
    chroma_w_shift: int = 0
    chroma_h_shift: int = 0
    has_chroma: bool = True
    is_semi_planar: bool = False
    is_msb_aligned: bool = False

    @property
    def is_420(self) -> bool:
        """Whether chroma has half the columns and half the rows."""
        return self.has_chroma and (self.chroma_w_shift, self.chroma_h_shift) == (1, 1)

    def plane_sizes(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of every plane of the planar format; odd frames have a last, shared sample."""
        if not self.has_chroma:
            return ((height, width),)
        chroma = (-(-height >> self.chroma_h_shift), -(-width >> self.chroma_w_shift))
        return (height, width), chroma, chroma


def _formats() -> dict[str, PixelFormat]:
    found = []
    for bit_depth, suffix in ((8, ""), (10, "10le"), (12, "12le")):
        for sampling, shifts in (("420", (1, 1)), ("422", (1, 0)), ("444", (0, 0))):
            name = f"yuv{sampling}p{suffix}"
            found.append(PixelFormat(name, name, bit_depth, *shifts))
        name = f"gray{suffix}"
        found.append(PixelFormat(name, name, bit_depth, has_chroma=False))
    found.append(PixelFormat("nv12", "yuv420p", 8, 1, 1, is_semi_planar=True))
    found.append(PixelFormat("p010le", "yuv420p10le", 10, 1, 1, is_semi_planar=True, is_msb_aligned=True))
    return {pixel_format.name: pixel_format for pixel_format in found}


PIXEL_FORMATS = _formats()


def pixel_format(name: str) -> PixelFormat | None:
    """The format of that name; None where Framelift does not know it."""
    return PIXEL_FORMATS.get(name)


def without_full_range(name: str) -> tuple[str, bool]:
    """FFmpeg's old names of full range (`yuvj420p`) as (the usual name, True); others as they are, False."""
    return (name.replace("yuvj", "yuv"), True) if name.startswith("yuvj") else (name, False)
