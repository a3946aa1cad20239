"""Planes as they are stored, unit floats and RGB, with a stream's own matrix, range and chroma siting.

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
"""Y, Cb, Cr, or Y alone: (H, W) each, uint8 or, above 8 bits, uint16 with the code in the low bits."""

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
        bit_depth: 8, 10, 12 or 16.
        chroma_w_shift: log2 of luma columns per chroma column: 0, 1 or 2.
        chroma_h_shift: log2 of luma rows per chroma row: 0, 1 or 2.
        has_chroma: False for grey, which has the Y plane alone.
    """

    bit_depth: int = 8
    chroma_w_shift: int = 1
    chroma_h_shift: int = 1
    has_chroma: bool = True

    def __post_init__(self) -> None:
        if self.bit_depth not in (8, 10, 12, 16):
            raise SpecError("Unsupported bit depth", got=str(self.bit_depth), expected="8, 10, 12 or 16")
        if not {self.chroma_w_shift, self.chroma_h_shift} <= {0, 1, 2}:
            got = f"shifts {self.chroma_w_shift} and {self.chroma_h_shift}"
            raise SpecError("Unsupported chroma subsampling", got=got, expected="shifts of 0, 1 or 2")

    @property
    def dtype(self) -> torch.dtype:
        """What the planes are stored in."""
        return torch.uint8 if self.bit_depth == 8 else torch.uint16

    @property
    def is_420(self) -> bool:
        """Whether chroma has half the columns and half the rows."""
        return self.has_chroma and (self.chroma_w_shift, self.chroma_h_shift) == (1, 1)

    def chroma_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a chroma plane beside luma of `size`; odd frames have a last, shared sample."""
        return -(-size[0] >> self.chroma_h_shift), -(-size[1] >> self.chroma_w_shift)


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
) -> Tensor:
    """Chroma beside scaled luma, so placed that no colour moves against it.

    Scaling keeps the picture's outline in place, not its first samples: on an axis in chroma widths, sample i
    lies at i + o before and j + o after, o being the origin of `chroma_origins`. Output j is therefore read
    at input index (j + o) / ratio - o. For left-sited 4:2:0 at x2, o is 1/4 and that is j / 2 - 1/8; treating
    the plane as a picture of its own would read at j / 2 - 1/4, half an output luma sample off.

    Args:
        chroma: (B, C, h, w) float32, C being any number of chroma planes.
        luma_size: (height, width) of the scaled luma.
        ratio: (vertical, horizontal) luma samples after per luma sample before.
        plane_format: Subsampling, the same before and after.
        location: Siting, the same before and after.
        kernel: Interpolation kernel; widened where the ratio is below 1.

    Returns:
        (B, C, ceil(height / 2**h_shift), ceil(width / 2**w_shift)), float32.
    """
    down, across = chroma_origins(plane_format, location)
    rows, columns = AxisMap(ratio[0], down, down), AxisMap(ratio[1], across, across)
    return resample(chroma, plane_format.chroma_size(luma_size), kernel, rows, columns)


def luma_to_unit(plane: Tensor, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """(1, 1, H, W) float32 from a Y plane: black 0, white 1, codes beyond them beyond."""
    scale, offset = _luma_code(plane_format, color_space)
    return _to_float(plane, plane_format).sub_(offset).div_(scale)[None, None]


def chroma_to_unit(planes: Planes, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """(1, 2, h, w) float32, nominally -0.5..0.5, from Y, Cb, Cr planes."""
    scale, offset = _chroma_code(plane_format, color_space)
    chroma = torch.stack([_to_float(plane, plane_format) for plane in planes[1:]])
    return chroma.sub_(offset).div_(scale)[None]


def unit_to_luma(luma: Tensor, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """A Y plane (H, W) from (H, W) floats: the nearest codes, held within the container's range."""
    return _to_codes(luma, *_luma_code(plane_format, color_space), plane_format)


def unit_to_chroma(chroma: Tensor, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """A Cb or Cr plane (h, w) from (h, w) floats: the nearest codes, held within the container's range."""
    return _to_codes(chroma, *_chroma_code(plane_format, color_space), plane_format)


def planes_to_rgb(planes: Planes, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
    """(1, 3, H, W) float32 R'G'B', nominally 0..1 and not clamped: superwhites and wide colours survive.

    Chroma is brought to the luma grid with the bicubic kernel from where its siting says it lies. A grey
    frame becomes R' = G' = B' = Y'.
    """
    luma = luma_to_unit(planes[0], plane_format, color_space)
    if not plane_format.has_chroma:
        return luma.expand(-1, 3, -1, -1)
    down, across = chroma_origins(plane_format, color_space.chroma_location)
    chroma = resample(
        chroma_to_unit(planes, plane_format, color_space),
        (luma.shape[-2], luma.shape[-1]),
        Kernel.BICUBIC,
        AxisMap(Fraction(1 << plane_format.chroma_h_shift), source_origin=down),
        AxisMap(Fraction(1 << plane_format.chroma_w_shift), source_origin=across),
    )
    return _yuv_to_rgb(luma, chroma[:, :1], chroma[:, 1:], color_space.matrix)


def rgb_to_planes(rgb: Tensor, plane_format: PlaneFormat, color_space: ColorSpace) -> Planes:
    """Planes from (1, 3, H, W) R'G'B'; chroma is filtered (widened bicubic) to where its siting lies."""
    luma, chroma = _rgb_to_yuv(rgb, color_space.matrix)
    y_plane = unit_to_luma(luma[0, 0], plane_format, color_space)
    if not plane_format.has_chroma:
        return (y_plane,)
    down, across = chroma_origins(plane_format, color_space.chroma_location)
    sited = resample(
        chroma,
        plane_format.chroma_size((rgb.shape[-2], rgb.shape[-1])),
        Kernel.BICUBIC,
        AxisMap(Fraction(1, 1 << plane_format.chroma_h_shift), target_origin=down),
        AxisMap(Fraction(1, 1 << plane_format.chroma_w_shift), target_origin=across),
    )
    return y_plane, *(unit_to_chroma(plane, plane_format, color_space) for plane in sited[0])


def _yuv_to_rgb(luma: Tensor, blue: Tensor, red: Tensor, matrix: Matrix) -> Tensor:
    kr, kb = matrix.kr_kb
    kg = 1.0 - kr - kb
    rgb = luma.repeat(1, 3, 1, 1)
    rgb[:, 0:1].add_(red, alpha=2 * (1 - kr))
    rgb[:, 1:2].add_(blue, alpha=-2 * (1 - kb) * kb / kg).add_(red, alpha=-2 * (1 - kr) * kr / kg)
    rgb[:, 2:3].add_(blue, alpha=2 * (1 - kb))
    return rgb


def _rgb_to_yuv(rgb: Tensor, matrix: Matrix) -> tuple[Tensor, Tensor]:
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
        return float((1 << plane_format.bit_depth) - 1), 0.0
    step = 1 << (plane_format.bit_depth - 8)
    return 219.0 * step, 16.0 * step


def _chroma_code(plane_format: PlaneFormat, color_space: ColorSpace) -> tuple[float, float]:
    """(codes from -0.5 to 0.5, code of no colour), H.273 equations 8.3."""
    middle = float(1 << (plane_format.bit_depth - 1))
    if color_space.full_range:
        return float((1 << plane_format.bit_depth) - 1), middle
    return 224.0 * (1 << (plane_format.bit_depth - 8)), middle


def _to_float(plane: Tensor, plane_format: PlaneFormat) -> Tensor:
    # Torch converts int16 many times faster than uint16; codes of up to 15 bits read the same in both.
    signed = 8 < plane_format.bit_depth < 16
    return plane.view(torch.int16).to(torch.float32) if signed else plane.to(torch.float32)


def _to_codes(plane: Tensor, scale: float, offset: float, plane_format: PlaneFormat) -> Tensor:
    highest = float((1 << plane_format.bit_depth) - 1)
    codes = torch.empty(plane.shape, dtype=plane_format.dtype, device=plane.device)
    num_rows = max(1, _PIECE_SAMPLES // plane.shape[1]) if plane.device.type == "cpu" else plane.shape[0]
    for part, out in zip(torch.split(plane, num_rows), torch.split(codes, num_rows), strict=True):
        rounded = part.mul(scale).add_(offset).round_().clamp_(0.0, highest)
        if plane_format.bit_depth == 8:
            out.copy_(rounded)
        else:  # the low 16 bits of an int32 are the uint16, which torch converts to only through an integer
            out.view(torch.int16).copy_(rounded.to(torch.int32))
    return codes
