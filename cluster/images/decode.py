"""Samples by libvips, also of files that are damaged: what decodes, and in words what does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.images import png
from cluster.images.info import NUM_COLORS, ImageFormat, ImageInfo
from cluster.images.source import SourceImage
from cluster.images.vips import Planes, VipsError, planes_of, readable_errors, rows_of, said
from sr_core.errors import MediaError

# Libvips goes on after these, and every pixel is there.
# Bytes before a restart marker are scan data that make no sense; before others they are padding.
_HARMLESS = re.compile(
    r"extraneous bytes before marker 0x(?!d[0-7])|Invalid SOS parameters|Unknown Adobe color transform"
)


@dataclass(frozen=True)
class Loader:
    """One of libvips' loaders with the bytes that it is for."""

    call: Callable[..., Any]
    data: bytes | bytearray
    format: ImageFormat
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, fail_on: str) -> Any:
        """The image, to be read from top to bottom, failing at what `fail_on` names or is worse."""
        with readable_errors():
            return self.call(self.data, access="sequential", fail_on=fail_on, **self.options)


def still(source: SourceImage, loader: Loader, name: str) -> Iterator[Planes]:
    """The one picture of a file."""
    yield decoded(source, loader, name)


def decoded(source: SourceImage, loader: Loader, name: str) -> Planes:
    """A still's samples; where some are missing, what decodes, and `source.damage` says so."""
    # Only at its most severe does libvips tell of JPEG data that make no sense.
    levels = ("warning", "error") if loader.format == "jpeg" else ("error",)
    damage = ""
    for level in levels:
        try:
            return planes_of(loader.open(level))
        except VipsError as error:
            damage = said(error)
        if not all(_HARMLESS.search(part) for part in damage.split("; ")):
            break
    source.damage = source.damage or damage
    try:
        return planes_of(loader.open("none"))
    except VipsError as error:
        mended = png.mended(bytes(loader.data)) if loader.format == "png" else b""
        if not mended:
            raise _nothing(said(error), name) from error
    try:
        return planes_of(replace(loader, data=mended).open("none"))
    except VipsError as error:
        raise _nothing(said(error), name) from error


def frames_of(source: SourceImage, loader: Loader, name: str) -> Iterator[Planes]:
    """The frames of an animation, one after the other from one pass over the file.

    Where the rest cannot be decoded, the last frame that can stands for it, so that all keep their times.
    """
    height, image, shown = source.info.height, None, None
    levels, has_ended = ["error", "none"], False
    for index in range(source.info.num_frames):
        planes = None
        while levels and planes is None:
            try:
                image = image or loader.open(levels[0])
                planes = rows_of(image, index * height, height)
            except VipsError as error:
                levels, image = levels[1:], None
                source.damage = source.damage or said(error)
        if planes is None and not has_ended:
            # A pass over the file reads ahead: the frame before the broken one can be had alone.
            planes = _frame_alone(loader, index)
            has_ended = planes is None
        shown = planes or shown
        if shown is None:
            raise _nothing(source.damage, name)
        yield _as_layout(shown, source.info)


def _frame_alone(loader: Loader, index: int) -> Planes | None:
    try:
        return planes_of(replace(loader, options={"page": index, "n": 1}).open("none"))
    except VipsError:
        return None


def _as_layout(planes: Planes, info: ImageInfo) -> Planes:
    """Planes of the info's layout, with alpha where it has some."""
    num_colors = NUM_COLORS[info.layout]
    colors = planes[:num_colors] if len(planes) >= num_colors else (planes[0],) * num_colors
    return (*colors, planes[-1]) if info.has_alpha else colors


def _nothing(got: str, name: str) -> MediaError:
    return MediaError(
        "nothing of the image decodes",
        where=name,
        got=got,
        next_step="check whether other programs open it",
    )


def avif_frame(source: SourceImage, loader: Loader, name: str) -> Iterator[Planes]:
    """The picture, whose 10 or 12 bit libvips puts into the upper bits of 16."""
    planes = decoded(source, loader, name)
    shift = 16 - source.info.bit_depth if source.info.bit_depth > 8 else 0
    yield tuple(plane >> shift for plane in planes) if shift else planes
