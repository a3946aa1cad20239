"""Images as they are stored: what they are, their samples, and what they say beside them."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile

from cluster.images import avif, bmp, gif, ifd, jpeg, png, webp
from cluster.images.info import NUM_COLORS, ImageFormat, ImageInfo, Layout
from cluster.images.plan import MAX_FRAMES, MAX_OUTPUT_FRAME_PX
from cluster.images.sniff import NUM_BYTES, format_of_content
from cluster.images.vips import Image, Plane, Planes, VipsError, planes_of, readable_errors, rows_of, said
from sr_core.errors import MediaError

_MAX_FILE_BYTES = 1 << 32
_LAYOUTS: dict[str, Layout] = {
    "b-w": "grey",
    "grey16": "grey",
    "srgb": "rgb",
    "rgb": "rgb",
    "rgb16": "rgb",
    "cmyk": "cmyk",
}
# Libvips goes on after these, and every pixel is there.
_HARMLESS = re.compile(r"extraneous bytes before marker|Invalid SOS parameters|Unknown Adobe color transform")
_PHOTOMETRICS = (0, 1, 2, 3, 5, 6)  # grey, inverted and not; RGB; palette; separated; YCbCr
_OTHER_PHOTOMETRICS = {4: "a mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32844: "LogL"}
_NEW_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _EXTRA, _SAMPLE_FORMAT = 254, 258, 259, 262, 338, 339
_INK_SET, _X_RESOLUTION, _RESOLUTION_UNIT = 332, 282, 296
_TIFF_COMPRESSIONS = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 7: "jpeg", 50000: "zstd"}
_LOSSY_TIFF = (6, 7, 34676, 34892, 50001, 33003, 33005, 34712)
_DESCRIPTIVE = (
    *(269, 270, 271, 272, 285, 301, 305, 306, 315, 316, 318, 319, 700, 18246, 33432, 33723, 34675),
    *(ifd.EXIF_IFD, ifd.GPS_IFD),
)
_DROPPED_TAGS = {
    34377: "Photoshop's resources",
    37724: "Photoshop's layers",
    34735: "the georeference",
    330: "previews (SubIFDs)",
}
_XMP_TAG, _IPTC_TAG, _ICC_TAG = 700, 33723, 34675
_DEFAULT_PICTURE = ("the picture for readers without animation",)
_EXIF_HEADER = b"Exif\0\0"


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels.

    Attributes:
        icc: ICC profile; empty where there is none, as are the others.
        exif: EXIF block, beginning as a TIFF does.
        xmp: XMP packet.
        iptc: Photoshop's resources as JPEG holds them, or a TIFF's IPTC record.
        per_mm: Pixels per millimetre, horizontally and vertically; None where not stated.
        comments: A JPEG's comments.
        png_chunks: A PNG's colours and texts.
        tiff_tags: Those of each page that describe it.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    per_mm: tuple[float, float] | None = None
    comments: tuple[bytes, ...] = ()
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    tiff_tags: tuple[ifd.Ifd, ...] = field(default=())


class SourceImage:
    """An image that is open for reading.

    Attributes:
        info: What it is.
        metadata: What it says beside its pixels.
        damage: In words, why pixels are missing; empty where none are. Complete when all frames were read.
    """

    def __init__(
        self,
        info: ImageInfo,
        metadata: Metadata,
        decode: Callable[[SourceImage], Iterator[Planes]],
        damage: str = "",
    ) -> None:
        self.info = info
        self.metadata = metadata
        self.damage = damage
        self._decode = decode

    def frames(self) -> Iterator[Planes]:
        """The frames or pages, one at a time.

        Yields:
            Y, or R, G, B, or C, M, Y, K, and alpha after them where there is any: (H, W) each, uint8 or,
            above 8 bit, uint16 with the code in the low bits. 255 is full ink in CMYK.

        Raises:
            MediaError: Nothing of a frame decodes.
        """
        yield from self._decode(self)


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
    try:
        return _OPENERS[format_](data, name)
    except VipsError as error:
        raise MediaError(
            f"the {format_} cannot be read",
            where=name,
            got=said(error),
            next_step="check whether other programs open it",
        ) from error


@dataclass(frozen=True)
class _Loader:
    """One of libvips' loaders with the bytes that it is for."""

    call: Callable[..., Any]
    data: bytes
    format: ImageFormat
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, fail_on: str) -> Any:
        with readable_errors():
            return self.call(self.data, access="sequential", fail_on=fail_on, **self.options)


def _open_png(data: bytes, name: str) -> SourceImage:
    loader = _Loader(Image.pngload_buffer, data, "png")
    image = loader.open("none")
    found = list(png.chunks(data))
    chunks = tuple(chunk for chunk in found if chunk[0] in (*png.COLOR_CHUNKS, *png.TEXT_CHUNKS))
    metadata = replace(
        _vips_metadata(image, has_density=any(kind == b"pHYs" for kind, _ in found)),
        # Libpng hides profiles that it does not like; as the file's own they are carried all the same.
        icc=next((png.icc_of(content) for kind, content in found if kind == b"iCCP"), b""),
        png_chunks=tuple(chunk for chunk in chunks if not chunk[1].startswith(png.XMP_KEYWORD)),
    )
    cicp = next((content for kind, content in chunks if kind == b"cICP" and len(content) == 4), None)
    info = replace(
        _vips_info(image, "png", name),
        is_lossless=True,
        is_palette=bool(_field(image, "palette", 0)),
        has_icc=bool(metadata.icc),
        color_chunks=tuple(k.decode() for k, _ in chunks if k in (b"gAMA", b"cHRM", b"mDCV", b"cLLI")),
        color_codes=(cicp[0], cicp[1]) if cicp else None,
        dropped=_dropped(metadata.exif),
    )
    if not png.is_animated(data):
        return SourceImage(info, metadata, lambda source: _one(source, loader, name))
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
    return SourceImage(info, metadata, lambda source: _png_frames(source, animation, name), damage)


def _png_frames(source: SourceImage, animation: png.Animation, name: str) -> Iterator[Planes]:
    """The frames as they are shown: each drawn over what the ones before have left."""
    layout, depth = source.info.layout, source.info.bit_depth
    shape = (NUM_COLORS[layout] + 1, animation.height, animation.width)
    canvas = np.zeros(shape, np.uint8 if depth == 8 else np.uint16)
    for index, (control, picture) in enumerate(animation.frames):
        loader = _Loader(Image.pngload_buffer, picture, "png")
        drawn = np.stack(_with_alpha(_decoded(source, loader, f"{name}, frame {index}"), layout, depth))
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


def _open_jpeg(data: bytes, name: str) -> SourceImage:
    loader = _Loader(Image.jpegload_buffer, data, "jpeg")
    image = loader.open("none")
    metadata = replace(
        _vips_metadata(image, has_density=jpeg.has_density(data)), comments=jpeg.comments(data)
    )
    dropped = list(_dropped(metadata.exif))
    if b"hdrgm:" in metadata.xmp or b"urn:iso:std:iso:ts:21496" in data[:65_536]:
        dropped.append("the gain map for HDR displays")
    elif jpeg.has_more_pictures(data):
        dropped.append("the further pictures in the file")
    subsampling = str(_field(image, "jpeg-chroma-subsample", "")) if image.bands == 3 else ""
    info = replace(
        _vips_info(image, "jpeg", name),
        subsampling=subsampling[:5],
        dropped=tuple(dropped),
    )
    return SourceImage(info, metadata, lambda source: _one(source, loader, name))


def _open_webp(data: bytes, name: str) -> SourceImage:
    loader = _Loader(Image.webpload_buffer, data, "webp", {"n": -1})
    image = loader.open("none")
    metadata = _vips_metadata(image, has_density=False)
    info = replace(
        _with_times(_vips_info(image, "webp", name), image),
        is_lossless=webp.is_lossless(data),
        dropped=_dropped(metadata.exif),
    )
    return SourceImage(info, metadata, lambda source: _many(source, loader, name))


def _open_gif(data: bytes, name: str) -> SourceImage:
    loader = _Loader(Image.gifload_buffer, data, "gif", {"n": -1})
    image = loader.open("none")
    info = replace(
        _with_times(_vips_info(image, "gif", name), image), is_lossless=True, is_palette=True, stored_bits=8
    )
    damage = "" if gif.is_whole(data) else "the file ends without its end mark: frames may be missing"
    return SourceImage(info, Metadata(), lambda source: _many(source, loader, name), damage)


def _open_avif(data: bytes, name: str) -> SourceImage:
    facts = avif.read_facts(data)
    loader = _Loader(Image.heifload_buffer, data, "avif")
    if facts.is_sequence:
        raise MediaError(
            "animated AVIF is not supported",
            where=name,
            next_step="convert it first, for example to an animated WebP or to a video",
        )
    image = loader.open("none")
    if _field(image, "heif-compression", "av1") != "av1":
        raise MediaError("this is not AVIF", where=name, got=f"{image.get('heif-compression')} in HEIF")
    metadata = _vips_metadata(image, has_density=False)
    dropped = list(_dropped(metadata.exif))
    if _field(image, "n-pages", 1) > 1:
        dropped.append("the further pictures in the file")
    info = replace(
        _vips_info(image, "avif", name),
        orientation=1,
        bit_depth=facts.bit_depth,
        stored_bits=facts.bit_depth,
        subsampling=facts.subsampling,
        color_codes=facts.color_codes,
        is_lossless=facts.is_identity,
        dropped=tuple(dropped),
    )
    return SourceImage(info, metadata, lambda source: _avif_frame(source, loader, name))


def _avif_frame(source: SourceImage, loader: _Loader, name: str) -> Iterator[Planes]:
    """The picture, whose 10 or 12 bit libvips puts into the upper bits of 16."""
    planes = _decoded(source, loader, name)
    shift = 16 - source.info.bit_depth if source.info.bit_depth > 8 else 0
    yield tuple(plane >> shift for plane in planes) if shift else planes


def _open_tiff(data: bytes, name: str) -> SourceImage:
    ifds, damage = ifd.read_ifds(data, name)
    # Bit 0 marks a smaller copy of another page, bit 2 a mask for one.
    main = [page for page, tags in enumerate(ifds) if not _number(tags, _NEW_SUBFILE, 0) & 5] or [0]
    for page in main:
        _refuse_samples(ifds[page], name)
    loaders = [_Loader(Image.tiffload_buffer, data, "tiff", {"page": page}) for page in main]
    first = loaders[0].open("none")
    infos = [
        _tiff_info(loader.open("none"), ifds[page], name) for loader, page in zip(loaders, main, strict=True)
    ]
    kinds = {(info.layout, info.bit_depth, info.has_alpha) for info in infos}
    if len(kinds) > 1:
        raise MediaError(
            "the TIFF's pages are of different kinds",
            where=name,
            got=", ".join(info.samples for info in infos[:4]),
            next_step="split it into one file for each kind",
        )
    sizes = tuple((info.width, info.height) for info in infos)
    tags = tuple({key: tag for key, tag in ifds[page].items() if key in _DESCRIPTIVE} for page in main)
    metadata = replace(_tiff_metadata(first, ifds[main[0]], tags[0]), tiff_tags=tags)
    small = ("the smaller copies and masks in the file",) if len(main) < len(ifds) else ()
    info = replace(
        infos[0],
        num_frames=len(main),
        page_sizes=sizes if len(set(sizes)) > 1 else (),
        has_icc=bool(metadata.icc),
        dropped=(*small, *(what for tag, what in _DROPPED_TAGS.items() if tag in ifds[main[0]])),
    )
    return SourceImage(info, metadata, lambda source: _tiff_pages(source, loaders, name), damage)


def _refuse_samples(tags: ifd.Ifd, name: str) -> None:
    photometric = _number(tags, _PHOTOMETRIC, 1)
    bits = _numbers(tags, _BITS, 1)
    formats = _numbers(tags, _SAMPLE_FORMAT, 1)
    if photometric not in _PHOTOMETRICS:
        got = _OTHER_PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}")
    elif photometric == 5 and _number(tags, _INK_SET, 1) != 1:
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
    compression = _number(tags, _COMPRESSION, 1)
    info = _vips_info(image, "tiff", name)
    return replace(
        info,
        is_palette=_number(tags, _PHOTOMETRIC, 1) == 3,
        stored_bits=_number(tags, _BITS, 1),
        is_premultiplied=info.has_alpha and _number(tags, _EXTRA, 0) == 1,
        is_lossless=compression not in _LOSSY_TIFF,
        compression=_TIFF_COMPRESSIONS.get(compression, f"number {compression}"),
    )


def _tiff_metadata(image: Any, page: ifd.Ifd, tags: ifd.Ifd) -> Metadata:
    """The page's metadata as other formats hold it; its descriptive tags become an EXIF block."""
    own = {_XMP_TAG, _IPTC_TAG, _ICC_TAG, 269, 285, 301, 316, 318, 319, 18246}
    in_exif = {key: tag for key, tag in tags.items() if key not in own}
    has_unit = _X_RESOLUTION in page and _number(page, _RESOLUTION_UNIT, 2) != 1
    per_mm = (image.xres, image.yres)
    orientation = int(_field(image, "orientation", 1))
    if in_exif or orientation != 1:
        in_exif[ifd.ORIENTATION] = ifd.short(orientation)
    return Metadata(
        icc=tags[_ICC_TAG].data if _ICC_TAG in tags else b"",
        exif=ifd.exif_of(in_exif),
        xmp=tags[_XMP_TAG].data if _XMP_TAG in tags else b"",
        per_mm=per_mm if has_unit and min(per_mm) > 0 else None,
    )


def _tiff_pages(source: SourceImage, loaders: list[_Loader], name: str) -> Iterator[Planes]:
    for loader in loaders:
        yield _decoded(source, loader, name)


def _open_bmp(data: bytes, name: str) -> SourceImage:
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


def _one(source: SourceImage, loader: _Loader, name: str) -> Iterator[Planes]:
    yield _decoded(source, loader, name)


def _decoded(source: SourceImage, loader: _Loader, name: str) -> Planes:
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
        mended = png.mended(loader.data) if loader.format == "png" else b""
        if not mended:
            raise _nothing(said(error), name) from error
    try:
        return planes_of(replace(loader, data=mended).open("none"))
    except VipsError as error:
        raise _nothing(said(error), name) from error


def _many(source: SourceImage, loader: _Loader, name: str) -> Iterator[Planes]:
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


def _frame_alone(loader: _Loader, index: int) -> Planes | None:
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


def _vips_info(image: Any, format_: ImageFormat, name: str) -> ImageInfo:
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
    orientation = int(_field(image, "orientation", 1))
    depth = 8 if image.format == "uchar" else 16
    return ImageInfo(
        format=format_,
        width=image.width,
        height=int(_field(image, "page-height", image.height)),
        layout=layout,
        bit_depth=depth,
        stored_bits=int(_field(image, "bits-per-sample", depth)),
        has_alpha=num_extra == 1,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        has_icc=bool(_field(image, "icc-profile-data", b"")),
        is_progressive=bool(_field(image, "interlaced", 0)),
    )


def _with_times(info: ImageInfo, image: Any) -> ImageInfo:
    """With the times of an animation, as libvips gives them in milliseconds."""
    num_frames = int(_field(image, "n-pages", 1))
    if num_frames == 1 or num_frames > MAX_FRAMES:
        return replace(info, num_frames=num_frames)
    delays = tuple(Fraction(max(0, delay), 1000) for delay in _field(image, "delay", []))
    delays += (Fraction(1, 10),) * (num_frames - len(delays))
    return replace(
        info, num_frames=num_frames, delays_s=delays[:num_frames], loop=int(_field(image, "loop", 0))
    )


def _vips_metadata(image: Any, *, has_density: bool) -> Metadata:
    return Metadata(
        icc=bytes(_field(image, "icc-profile-data", b"")),
        exif=bytes(_field(image, "exif-data", b"")).removeprefix(_EXIF_HEADER),
        xmp=bytes(_field(image, "xmp-data", b"")),
        iptc=bytes(_field(image, "iptc-data", b"")),
        per_mm=(image.xres, image.yres) if has_density else None,
    )


def _dropped(exif: bytes) -> tuple[str, ...]:
    return ("the EXIF thumbnail",) if ifd.has_thumbnail(exif) else ()


def _field(image: Any, name: str, otherwise: Any) -> Any:
    with readable_errors():
        return image.get(name) if image.get_typeof(name) else otherwise


def _number(tags: ifd.Ifd, tag: int, otherwise: int) -> int:
    return _numbers(tags, tag, otherwise)[0]


def _numbers(tags: ifd.Ifd, tag: int, otherwise: int) -> tuple[int, ...]:
    return (tags[tag].numbers if tag in tags else ()) or (otherwise,)


_OPENERS: dict[ImageFormat, Callable[[bytes, str], SourceImage]] = {
    "png": _open_png,
    "jpeg": _open_jpeg,
    "webp": _open_webp,
    "gif": _open_gif,
    "avif": _open_avif,
    "tiff": _open_tiff,
    "bmp": _open_bmp,
}
