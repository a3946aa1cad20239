"""Images as files: samples and what is said beside them, with the same bytes every time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from cluster.images import avif, ifd, jpeg, png
from cluster.images.bmp import write_bmp
from cluster.images.info import ImageFormat
from cluster.images.plan import ImageTreatment
from cluster.images.source import Metadata
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
_IFD0_TAGS = (
    *(ifd.DESCRIPTION, ifd.MAKE, ifd.MODEL, ifd.SOFTWARE, ifd.DATE_TIME, ifd.ARTIST, ifd.HOST, ifd.COPYRIGHT),
    *(ifd.EXIF_IFD, ifd.GPS_IFD),
)


class _FormatWriter:
    """Writes the frames of one format to a file."""

    def __init__(self, file: BinaryIO, treatment: ImageTreatment, metadata: Metadata) -> None:
        self._file = file
        self._treatment = treatment
        self._metadata = metadata

    def add(self, planes: Planes) -> None:
        """Appends a frame or page."""
        raise NotImplementedError

    def end(self) -> tuple[str, ...]:
        """Completes the file; what was too large for it, a sentence each."""
        return ()

    def close(self) -> None:
        """Gives back what is open beside the file."""


class ImageWriter:
    """Writes an image file, a frame or page after the other.

    Raises:
        OutputError: An encoder failed, or there was no frame.
    """

    def __init__(self, path: Path, treatment: ImageTreatment, metadata: Metadata) -> None:
        """Begin a file.

        Args:
            path: Where it goes; what is there is replaced.
            treatment: What is written.
            metadata: Of the source; sizes in it are brought up to date.
        """
        self._path = path
        self._treatment = treatment
        self._metadata = metadata
        self._num_frames = 0
        self._file = path.open("w+b")
        self._writer = _WRITERS[treatment.format](self._file, treatment, _updated(metadata, treatment))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._file.close()

    def add(self, planes: Planes) -> None:
        """Appends a frame or page as `SourceImage.frames` gives them, in the treatment's samples."""
        self._num_frames += 1
        with self._refusing():
            self._writer.add(planes)

    def end(self) -> tuple[str, ...]:
        """Completes the file.

        Returns:
            What could not be carried, a sentence each.
        """
        if not self._num_frames:
            raise OutputError("there is no frame to write", where=str(self._path))
        with self._refusing():
            too_large = self._writer.end()
            self._file.flush()
        return *_not_carried(self._metadata, self._treatment), *too_large

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            with readable_errors():
                yield
        except VipsError as error:
            raise OutputError(
                f"the {self._treatment.format} cannot be written", where=str(self._path), got=said(error)
            ) from error


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
        ("the IPTC data", any(ifd.IPTC in tags for tags in metadata.tiff_tags), ("tiff",)),
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


class _Png(_FormatWriter):
    def __init__(self, file: BinaryIO, treatment: ImageTreatment, metadata: Metadata) -> None:
        super().__init__(file, treatment, metadata)
        chunks = list(_png_chunks(metadata))
        self._writer = png.PngWriter(file, chunks, treatment.delays_s, treatment.loop)

    def add(self, planes: Planes) -> None:
        image = _vips_image(planes, self._treatment, self._metadata)
        is_interlaced = self._treatment.is_progressive
        self._writer.add(image.pngsave_buffer(keep=KEEP_NOTHING, interlace=is_interlaced, **_PNG))

    def end(self) -> tuple[str, ...]:
        self._writer.end()
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


class _Jpeg(_FormatWriter):
    def __init__(self, file: BinaryIO, treatment: ImageTreatment, metadata: Metadata) -> None:
        super().__init__(file, treatment, metadata)
        self._too_large: tuple[str, ...] = ()

    def add(self, planes: Planes) -> None:
        treatment, beside = self._treatment, self._metadata
        picture = _vips_image(planes, treatment, beside).jpegsave_buffer(
            Q=treatment.quality,
            subsample_mode="on" if treatment.subsampling == "4:2:0" else "off",
            interlace=treatment.is_progressive,
            optimize_coding=True,
            keep=KEEP_NOTHING,
        )
        with_all, self._too_large = jpeg.with_metadata(
            picture, beside.per_mm, beside.icc, beside.exif, beside.xmp, beside.iptc, beside.comments
        )
        self._file.write(with_all)

    def end(self) -> tuple[str, ...]:
        return tuple(f"dropped: {what}, which is larger than JPEG holds" for what in self._too_large)


class _Webp(_FormatWriter):
    def __init__(self, file: BinaryIO, treatment: ImageTreatment, metadata: Metadata) -> None:
        super().__init__(file, treatment, metadata)
        beside = (metadata.icc, metadata.exif, metadata.xmp)
        size = (treatment.height, treatment.width)
        self._writer = WebpWriter(file, size, treatment.has_alpha, beside, treatment.delays_s, treatment.loop)

    def add(self, planes: Planes) -> None:
        treatment = self._treatment
        self._writer.add(
            _vips_image(planes, treatment, self._metadata).webpsave_buffer(
                **({"lossless": True, "exact": True} if treatment.is_lossless else {"Q": treatment.quality}),
                alpha_q=100,
                smart_subsample=True,
                effort=_WEBP_EFFORT,
                keep=KEEP_NOTHING,
            )
        )

    def end(self) -> tuple[str, ...]:
        self._writer.end()
        return ()


class _Avif(_FormatWriter):
    def add(self, planes: Planes) -> None:
        treatment = self._treatment
        if treatment.bit_depth > 8:  # libvips takes the upper bits of 16
            planes = tuple(plane << (16 - treatment.bit_depth) for plane in planes)
        image, keep = self._with_metadata(_vips_image(planes, treatment, self._metadata))
        picture = image.heifsave_buffer(
            compression="av1",
            bitdepth=treatment.bit_depth,
            **({"lossless": True} if treatment.is_lossless else {"Q": treatment.quality}),
            subsample_mode="on" if treatment.subsampling == "4:2:0" else "off",
            effort=_AVIF_EFFORT,
            keep=keep or KEEP_NOTHING,
        )
        codes = treatment.color_codes
        self._file.write(avif.with_color_codes(picture, *codes) if codes else picture)

    def _with_metadata(self, image: Any) -> tuple[Any, int]:
        """The image, and what of it the encoder keeps."""
        treatment, metadata, keep = self._treatment, self._metadata, 0
        if treatment.orientation != 1:
            image = set_fields(image, orientation=treatment.orientation)
        # The turn is a property of the picture in AVIF, and libvips would take it from EXIF once more.
        exif = ifd.updated_exif(metadata.exif, treatment.width, treatment.height, treatment.orientation)
        for name, blob, flag in (
            ("icc_profile_data", metadata.icc, _KEEP_ICC),
            ("exif_data", b"Exif\0\0" + exif if exif else b"", _KEEP_EXIF),
            ("xmp_data", metadata.xmp, _KEEP_XMP),
        ):
            if blob:
                image, keep = set_fields(image, **{name: blob}), keep | flag
        return image, keep


class _Tiff(_FormatWriter):
    def __init__(self, file: BinaryIO, treatment: ImageTreatment, metadata: Metadata) -> None:
        super().__init__(file, treatment, metadata)
        self._writer = ifd.TiffWriter(file)
        self._num_pages = 0

    def add(self, planes: Planes) -> None:
        treatment, metadata, index = self._treatment, self._metadata, self._num_pages
        page = _vips_image(planes, treatment, metadata).tiffsave_buffer(
            compression=treatment.compression, predictor="horizontal", keep=KEEP_NOTHING
        )
        own = metadata.tiff_tags[index] if metadata.tiff_tags else _tiff_tags(metadata)
        self._writer.add(page, dict(_page_tags(own, treatment, metadata, treatment.size_of(index))))
        self._num_pages += 1


def _tiff_tags(metadata: Metadata) -> ifd.Ifd:
    """The tags that say what another format's metadata did."""
    tags = {tag: value for tag, value in ifd.read_exif(metadata.exif).items() if tag in _IFD0_TAGS}
    if metadata.icc:
        tags[ifd.ICC] = ifd.Tag(ifd.UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.xmp:
        tags[ifd.XMP] = ifd.Tag(ifd.BYTE, len(metadata.xmp), metadata.xmp)
    return tags


def _page_tags(
    tags: ifd.Ifd, treatment: ImageTreatment, metadata: Metadata, size: tuple[int, int]
) -> Iterator[tuple[int, ifd.Tag]]:
    for number, tag in tags.items():
        if number == ifd.EXIF_IFD and tag.directory is not None:
            sizes = {ifd.PIXEL_X: ifd.long(size[1]), ifd.PIXEL_Y: ifd.long(size[0])}
            known = {key: value for key, value in sizes.items() if key in tag.directory}
            yield number, replace(tag, directory={**tag.directory, **known})
        else:
            yield number, tag
    yield ifd.ORIENTATION, ifd.short(treatment.orientation)
    if metadata.per_mm is None:
        yield ifd.RESOLUTION_UNIT, ifd.short(1)  # none: the numbers give the pixels' shape alone
        one = ifd.Tag(ifd.RATIONAL, 1, b"\1\0\0\0" * 2)
        yield from ((tag, one) for tag in (ifd.X_RESOLUTION, ifd.Y_RESOLUTION))


class _Bmp(_FormatWriter):
    def add(self, planes: Planes) -> None:
        per_mm = self._metadata.per_mm or (0.0, 0.0)
        per_m = (round(per_mm[0] * 1000), round(per_mm[1] * 1000))
        write_bmp(self._file, planes, self._treatment.has_alpha, per_m, self._metadata.icc)


class _Gif(_FormatWriter):
    """The encoder wants all frames below each other: on disk they need no memory."""

    def __init__(self, file: BinaryIO, treatment: ImageTreatment, metadata: Metadata) -> None:
        super().__init__(file, treatment, metadata)
        self._pixels = tempfile.TemporaryFile(dir=Path(file.name).parent)  # noqa: SIM115 - see close
        self._num_bands = 0

    def add(self, planes: Planes) -> None:
        self._num_bands = len(planes)
        self._pixels.write(np.stack(planes, axis=-1).tobytes())

    def end(self) -> tuple[str, ...]:
        treatment = self._treatment
        self._pixels.flush()
        roll = np.memmap(self._pixels, np.uint8, "r")
        height = treatment.height * treatment.num_frames
        image = Image.new_from_memory(roll, treatment.width, height, self._num_bands, "uchar")
        image = image.copy(interpretation="srgb")
        if treatment.delays_s:
            delays_ms = [int(delay * 1000) for delay in treatment.delays_s]
            image = set_fields(image, page_height=treatment.height, delay=delays_ms, loop=treatment.loop)
        self._file.write(
            image.gifsave_buffer(effort=_GIF_EFFORT, keep_duplicate_frames=True, keep=KEEP_NOTHING)
        )
        return ()

    def close(self) -> None:
        self._pixels.close()


_WRITERS: dict[ImageFormat, type[_FormatWriter]] = {
    "png": _Png,
    "jpeg": _Jpeg,
    "webp": _Webp,
    "avif": _Avif,
    "tiff": _Tiff,
    "bmp": _Bmp,
    "gif": _Gif,
}
