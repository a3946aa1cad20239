"""The frames of animated PNGs as they are shown. Source: the PNG specification, third edition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cluster.images import png
from cluster.images.decode import Loader, decoded
from cluster.images.info import NUM_COLORS, Layout
from cluster.images.source import SourceImage
from cluster.images.vips import Image, Plane, Planes


def apng_frames(source: SourceImage, animation: png.Animation, name: str) -> Iterator[Planes]:
    """The frames as they are shown: each drawn over what the ones before have left."""
    layout, depth = source.info.layout, source.info.bit_depth
    shape = (NUM_COLORS[layout] + 1, animation.height, animation.width)
    canvas = np.zeros(shape, np.uint8 if depth == 8 else np.uint16)
    for index, (control, picture) in enumerate(animation.frames):
        loader = Loader(Image.pngload_buffer, picture, "png")
        drawn = np.stack(_with_alpha(decoded(source, loader, f"{name}, frame {index}"), layout, depth))
        rows = slice(control.top, control.top + control.height)
        columns = slice(control.left, control.left + control.width)
        before = canvas.copy() if control.dispose == 2 else None
        area = canvas[:, rows, columns]
        area[:] = _over(drawn, area) if control.blend else drawn
        yield tuple(plane.copy() for plane in (canvas if source.info.has_alpha else canvas[:-1]))
        if before is not None:
            canvas = before
        elif control.dispose == 1:
            area[:] = 0


def _with_alpha(planes: Planes, layout: Layout, depth: int) -> Planes:
    if len(planes) > NUM_COLORS[layout]:
        return planes
    return *planes, np.full_like(planes[0], (1 << depth) - 1)


def _over(above: Plane, below: Plane) -> Plane:
    """(C + 1, H, W) drawn over another, alpha being last and not multiplied into the colours."""
    peak = float(np.iinfo(above.dtype).max)
    alpha, beneath = above[-1] / peak, below[-1] / peak
    total = alpha + beneath * (1 - alpha)
    colors = (above[:-1] * alpha + below[:-1] * (beneath * (1 - alpha))) / np.where(total == 0, 1, total)
    drawn: Plane = np.rint(np.concatenate([colors, total[None] * peak])).astype(above.dtype)
    return drawn
