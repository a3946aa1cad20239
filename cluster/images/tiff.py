"""TIFF files: which of them can be read, what they say, and their pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cluster.images import ifd
from cluster.images.decode import Loader, decoded
from cluster.images.facts import field_of, info_of
from cluster.images.info import ImageInfo
from cluster.images.source import Metadata, SourceImage
from cluster.images.vips import Image, Planes, Source
from sr_core.errors import MediaError

_PHOTOMETRICS = (0, 1, 2, 3, 5, 6)  # grey, inverted and not; RGB; palette; separated; YCbCr
_OTHER_PHOTOMETRICS = {4: "a mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32844: "LogL"}
_COMPRESSIONS = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 7: "jpeg", 50000: "zstd"}
_LOSSY = (6, 7, 34676, 34892, 50001, 33003, 33005, 34712)
_DESCRIPTIVE = (
    *(ifd.DOCUMENT_NAME, ifd.DESCRIPTION, ifd.MAKE, ifd.MODEL, ifd.PAGE_NAME, ifd.TRANSFER_FUNCTION),
    *(ifd.SOFTWARE, ifd.DATE_TIME, ifd.ARTIST, ifd.HOST, ifd.WHITE_POINT, ifd.PRIMARIES, ifd.XMP, ifd.RATING),
    *(ifd.COPYRIGHT, ifd.IPTC, ifd.ICC, ifd.EXIF_IFD, ifd.GPS_IFD),
)
# What says nothing of how samples are stored, so that pages that differ in these alone are of one kind.
_OF_ONE_PAGE = (
    *(ifd.NEW_SUBFILE, ifd.IMAGE_WIDTH, ifd.IMAGE_LENGTH, ifd.ROWS_PER_STRIP, ifd.PAGE_NUMBER),
    *(ifd.JPEG_TABLES, ifd.STRIP_OFFSETS, ifd.STRIP_BYTES, ifd.TILE_OFFSETS, ifd.TILE_BYTES, *_DESCRIPTIVE),
)
_DROPPED_TAGS = {
    ifd.PHOTOSHOP: "Photoshop's resources",
    ifd.PHOTOSHOP_LAYERS: "Photoshop's layers",
    ifd.GEO_KEYS: "the georeference",
    ifd.SUB_IFDS: "previews (SubIFDs)",
}
_NOT_IN_EXIF = (
    *(ifd.XMP, ifd.IPTC, ifd.ICC, ifd.DOCUMENT_NAME, ifd.PAGE_NAME, ifd.TRANSFER_FUNCTION, ifd.HOST),
    *(ifd.WHITE_POINT, ifd.PRIMARIES, ifd.RATING),
)


def open_tiff(data: bytes, name: str) -> SourceImage:
    """The pages of a TIFF file, without smaller copies and masks.

    Raises:
        MediaError: It cannot be read, or is of a kind that is not supported.
    """
    tiff = ifd.read_tiff(data, name)
    # Bit 0 marks a smaller copy of another page, bit 2 a mask for one.
    main = [page for page, tags in enumerate(tiff.ifds) if not _number(tags, ifd.NEW_SUBFILE, 0) & 5] or [0]
    for page in main:
        _refuse_samples(tiff.ifds[page], name)
    infos = _infos_of(tiff, main, name)
    _refuse_kinds(infos, name)
    tags = tuple({key: tag for key, tag in tiff.ifds[page].items() if key in _DESCRIPTIVE} for page in main)
    first = tiff.ifds[main[0]]
    metadata = _tiff_metadata(_loader(tiff, main[0]).open("none"), first, tags)
    sizes = tuple((info.width, info.height) for info in infos)
    small = ("the smaller copies and masks in the file",) if len(main) < len(tiff.ifds) else ()
    info = replace(
        infos[0],
        num_frames=len(main),
        page_sizes=sizes if len(set(sizes)) > 1 else (),
        has_icc=bool(metadata.icc),
        dropped=(*small, *(what for tag, what in _DROPPED_TAGS.items() if tag in first)),
    )
    return SourceImage(info, metadata, lambda source: _pages(source, tiff, main, name), tiff.damage)


def _loader(tiff: ifd.TiffFile, page: int) -> Loader:
    """Of one page, which must be decoded before the next is opened."""

    def load(_: bytes | bytearray, **options: Any) -> Any:
        return Image.tiffload_source(Source.new_from_memory(tiff.show(page)), **options)

    return Loader(load, tiff.data, "tiff")


def _infos_of(tiff: ifd.TiffFile, pages: list[int], name: str) -> list[ImageInfo]:
    """Of every page; libvips is asked once for each kind."""
    known: dict[tuple[tuple[int, int, int, bytes], ...], ImageInfo] = {}
    infos = []
    for page in pages:
        tags = tiff.ifds[page]
        width, height = _number(tags, ifd.IMAGE_WIDTH, 0), _number(tags, ifd.IMAGE_LENGTH, 0)
        kind = tuple((k, tag.type, tag.count, tag.data) for k, tag in tags.items() if k not in _OF_ONE_PAGE)
        if kind not in known or min(width, height) < 1:
            known[kind] = _tiff_info(_loader(tiff, page).open("none"), tags, name)
        infos.append(replace(known[kind], width=width, height=height))
    return infos


def _refuse_kinds(infos: list[ImageInfo], name: str) -> None:
    kinds = {(info.layout, info.bit_depth, info.has_alpha): info for info in infos}
    if len(kinds) > 1:
        raise MediaError(
            "the TIFF's pages are of different kinds",
            where=name,
            got=", ".join(info.samples for info in list(kinds.values())[:4]),
            next_step="split it into one file for each kind",
        )


def _refuse_samples(tags: ifd.Ifd, name: str) -> None:
    photometric = _number(tags, ifd.PHOTOMETRIC, 1)
    bits = _numbers(tags, ifd.BITS, 1)
    formats = _numbers(tags, ifd.SAMPLE_FORMAT, 1)
    if photometric not in _PHOTOMETRICS:
        got = _OTHER_PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}")
    elif photometric == 5 and _number(tags, ifd.INK_SET, 1) != 1:
        got = "inks other than CMYK"
    elif set(formats) & {2, 3, 5, 6}:
        kind = "floating-point" if set(formats) & {3, 6} else "signed"
        got = f"{kind} samples of {bits[0]} bit"
    elif len(set(bits)) > 1 or bits[0] not in (1, 2, 4, 8, 16):
        got = f"samples of {', '.join(map(str, dict.fromkeys(bits)))} bit"
    else:
        return
    raise MediaError(
        "a TIFF of this kind is not supported",
        where=name,
        got=got,
        expected="unsigned integers of 1, 2, 4, 8 or 16 bit, in grey, RGB, YCbCr, CMYK or a palette",
        next_step="convert it first, for example to 16 bit",
    )


def _tiff_info(image: Any, tags: ifd.Ifd, name: str) -> ImageInfo:
    compression = _number(tags, ifd.COMPRESSION, 1)
    info = info_of(image, "tiff", name)
    return replace(
        info,
        is_palette=_number(tags, ifd.PHOTOMETRIC, 1) == 3,
        stored_bits=_number(tags, ifd.BITS, 1),
        is_premultiplied=info.has_alpha and _number(tags, ifd.EXTRA_SAMPLES, 0) == 1,
        is_lossless=compression not in _LOSSY,
        compression=_COMPRESSIONS.get(compression, f"number {compression}"),
    )


def _tiff_metadata(image: Any, page: ifd.Ifd, all_tags: tuple[ifd.Ifd, ...]) -> Metadata:
    """The first page's metadata as other formats hold it; its descriptive tags become an EXIF block."""
    tags = all_tags[0]
    in_exif = {key: tag for key, tag in tags.items() if key not in _NOT_IN_EXIF}
    has_unit = ifd.X_RESOLUTION in page and _number(page, ifd.RESOLUTION_UNIT, 2) != 1
    per_mm = (image.xres, image.yres)
    orientation = int(field_of(image, "orientation", 1))
    if in_exif or orientation != 1:
        in_exif[ifd.ORIENTATION] = ifd.short(orientation)
    return Metadata(
        icc=tags[ifd.ICC].data if ifd.ICC in tags else b"",
        exif=ifd.exif_of(in_exif),
        xmp=tags[ifd.XMP].data if ifd.XMP in tags else b"",
        per_mm=per_mm if has_unit and min(per_mm) > 0 else None,
        tiff_tags=all_tags,
    )


def _pages(source: SourceImage, tiff: ifd.TiffFile, pages: list[int], name: str) -> Iterator[Planes]:
    for page in pages:
        yield decoded(source, _loader(tiff, page), name)


def _number(tags: ifd.Ifd, tag: int, otherwise: int) -> int:
    return _numbers(tags, tag, otherwise)[0]


def _numbers(tags: ifd.Ifd, tag: int, otherwise: int) -> tuple[int, ...]:
    return (tags[tag].numbers if tag in tags else ()) or (otherwise,)
