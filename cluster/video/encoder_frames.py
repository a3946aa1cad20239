"""Frames for encoders: planes in memory, with what else of the source's frame the encoder is to write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from cluster.video.codecs import EncodeSettings
from cluster.video.encoders import codec_named
from cluster.video.pixels import PixelFormat
from cluster.video.planes import Plane
from sr_core.errors import OutputError

_CAPTIONS = "A53_CC"
# Besides captions, what encoders take from frames unasked.
_WRITTEN_UNASKED = "STEREO3D"


def frame_of(
    planes: Sequence[Plane], pixels: PixelFormat, settings: EncodeSettings, props: VideoFrame | None = None
) -> VideoFrame:
    """The planes as a frame for the encoder, without a copy where FFmpeg can take them as they are.

    Args:
        planes: Y, Cb, Cr, or R, G, B, each followed by alpha if there is one, or Y alone; (H, W) each, uint8
            or, above 8 bits, uint16 with the code in the low bits.
        pixels: The settings' pixel format.
        props: The frame of the source, whose closed captions go with this one where the encoder can.

    Raises:
        OutputError: The planes do not fit the settings.
    """
    _check_planes(planes, pixels, settings)
    stored = _in_stored_order(planes, pixels)
    has_captions = props is not None and props.side_data.get(_CAPTIONS) is not None
    if props is not None and has_captions and codec_named(settings.codec).captions:
        frame = _blank_with_captions(props, settings)
        _fill(frame, stored)
    elif settings.encoder_format != pixels.planar:
        frame = _interleaved(stored, settings)
    elif _can_be_shared(stored, pixels):
        frame = VideoFrame.from_dlpack(tuple(stored), format=pixels.planar)
    else:
        frame = VideoFrame(settings.width, settings.height, pixels.planar)
        _fill(frame, stored)
    return frame


def _check_planes(planes: Sequence[Plane], pixels: PixelFormat, settings: EncodeSettings) -> None:
    sizes = pixels.plane_sizes(settings.width, settings.height)
    dtype = np.dtype(np.uint8 if pixels.bit_depth == 8 else np.uint16)
    got = [(plane.shape, plane.dtype) for plane in planes]
    if got != [(size, dtype) for size in sizes]:
        raise OutputError(
            "these planes do not fit the encoder",
            got=str(got),
            expected=f"{sizes} of {dtype} for {pixels.name}",
        )


def _in_stored_order(planes: Sequence[Plane], pixels: PixelFormat) -> Sequence[Plane]:
    """The planes in FFmpeg's order, which for RGB is G, B, R."""
    if not pixels.is_rgb:
        return planes
    red, green, blue, *alpha = planes
    return green, blue, red, *alpha


def _can_be_shared(planes: Sequence[Plane], pixels: PixelFormat) -> bool:
    """Whether FFmpeg can take the planes where they lie: of whole chroma samples, and rows without steps."""
    height, width = planes[0].shape
    is_even = not (width % (1 << pixels.chroma_w_shift) or height % (1 << pixels.chroma_h_shift))
    return is_even and all(plane.strides[1] == plane.itemsize for plane in planes)


def _fill(frame: VideoFrame, planes: Sequence[Plane]) -> None:
    for plane, target in zip(planes, frame.planes, strict=True):
        buffer: Any = target
        strides = (target.line_size, plane.itemsize)
        np.ndarray(plane.shape, plane.dtype, buffer=buffer, strides=strides)[:] = plane


def _interleaved(planes: Sequence[Plane], settings: EncodeSettings) -> VideoFrame:
    """RGB of 8 bits as bgr0 or bgra."""
    frame = VideoFrame(settings.width, settings.height, settings.encoder_format)
    buffer: Any = frame.planes[0]
    shape = (settings.height, settings.width, 4)
    pixels = np.ndarray(shape, np.uint8, buffer=buffer, strides=(frame.planes[0].line_size, 4, 1))
    green, blue, red, *alpha = planes
    for index, plane in enumerate((blue, green, red)):
        pixels[..., index] = plane
    pixels[..., 3] = alpha[0] if alpha else 0
    return frame


def _blank_with_captions(props: VideoFrame, settings: EncodeSettings) -> VideoFrame:
    """A frame for the encoder that has the captions of `props`, and nothing else that would be written.

    PyAV (18.1) attaches no side data to frames, but its scaler copies them with everything else.
    """
    if props.side_data.get(_WRITTEN_UNASKED) is not None:
        props = _without(props, _WRITTEN_UNASKED)
    size = (settings.width, settings.height)
    if (props.width, props.height, props.format.name) == (*size, settings.encoder_format):
        # The scaler would give back the very frame, to which the decoder may still refer.
        props = props.reformat(format="gray16le")
    frame = props.reformat(*size, format=settings.encoder_format, interpolation="POINT")
    frame.pict_type = 0  # the encoder decides
    frame.duration = 0
    return frame


def _without(frame: VideoFrame, side_data: str) -> VideoFrame:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    delete, sink = graph.add("sidedata", f"mode=delete:type={side_data}"), graph.add("buffersink")
    graph.link_nodes(source, delete, sink).configure()
    graph.vpush(frame)
    return graph.vpull()
