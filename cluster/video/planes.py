"""The planes of a frame as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from cluster.video.pixels import PixelFormat

# FFmpeg's scaler (8.1) cuts a frame into as many slices as it has threads, and writes some samples more than
# a row has: with more than one thread it now and then spoils the start of the next slice.
SCALER_THREADS = 1

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def to_planar(frame: VideoFrame, pixels: PixelFormat) -> VideoFrame:
    """`frame`, which is stored as `pixels` says, in the planar format of these; itself if it is in that."""
    if not pixels.is_planar:
        for name in (*pixels.via, pixels.planar):
            frame = frame.reformat(format=name, threads=SCALER_THREADS)
    return frame


def planes_of(frame: VideoFrame, pixels: PixelFormat) -> tuple[Plane, ...]:
    """The planes of `frame`, which is stored as `pixels` says, without a copy where that is planar.

    Returns:
        Y, Cb, Cr, or R, G, B, each followed by alpha if there is one; or Y alone. (H, W) each, with gaps
        between rows; uint8 or, above 8 bits, uint16 with the code in the low bits.
    """
    planes = stored_planes(to_planar(frame, pixels), pixels)
    if pixels.is_rgb:
        green, blue, red, *alpha = planes
        return red, green, blue, *alpha
    return planes


def stored_planes(frame: VideoFrame, pixels: PixelFormat) -> tuple[Plane, ...]:
    """The planes of a `frame` in the planar format of `pixels`, in the order of FFmpeg: G, B, R for RGB."""
    dtype = np.dtype(np.uint8 if pixels.bit_depth == 8 else np.uint16)
    sizes = pixels.plane_sizes(frame.width, frame.height)
    return tuple(_view(frame, index, size, dtype) for index, size in enumerate(sizes))


def _view(frame: VideoFrame, index: int, size: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    """One plane of `frame`, which it keeps alive."""
    plane: Any = frame.planes[index]
    return np.ndarray(size, dtype, buffer=plane, strides=(plane.line_size, dtype.itemsize))
