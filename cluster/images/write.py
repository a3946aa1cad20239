"""Images as files: samples and what is said beside them, with the same bytes every time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cluster.images import avif, ifd, jpeg, png
from cluster.images.bmp import write_bmp
from cluster.images.info import ImageFormat
from cluster.images.plan import ImageTreatment
from cluster.images.read import Metadata
from cluster.images.vips import (
    INTERPRETATIONS,
    KEEP_NOTHING,
    Image,
    Planes,
    VipsError,
    image_of,
    readable_errors,
    said,
    set_fields,
)
from cluster.images.webp import WebpWriter
from sr_core.errors import OutputError

_PNG = {"compression": 6, "filter": "all"}
_AVIF_EFFORT, _WEBP_EFFORT, _GIF_EFFORT = 3, 4, 7
_KEEP_EXIF, _KEEP_XMP, _KEEP_ICC = 1, 2, 8
_XMP_TAG, _IPTC_TAG, _ICC_TAG = 700, 33723, 34675
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_BYTE, _RATIONAL, _UNDEFINED = 1, 5, 7
_IFD0_TAGS = (270, 271, 272, 305, 306, 315, 316, 33432, ifd.EXIF_IFD, ifd.GPS_IFD)
_PIXEL_X, _PIXEL_Y = 40962, 40963


def write_image(
    path: Path, frames: Iterator[Planes], treatment: ImageTreatment, metadata: Metadata
) -> tuple[str, ...]:
    """Writes an image file.

    Args:
        path: Where it goes; what is there is replaced.
        frames: Frames or pages as `SourceImage.frames` gives them, in the treatment's samples.
        treatment: What is written.
        metadata: Of the source; sizes in it are brought up to date.

    Returns:
        What could not be carried, a sentence each.

    Raises:
        OutputError: An encoder failed, or there are not as many frames as planned.
    """
    first = next(frames, None)
    if first is None:
        raise OutputError("there is no frame to write", where=str(path))
    with path.open("w+b") as file:
        try:
            write, said_beside = _WRITERS[treatment.format], _updated(metadata, treatment)
            with readable_errors():
                too_large = write(file, chain((first,), frames), treatment, said_beside)
        except VipsError as error:
            raise OutputError(
                f"the {treatment.format} cannot be written", where=str(path), got=said(error)
            ) from error
    return *_not_carried(metadata, treatment), *too_large


def carried_icc(icc: bytes, treatment: ImageTreatment) -> bytes:
    """The profile that the output holds; empty for none: of grey where that is stored as colour, and GIF."""
    is_misfit = treatment.layout == "rgb" and icc[16:20] == b"GRAY"
    return b"" if is_misfit or treatment.format == "gif" else icc


def _not_carried(metadata: Metadata, treatment: ImageTreatment) -> Iterator[str]:
    format_ = treatment.format
    texts = any(kind in png.TEXT_CHUNKS for kind, _ in metadata.png_chunks)
    for what, is_there, formats in (
        ("the EXIF data", metadata.exif, ("png", "jpeg", "webp", "avif", "tiff")),
        ("the XMP data", metadata.xmp, ("png", "jpeg", "webp", "avif", "tiff")),
        ("the IPTC data", metadata.iptc, ("jpeg",)),
        ("the IPTC data", any(_IPTC_TAG in tags for tags in metadata.tiff_tags), ("tiff",)),
        ("the comments", metadata.comments, ("jpeg",)),
        ("the texts", texts, ("png",)),
        ("the resolution", metadata.per_mm, ("png", "jpeg", "tiff", "bmp")),
    ):
        if is_there and format_ not in formats:
            yield f"dropped: {what}, for which {format_} has no place"
    if carried_icc(metadata.icc, treatment) != metadata.icc and format_ != "gif":
        yield "dropped: the ICC profile, which is for grey"


def _updated(metadata: Metadata, treatment: ImageTreatment) -> Metadata:
    """Metadata that say the output's size and orientation."""
    exif = b""
    if metadata.exif:
        exif = ifd.updated_exif(metadata.exif, treatment.width, treatment.height, treatment.orientation)
    if treatment.orientation != 1 and ifd.ORIENTATION not in ifd.read_exif(exif):
        exif = ifd.exif_of({ifd.ORIENTATION: ifd.short(treatment.orientation)})
    return replace(metadata, exif=exif, icc=carried_icc(metadata.icc, treatment))


def _vips_image(planes: Planes, treatment: ImageTreatment, metadata: Metadata) -> Any:
    depth = 8 if treatment.bit_depth == 8 else 16
    image = image_of(planes, INTERPRETATIONS[treatment.layout, depth])
    if metadata.per_mm is None:
        return image
    return image.copy(xres=metadata.per_mm[0], yres=metadata.per_mm[1])


def _write_png(
    file: BinaryIO, frames: Iterator[Planes], treatment: ImageTreatment, metadata: Metadata
) -> tuple[str, ...]:
    writer = png.PngWriter(file, list(_png_chunks(metadata)), treatment.delays_s, treatment.loop)
    for planes in frames:
        image = _vips_image(planes, treatment, metadata)
        writer.add(image.pngsave_buffer(keep=KEEP_NOTHING, interlace=treatment.is_progressive, **_PNG))
    writer.end()
    return ()


def _png_chunks(metadata: Metadata) -> Iterator[png.Chunk]:
    """What stands before the palette and the pixels: colours first, as the specification asks."""
    yield from (chunk for chunk in metadata.png_chunks if chunk[0] in png.COLOR_CHUNKS)
    if metadata.icc:
        yield png.icc_chunk(metadata.icc)
    if metadata.per_mm:
        yield png.density_chunk(*metadata.per_mm)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield png.xmp_chunk(metadata.xmp)
    yield from (chunk for chunk in metadata.png_chunks if chunk[0] in png.TEXT_CHUNKS)


def _write_jpeg(
    file: BinaryIO, frames: Iterator[Planes], treatment: ImageTreatment, metadata: Metadata
) -> tuple[str, ...]:
    picture = _vips_image(next(frames), treatment, metadata).jpegsave_buffer(
        Q=treatment.quality,
        subsample_mode="on" if treatment.subsampling == "4:2:0" else "off",
        interlace=treatment.is_progressive,
        optimize_coding=True,
        keep=KEEP_NOTHING,
    )
    with_all, too_large = jpeg.with_metadata(
        picture, metadata.per_mm, metadata.icc, metadata.exif, metadata.xmp, metadata.iptc, metadata.comments
    )
    file.write(with_all)
    return tuple(f"dropped: {what}, which is larger than JPEG holds" for what in too_large)


def _write_webp(
    file: BinaryIO, frames: Iterator[Planes], treatment: ImageTreatment, metadata: Metadata
) -> tuple[str, ...]:
    said_beside = (metadata.icc, metadata.exif, metadata.xmp)
    size = (treatment.height, treatment.width)
    writer = WebpWriter(file, size, treatment.has_alpha, said_beside, treatment.delays_s, treatment.loop)
    for planes in frames:
        writer.add(
            _vips_image(planes, treatment, metadata).webpsave_buffer(
                **({"lossless": True, "exact": True} if treatment.is_lossless else {"Q": treatment.quality}),
                alpha_q=100,
                smart_subsample=True,
                effort=_WEBP_EFFORT,
                keep=KEEP_NOTHING,
            )
        )
    writer.end()
    return ()


def _write_avif(
    file: BinaryIO, frames: Iterator[Planes], treatment: ImageTreatment, metadata: Metadata
) -> tuple[str, ...]:
    planes = next(frames)
    if treatment.bit_depth > 8:  # libvips takes the upper bits of 16
        planes = tuple(plane << (16 - treatment.bit_depth) for plane in planes)
    image = _vips_image(planes, treatment, metadata)
    if treatment.orientation != 1:
        image = set_fields(image, orientation=treatment.orientation)
    keep = 0
    # The turn is a property of the picture in AVIF, and libvips would take it from EXIF once more.
    exif = ifd.updated_exif(metadata.exif, treatment.width, treatment.height, treatment.orientation)
    for name, blob, flag in (
        ("icc_profile_data", metadata.icc, _KEEP_ICC),
        ("exif_data", b"Exif\0\0" + exif if exif else b"", _KEEP_EXIF),
        ("xmp_data", metadata.xmp, _KEEP_XMP),
    ):
        if blob:
            image, keep = set_fields(image, **{name: blob}), keep | flag
    picture = image.heifsave_buffer(
        compression="av1",
        bitdepth=treatment.bit_depth,
        **({"lossless": True} if treatment.is_lossless else {"Q": treatment.quality}),
        subsample_mode="on" if treatment.subsampling == "4:2:0" else "off",
        effort=_AVIF_EFFORT,
        keep=keep or KEEP_NOTHING,
    )
    codes = treatment.color_codes
    file.write(avif.with_color_codes(picture, *codes) if codes else picture)
    return ()


def _write_tiff(
    file: BinaryIO, frames: Iterator[Planes], treatment: ImageTreatment, metadata: Metadata
) -> tuple[str, ...]:
    writer = ifd.TiffWriter(file)
    for index, planes in enumerate(frames):
        page = _vips_image(planes, treatment, metadata).tiffsave_buffer(
            compression=treatment.compression, predictor="horizontal", keep=KEEP_NOTHING
        )
        own = metadata.tiff_tags[index] if metadata.tiff_tags else _tiff_tags(metadata)
        writer.add(page, dict(_page_tags(own, treatment, metadata, treatment.size_of(index))))
    return ()


def _tiff_tags(metadata: Metadata) -> ifd.Ifd:
    """The tags that say what another format's metadata did."""
    tags = {tag: value for tag, value in ifd.read_exif(metadata.exif).items() if tag in _IFD0_TAGS}
    if metadata.icc:
        tags[_ICC_TAG] = ifd.Tag(_UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.xmp:
        tags[_XMP_TAG] = ifd.Tag(_BYTE, len(metadata.xmp), metadata.xmp)
    return tags


def _page_tags(
    tags: ifd.Ifd, treatment: ImageTreatment, metadata: Metadata, size: tuple[int, int]
) -> Iterator[tuple[int, ifd.Tag]]:
    for number, tag in tags.items():
        if number == ifd.EXIF_IFD and tag.directory is not None:
            sizes = {_PIXEL_X: ifd.long(size[1]), _PIXEL_Y: ifd.long(size[0])}
            known = {key: value for key, value in sizes.items() if key in tag.directory}
            yield number, replace(tag, directory={**tag.directory, **known})
        else:
            yield number, tag
    yield ifd.ORIENTATION, ifd.short(treatment.orientation)
    if metadata.per_mm is None:
        yield _RESOLUTION_UNIT, ifd.short(1)  # none: the numbers give the pixels' shape alone
        yield from ((tag, ifd.Tag(_RATIONAL, 1, b"\1\0\0\0" * 2)) for tag in (_X_RESOLUTION, _Y_RESOLUTION))


def _write_bmp(
    file: BinaryIO, frames: Iterator[Planes], treatment: ImageTreatment, metadata: Metadata
) -> tuple[str, ...]:
    per_mm = metadata.per_mm or (0.0, 0.0)
    per_m = (round(per_mm[0] * 1000), round(per_mm[1] * 1000))
    write_bmp(file, next(frames), treatment.has_alpha, per_m, metadata.icc)
    return ()


def _write_gif(
    file: BinaryIO, frames: Iterator[Planes], treatment: ImageTreatment, metadata: Metadata
) -> tuple[str, ...]:
    # The encoder wants all frames below each other: on disk they need no memory.
    with tempfile.TemporaryFile(dir=Path(file.name).parent) as pixels:
        num_bands = 0
        for planes in frames:
            num_bands = len(planes)
            pixels.write(np.stack(planes, axis=-1).tobytes())
        pixels.flush()
        roll = np.memmap(pixels, np.uint8, "r")
        height = treatment.height * treatment.num_frames
        image = Image.new_from_memory(roll, treatment.width, height, num_bands, "uchar")
        image = image.copy(interpretation="srgb")
        if treatment.delays_s:
            delays_ms = [int(delay * 1000) for delay in treatment.delays_s]
            image = set_fields(image, page_height=treatment.height, delay=delays_ms, loop=treatment.loop)
        file.write(image.gifsave_buffer(effort=_GIF_EFFORT, keep_duplicate_frames=True, keep=KEEP_NOTHING))
    return ()


_WRITERS: dict[
    ImageFormat, Callable[[BinaryIO, Iterator[Planes], ImageTreatment, Metadata], tuple[str, ...]]
] = {
    "png": _write_png,
    "jpeg": _write_jpeg,
    "webp": _write_webp,
    "avif": _write_avif,
    "tiff": _write_tiff,
    "bmp": _write_bmp,
    "gif": _write_gif,
}
