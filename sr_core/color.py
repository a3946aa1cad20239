"""Planes as they are stored, unit floats and RGB, with a stream's own matrix, range and chroma siting.

The way is planes -> `UnitFrame` -> a network's colours -> planes, maybe of another format. Floats carry what
codes cannot (superwhites, colours outside of RGB) and are rounded once, at the end.

Sources: ITU-R BT.601-7, BT.709-6, BT.2020-2 and SMPTE 240M for the luma coefficients; ITU-T H.273 for the
    codes of narrow and full range, for the FCC matrix and for the chroma sample locations.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.kernels import Kernel
from sr_core.resample import HALF, AxisMap, resample

Planes = tuple[Tensor, ...]
"""Y, Cb, Cr, or R, G, B, or Y alone, then alpha if there is: (H, W) each, but for subsampled chroma.

They are uint8 or, above 8 bits, uint16 with the code in the low bits.
"""

# Quantising runs over a plane five times: in pieces of this size it does so within the cache.
_PIECE_SAMPLES = 100_000


class Matrix(StrEnum):
    """How luma weighs red and blue (H.273 MatrixCoefficients)."""

    BT601 = "bt601"
    BT709 = "bt709"
    BT2020NC = "bt2020nc"
    SMPTE240M = "smpte240m"
    FCC = "fcc"

    @property
    def kr_kb(self) -> tuple[float, float]:
        """The weights of red and of blue in luma; green has the rest."""
        return _KR_KB[self]


_KR_KB = {
    Matrix.BT601: (0.299, 0.114),
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.BT2020NC: (0.2627, 0.0593),
    Matrix.SMPTE240M: (0.212, 0.087),
    Matrix.FCC: (0.30, 0.11),
}


class ChromaLocation(StrEnum):
    """Where the first chroma sample lies among the luma samples that it belongs to (H.273 figure 10)."""

    LEFT = "left"
    CENTER = "center"
    TOPLEFT = "topleft"
    TOP = "top"
    BOTTOMLEFT = "bottomleft"
    BOTTOM = "bottom"

    @property
    def across(self) -> Fraction:
        """From the first (0) to the last (1) luma column of a chroma sample."""
        left = (ChromaLocation.LEFT, ChromaLocation.TOPLEFT, ChromaLocation.BOTTOMLEFT)
        return Fraction(0) if self in left else HALF

    @property
    def down(self) -> Fraction:
        """From the first (0) to the last (1) luma row of a chroma sample."""
        if self in (ChromaLocation.TOP, ChromaLocation.TOPLEFT):
            return Fraction(0)
        return Fraction(1) if self in (ChromaLocation.BOTTOM, ChromaLocation.BOTTOMLEFT) else HALF


@dataclass(frozen=True)
class PlaneFormat:
    """How planes are stored.

    Attributes:
        bit_depth: 8 to 16, of every plane.
        chroma_w_shift: log2 of luma columns per chroma column: 0, 1 or 2.
        chroma_h_shift: log2 of luma rows per chroma row: 0, 1 or 2.
        has_chroma: False for grey, which has the Y plane alone; its shifts mean nothing.
        is_rgb: The planes are R, G and B, with shifts of 0.
        has_alpha: One more plane of luma's size is last: straight opacity, which uses all codes whatever the
            range of the colours is.
    """

    bit_depth: int = 8
    chroma_w_shift: int = 1
    chroma_h_shift: int = 1
    has_chroma: bool = True
    is_rgb: bool = False
    has_alpha: bool = False

    def __post_init__(self) -> None:
        if self.bit_depth not in range(8, 17):
            raise SpecError("Unsupported bit depth", got=str(self.bit_depth), expected="8 to 16")
        shifts = (self.chroma_w_shift, self.chroma_h_shift)
        if not {*shifts} <= {0, 1, 2}:
            got = f"shifts {shifts[0]} and {shifts[1]}"
            raise SpecError("Unsupported chroma subsampling", got=got, expected="shifts of 0, 1 or 2")
        if self.is_rgb and (shifts != (0, 0) or not self.has_chroma):
            got = f"shifts {shifts[0]} and {shifts[1]}" if self.has_chroma else "grey"
            raise SpecError("RGB has three planes without subsampling", got=got, expected="shifts of 0")

    @property
    def dtype(self) -> torch.dtype:
        """What the planes are stored in."""
        return torch.uint8 if self.bit_depth == 8 else torch.uint16

    @property
    def is_420(self) -> bool:
        """Whether chroma has half the columns and half the rows."""
        return self.has_chroma and (self.chroma_w_shift, self.chroma_h_shift) == (1, 1)

    @property
    def is_yuv(self) -> bool:
        """Whether there are luma and chroma, so that a matrix says what they mean."""
        return self.has_chroma and not self.is_rgb

    @property
    def num_color_planes(self) -> int:
        """Planes before alpha."""
        return 3 if self.has_chroma else 1

    @property
    def num_planes(self) -> int:
        """All planes."""
        return self.num_color_planes + self.has_alpha

    def chroma_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a chroma plane beside luma of `size`; odd frames have a last, shared sample."""
        return -(-size[0] >> self.chroma_h_shift), -(-size[1] >> self.chroma_w_shift)

    def plane_sizes(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """(height, width) of each plane of a frame of `size`."""
        chroma = [self.chroma_size(size)] * 2 if self.has_chroma else []
        return size, *chroma, *[size] * self.has_alpha


# Chroma as networks want it: a sample on every luma sample.
_UNSAMPLED = PlaneFormat(8, 0, 0)
_SAME_SIZE = (Fraction(1), Fraction(1))


@dataclass(frozen=True)
class ColorSpace:
    """What the codes mean.

    Attributes:
        matrix: How luma and chroma are made of red, green and blue.
        full_range: True where black and white are the lowest and highest codes (JPEG), not 16 and 235.
        chroma_location: Siting of subsampled chroma; without effect on 4:4:4.
    """

    matrix: Matrix = Matrix.BT709
    full_range: bool = False
    chroma_location: ChromaLocation = ChromaLocation.LEFT


@dataclass(frozen=True)
class Conversion:
    """What frames are, and what they become.

    Attributes:
        source_format: How their planes are stored.
        source_space: What those codes mean.
        out_format: How the result's planes are stored.
        out_space: What its codes mean.
    """

    source_format: PlaneFormat
    source_space: ColorSpace
    out_format: PlaneFormat
    out_space: ColorSpace

    @property
    def matrix(self) -> Matrix:
        """Of luma and chroma: the source's where it has them; of RGB and grey, a matrix says nothing."""
        return (self.source_space if self.source_format.is_yuv else self.out_space).matrix

    def refuse_contradictions(self, where: str) -> None:
        """Refuse what would make up colours or opacity, or change luma by another matrix.

        Raises:
            SpecError: The result cannot be made of the source.
        """
        source, made = self.source_format, self.out_format
        if made.is_rgb and not source.is_rgb:
            got, expected = "RGB from luma and chroma", "luma and chroma"
        elif made.has_alpha and not source.has_alpha:
            got, expected = "alpha from a source without", "no alpha"
        elif source.is_yuv and made.is_yuv and self.source_space.matrix != self.out_space.matrix:
            got, expected = self.out_space.matrix.value, self.source_space.matrix.value
        else:
            return
        raise SpecError(
            "The output's format contradicts the source's", where=where, got=got, expected=expected
        )


@dataclass(frozen=True)
class UnitFrame:
    """A frame in floats: black 0 and white 1, chroma nominally -0.5..0.5, opacity 0..1; nothing is clamped.

    Attributes:
        colors: (1, 1, H, W) luma or (1, 3, H, W) R'G'B', float32.
        chroma: (1, 2, h, w) Cb and Cr on their own grid; None for grey and R'G'B'.
        alpha: (1, 1, H, W) straight opacity; None where there is none.
    """

    colors: Tensor
    chroma: Tensor | None = None
    alpha: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.colors.shape[-2], self.colors.shape[-1]


def chroma_origins(plane_format: PlaneFormat, location: ChromaLocation) -> tuple[Fraction, Fraction]:
    """(vertical, horizontal) origin of the chroma grid for `AxisMap`, in chroma samples.

    Of the 2**k luma samples that share a chroma sample, the first has its centre at (1/2) / 2**k of the
    chroma sample's width and the last at 1 minus that; the siting lies between the two.
    """

    def origin(shift: int, between: Fraction) -> Fraction:
        return (HALF + between * ((1 << shift) - 1)) / (1 << shift)

    return (
        origin(plane_format.chroma_h_shift, location.down),
        origin(plane_format.chroma_w_shift, location.across),
    )


def scale_chroma(
    chroma: Tensor,
    luma_size: tuple[int, int],
    ratio: tuple[Fraction, Fraction],
    plane_format: PlaneFormat,
    location: ChromaLocation,
    kernel: Kernel,
    *,
    out_format: PlaneFormat | None = None,
    out_location: ChromaLocation | None = None,
) -> Tensor:
    """Chroma beside scaled luma, so placed that no colour moves against it.

    Scaling keeps the picture's outline in place, not its first samples: on an axis in chroma widths, sample i
    lies at i + o before and j + o after, o being the origin of `chroma_origins`. Output j is therefore read
    at input index (j + o) / ratio - o. For left-sited 4:2:0 at x2, o is 1/4 and that is j / 2 - 1/8; treating
    the plane as a picture of its own would read at j / 2 - 1/4, half an output luma sample off. Where the
    subsampling changes, each side has its own o, and the ratio is that of the chroma grids.

    Args:
        chroma: (B, C, h, w) float32, C being any number of chroma planes.
        luma_size: (height, width) of the scaled luma.
        ratio: (vertical, horizontal) luma samples after per luma sample before.
        plane_format: Subsampling before.
        location: Siting before.
        kernel: Interpolation kernel; widened where the ratio is below 1.
        out_format: Subsampling after; the same as before if None.
        out_location: Siting after; the same as before if None.

    Returns:
        (B, C, ceil(height / 2**h_shift), ceil(width / 2**w_shift)) with the shifts after, float32.
    """
    out_format = out_format or plane_format
    from_down, from_across = chroma_origins(plane_format, location)
    to_down, to_across = chroma_origins(out_format, out_location or location)
    down = Fraction(1 << plane_format.chroma_h_shift, 1 << out_format.chroma_h_shift)
    across = Fraction(1 << plane_format.chroma_w_shift, 1 << out_format.chroma_w_shift)
    return resample(
        chroma,
        out_format.chroma_size(luma_size),
        kernel,
        AxisMap(ratio[0] * down, from_down, to_down),
        AxisMap(ratio[1] * across, from_across, to_across),
    )


def planes_to_units(planes: Planes, plane_format: PlaneFormat, color_space: ColorSpace) -> UnitFrame:
    """The frame in floats, each plane on its own grid."""
    alpha = _alpha_to_unit(planes[-1], plane_format) if plane_format.has_alpha else None
    if plane_format.is_rgb:
        colors = [luma_to_unit(plane, plane_format, color_space) for plane in planes[:3]]
        return UnitFrame(torch.cat(colors, dim=1), None, alpha)
    chroma = chroma_to_unit(planes, plane_format, color_space) if plane_format.has_chroma else None
    return UnitFrame(luma_to_unit(planes[0], plane_format, color_space), chroma, alpha)


def luma_to_unit(plane: Tensor, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """(1, 1, H, W) float32 from a Y, R, G or B plane: black 0, white 1, codes beyond them beyond."""
    scale, offset = _luma_code(plane_format, color_space)
    return _to_float(plane, plane_format).sub_(offset).div_(scale)[None, None]


def chroma_to_unit(planes: Planes, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """(1, 2, h, w) float32, nominally -0.5..0.5, from Y, Cb, Cr planes."""
    scale, offset = _chroma_code(plane_format, color_space)
    chroma = torch.stack([_to_float(plane, plane_format) for plane in planes[1:3]])
    return chroma.sub_(offset).div_(scale)[None]


def unit_to_luma(luma: Tensor, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """A Y, R, G or B plane (H, W) from (H, W) floats: the nearest codes that the container has."""
    return _to_codes(luma, *_luma_code(plane_format, color_space), plane_format)


def unit_to_chroma(chroma: Tensor, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """A Cb or Cr plane (h, w) from (h, w) floats: the nearest codes, held within the container's range."""
    return _to_codes(chroma, *_chroma_code(plane_format, color_space), plane_format)


def unit_to_alpha(alpha: Tensor, plane_format: PlaneFormat) -> Tensor:
    """An alpha plane (H, W) from (H, W) opacities: the nearest codes, held within the container's range."""
    return _to_codes(alpha, _highest_code(plane_format), 0.0, plane_format)


def planes_to_rgb(planes: Planes, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """(1, 3, H, W) float32 R'G'B' of planes; see `units_to_rgb`."""
    return units_to_rgb(planes_to_units(planes, plane_format, color_space), plane_format, color_space)


def units_to_rgb(frame: UnitFrame, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """(1, 3, H, W) float32 R'G'B', nominally 0..1 and not clamped: superwhites and wide colours survive.

    Chroma is brought to the luma grid with the bicubic kernel from where its siting says it lies. A grey
    frame becomes R' = G' = B' = Y'.
    """
    if frame.chroma is None:
        return frame.colors.expand(-1, 3, -1, -1)
    chroma = scale_chroma(
        frame.chroma,
        frame.size,
        _SAME_SIZE,
        plane_format,
        color_space.chroma_location,
        Kernel.BICUBIC,
        out_format=_UNSAMPLED,
    )
    return yuv_to_rgb(frame.colors, chroma, color_space.matrix)


def rgb_to_planes(rgb: Tensor, plane_format: PlaneFormat, color_space: ColorSpace) -> Planes:
    """Planes, alpha left out, from (1, 3, H, W) R'G'B'.

    Chroma is filtered (widened bicubic) to where its siting lies.
    """
    if plane_format.is_rgb:
        return tuple(unit_to_luma(plane, plane_format, color_space) for plane in rgb[0])
    luma, chroma = rgb_to_yuv(rgb, color_space.matrix)
    if not plane_format.has_chroma:
        return yuv_to_planes(luma, None, plane_format, color_space)
    sited = scale_chroma(
        chroma,
        (rgb.shape[-2], rgb.shape[-1]),
        _SAME_SIZE,
        _UNSAMPLED,
        color_space.chroma_location,
        Kernel.BICUBIC,
        out_format=plane_format,
    )
    return yuv_to_planes(luma, sited, plane_format, color_space)


def yuv_to_planes(
    luma: Tensor, chroma: Tensor | None, plane_format: PlaneFormat, color_space: ColorSpace
) -> Planes:
    """Planes, alpha left out, from (1, 1, H, W) luma and (1, 2, h, w) chroma on the format's own grid.

    Without chroma, a format that has it gets the code of no colour; grey drops it.
    """
    y_plane = unit_to_luma(luma[0, 0], plane_format, color_space)
    if not plane_format.has_chroma:
        return (y_plane,)
    if chroma is None:
        size = plane_format.chroma_size((luma.shape[-2], luma.shape[-1]))
        chroma = luma.new_zeros(1, 2, *size)
    return y_plane, *(unit_to_chroma(plane, plane_format, color_space) for plane in chroma[0])


def yuv_to_rgb(luma: Tensor, chroma: Tensor, matrix: Matrix) -> Tensor:
    """(B, 3, H, W) R'G'B' from (B, 1, H, W) luma and (B, 2, H, W) chroma."""
    kr, kb = matrix.kr_kb
    kg = 1.0 - kr - kb
    blue, red = chroma.chunk(2, dim=1)
    rgb = luma.repeat(1, 3, 1, 1)
    rgb[:, 0:1].add_(red, alpha=2 * (1 - kr))
    rgb[:, 1:2].add_(blue, alpha=-2 * (1 - kb) * kb / kg).add_(red, alpha=-2 * (1 - kr) * kr / kg)
    rgb[:, 2:3].add_(blue, alpha=2 * (1 - kb))
    return rgb


def rgb_to_yuv(rgb: Tensor, matrix: Matrix) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) luma and (B, 2, H, W) chroma from (B, 3, H, W) R'G'B'."""
    kr, kb = matrix.kr_kb
    red, green, blue = rgb.chunk(3, dim=1)
    luma = green.mul(1.0 - kr - kb).add_(red, alpha=kr).add_(blue, alpha=kb)
    chroma = torch.cat([blue - luma, red - luma], dim=1)
    chroma[:, :1].div_(2 * (1 - kb))
    chroma[:, 1:].div_(2 * (1 - kr))
    return luma, chroma


def _luma_code(plane_format: PlaneFormat, color_space: ColorSpace) -> tuple[float, float]:
    """(codes from black to white, code of black), H.273 equations 8.3."""
    if color_space.full_range:
        return _highest_code(plane_format), 0.0
    step = 1 << (plane_format.bit_depth - 8)
    return 219.0 * step, 16.0 * step


def _chroma_code(plane_format: PlaneFormat, color_space: ColorSpace) -> tuple[float, float]:
    """(codes from -0.5 to 0.5, code of no colour), H.273 equations 8.3."""
    middle = float(1 << (plane_format.bit_depth - 1))
    if color_space.full_range:
        return _highest_code(plane_format), middle
    return 224.0 * (1 << (plane_format.bit_depth - 8)), middle


def _highest_code(plane_format: PlaneFormat) -> float:
    return float((1 << plane_format.bit_depth) - 1)


def _alpha_to_unit(plane: Tensor, plane_format: PlaneFormat) -> Tensor:
    return _to_float(plane, plane_format).div_(_highest_code(plane_format))[None, None]


def _to_float(plane: Tensor, plane_format: PlaneFormat) -> Tensor:
    # Torch converts int16 faster than uint16; codes of up to 15 bits read the same in both.
    signed = 8 < plane_format.bit_depth < 16
    return plane.view(torch.int16).to(torch.float32) if signed else plane.to(torch.float32)


def _to_codes(plane: Tensor, scale: float, offset: float, plane_format: PlaneFormat) -> Tensor:
    highest = _highest_code(plane_format)
    codes = torch.empty(plane.shape, dtype=plane_format.dtype, device=plane.device)
    num_rows = max(1, _PIECE_SAMPLES // plane.shape[1]) if plane.device.type == "cpu" else plane.shape[0]
    for part, out in zip(torch.split(plane, num_rows), torch.split(codes, num_rows), strict=True):
        rounded = part.mul(scale).add_(offset).round_().clamp_(0.0, highest)
        if plane_format.bit_depth == 8:
            out.copy_(rounded)
        else:  # the low 16 bits of an int32 are the uint16, which torch converts to only through an integer
            out.view(torch.int16).copy_(rounded.to(torch.int32))
    return codes
