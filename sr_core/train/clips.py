"""Short clips to train networks on that see several frames at once: real ones, and those filmed over stills.

A real clip of T frames is a picture of 3 * T channels, frame after frame in the order of time. A picture of
3 channels is a still, over which a camera moves another way for each item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sr_core.shrink import rounded
from sr_core.train.crops import Crops, CropSettings, Pictures, item_generator, middle_part, unit_frames
from sr_core.train.motion import CameraPath, MotionSettings, drawn_path, filmed, reach_px

_RGB_CHANNELS = 3


def middle_frame(frames: Tensor) -> Tensor:
    """The middle ones of clips (B, T, C, h, w), or frames (B, C, h, w) as they are."""
    return frames[:, frames.shape[1] // 2] if frames.dim() > 4 else frames


class Clips:
    """Draws and cuts clips; every item has its own random numbers, as with `Crops`."""

    def __init__(
        self,
        pictures: Pictures,
        settings: CropSettings,
        motion: MotionSettings,
        num_frames: int,
        seed: int,
        stage: int | str = 0,
    ) -> None:
        """Takes stills and clips of `num_frames`, each of which holds a crop.

        Raises:
            SpecError: One does not, or there is none.
        """
        self._crops = Crops(pictures, settings, seed, stage)
        self._num_channels = pictures.num_channels
        self._side_px = settings.side_px
        self._motion = motion
        self._num_frames = num_frames
        self._seed, self._stage = seed, stage

    def batch(self, numbers: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """(B, T, 3, side, side) float32 R'G'B' of 8-bit values, 0..1: the items of these numbers."""
        return torch.stack([self._clip(number, device) for number in numbers])

    def _clip(self, number: int, device: torch.device | str) -> Tensor:
        crop = self._crops.crop(number)
        if self._num_channels[crop.picture] != _RGB_CHANNELS:
            codes = torch.from_numpy(np.ascontiguousarray(self._crops.square(crop)))
            return _frames(codes, device)
        size = (self._side_px, self._side_px)
        path = still_path(self._motion, self._num_frames, self._seed, self._stage, number)
        square = self._crops.square(crop, reach_px(path, size))
        return _filmed(torch.from_numpy(np.ascontiguousarray(square)), path, size, device)


def still_path(
    motion: MotionSettings, num_frames: int, seed: int, stage: int | str, number: int
) -> CameraPath:
    """How the camera moves over a still in item `number` of a stage of a run."""
    return drawn_path(item_generator(seed, stage, number, "motion"), motion, num_frames)


def whole_clip(codes: Tensor, path: CameraPath, multiple: int, least_px: int, most_px: int) -> Tensor:
    """The middle of a picture as a clip, to measure on.

    Args:
        codes: A still or a clip, (3, H, W) or (3 * T, H, W) uint8.
        path: Of the camera over a still. What it sees there is not mirrored, where the still is large enough.
        multiple: That sides are whole multiples of.
        least_px: That no side of the clip is shorter than; a multiple, and no more than those of the still.
        most_px: That no side is longer than.

    Returns:
        (T, 3, height, width) float32 R'G'B' of 8-bit values, 0..1.
    """
    if len(codes) != _RGB_CHANNELS:
        return _frames(middle_part(codes, multiple, most_px), "cpu")
    sides = codes.shape[1:]
    margin = min(reach_px(path, (sides[0], sides[1])), (min(sides) - least_px) // 2)
    height, width = (min(side - 2 * margin, most_px) // multiple * multiple for side in sides)
    # With the same number of pixels on both sides, the middle frame is the still's own pixels.
    still = codes[:, (sides[0] - height) % 2 :, (sides[1] - width) % 2 :]
    return _filmed(still, path, (height, width), "cpu")


def _frames(codes: Tensor, device: torch.device | str) -> Tensor:
    """(T, 3, H, W) from a clip's (3 * T, H, W) codes."""
    return unit_frames(codes.reshape(-1, _RGB_CHANNELS, *codes.shape[1:]), device)


def _filmed(still: Tensor, path: CameraPath, size: tuple[int, int], device: torch.device | str) -> Tensor:
    """Frames of 8 bits, as those of real clips are."""
    return rounded(filmed(unit_frames(still, device), path, size))
