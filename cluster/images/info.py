"""What is known of an image, and how outputs are named. Pure: neither pyvips nor torch is imported."""

from __future__ import annotations

from fractions import Fraction
from pathlib import PurePosixPath
from typing import Literal

from pydantic.dataclasses import dataclass

from sr_core.errors import SpecError

ImageFormat = Literal["png", "jpeg", "webp", "avif", "tiff", "bmp", "gif"]
Layout = Literal["grey", "rgb", "cmyk"]
NUM_COLORS: dict[Layout, int] = {"grey": 1, "rgb": 3, "cmyk": 4}

_FORMATS: dict[str, ImageFormat] = {
    ".png": "png",
    ".apng": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".avif": "avif",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".gif": "gif",
}
IMAGE_SUFFIXES = tuple(_FORMATS)
_USUAL_SUFFIX: dict[ImageFormat, str] = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "avif": ".avif",
    "tiff": ".tif",
    "bmp": ".bmp",
    "gif": ".gif",
}


@dataclass(frozen=True)
class ImageInfo:
    """One image file.

    Attributes:
        format: As its content says, whatever its name does.
        width: Of the stored pixels, before any orientation is applied, as is the height. AVIF is the
            exception: there a rotation is part of decoding.
        layout: Of the colours; palettes are `rgb`.
        bit_depth: 8, 10, 12 or 16, of the samples as they are decoded.
        stored_bits: Of a sample in the file, 1 to 16; of an index where there is a palette.
        num_frames: Of an animation, or pages of a TIFF; 1 for a still.
        page_sizes: (width, height) of a TIFF's pages where they differ, else empty.
        orientation: EXIF's, 1 to 8: how viewers turn the stored pixels.
        is_lossless: Whether the file stores its samples exactly.
        is_premultiplied: Whether colours are stored multiplied by alpha; they are divided while decoding.
        is_progressive: Whether a JPEG is progressive or a PNG interlaced.
        delays_s: For how long each frame of an animation is shown; empty for stills and pages.
        loop: How often an animation is played; 0 is for ever.
        subsampling: Of a JPEG or AVIF, as `4:2:0`; empty where it has no chroma.
        compression: Of a TIFF's samples; empty for other formats.
        color_codes: Primaries and transfer of ITU-T H.273 where a PNG or AVIF names them.
        color_chunks: What else a PNG says of its colours, by names of chunks.
        dropped: What the file holds and no output will, a noun each.
    """

    format: ImageFormat
    width: int
    height: int
    layout: Layout = "rgb"
    bit_depth: int = 8
    stored_bits: int = 8
    has_alpha: bool = False
    num_frames: int = 1
    page_sizes: tuple[tuple[int, int], ...] = ()
    orientation: int = 1
    has_icc: bool = False
    is_lossless: bool = False
    is_palette: bool = False
    is_premultiplied: bool = False
    is_progressive: bool = False
    delays_s: tuple[Fraction, ...] = ()
    loop: int = 0
    subsampling: str = ""
    compression: str = ""
    color_codes: tuple[int, int] | None = None
    color_chunks: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def is_bilevel(self) -> bool:
        """Whether there is black and white alone."""
        return self.stored_bits == 1 and not self.is_palette

    @property
    def is_animation(self) -> bool:
        """Whether its frames follow each other in time."""
        return bool(self.delays_s)

    @property
    def samples(self) -> str:
        """Its samples in a few words, as `rgba 8 bit`."""
        return described_samples(self.layout, self.has_alpha, self.bit_depth, self.num_frames)

    @property
    def num_pixels(self) -> int:
        """Of all frames together."""
        if self.page_sizes:
            return sum(width * height for width, height in self.page_sizes)
        return self.width * self.height * self.num_frames


def described_samples(layout: Layout, has_alpha: bool, bit_depth: int, num_frames: int) -> str:
    """Samples in a few words, as `rgba 8 bit`."""
    colors = {"grey": "grey+alpha", "rgb": "rgba", "cmyk": "cmyk+alpha"}[layout] if has_alpha else layout
    return f"{colors} {bit_depth} bit" + (f", {num_frames} frames" if num_frames > 1 else "")


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return PurePosixPath(name).suffix.lower() in _FORMATS


def format_of_name(name: str) -> ImageFormat:
    """The format that a name promises.

    Raises:
        SpecError: Its suffix is none of `IMAGE_SUFFIXES`.
    """
    suffix = PurePosixPath(name).suffix
    if suffix.lower() not in _FORMATS:
        raise SpecError(
            "this is not an image that Framelift reads",
            where=name,
            got=f"a name that ends in '{suffix}'",
            expected=", ".join(IMAGE_SUFFIXES),
        )
    return _FORMATS[suffix.lower()]


def image_output_name(relative_path: str, format: ImageFormat | Literal["auto"]) -> str:
    """Where the output of the image at `relative_path` lies.

    The source's very name where the format stays, so that `photo.JPG` is found as `photo.JPG` again, else
    the name with the format's usual suffix.

    Raises:
        SpecError: The suffix is none of `IMAGE_SUFFIXES`.
    """
    current = format_of_name(relative_path)
    if format == "auto" or format == current:
        return relative_path
    return str(PurePosixPath(relative_path).with_suffix(_USUAL_SUFFIX[format]))
