"""Single pictures on this machine: read as floats, written as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cluster.images.info import NUM_COLORS, ImageInfo
from cluster.images.plan import ImageTreatment
from cluster.images.read import open_image
from cluster.images.source import Metadata
from cluster.images.write import ImageWriter
from jobs.load import refuse_s3
from jobs.outputs import written
from sr_core.errors import MediaError, SpecError, StorageError

# What becomes of alpha: it is left out, or a picture that hides something is refused.
AlphaPolicy = Literal["leave out", "refuse"]


def read_picture(path: Path, layout: Literal["grey", "rgb"], alpha: AlphaPolicy) -> Tensor:
    """The colours of a picture, (1, C, H, W) float32 of 0..1 as they are stored: grey has one channel.

    Args:
        path: A picture in any format that Framelift reads.
        layout: `grey`, or `rgb`, for which grey is taken too.
        alpha: What becomes of alpha; one that hides nothing never matters.

    Raises:
        SpecError: There is no such file, or the picture is not of the kind that is asked for. Those that
            viewers turn are not: whether pixels are meant as stored or as shown is not known.
        MediaError: It is no picture, or it is damaged.
        StorageError: It cannot be read.
    """
    refuse_s3(str(path), "this picture")
    try:
        with path.open("rb") as file:
            image = open_image(file, str(path))
            _check_kind(image.info, layout, path)
            frames = list(image.frames())
    except FileNotFoundError as error:
        raise SpecError("there is no such picture", where=str(path)) from error
    except OSError as error:
        raise StorageError("the picture cannot be read", where=str(path), got=str(error)) from error
    info = image.info
    if image.damage:
        raise MediaError("the picture is damaged", where=str(path), got=image.damage)
    (planes,) = frames
    peak = (1 << info.bit_depth) - 1
    if alpha == "refuse" and info.has_alpha and bool((planes[-1] < peak).any()):
        raise SpecError(
            "the picture hides some of its colours",
            where=str(path),
            got=info.samples,
            expected="one with nothing transparent",
        )
    colors = np.stack([plane.astype(np.float32) / peak for plane in planes[: NUM_COLORS[info.layout]]])
    return torch.from_numpy(colors)[None]


def _check_kind(info: ImageInfo, layout: Literal["grey", "rgb"], path: Path) -> None:
    if info.layout in ("grey", layout) and info.orientation == 1 and info.num_frames == 1:
        return
    is_turned = info.orientation != 1
    raise SpecError(
        "the picture is of another kind",
        where=str(path),
        got=info.samples + (", turned by EXIF" if is_turned else ""),
        expected=f"one {layout} picture, upright",
        next_step="turn its pixels themselves, and remove EXIF's orientation" if is_turned else "",
    )


def write_png(path: Path, planes: tuple[Tensor, ...]) -> None:
    """Writes planes of codes, (H, W) uint8 or uint16 each, of grey or R, G, B, as a PNG; whole or not at all.

    Raises:
        StorageError: It cannot be written there.
        OutputError: The encoder failed.
    """
    arrays = tuple(plane.cpu().numpy() for plane in planes)
    height, width = arrays[0].shape
    treatment = ImageTreatment(
        format="png",
        width=width,
        height=height,
        model_scale=1,
        layout="grey" if len(arrays) == 1 else "rgb",
        bit_depth=8 * arrays[0].itemsize,
        has_alpha=False,
    )
    with written(path) as part, ImageWriter(part, treatment, Metadata()) as writer:
        writer.add(arrays)
        writer.end()
