"""Images as they are stored: what they are, their samples, and what they say beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

from cluster.images import avif, gif, jpeg, png, webp
from cluster.images.apng import apng_frames
from cluster.images.decode import Loader, avif_frame, frames_of, still
from cluster.images.facts import dropped_of, field_of, info_of, metadata_of, with_times
from cluster.images.info import ImageFormat, ImageInfo
from cluster.images.read_bmp import open_bmp
from cluster.images.sniff import NUM_BYTES, format_of_content
from cluster.images.source import Metadata, SourceImage
from cluster.images.tiff import open_tiff
from cluster.images.vips import Image, VipsError, forget_errors, said
from sr_core.errors import MediaError

_MAX_FILE_BYTES = 1 << 32
_DEFAULT_PICTURE = ("the picture for readers without animation",)


def read_info(file: BinaryIO, name: str) -> ImageInfo:
    """What the image in `file` is, from its headers.

    Raises:
        MediaError: It is no image, or none that is supported.
    """
    return open_image(file, name).info


def open_image(file: BinaryIO, name: str) -> SourceImage:
    """The image in `file`, of which no pixel is decoded yet.

    Raises:
        MediaError: It is no image, or none that is supported.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    format_ = format_of_content(file.read(NUM_BYTES), name)
    if num_bytes > _MAX_FILE_BYTES:
        raise MediaError("the image is too large", where=name, got=f"{num_bytes:,} bytes", expected="4 GiB")
    file.seek(0)
    data = file.read()
    forget_errors()
    try:
        return _OPENERS[format_](data, name)
    except VipsError as error:
        raise MediaError(
            f"the {format_} cannot be read",
            where=name,
            got=said(error),
            next_step="check whether other programs open it",
        ) from error


def _open_png(data: bytes, name: str) -> SourceImage:
    loader = Loader(Image.pngload_buffer, data, "png")
    image = loader.open("none")
    found = list(png.chunks(data))
    chunks = tuple(chunk for chunk in found if chunk[0] in (*png.COLOR_CHUNKS, *png.TEXT_CHUNKS))
    metadata = replace(
        metadata_of(image, has_density=any(kind == b"pHYs" for kind, _ in found)),
        # Libpng hides profiles that it does not like; as the file's own they are carried all the same.
        icc=next((png.icc_of(content) for kind, content in found if kind == b"iCCP"), b""),
        png_chunks=tuple(chunk for chunk in chunks if not chunk[1].startswith(png.XMP_KEYWORD)),
    )
    cicp = next((content for kind, content in chunks if kind == b"cICP" and len(content) == 4), None)
    info = replace(
        info_of(image, "png", name),
        is_lossless=True,
        is_palette=bool(field_of(image, "palette", 0)),
        has_icc=bool(metadata.icc),
        color_chunks=tuple(k.decode() for k, _ in chunks if k in (b"gAMA", b"cHRM", b"mDCV", b"cLLI")),
        color_codes=(cicp[0], cicp[1]) if cicp else None,
        dropped=dropped_of(metadata.exif),
    )
    if not png.is_animated(data):
        return SourceImage(info, metadata, lambda source: still(source, loader, name))
    animation = png.first_frame_first(png.read_animation(data, name))
    info = replace(
        info,
        is_progressive=False,
        num_frames=len(animation.frames),
        delays_s=tuple(control.delay_s for control, _ in animation.frames),
        loop=animation.num_plays,
        has_alpha=info.has_alpha or animation.shows_nothing_somewhere,
        dropped=(*info.dropped, *_DEFAULT_PICTURE[: animation.has_default_picture]),
    )
    missing = animation.num_promised - len(animation.frames)
    damage = f"{missing} of {animation.num_promised} frames are missing" if missing > 0 else ""
    return SourceImage(info, metadata, lambda source: apng_frames(source, animation, name), damage)


def _open_jpeg(data: bytes, name: str) -> SourceImage:
    loader = Loader(Image.jpegload_buffer, data, "jpeg")
    image = loader.open("none")
    metadata = replace(metadata_of(image, has_density=jpeg.has_density(data)), comments=jpeg.comments(data))
    dropped = list(dropped_of(metadata.exif))
    if b"hdrgm:" in metadata.xmp or b"urn:iso:std:iso:ts:21496" in data[:65_536]:
        dropped.append("the gain map for HDR displays")
    elif jpeg.has_more_pictures(data):
        dropped.append("the further pictures in the file")
    subsampling = str(field_of(image, "jpeg-chroma-subsample", "")) if image.bands == 3 else ""
    info = replace(
        info_of(image, "jpeg", name),
        subsampling=subsampling[:5],
        dropped=tuple(dropped),
    )
    return SourceImage(info, metadata, lambda source: still(source, loader, name))


def _open_webp(data: bytes, name: str) -> SourceImage:
    loader = Loader(Image.webpload_buffer, data, "webp", {"n": -1})
    image = loader.open("none")
    metadata = metadata_of(image, has_density=False)
    info = replace(
        with_times(info_of(image, "webp", name), image),
        is_lossless=webp.is_lossless(data),
        dropped=dropped_of(metadata.exif),
    )
    return SourceImage(info, metadata, lambda source: frames_of(source, loader, name))


def _open_gif(data: bytes, name: str) -> SourceImage:
    loader = Loader(Image.gifload_buffer, data, "gif", {"n": -1})
    image = loader.open("none")
    info = replace(
        with_times(info_of(image, "gif", name), image), is_lossless=True, is_palette=True, stored_bits=8
    )
    damage = "" if gif.is_whole(data) else "the file ends without its end mark: frames may be missing"
    return SourceImage(info, Metadata(), lambda source: frames_of(source, loader, name), damage)


def _open_avif(data: bytes, name: str) -> SourceImage:
    facts = avif.read_facts(data)
    loader = Loader(Image.heifload_buffer, data, "avif")
    if facts.is_sequence:
        raise MediaError(
            "animated AVIF is not supported",
            where=name,
            next_step="convert it first, for example to an animated WebP or to a video",
        )
    image = loader.open("none")
    if field_of(image, "heif-compression", "av1") != "av1":
        raise MediaError("this is not AVIF", where=name, got=f"{image.get('heif-compression')} in HEIF")
    metadata = metadata_of(image, has_density=False)
    dropped = list(dropped_of(metadata.exif))
    if field_of(image, "n-pages", 1) > 1:
        dropped.append("the further pictures in the file")
    info = replace(
        info_of(image, "avif", name),
        orientation=1,
        bit_depth=facts.bit_depth,
        stored_bits=facts.bit_depth,
        subsampling=facts.subsampling,
        color_codes=facts.color_codes,
        is_lossless=facts.is_identity,
        dropped=tuple(dropped),
    )
    return SourceImage(info, metadata, lambda source: avif_frame(source, loader, name))


_OPENERS: dict[ImageFormat, Callable[[bytes, str], SourceImage]] = {
    "png": _open_png,
    "jpeg": _open_jpeg,
    "webp": _open_webp,
    "gif": _open_gif,
    "avif": _open_avif,
    "tiff": open_tiff,
    "bmp": open_bmp,
}
