"""Squares of a job's pictures, for networks that see a picture as a whole, and sheets of them to look at."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from cluster.training.job import TrainJob
from sr_core.archs.arch import ColorMode
from sr_core.train.crops import Pictures, batch_numbers, unit_frames
from sr_core.train.group import Group
from sr_core.train.squares import Squares, SquareSettings, middles, shrunk
from sr_core.train.validation import as_seen

LOADER_THREADS = 2
AHEAD_BATCHES = 8

_MODES = {1: ColorMode.LUMA, 3: ColorMode.RGB}
_GAP_PX = 2
_GAP_CODE = 128
_SHEET_PX = 288


class SquareSource:
    """The squares of a job's pictures, as its network sees them.

    Attributes:
        group: The workers.
    """

    def __init__(
        self,
        pictures: Pictures,
        image_px: int,
        num_channels: int,
        settings: SquareSettings,
        job: TrainJob,
        group: Group,
    ) -> None:
        """Shrinks the pictures, so that nothing slow is left to do for a batch.

        Args:
            pictures: Of one part of the data; none have no squares.
            image_px: Side of the squares.
            num_channels: 3, or 1 of full-range luma.
            settings: How squares are drawn.
            job: Whose seed and batch sizes are used.
            group: The workers, on whose device squares lie.
        """
        self.group = group
        self._pictures = shrunk(pictures, image_px, settings)
        self._image_px, self._settings, self._job = image_px, settings, job
        self._mode = _MODES[num_channels]

    def items(self, stage: int, number: int) -> range:
        """This worker's share of the numbers of a batch of a stage."""
        own_size = self._job.stages[stage].stage.batch_size // self.group.size
        return batch_numbers(number, own_size, self.group.rank, self.group.size)

    def squares(self, stage: int | str) -> Squares:
        """Those of a stage."""
        return Squares(self._pictures, self._image_px, self._settings, self._job.seed, stage)

    def seen(self, codes: Tensor) -> Tensor:
        """(B, C, side, side) of 0..1 on the device, from (B, 3, side, side) uint8."""
        return as_seen(unit_frames(codes, self.group.device), self._mode)

    def middles(self) -> Tensor:
        """(N, C, side, side) of 0..1 on the device: of each picture the largest square in its middle."""
        return self.seen(middles(self._pictures, self._image_px))


def grid(images: Tensor) -> npt.NDArray[np.uint8]:
    """(height, width, 3): images (B, C, side, side) of 0..1 in rows, of as many as fit into a sheet's width.

    Args:
        images: One at least; in place of what is too large for a sheet, a shrunk copy is shown.
    """
    side_px = min(images.shape[-1], _SHEET_PX - 2 * _GAP_PX)
    if images.shape[-1] > side_px:
        images = F.interpolate(images, (side_px, side_px), mode="area")
    codes = (images.detach().clamp(0, 1) * 255).round().byte().cpu().expand(-1, 3, -1, -1)
    num_across = min(len(codes), max(1, (_SHEET_PX - _GAP_PX) // (side_px + _GAP_PX)))
    gap_px = _GAP_PX if len(codes) > 1 else 0
    pitch, num_down = side_px + gap_px, math.ceil(len(codes) / num_across)
    made = torch.full((num_down * pitch + gap_px, num_across * pitch + gap_px, 3), _GAP_CODE).byte()
    for number, image in enumerate(codes):
        row, column = divmod(number, num_across)
        top, left = gap_px + row * pitch, gap_px + column * pitch
        made[top : top + side_px, left : left + side_px] = image.permute(1, 2, 0)
    return made.numpy()


def num_in_grid(image_px: int) -> int:
    """How many images a square sheet of them shows."""
    across = max(1, (_SHEET_PX - _GAP_PX) // (min(image_px, _SHEET_PX) + _GAP_PX))
    return across**2
