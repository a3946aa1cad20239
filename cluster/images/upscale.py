"""One image from its file to an upscaled and verified file."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from cluster.images.info import NUM_COLORS, ImageInfo
from cluster.images.plan import ImageTreatment
from cluster.images.read import open_image
from cluster.images.source import SourceImage
from cluster.images.vips import Plane, Planes
from cluster.images.write import ImageWriter, carried_icc
from cluster.segment import psnr_db
from sr_core.color import ColorSpace, PlaneFormat
from sr_core.errors import MediaError, OutputError, WorkerError
from sr_core.memory import is_out_of_memory
from sr_core.upscale import Upscaler

_FULL_RANGE = ColorSpace(full_range=True)


@dataclass(frozen=True)
class ImageResult:
    """What became of one image.

    Attributes:
        damage: Why pixels of the source are missing; empty where none are.
        told: What the user must know, a sentence each.
        psnr_db: Of the worst frame, scaled down by area, against its source; None where the scale is not
            whole or the pixels are stored turned.
    """

    num_frames: int
    damage: str
    told: tuple[str, ...]
    psnr_db: float | None


def upscale_image(
    source: BinaryIO, name: str, treatment: ImageTreatment, upscaler: Upscaler, path: Path
) -> Generator[None, None, ImageResult]:
    """Upscales one image into the file `path`, and reads that back to see that it holds what it must.

    Args:
        source: The image file; seekable.
        name: Names it in errors.
        treatment: What will be done, as `plan_image` has planned it for this file.
        upscaler: The engine, with the treatment's model.
        path: Where the output goes; what is there is replaced.

    Yields:
        Nothing, as a sign of life: whenever a frame was read, upscaled, written or verified.

    Raises:
        MediaError: Nothing of the image decodes.
        OutputError: What was written is not what it must be.
        WorkerError: It does not fit into the memory of this machine.
    """
    num_shrunk = len(upscaler.shrunk)
    hashes = list[bytes]()
    try:
        image = open_image(source, name)
        yield
        told = yield from _write(path, image, treatment, upscaler, hashes, name)
        worst_db = yield from _verify(path, image, treatment, hashes, name)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _too_large(treatment, error, name) from error
    shrunk = upscaler.shrunk[num_shrunk:]
    return ImageResult(len(hashes), image.damage, (*told, *shrunk), worst_db)


def _too_large(treatment: ImageTreatment, error: BaseException, name: str) -> WorkerError:
    said = str(error).splitlines()[:1]
    return WorkerError(
        "the image does not fit into this machine's memory",
        where=name,
        got=": ".join((f"an output of {treatment.width}x{treatment.height}", *said)),
        next_step="choose a smaller scale, or a machine with more memory",
    )


def _write(
    path: Path,
    image: SourceImage,
    treatment: ImageTreatment,
    upscaler: Upscaler,
    hashes: list[bytes],
    name: str,
) -> Generator[None, None, tuple[str, ...]]:
    """Writes the upscaled frames, of which `hashes` gets one each; what could not be carried."""
    with ImageWriter(path, treatment, image.metadata) as writer:
        for index, planes in enumerate(image.frames()):
            yield
            where = f"{name}, frame {index}" if treatment.num_frames > 1 else name
            lr_frame = _adapted(planes, image.info, treatment)
            sr_frame = _upscaled_frame(lr_frame, treatment, upscaler, treatment.size_of(index), where)
            yield
            hashes.append(_hash(sr_frame))
            writer.add(sr_frame)
            yield
        told = writer.end()
    yield
    return told


def _hash(planes: Planes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for plane in planes:
        digest.update(plane.tobytes())
    return digest.digest()


def _adapted(planes: Planes, info: ImageInfo, treatment: ImageTreatment) -> Planes:
    """The source's samples as the output stores them: more bits, or grey as colour."""
    if info.bit_depth != treatment.bit_depth:
        planes = tuple(_deepened(plane, info.bit_depth, treatment.bit_depth) for plane in planes)
    if info.layout == "grey" and treatment.layout == "rgb":
        planes = (planes[0], planes[0], planes[0], *planes[1:])
    return planes


def _deepened(plane: Plane, before: int, after: int) -> Plane:
    """Codes of more bits: white stays white."""
    wide = plane.astype(np.uint32) * ((1 << after) - 1)
    return ((wide + (1 << before) // 2) // ((1 << before) - 1)).astype(np.uint16)


def _upscaled_frame(
    planes: Planes, treatment: ImageTreatment, upscaler: Upscaler, size: tuple[int, int], where: str
) -> Planes:
    """CMYK goes through the engine as two pictures, and never through RGB.

    Inverted, cyan, magenta and yellow look much as red, green and blue do, and black as grey, which is what
    networks know. A conversion to RGB would lose how the inks share the dark tones, and with it the meaning
    of the profile.
    """
    if treatment.layout != "cmyk":
        return _engine(planes, treatment, upscaler, size, where)
    peak = planes[0].dtype.type((1 << treatment.bit_depth) - 1)
    alpha = planes[4:]
    colors = _engine((*(peak - plane for plane in planes[:3]), *alpha), treatment, upscaler, size, where)
    black = _engine((peak - planes[3], *alpha), treatment, upscaler, size, where)
    return *(peak - plane for plane in (*colors[:3], black[0])), *colors[3:]


def _engine(
    planes: Planes, treatment: ImageTreatment, upscaler: Upscaler, size: tuple[int, int], where: str
) -> Planes:
    is_rgb = len(planes) >= 3
    plane_format = PlaneFormat(
        bit_depth=treatment.bit_depth,
        chroma_w_shift=0,
        chroma_h_shift=0,
        has_chroma=is_rgb,
        is_rgb=is_rgb,
        has_alpha=treatment.has_alpha,
    )
    tensors = tuple(torch.from_numpy(np.require(plane, requirements="W")) for plane in planes)
    made = upscaler.upscale(tensors, plane_format, _FULL_RANGE, size, where=where)
    return tuple(plane.cpu().numpy() for plane in made)


def _verify(
    path: Path, source: SourceImage, treatment: ImageTreatment, hashes: Sequence[bytes], name: str
) -> Generator[None, None, float | None]:
    """Reads the output back; the PSNR of its worst frame against the source's.

    Raises:
        OutputError: It does not hold what it must.
    """
    with path.open("rb") as file:
        try:
            output = open_image(file, str(path))
            psnrs_db = yield from _compare(output, source, treatment, hashes, name)
        except MediaError as error:
            raise OutputError("the output cannot be read back", where=name, got=str(error)) from error
    if output.damage:
        raise OutputError("the output is damaged", where=name, got=output.damage)
    _check_facts(output, source, treatment, name)
    return min(psnrs_db, default=None)


def _check_facts(output: SourceImage, source: SourceImage, treatment: ImageTreatment, name: str) -> None:
    info = output.info
    turned = treatment.format == "avif" and treatment.orientation >= 5
    size = (treatment.height, treatment.width) if turned else (treatment.width, treatment.height)
    orientation = 1 if treatment.format == "avif" else treatment.orientation
    is_gif = treatment.format == "gif"  # where palettes decide whether there is colour or transparency
    icc = carried_icc(source.metadata.icc, treatment)
    for what, got, expected in (
        ("format", info.format, treatment.format),
        ("size", (info.width, info.height), size),
        ("frames", info.num_frames, treatment.num_frames),
        ("sizes of pages", info.page_sizes, treatment.page_sizes),
        ("bit depth", info.bit_depth, treatment.bit_depth),
        ("colours", info.layout, info.layout if is_gif else treatment.layout),
        ("transparency", info.has_alpha, info.has_alpha if is_gif else treatment.has_alpha),
        ("orientation", info.orientation, orientation),
        ("times", info.delays_s, treatment.delays_s),
        ("plays", info.loop, treatment.loop),
        ("ICC profile", hashlib.sha256(output.metadata.icc).hexdigest(), hashlib.sha256(icc).hexdigest()),
    ):
        if got != expected:
            raise OutputError(
                f"the output has other {what} than planned", where=name, got=str(got), expected=str(expected)
            )


def _compare(
    output: SourceImage,
    source: SourceImage,
    treatment: ImageTreatment,
    hashes: Sequence[bytes],
    name: str,
) -> Generator[None, None, list[float]]:
    """Checks the samples of every frame; the PSNR of those where it can be measured.

    It cannot where an AVIF is decoded turned: its pixels are not where the source's are.

    Raises:
        OutputError: Samples of a lossless output are not those that were written.
    """
    is_turned = treatment.format == "avif" and treatment.orientation != 1
    psnrs_db: list[float] = []
    for index, (written, planes, hash_) in enumerate(zip_longest(output.frames(), source.frames(), hashes)):
        if written is None or planes is None or hash_ is None:
            raise OutputError("the output has other frames than were made", where=name, got=f"{index}")
        if treatment.is_lossless and not is_turned and _hash(written) != hash_:
            raise OutputError(
                "the output's samples are not those that were written", where=name, got=f"frame {index}"
            )
        if not is_turned:
            seen = _as_treated(written, output.info, treatment)
            psnrs_db += _frame_psnr_db(_adapted(planes, source.info, treatment), seen, treatment)
        yield
    return psnrs_db


def _as_treated(planes: Planes, info: ImageInfo, treatment: ImageTreatment) -> Planes:
    """What was read of a GIF, whose palettes decide on colours and transparency, in the planned samples."""
    if (info.layout, info.has_alpha) == (treatment.layout, treatment.has_alpha):
        return planes
    colors = planes[:3] if info.layout == "rgb" else (planes[0],) * 3
    alpha = planes[-1] if info.has_alpha else np.full_like(planes[0], 255)
    return (*colors, alpha) if treatment.has_alpha else colors


def _frame_psnr_db(planes: Planes, written: Planes, treatment: ImageTreatment) -> list[float]:
    """Of the worst of its planes; colours count as far as alpha shows them."""
    num_colors = NUM_COLORS[treatment.layout]
    peak = (1 << treatment.bit_depth) - 1
    if treatment.has_alpha:
        planes, written = _shown(planes, num_colors, peak), _shown(written, num_colors, peak)
    found = [psnr_db(before, after, peak) for before, after in zip(planes, written, strict=True)]
    return [min(each[0] for each in found)] if all(found) else []


def _shown(planes: Planes, num_colors: int, peak: int) -> Planes:
    alpha = planes[num_colors].astype(np.float32) / peak
    return *(plane * alpha for plane in planes[:num_colors]), planes[num_colors]
