"""Pictures made in memory, by Pillow and libvips rather than by the code under test."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips
from PIL import Image, ImageCms

from cluster.images.info import ImageInfo
from cluster.images.plan import ImageTreatment, plan_image
from cluster.images.read import open_image
from cluster.images.source import SourceImage
from cluster.images.upscale import ImageResult, upscale_image
from cluster.job import ImageSettings
from sr_core.model import load_model
from sr_core.upscale import Upscaler

SHARED = Path(__file__).parents[4] / "shared" / "data" / "images_misc"
Pixels = npt.NDArray[Any]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def waves(bands: int, width: int = 23, height: int = 17, peak: int = 255) -> Pixels:
    """(H, W, bands): smooth, and different in every band."""
    y, x = np.mgrid[0:height, 0:width]
    layers = [np.sin(x / (5 + band) + band) + np.cos(y / (4 + band)) for band in range(bands)]
    dtype = np.uint8 if peak == 255 else np.uint16
    return np.stack([np.rint((layer + 2) / 4 * peak) for layer in layers], axis=-1).astype(dtype)


def pillow_file(picture: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def vips_image(pixels: Pixels, interpretation: str) -> Any:
    height, width, bands = pixels.shape
    format_ = "uchar" if pixels.dtype == np.uint8 else "ushort"
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels), width, height, bands, format_)
    return image.copy(interpretation=interpretation)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png_of(header: tuple[int, int, int, int], raw: bytes = b"", *before: bytes) -> bytes:
    """A PNG of (width, height, bit depth, colour type) from filtered rows and further chunks."""
    width, height, depth, color = header
    start = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(raw))
    return b"".join((b"\x89PNG\r\n\x1a\n", start, *before, pixels, chunk(b"IEND", b"")))


def exif(orientation: int, thumbnail: bytes = b"") -> bytes:
    """An EXIF block: maker, orientation, a maker's note, sizes, and a thumbnail if there is one."""
    maker = b"Framelift Camera\0\0"
    note = b"NOTE" * 5
    ifd0, exif_ifd = 8, 8 + 2 + 4 * 12 + 4
    values = exif_ifd + 2 + 3 * 12 + 4
    ifd1 = values + len(maker) + len(note)
    entries0 = (
        struct.pack("<HHII", 271, 2, len(maker), values),
        struct.pack("<HHIHH", 274, 3, 1, orientation, 0),
        struct.pack("<HHII", 256, 4, 1, 23),
        struct.pack("<HHII", 34665, 4, 1, exif_ifd),
    )
    entries_exif = (
        struct.pack("<HHII", 37500, 7, len(note), values + len(maker)),
        struct.pack("<HHIHH", 40962, 3, 1, 23, 0),
        struct.pack("<HHIHH", 40963, 3, 1, 17, 0),
    )
    head = struct.pack("<2sHI", b"II", 42, ifd0)
    first = struct.pack("<H", 4) + b"".join(entries0) + struct.pack("<I", ifd1 if thumbnail else 0)
    second = struct.pack("<H", 3) + b"".join(entries_exif) + struct.pack("<I", 0)
    block = head + first + second + maker + note
    if not thumbnail:
        return block
    start = len(block) + 2 + 2 * 12 + 4
    tags = struct.pack("<HHII", 513, 4, 1, start) + struct.pack("<HHII", 514, 4, 1, len(thumbnail))
    return block + struct.pack("<H", 2) + tags + struct.pack("<I", 0) + thumbnail


def animation(format_: str, num_frames: int = 4, bands: int = 3, **options: Any) -> bytes:
    """Frames of bright squares that move over a dark ground, by Pillow."""
    mode = "RGBA" if bands == 4 else "RGB"
    frames = []
    for index in range(num_frames):
        pixels = np.zeros((16, 24, bands), np.uint8)
        pixels[4:10, 2 + 4 * index : 8 + 4 * index] = 250
        frames.append(Image.fromarray(pixels, mode))
    durations = [40 + 30 * index for index in range(num_frames)]
    more = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 3, **options}
    return pillow_file(frames[0], format_, **more)


def apng(*frames: tuple[Pixels, tuple[int, int], Fraction, int, int], size: tuple[int, int]) -> bytes:
    """An animated PNG of RGBA pictures: (pixels, (left, top), delay, dispose, blend) each."""
    number, parts = 0, []
    for index, (pixels, place, delay, dispose, blend) in enumerate(frames):
        height, width = pixels.shape[:2]
        times = struct.pack(">2H2B", delay.numerator, delay.denominator, dispose, blend)
        parts.append(chunk(b"fcTL", struct.pack(">5I", number, width, height, *place) + times))
        raw = zlib.compress(
            b"".join(b"\0" + row.tobytes() for row in pixels.astype(pixels.dtype.newbyteorder(">")))
        )
        number += 1
        if index == 0:
            parts.append(chunk(b"IDAT", raw))
        else:
            parts.append(chunk(b"fdAT", struct.pack(">I", number) + raw))
            number += 1
    depth = 8 * frames[0][0].dtype.itemsize
    header = chunk(b"IHDR", struct.pack(">2I5B", *size, depth, 6, 0, 0, 0))
    control = chunk(b"acTL", struct.pack(">2I", len(frames), 2))
    return b"".join((b"\x89PNG\r\n\x1a\n", header, control, *parts, chunk(b"IEND", b"")))


def opened(data: bytes, name: str = "picture") -> SourceImage:
    return open_image(io.BytesIO(data), name)


def frames_of(source: SourceImage) -> list[Pixels]:
    """(H, W, bands) of every frame."""
    return [np.stack(planes, axis=-1) for planes in source.frames()]


def planned(info: ImageInfo, format_: Any = "auto", quality: Any = "auto", scale: int = 2) -> ImageTreatment:
    return plan_image(info, ImageSettings(format_, quality), scale, None, None, "picture")


def upscaled(
    data: bytes, folder: Path, format_: Any = "auto", quality: Any = "auto", scale: int = 2
) -> tuple[SourceImage, ImageTreatment, ImageResult]:
    """The output for `data` with the model lanczos, opened, with how it came to be."""
    treatment = planned(opened(data).info, format_, quality, scale)
    path = folder / "output"
    upscaler = Upscaler(load_model("lanczos", treatment.model_scale), "cpu", "fp32", 256, 1)
    result = finished(upscale_image(io.BytesIO(data), "picture", treatment, upscaler, path))
    return opened(path.read_bytes()), treatment, result


def finished(work: Generator[None, None, ImageResult]) -> ImageResult:
    """What came of it; its signs of life are passed over."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: ImageResult = end.value
            return result
