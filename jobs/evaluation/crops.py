"""A picture of crops side by side: the truth, and what each model made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional as F

from cluster.images.panel import Cell, write_panel
from jobs.evaluation.data import Picture
from jobs.evaluation.figures import truth_of
from jobs.evaluation.measure import Course
from jobs.evaluation.record import ImageFigures
from jobs.outputs import written
from jobs.view import printable

_CROP_PX = 96
_NUM_PER_DATA = 4


class Gallery:
    """Keeps crops of the first pictures of each data set."""

    def __init__(self) -> None:
        self._rows: list[list[Cell]] = []
        self._num_kept = Counter[str]()

    def add(self, data: str, picture: Picture, courses: Sequence[Course]) -> None:
        """Keeps the piece of a picture that the first of the courses, bicubic, has hurt most."""
        if self._num_kept[data] == _NUM_PER_DATA:
            return
        self._num_kept[data] += 1
        made = [course.sr_frame for course in courses if course.sr_frame is not None]
        top, left = _worst_place(made[0], truth_of(picture, courses[0].protocol))
        row = [Cell("HR", f"{printable(data)}, {printable(picture.name)}", _cut(picture.hr_frame, top, left))]
        for course, sr_frame in zip(courses, made, strict=True):
            caption = _caption(course.figures[-1])
            row.append(Cell(printable(course.candidate.name), caption, _cut(sr_frame, top, left)))
        self._rows.append(row)

    def write(self, path: Path) -> None:
        """Writes a PNG with a row for each picture.

        Raises:
            StorageError: It cannot be written.
        """
        with written(path) as part:
            write_panel(self._rows, part)


def _worst_place(sr_frame: Tensor, truth: Tensor) -> tuple[int, int]:
    """Top and left of the crop with the largest squared error, in steps of half a crop."""
    error = (sr_frame - truth).square().mean(1, keepdim=True)
    window = (min(_CROP_PX, error.shape[-2]), min(_CROP_PX, error.shape[-1]))
    means = F.avg_pool2d(error, window, stride=_CROP_PX // 2)
    row, column = divmod(int(means.argmax()), means.shape[-1])
    return row * _CROP_PX // 2, column * _CROP_PX // 2


def _cut(frame: Tensor, top: int, left: int) -> npt.NDArray[np.uint8]:
    """(height, width, 3) codes."""
    crop = frame[0, :, top : top + _CROP_PX, left : left + _CROP_PX].expand(3, -1, -1)
    codes: npt.NDArray[np.uint8] = (crop * 255).round().byte().permute(1, 2, 0).numpy()
    return codes


def _caption(figures: ImageFigures) -> str:
    lpips = f", LPIPS {figures.lpips:.3f}" if figures.lpips is not None else ""
    return f"{figures.psnr_y:.2f} dB{lpips}"
