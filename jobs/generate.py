"""`framelift generate`: images that a generative model makes of noise."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cluster.weights import model_at, opened_weights
from jobs.device import device_here
from jobs.outputs import refuse_existing
from jobs.pictures import write_png
from sr_core.color import ColorSpace, PlaneFormat, Planes
from sr_core.errors import ModelError, SpecError
from sr_core.family import load_network
from sr_core.generative import GENERATORS, Generator, sample
from sr_core.model import ColorMode
from sr_core.upscale import Upscaler

_FULL_RANGE = ColorSpace(full_range=True)
_TILE_PX = 512
# By channels of the generator.
_FORMATS = {
    1: PlaneFormat(has_chroma=False),
    3: PlaneFormat(chroma_w_shift=0, chroma_h_shift=0, is_rgb=True),
}


def generate(
    weights: str,
    folder: Path,
    count: int,
    seed: int,
    model: str | None = None,
    scale: int | None = None,
    *,
    overwrite: bool = False,
) -> int:
    """Draws images and writes them to `folder` as 8-bit PNG, `SEED-NUMBER.png`, and says so.

    Args:
        weights: Path or S3 URL of a generator's weights.
        folder: Where they go; it is made where it is missing.
        count: How many.
        seed: The same one gives the same images.
        model: Name or weights of a model that upscales them.
        scale: Its scale where it does not bring one.
        overwrite: Whether files that stand there are replaced.

    Raises:
        ModelError: The weights are of no generator, or the model cannot be used.
        SpecError: A number makes no sense, or a file stands there already.
        StorageError: Nothing can be written there.
    """
    if count < 1 or seed < 0:
        raise SpecError(
            "these numbers make no sense",
            where="command line",
            got=f"--count {count} --seed {seed}",
            expected="a count from 1 and a seed from 0 upwards",
        )
    if scale is not None and model is None:
        raise SpecError("a scale needs a model", where="--scale", next_step="add --model lanczos, or weights")
    paths = [folder / f"{seed}-{index:05d}.png" for index in range(count)]
    refuse_existing(paths, overwrite=overwrite)
    device = device_here()
    generator = _load_generator(weights).to(device)
    upscaler = _upscaler(model, scale, device) if model is not None else None
    size = (0, 0)
    for path, image in zip(paths, sample(generator, count, seed), strict=True):
        planes = _codes(image)
        if upscaler is not None:
            planes = upscaler.upscale(planes, _FORMATS[len(planes)], _FULL_RANGE, where=str(path))
        write_png(path, planes)
        size = (planes[0].shape[1], planes[0].shape[0])
    print(f"{folder}: {count} images of {size[0]}x{size[1]}")
    return 0


def _load_generator(weights: str) -> Generator:
    with opened_weights(weights) as path:
        generator = load_network(Path(path), GENERATORS)
    if generator.num_channels not in _FORMATS:
        raise ModelError(
            "The generator's images are neither grey nor RGB",
            where=weights,
            got=f"{generator.num_channels} channels",
            expected="1 or 3",
        )
    return generator


def _upscaler(name_or_url: str, scale: int | None, device: str) -> Upscaler:
    model = model_at(name_or_url, scale)
    if model.facts.num_frames > 1 or model.facts.color_mode is ColorMode.YUV420:
        raise ModelError(
            "The model is for videos alone",
            where=name_or_url,
            got=f"{model.facts.num_frames} frames, {model.facts.color_mode}",
            expected="one frame of rgb or luma",
            next_step="choose another model",
        )
    return Upscaler(model, device, "fp32", _TILE_PX, 1)


def _codes(image: Tensor) -> Planes:
    """(C, H, W) of 0..1 as planes of 8 bits."""
    return tuple((image * 255).round().to(torch.uint8))
