"""libvips, set up to be safe and to give the same bytes everywhere: it is used through this module alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips

Plane = npt.NDArray[Any]
Planes = tuple[Plane, ...]
Image = pyvips.Image
Region = pyvips.Region
Source = pyvips.Source
VipsError = pyvips.Error
KEEP_NOTHING = "none"

# Loaders of formats that are dangerous to parse are off; the AV1 encoder's bytes depend on its threads; and
# a cached operation would keep the file and the pixels that it was called with.
pyvips.block_untrusted_set(True)
pyvips.vips_lib.vips_concurrency_set(1)
pyvips.cache_set_max(0)
# What it warns of on the way is in its errors too, or harmless.
logging.getLogger("pyvips").setLevel(logging.CRITICAL)

# As `vips_tracked_malloc` says it.
_FULL = "out of memory --- size =="
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16}
INTERPRETATIONS = {
    ("grey", 8): "b-w",
    ("grey", 16): "grey16",
    ("rgb", 8): "srgb",
    ("rgb", 16): "rgb16",
    ("cmyk", 8): "cmyk",
    ("cmyk", 16): "cmyk",
}


@contextmanager
def readable_errors() -> Iterator[None]:
    """Makes errors whose text quotes bytes of a damaged file the ones that they are, and finds full memory.

    Pyvips fails at decoding such a text, and would leave it standing for the next error.

    Raises:
        MemoryError: There is not enough, which says nothing against the file.
        VipsError: Whatever else libvips says.
    """
    try:
        yield
    except VipsError as error:
        if _FULL in str(error):
            raise MemoryError(said(error)) from error
        raise
    except UnicodeDecodeError as error:
        text = pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer()).decode("utf-8", "replace")
        forget_errors()
        raise VipsError("unable to read", text or "a text that is not UTF-8") from error


def forget_errors() -> None:
    """Leaves nothing of what was said of one file to be taken as said of the next."""
    pyvips.vips_lib.vips_error_clear()


def said(error: Exception) -> str:
    """What libvips said, in one line, once."""
    lines = dict.fromkeys(line.strip() for line in str(error).splitlines())
    general = ("unable to", "fetch failed")
    telling = [line for line in lines if line and not line.startswith(general)]
    return "; ".join(telling) or "its data is damaged or ends early"


def planes_of(image: Any) -> Planes:
    """The bands of an image as (H, W) uint8 or uint16 each."""
    with readable_errors():
        return _split(image.write_to_memory(), image, image.height)


def rows_of(image: Any, top: int, num_rows: int) -> Planes:
    """As `planes_of`, of some rows, which an image that is read sequentially gives only once."""
    with readable_errors():
        return _split(Region.new(image).fetch(0, top, image.width, num_rows), image, num_rows)


def _split(pixels: Any, image: Any, num_rows: int) -> Planes:
    array = np.frombuffer(pixels, _DTYPES[image.format]).reshape(num_rows, image.width, image.bands)
    return tuple(np.ascontiguousarray(array[..., band]) for band in range(image.bands))


def image_of(planes: Planes, interpretation: str) -> Any:
    """An image of libvips with a copy of `planes` as its bands."""
    pixels = np.stack(planes, axis=-1)
    height, width = planes[0].shape
    format_ = "uchar" if pixels.dtype == np.uint8 else "ushort"
    image = Image.new_from_memory(pixels, width, height, len(planes), format_)
    return image.copy(interpretation=interpretation)


def set_fields(image: Any, **fields: int | list[int] | bytes) -> Any:
    """A copy of `image` with metadata, underscores in names standing for hyphens."""
    changed = image.copy()
    for name, value in fields.items():
        changed.set_type(_TYPES[type(value)], name.replace("_", "-"), value)
    return changed


_TYPES = {
    int: pyvips.GValue.gint_type,
    list: pyvips.GValue.array_int_type,
    bytes: pyvips.GValue.blob_type,
}
