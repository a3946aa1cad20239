"""Pictures that carry a number, which can still be read after lossy coding and upscaling.

Numbers are written in Gray's code, in which no bit changes twice in a row: what flickers from field to field
looks to deinterlacers as if it did not move at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.video.pixels import PixelFormat

NUM_BITS = 8
_NUM_COLUMNS = NUM_BITS + 2  # a dark and a bright one stand before the bits, so that any range can be read
_DARK, _BRIGHT = 50, 200
HUES = (110, 140)  # of the planes behind the first: chroma or colours that stay within the gamut

Plane = npt.NDArray[Any]


def numbered_planes(number: int, pixels: PixelFormat, width: int, height: int) -> list[Plane]:
    """Planes of a picture, as `pixels.planar` says: the first shows `number`, alpha shows 255 less it."""
    planes = []
    sizes = pixels.plane_sizes(width, height)
    for index, size in enumerate(sizes):
        is_alpha = pixels.has_alpha and index == len(sizes) - 1
        if index == 0:
            planes.append(_columns(number, size, pixels.bit_depth))
        elif is_alpha:
            planes.append(_columns(255 - number, size, pixels.bit_depth))
        else:
            planes.append(np.full(size, HUES[index - 1] << (pixels.bit_depth - 8), _dtype(pixels.bit_depth)))
    return planes


def hues_as_ycbcr(number: int) -> tuple[int, int]:
    """Means of Cb and Cr, 8 bit, that BT.709 makes of an RGB picture with `number`, whose green shows it."""
    green = float(_columns(number, (1, 20 * _NUM_COLUMNS), 8).mean())
    blue, red = HUES
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    unit = 224 / 255
    return (
        round(128 + unit * (blue - luma) / (2 * (1 - 0.0722))),
        round(128 + unit * (red - luma) / (2 * (1 - 0.2126))),
    )


def number_in(plane: Plane) -> int:
    """The number that a plane of `numbered_planes` shows."""
    means = [float(plane[:, _middle(index, plane.shape[1])].mean()) for index in range(_NUM_COLUMNS)]
    dark, bright, *bits = means
    gray = sum((mean > (dark + bright) / 2) << bit for bit, mean in enumerate(bits))
    return gray ^ gray >> 1 ^ gray >> 2 ^ gray >> 3 ^ gray >> 4 ^ gray >> 5 ^ gray >> 6 ^ gray >> 7


def woven(first: Sequence[Plane], second: Sequence[Plane], top_field_first: bool) -> list[Plane]:
    """The picture whose one field is from `first`, shown first, and whose other is from `second`."""
    planes = []
    for one, two in zip(first, second, strict=True):
        plane = one.copy()
        plane[int(top_field_first) :: 2] = two[int(top_field_first) :: 2]
        planes.append(plane)
    return planes


def textured(plane: Plane, seed: int) -> Plane:
    """`plane` of 8 bits with noise over it that leaves its number as it is."""
    noise = np.random.default_rng(seed).integers(-30, 31, plane.shape)
    return (plane + noise).astype(plane.dtype)


def _columns(number: int, size: tuple[int, int], bit_depth: int) -> Plane:
    plane = np.empty(size, _dtype(bit_depth))
    gray = number ^ number >> 1
    values = [_DARK, _BRIGHT, *(_BRIGHT if gray >> bit & 1 else _DARK for bit in range(NUM_BITS))]
    for index, value in enumerate(values):
        plane[:, _column(index, size[1])] = value << (bit_depth - 8)
    return plane


def _column(index: int, width: int) -> slice:
    return slice(index * width // _NUM_COLUMNS, (index + 1) * width // _NUM_COLUMNS)


def _middle(index: int, width: int) -> slice:
    """The middle half of a column, which its neighbours do not reach."""
    column = _column(index, width)
    margin = (column.stop - column.start) // 4
    return slice(column.start + margin, column.stop - margin)


def _dtype(bit_depth: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if bit_depth == 8 else np.uint16
