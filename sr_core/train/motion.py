"""Clips from stills: a camera that pans, zooms and turns over a picture, by parts of a pixel.

Nothing in such a clip moves against anything else, and nothing is uncovered; what it teaches is how details
pass from frame to frame, also through codecs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.errors import SpecError
from sr_core.train.degradations.draws import Range, check_range, uniform

_KERNEL_PX = 2  # how far bicubic interpolation reaches


@dataclass(frozen=True)
class MotionSettings:
    """How a camera moves.

    Attributes:
        pan_px: Its speed, in HR pixels per frame; the direction is drawn from all.
        zoom: Largest change of size from frame to frame, as a part of it, in or out.
        turn_degrees: Largest turn from frame to frame, either way.
        sway_px: Largest amplitude of the sway that every camera in a hand has, on each axis.
        sway_frames: How long a sway takes.
    """

    pan_px: Range = (0.0, 4.0)
    zoom: float = 0.01
    turn_degrees: float = 0.5
    sway_px: float = 1.5
    sway_frames: Range = (8.0, 30.0)

    def __post_init__(self) -> None:
        check_range("pan_px", self.pan_px, 0)
        check_range("zoom", (0, self.zoom), 0, 0.2)
        check_range("turn_degrees", (0, self.turn_degrees), 0, 45)
        check_range("sway_px", (0, self.sway_px), 0)
        check_range("sway_frames", self.sway_frames, 2)


@dataclass(frozen=True)
class CameraPath:
    """Where the camera is in each frame.

    Attributes:
        right_px: (T,) of its middle to the right of the still's middle.
        down_px: (T,) the same downwards.
        zooms: (T,) pixels of the clip per pixel of the still.
        angles: (T,) radians by which it is turned.
    """

    right_px: Tensor
    down_px: Tensor
    zooms: Tensor
    angles: Tensor


def drawn_path(generator: torch.Generator, settings: MotionSettings, num_frames: int) -> CameraPath:
    """A path that is over the still's middle, and neither zoomed nor turned, half way through the clip."""
    times = torch.arange(num_frames, dtype=torch.float64) - (num_frames - 1) / 2
    speed, direction = uniform(generator, settings.pan_px), uniform(generator, (0.0, 2 * math.pi))
    zoom = uniform(generator, (-settings.zoom, settings.zoom))
    turn = math.radians(uniform(generator, (-settings.turn_degrees, settings.turn_degrees)))
    return CameraPath(
        right_px=times * speed * math.cos(direction) + _drawn_sway(generator, settings, times),
        down_px=times * speed * math.sin(direction) + _drawn_sway(generator, settings, times),
        zooms=(times * math.log1p(zoom)).exp(),
        angles=times * turn,
    )


def _drawn_sway(generator: torch.Generator, settings: MotionSettings, times: Tensor) -> Tensor:
    amplitude = uniform(generator, (0.0, settings.sway_px))
    period, phase = uniform(generator, settings.sway_frames), uniform(generator, (0.0, 2 * math.pi))
    return amplitude * ((2 * math.pi / period * times + phase).sin() - math.sin(phase))


def filmed(still: Tensor, path: CameraPath, size: tuple[int, int]) -> Tensor:
    """What the camera sees; beyond its edges the still goes on mirrored.

    Args:
        still: (3, H, W) float32 R'G'B', 0..1, better larger than the clip by what the camera moves.
        path: Of the camera.
        size: (height, width) of the clip, not larger than the still.

    Returns:
        (T, 3, height, width), 0..1, bicubic.

    Raises:
        SpecError: The clip is larger than the still.
    """
    height, width = still.shape[-2:]
    if size[0] > height or size[1] > width:
        raise SpecError(
            "the clip is larger than the still",
            got=f"{size[1]}x{size[0]}",
            expected=f"{width}x{height} at most",
        )
    places = _places(path, size) / torch.tensor([width / 2, height / 2], dtype=torch.float64)
    frames = F.grid_sample(
        still.expand(len(path.zooms), -1, -1, -1),
        places.to(still),
        mode="bicubic",
        padding_mode="reflection",
        align_corners=False,
    )
    return frames.clamp(0, 1)


def reach_px(path: CameraPath, size: tuple[int, int]) -> int:
    """By how much a still must be larger on each side than a clip of (height, width) for nothing mirrored."""
    corners = _places(path, size, corners_alone=True)
    middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], dtype=torch.float64)
    return _KERNEL_PX + max(0, math.ceil(float((corners.abs() - middle).max())))


def _places(path: CameraPath, size: tuple[int, int], *, corners_alone: bool = False) -> Tensor:
    """(T, height, width, 2): where each pixel is in the still, right of and below its middle, in px."""
    step = [side - 1 if corners_alone and side > 1 else 1 for side in size]
    y, x = (
        torch.arange(0, side, by, dtype=torch.float64) - (side - 1) / 2
        for side, by in zip(size, step, strict=True)
    )
    along, beside = (
        (values / path.zooms).view(-1, 1, 1) for values in (path.angles.cos(), path.angles.sin())
    )
    across = along * x - beside * y[:, None] + path.right_px.view(-1, 1, 1)
    down = beside * x + along * y[:, None] + path.down_px.view(-1, 1, 1)
    return torch.stack([across, down], dim=-1)
