"""Decoded frames through the engine: from the source's planes to those that the encoder takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy.typing as npt
import torch

from cluster.plan import Treatment
from cluster.video.decode import DecodedFrame
from cluster.video.info import ColorTags
from cluster.video.pixels import PixelFormat, pixel_format
from cluster.video.tags import MATRICES
from cluster.windows import windows
from sr_core.color import ChromaLocation, ColorSpace, Matrix, PlaneFormat
from sr_core.upscale import Upscaler

FramePlanes = tuple[npt.NDArray[Any], ...]
Upscaled = tuple[DecodedFrame, FramePlanes]


def upscaled_frames(
    decoded: Iterable[DecodedFrame], treatment: Treatment, upscaler: Upscaler
) -> Iterator[Upscaled]:
    """Every frame but the context with its upscaled planes as the encoder takes them.

    Frames may differ from each other in size and format.
    """
    encode = treatment.encode
    made = known_format(encode.pixel_format)
    out_format, out_space = plane_format_of(made), color_space_of(made, encode.color)
    facts = upscaler.model.facts
    for window in windows(decoded, facts.frames_before, facts.frames_after):
        frame = window.frame
        sr_planes = upscaler.upscale(
            _tensors(frame),
            plane_format_of(frame.pixels),
            color_space_of(frame.pixels, treatment.assumed_color),
            (encode.height, encode.width),
            out_format=out_format,
            out_space=out_space,
            before=tuple(map(_tensors, window.before)),
            after=tuple(map(_tensors, window.after)),
            where=f"{treatment.input.source.key} at pts {frame.pts}",
        )
        yield frame, tuple(plane.cpu().numpy() for plane in sr_planes)


def _tensors(frame: DecodedFrame) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(plane) for plane in frame.planes)


def known_format(name: str) -> PixelFormat:
    """The pixel format of a name that was planned."""
    found = pixel_format(name)
    assert found is not None, "only supported pixel formats are planned"
    return found


def plane_format_of(pixels: PixelFormat) -> PlaneFormat:
    """How planes of a pixel format are stored, as the engine is told."""
    return PlaneFormat(
        bit_depth=pixels.bit_depth,
        chroma_w_shift=pixels.chroma_w_shift,
        chroma_h_shift=pixels.chroma_h_shift,
        has_chroma=pixels.has_chroma,
        is_rgb=pixels.is_rgb,
        has_alpha=pixels.has_alpha,
    )


def color_space_of(pixels: PixelFormat, color: ColorTags) -> ColorSpace:
    """What the codes in planes of a pixel format mean, where nothing in `color` is unspecified."""
    location = ChromaLocation(color.chroma_location or "left")
    # Of RGB and grey the matrix says nothing, whatever stands there.
    return ColorSpace(Matrix(MATRICES.get(color.matrix, "bt709")), bool(color.full_range), location)
