"""Frames to test with."""

from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from sr_core.color import PlaneFormat, Planes

SAMPLINGS = ((1, 1), (1, 0), (0, 0), (2, 0), (2, 2), (0, 1))


def every_format(*bit_depths: int) -> list[PlaneFormat]:
    """Grey, RGB and luma with chroma of every sampling, with and without alpha, at each depth."""
    kinds = [PlaneFormat(8, has_chroma=False), PlaneFormat(8, 0, 0, is_rgb=True)]
    kinds += [PlaneFormat(8, *shifts) for shifts in SAMPLINGS]
    return [
        replace(kind, bit_depth=bit_depth, has_alpha=has_alpha)
        for bit_depth, kind, has_alpha in product(bit_depths, kinds, (False, True))
    ]


def noise(height: int, width: int, plane_format: PlaneFormat) -> Planes:
    """Any code anywhere; the same for the same size."""
    generator = torch.Generator().manual_seed(height * width)
    return tuple(
        stored(
            torch.randint(0, 1 << plane_format.bit_depth, size, generator=generator, dtype=torch.int32),
            plane_format,
        )
        for size in plane_format.plane_sizes((height, width))
    )


def flat(height: int, width: int, plane_format: PlaneFormat, *codes: int) -> Planes:
    """Planes of one code each."""
    sizes = plane_format.plane_sizes((height, width))
    return tuple(
        stored(torch.full(size, code), plane_format) for size, code in zip(sizes, codes, strict=True)
    )


def stored(codes: Tensor, plane_format: PlaneFormat) -> Tensor:
    """Integer codes as a plane of that format."""
    return codes.to(torch.int32).to(plane_format.dtype)


def numbers(plane: Tensor) -> Tensor:
    """Codes as int32, to reckon with."""
    return plane.to(torch.int32)


def equal(a: Planes, b: Planes) -> bool:
    """Whether two frames have the same planes, bit for bit."""
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
