"""Pixels of BMP files, by Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile

from cluster.images import bmp
from cluster.images.info import ImageInfo, Layout
from cluster.images.plan import MAX_OUTPUT_FRAME_PX
from cluster.images.source import Metadata, SourceImage
from cluster.images.vips import Planes
from sr_core.errors import MediaError


def open_bmp(data: bytes, name: str) -> SourceImage:
    """The picture of a BMP file.

    Raises:
        MediaError: It cannot be read.
    """
    header = bmp.read_header(data, name)
    info = ImageInfo("bmp", header.width, header.height, is_lossless=True)
    if info.num_pixels > MAX_OUTPUT_FRAME_PX:
        raise MediaError("the BMP is too large", where=name, got=f"{info.width}x{info.height}")
    missing = max(0, header.num_bytes - len(data)) if header.num_bytes else 0
    try:
        # The class itself: Pillow's opener would try other formats.
        picture = BmpImageFile(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError("the BMP cannot be read", where=name, got=str(error)) from error
    layouts: dict[str, tuple[Layout, bool]] = {
        "1": ("grey", False),
        "L": ("grey", False),
        "RGBA": ("rgb", True),
    }
    layout, has_alpha = layouts.get(picture.mode, ("rgb", False))
    is_palette = picture.mode == "P"
    info = replace(
        info,
        layout=layout,
        has_alpha=has_alpha,
        is_palette=is_palette,
        stored_bits=header.bits if header.bits < 8 else 8,
        has_icc=bool(header.icc),
    )
    per_mm = (header.per_m[0] / 1000, header.per_m[1] / 1000) if min(header.per_m) > 0 else None
    return SourceImage(
        info, Metadata(icc=header.icc, per_mm=per_mm), lambda source: _bmp_frame(source, data, missing, name)
    )


def _bmp_frame(source: SourceImage, data: bytes, missing: int, name: str) -> Iterator[Planes]:
    if missing > len(data) * 1000 + (1 << 20):
        raise MediaError("nothing of the image decodes", where=name, got=f"{missing:,} bytes are missing")
    if missing:
        source.damage = f"the file is cut off: {missing:,} bytes are missing"
    picture = BmpImageFile(io.BytesIO(data + bytes(missing)))
    modes: dict[tuple[Layout, bool], str] = {("grey", False): "L", ("rgb", True): "RGBA"}
    try:
        pixels = np.asarray(picture.convert(modes.get((source.info.layout, source.info.has_alpha), "RGB")))
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError("nothing of the image decodes", where=name, got=str(error)) from error
    bands = pixels[..., None] if pixels.ndim == 2 else pixels
    yield tuple(np.ascontiguousarray(bands[..., band]) for band in range(bands.shape[-1]))
