"""Single pictures on this machine: read as floats, written as PNG."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cluster.images.plan import ImageTreatment
from cluster.images.read import open_image
from cluster.images.source import Metadata
from cluster.images.write import ImageWriter
from jobs.load import refuse_s3
from sr_core.errors import MediaError, SpecError, StorageError

if TYPE_CHECKING:
    from cluster.images.info import Layout


def read_picture(path: Path, layout: Layout) -> Tensor:
    """The colours of a picture, (1, C, H, W) float32 of 0..1; alpha is left out.

    Args:
        path: A picture in any format that Framelift reads.
        layout: `grey`, or `rgb`, which grey becomes too.

    Raises:
        SpecError: There is no such file, or its colours or its place are not what is asked for.
        MediaError: It is no picture, or it is damaged.
    """
    refuse_s3(str(path), "this picture")
    try:
        with path.open("rb") as file:
            image = open_image(file, str(path))
            planes = next(iter(image.frames()))
    except FileNotFoundError as error:
        raise SpecError("there is no such picture", where=str(path)) from error
    except OSError as error:
        raise StorageError("the picture cannot be read", where=str(path), got=str(error)) from error
    if image.damage:
        raise MediaError("the picture is damaged", where=str(path), got=image.damage)
    info = image.info
    if info.layout not in ("grey", layout) or info.orientation != 1 or info.num_frames > 1:
        turned = ", turned by EXIF" if info.orientation != 1 else ""
        raise SpecError(
            "the picture is of another kind",
            where=str(path),
            got=f"{info.samples}{turned}",
            expected=f"one {layout} picture, upright",
        )
    peak = (1 << info.bit_depth) - 1
    num_colors = 1 if info.layout == "grey" else 3
    colors = np.stack([plane.astype(np.float32) / peak for plane in planes[:num_colors]])
    return torch.from_numpy(colors).expand(1 if layout == "grey" else 3, -1, -1)[None]


def refuse_existing(paths: Iterable[Path]) -> None:
    """Raises `SpecError` where one of `paths`, which are to be written, is there already or in a bucket."""
    for path in paths:
        refuse_s3(str(path), "the output")
        if path.exists():
            raise SpecError(
                "something stands there already", where=str(path), next_step="give another path, or remove it"
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            with ImageWriter(part, treatment, Metadata()) as writer:
                writer.add(arrays)
                writer.end()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError("the picture cannot be written", where=str(path), got=str(error)) from error
