"""What libvips knows of an image beside its samples."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from cluster.images import ifd
from cluster.images.info import NUM_COLORS, ImageFormat, ImageInfo, Layout
from cluster.images.plan import MAX_FRAMES
from cluster.images.source import Metadata
from cluster.images.vips import readable_errors
from sr_core.errors import MediaError

_LAYOUTS: dict[str, Layout] = {
    "b-w": "grey",
    "grey16": "grey",
    "srgb": "rgb",
    "rgb": "rgb",
    "rgb16": "rgb",
    "cmyk": "cmyk",
}
_EXIF_HEADER = b"Exif\0\0"


def info_of(image: Any, format_: ImageFormat, name: str) -> ImageInfo:
    """What libvips knows of an image."""
    layout = _LAYOUTS.get(image.interpretation)
    if layout is None or image.format not in ("uchar", "ushort"):
        raise MediaError(
            "an image of this kind is not supported",
            where=name,
            got=f"{image.interpretation} in {image.format}",
            expected="grey, RGB or CMYK of 8 or 16 bit",
        )
    num_extra = image.bands - NUM_COLORS[layout]
    if num_extra not in (0, 1):
        raise MediaError(
            "an image with these channels is not supported",
            where=name,
            got=f"{image.bands} channels, {layout}",
            expected="at most one beside the colours, for transparency",
        )
    orientation = int(field_of(image, "orientation", 1))
    depth = 8 if image.format == "uchar" else 16
    return ImageInfo(
        format=format_,
        width=image.width,
        height=int(field_of(image, "page-height", image.height)),
        layout=layout,
        bit_depth=depth,
        stored_bits=int(field_of(image, "bits-per-sample", depth)),
        has_alpha=num_extra == 1,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        has_icc=bool(field_of(image, "icc-profile-data", b"")),
        is_progressive=bool(field_of(image, "interlaced", 0)),
    )


def with_times(info: ImageInfo, image: Any) -> ImageInfo:
    """With the times of an animation, as libvips gives them in milliseconds."""
    num_frames = int(field_of(image, "n-pages", 1))
    if num_frames == 1 or num_frames > MAX_FRAMES:
        return replace(info, num_frames=num_frames)
    delays = tuple(Fraction(max(0, delay), 1000) for delay in field_of(image, "delay", []))
    delays += (Fraction(1, 10),) * (num_frames - len(delays))
    return replace(
        info, num_frames=num_frames, delays_s=delays[:num_frames], loop=int(field_of(image, "loop", 0))
    )


def metadata_of(image: Any, *, has_density: bool) -> Metadata:
    """What the file says beside its pixels, its density only where it is in pixels of a length."""
    return Metadata(
        icc=bytes(field_of(image, "icc-profile-data", b"")),
        exif=bytes(field_of(image, "exif-data", b"")).removeprefix(_EXIF_HEADER),
        xmp=bytes(field_of(image, "xmp-data", b"")),
        iptc=bytes(field_of(image, "iptc-data", b"")),
        per_mm=(image.xres, image.yres) if has_density else None,
    )


def dropped_of(exif: bytes) -> tuple[str, ...]:
    """What of an EXIF block no output holds."""
    return ("the EXIF thumbnail",) if ifd.has_thumbnail(exif) else ()


def field_of(image: Any, name: str, otherwise: Any) -> Any:
    """One of libvips' fields; `otherwise` where the image has none of this name."""
    with readable_errors():
        return image.get(name) if image.get_typeof(name) else otherwise
