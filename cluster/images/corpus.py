"""The conformance corpus' images: one for every kind of still and animation, with what must come of it.

They are computed, the same on every call with the same libraries. Each shows a number as the corpus' videos
do: in green, while red and blue are flat.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyvips
from PIL import Image, ImageCms

from cluster.images.info import ImageFormat, ImageInfo, Layout
from cluster.images.read import open_image
from cluster.report import FileOutcome
from cluster.video.corpus.judging import outcome_faults
from cluster.video.corpus.pictures import number_in, numbered_planes
from cluster.video.pixels import pixel_format

Pixels = npt.NDArray[Any]

_SIZE = (60, 40)
_NUM_FRAMES = 4
_TOLERANCE = 4  # of 255, for lossy coding there and back
_ORIENTATION = 0x0112  # EXIF's tag
_RED, _BLUE = 220, 40  # of what is opaque, beside a green that alpha hides


@dataclass(frozen=True)
class ImageExpected:
    """What must come of an image, whatever the machine; what is None or empty is not looked at.

    Attributes:
        state: Of the file in the report.
        reason: Words of why it failed or is damaged, as a regular expression.
        told: Words that the user must be told, each a regular expression.
        format: Of the output, as the other attributes are.
        size: (width, height) of the source's stored pixels, of which the output's are multiples.
        orientation: EXIF's.
        delays_s: For how long each frame is shown.
        numbers: That the frames show.
        opaque_rgb: The colour, of 8 bits, of everything that is opaque, up to its edges.
        alpha_range: The least and the greatest opacity, in 8-bit terms.
    """

    state: Literal["done", "damaged", "failed"] = "done"
    reason: str = ""
    told: tuple[str, ...] = ()
    format: ImageFormat | None = None
    size: tuple[int, int] = _SIZE
    layout: Layout = "rgb"
    bit_depth: int = 8
    has_alpha: bool | None = False
    orientation: int = 1
    has_icc: bool = False
    delays_s: tuple[Fraction, ...] = ()
    numbers: tuple[int, ...] = (1,)
    opaque_rgb: tuple[int, int, int] | None = None
    alpha_range: tuple[int, int] | None = None

    @property
    def num_frames(self) -> int:
        """Of the output."""
        return max(1, len(self.numbers))


@dataclass(frozen=True)
class ImageCase:
    """One image of the corpus; see `cluster.video.corpus.case.Case`."""

    name: str
    shows: str
    make: Callable[[Path], None]
    expected: ImageExpected


def rgb_picture(number: int, size: tuple[int, int] = _SIZE) -> Pixels:
    """(H, W, 3) of 8 bits: `number` in green, red and blue flat."""
    pixels = pixel_format("gbrp")
    assert pixels is not None
    green, blue, red = numbered_planes(number, pixels, *size)
    return np.stack([red, green, blue], axis=-1)


def image_faults(expected: ImageExpected, outcome: FileOutcome, output: Path, scale: int) -> list[str]:
    """What differs between what must come of an image and what came of it.

    Args:
        outcome: The report's.
        output: Where the output lies.
        scale: By which it is larger than its source.
    """
    faults = list(outcome_faults(expected.state, expected.reason, expected.told, 1, outcome))
    if expected.state == "failed" or outcome.state == "failed":
        return faults
    with output.open("rb") as file:
        source = open_image(file, output.name)
        frames = [[np.asarray(plane) for plane in planes] for planes in source.frames()]
    return [
        *faults,
        *_info_faults(expected, source.info, scale),
        *_pixel_faults(expected, source.info, frames),
    ]


def _info_faults(expected: ImageExpected, info: ImageInfo, scale: int) -> Iterator[str]:
    width, height = expected.size
    if (info.width, info.height) != (width * scale, height * scale):
        yield f"{info.width}x{info.height} is not {scale} times {width}x{height}"
    for name in (
        "format",
        "layout",
        "bit_depth",
        "has_alpha",
        "num_frames",
        "orientation",
        "has_icc",
        "delays_s",
    ):
        wanted, got = getattr(expected, name), getattr(info, name)
        if wanted is not None and wanted != got:
            yield f"{name} is {got}, not {wanted}"


def _pixel_faults(expected: ImageExpected, info: ImageInfo, frames: list[list[Pixels]]) -> Iterator[str]:
    numbers = tuple(shown_number(planes) for planes in frames) if expected.numbers else ()
    if numbers != expected.numbers:
        yield f"frames show {numbers}, not {expected.numbers}"
    unit = 1 << (info.bit_depth - 8)
    alpha = frames[0][-1] / unit
    low, high = expected.alpha_range or (0, 255)
    if expected.alpha_range and (alpha.min() > low + _TOLERANCE or alpha.max() < high - _TOLERANCE):
        yield f"alpha is {alpha.min():.0f} to {alpha.max():.0f}, not {low} to {high}"
    if expected.opaque_rgb:
        for plane, wanted in zip(frames[0], expected.opaque_rgb, strict=False):
            far = np.abs(plane[alpha >= 254] / unit - wanted).max()
            if far > _TOLERANCE:
                yield f"what is opaque is {far:.0f} of 255 off its colour"


def shown_number(planes: Sequence[Pixels]) -> int:
    """The number in the planes of a picture: in green, or in what there is where there is no colour."""
    return number_in(planes[1] if len(planes) >= 3 else planes[0])


def _gray_picture(number: int, bits: int = 8) -> Pixels:
    picture = rgb_picture(number)[..., 1]
    return picture if bits == 8 else picture.astype(np.uint16) * 257


def _deep_picture(number: int) -> Pixels:
    """(H, W, 3) of 16 bits."""
    return rgb_picture(number).astype(np.uint16) * 257


def _soft_alpha(number: int) -> Pixels:
    """(H, W, 4) of 8 bits, whose alpha rises from left to right."""
    picture = rgb_picture(number)
    alpha = np.linspace(60, 255, picture.shape[1]).astype(np.uint8)
    return np.dstack([picture, np.broadcast_to(alpha, picture.shape[:2])])


def _hidden_color() -> Pixels:
    """(H, W, 4): a disc of one colour, around which another lies behind alpha."""
    width, height = _SIZE
    y, x = np.mgrid[0:height, 0:width]
    inside = np.hypot(x - width / 2, y - height / 2) < height / 3
    visible, hidden = (_RED, 0, _BLUE, 255), (0, 255, 0, 0)
    return np.where(inside[..., None], np.array(visible), np.array(hidden)).astype(np.uint8)


def _save(path: Path, picture: Pixels, **options: Any) -> None:
    Image.fromarray(picture).save(path, **options)


def _save_vips(path: Path, picture: Pixels, **options: Any) -> None:
    """For the depths that Pillow does not write."""
    kind = "grey16" if picture.ndim == 2 else "rgb16"
    image = pyvips.Image.new_from_array(np.atleast_3d(picture))
    image.copy(interpretation=kind).write_to_file(str(path), **options)


def _save_frames(path: Path, pictures: Sequence[Pixels], **options: Any) -> None:
    first, *others = [Image.fromarray(picture) for picture in pictures]
    first.save(path, save_all=True, append_images=others, **options)


def _save_cmyk(path: Path) -> None:
    inks = rgb_picture(1)  # cyan, magenta, yellow
    inks = np.dstack([inks, np.zeros(inks.shape[:2], np.uint8)])
    Image.fromarray(inks, "CMYK").save(path, quality=95)


def _save_palette(path: Path, **options: Any) -> None:
    Image.fromarray(rgb_picture(1)).quantize(16).save(path, **options)


def _save_bilevel(path: Path) -> None:
    Image.fromarray(rgb_picture(1)[..., 1]).convert("1", dither=Image.Dither.NONE).save(path)


def _save_turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    Image.fromarray(rgb_picture(1)).save(path, quality=95, exif=exif)


def _icc_profile() -> bytes:
    """sRGB, made at a fixed time (ICC.1, 7.2.8)."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + profile[36:]


def _save_with_icc(path: Path) -> None:
    Image.fromarray(rgb_picture(1)).save(path, icc_profile=_icc_profile())


def _save_cut_off(path: Path) -> None:
    noise = np.random.default_rng(1).integers(-20, 21, (160, 240, 3))
    picture = (rgb_picture(1, (240, 160)) + noise).astype(np.uint8)
    Image.fromarray(picture).save(path, quality=90)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 7 // 10])


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


_ANIMATED = [rgb_picture(number) for number in range(1, _NUM_FRAMES + 1)]
_NUMBERS = tuple(range(1, _NUM_FRAMES + 1))
_DELAYS_S = (Fraction(1, 10), Fraction(1, 5), Fraction(1, 10), Fraction(1, 2))
_DELAYS_MS = [int(delay * 1000) for delay in _DELAYS_S]


def _still(name: str, shows: str, picture: Pixels, expected: ImageExpected, **options: Any) -> ImageCase:
    return ImageCase(name, shows, partial(_save, picture=picture, **options), expected)


def _deep(name: str, shows: str, picture: Pixels, expected: ImageExpected, **options: Any) -> ImageCase:
    return ImageCase(name, shows, partial(_save_vips, picture=picture, **options), expected)


def _animation(name: str, shows: str, format_: ImageFormat, **options: Any) -> ImageCase:
    # GIF and animated WebP are read with alpha, as frames may leave out what the one before shows.
    has_alpha = None if format_ in ("gif", "webp") else False
    expected = ImageExpected(format=format_, has_alpha=has_alpha, numbers=_NUMBERS, delays_s=_DELAYS_S)
    make = partial(_save_frames, pictures=_ANIMATED, duration=_DELAYS_MS, loop=0, **options)
    return ImageCase(name, shows, make, expected)


CASES = (
    _still("still_png_rgb.png", "PNG", rgb_picture(1), ImageExpected(format="png")),
    _still("still_png_grey.png", "grey PNG", _gray_picture(1), ImageExpected(format="png", layout="grey")),
    _deep(
        "still_png_grey16.png",
        "16-bit grey PNG",
        _gray_picture(1, 16),
        ImageExpected(format="png", layout="grey", bit_depth=16),
    ),
    _deep("still_png_rgb16.png", "16-bit PNG", _deep_picture(1), ImageExpected(format="png", bit_depth=16)),
    ImageCase(
        "still_png_palette.png", "a palette", _save_palette, ImageExpected(format="png", told=("palette",))
    ),
    ImageCase(
        "still_png_bilevel.png",
        "black and white alone",
        _save_bilevel,
        ImageExpected(format="png", layout="grey", told=("black and white|grey",)),
    ),
    _still(
        "still_png_alpha.png",
        "PNG with soft alpha",
        _soft_alpha(1),
        ImageExpected(format="png", has_alpha=True, alpha_range=(60, 255)),
    ),
    _still(
        "still_png_hidden.png",
        "another colour behind alpha, which must not shine through at edges",
        _hidden_color(),
        ImageExpected(
            format="png", has_alpha=True, numbers=(), opaque_rgb=(_RED, 0, _BLUE), alpha_range=(0, 255)
        ),
    ),
    ImageCase(
        "still_png_icc.png", "an ICC profile", _save_with_icc, ImageExpected(format="png", has_icc=True)
    ),
    _still(
        "still_png_1x1.png",
        "one pixel",
        np.full((1, 1, 3), 128, np.uint8),
        ImageExpected(format="png", size=(1, 1), numbers=()),
    ),
    _still("still_jpeg.jpg", "JPEG", rgb_picture(1), ImageExpected(format="jpeg"), quality=95),
    _still(
        "still_jpeg_grey.jpeg",
        "grey JPEG",
        _gray_picture(1),
        ImageExpected(format="jpeg", layout="grey"),
        quality=95,
    ),
    _still(
        "still_jpeg_progressive.jpg",
        "progressive JPEG with 4:2:0",
        rgb_picture(1),
        ImageExpected(format="jpeg"),
        quality=90,
        progressive=True,
        subsampling=2,
    ),
    ImageCase(
        "still_jpeg_cmyk.jpg",
        "a JPEG of inks",
        _save_cmyk,
        ImageExpected(format="jpeg", layout="cmyk"),
    ),
    ImageCase(
        "still_jpeg_orientation_6.jpg",
        "EXIF says that it is to be turned by a quarter",
        partial(_save_turned, orientation=6),
        ImageExpected(format="jpeg", orientation=6, told=("orientation",)),
    ),
    ImageCase(
        "still_jpeg_orientation_4.jpg",
        "EXIF says that it is to be mirrored",
        partial(_save_turned, orientation=4),
        ImageExpected(format="jpeg", orientation=4, told=("orientation",)),
    ),
    ImageCase(
        "still_jpeg_icc.jpg",
        "a JPEG with an ICC profile",
        _save_with_icc,
        ImageExpected(format="jpeg", has_icc=True),
    ),
    _still("still_webp.webp", "WebP", rgb_picture(1), ImageExpected(format="webp"), quality=95),
    _still(
        "still_webp_lossless_alpha.webp",
        "lossless WebP with alpha",
        _soft_alpha(1),
        ImageExpected(format="webp", has_alpha=True, alpha_range=(60, 255)),
        lossless=True,
    ),
    _still("still_avif.avif", "AVIF", rgb_picture(1), ImageExpected(format="avif"), quality=95),
    _still(
        "still_avif_alpha.avif",
        "AVIF with alpha",
        _soft_alpha(1),
        ImageExpected(format="avif", has_alpha=True, alpha_range=(60, 255)),
        quality=95,
    ),
    _deep(
        "still_avif_10bit.avif",
        "10-bit AVIF",
        _deep_picture(1),
        ImageExpected(format="avif", bit_depth=10),
        compression="av1",
        bitdepth=10,
        Q=95,
    ),
    _still("still_tiff.tif", "TIFF", rgb_picture(1), ImageExpected(format="tiff"), compression="tiff_lzw"),
    _deep(
        "still_tiff_16bit.tif", "16-bit TIFF", _deep_picture(1), ImageExpected(format="tiff", bit_depth=16)
    ),
    ImageCase(
        "still_tiff_pages.tiff",
        "a TIFF of pages",
        partial(_save_frames, pictures=_ANIMATED),
        ImageExpected(format="tiff", numbers=_NUMBERS),
    ),
    _still("still_bmp.bmp", "BMP", rgb_picture(1), ImageExpected(format="bmp")),
    ImageCase(
        "still_gif.gif", "a GIF of one frame", _save_palette, ImageExpected(format="gif", has_alpha=None)
    ),
    _animation("animation_gif.gif", "an animated GIF", "gif"),
    _animation("animation_webp.webp", "an animated WebP", "webp", lossless=True),
    _animation("animation_png.png", "an animated PNG", "png"),
    ImageCase(
        "broken_jpeg_cut_off.jpg",
        "a JPEG that was cut off",
        _save_cut_off,
        ImageExpected(state="damaged", format="jpeg", size=(240, 160), numbers=()),
    ),
    ImageCase(
        "broken_text.png",
        "a text with an image's name",
        partial(_write, content=b"This is no image.\n" * 40),
        ImageExpected(state="failed", reason="read|no image|not an image"),
    ),
    ImageCase(
        "broken_empty.jpg",
        "an empty file",
        partial(_write, content=b""),
        ImageExpected(state="failed", reason="empty|read"),
    ),
)
