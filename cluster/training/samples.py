"""What a network in training makes of some of the pictures that it is validated on, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cluster.images.panel import Cell
from sr_core.archs.arch import ColorMode
from sr_core.archs.interpolation import Interpolation
from sr_core.kernels import Kernel
from sr_core.metrics.psnr import psnr
from sr_core.train.clips import middle_frame
from sr_core.train.validation import Pair, as_seen

_WINDOW_PX = 64  # of the LR picture
_STRIDE_PX = 8

# Around what is shown the network sees a little more, so that no edge of a crop is looked at.
_MARGIN_PART = 8


@dataclass(frozen=True)
class _View:
    """One place of a picture, without its margin but for `lr_window`, as the network sees it.

    (1, C, h, w); of clips, `lr_window` is (1, T, C, h, w), and the others are of the middle frame.
    """

    lr_window: Tensor
    bicubic: Tensor
    hr_frame: Tensor


class Samples:
    """Crops of the first pictures, where bicubic is furthest from the truth: the same for the whole run.

    Attributes:
        most_pictures: That are shown.
    """

    most_pictures = 4

    def __init__(self, pairs: Sequence[Pair], mode: ColorMode, scale: int) -> None:
        """Takes pictures whose sides are multiples of what the network asks.

        Args:
            pairs: On the device of the networks.
            mode: What networks see; of luma alone, grey is shown.
            scale: HR size / LR size.
        """
        self._scale = scale
        self._views = [_view(pair, mode, scale) for pair in pairs[: self.most_pictures]]

    @torch.inference_mode()
    def rows(self, network: nn.Module) -> list[list[Cell]]:
        """A row for each picture: bicubic, what `network` in evaluation mode makes, and the truth."""
        return [self._row(network, view) for view in self._views]

    def _row(self, network: nn.Module, view: _View) -> list[Cell]:
        rows, columns = view.lr_window.shape[-2:]
        sr_frame = _inner(network(view.lr_window), rows, columns, self._scale).clamp(0, 1)
        return [
            Cell("bicubic", _likeness(view.bicubic, view.hr_frame), _codes(view.bicubic)),
            Cell("SR", _likeness(sr_frame, view.hr_frame), _codes(sr_frame)),
            Cell("HR", "", _codes(view.hr_frame)),
        ]


@torch.inference_mode()
def _view(pair: Pair, mode: ColorMode, scale: int) -> _View:
    lr_frame, hr_frame = as_seen(pair.lr_frame, mode), as_seen(pair.hr_frame, mode)
    bicubic = Interpolation(Kernel.BICUBIC, scale)(middle_frame(lr_frame)).clamp(0, 1)
    rows, columns = (min(_WINDOW_PX, side) for side in lr_frame.shape[-2:])
    errors = _inner(F.avg_pool2d((bicubic - hr_frame).square().mean(1, keepdim=True), scale), rows, columns)
    means = F.avg_pool2d(errors, tuple(side - 2 * _margin(side) for side in (rows, columns)), _STRIDE_PX)
    down, across = divmod(int(means.argmax()), means.shape[-1])
    top, left = down * _STRIDE_PX, across * _STRIDE_PX

    def window(frame: Tensor, scale: int) -> Tensor:
        return frame[..., scale * top : scale * (top + rows), scale * left : scale * (left + columns)]

    shown = [_inner(window(frame, scale), rows, columns, scale).clone() for frame in (bicubic, hr_frame)]
    return _View(window(lr_frame, 1).clone(), *shown)


def _inner(frame: Tensor, rows: int, columns: int, scale: int = 1) -> Tensor:
    """`frame` without the margin of an LR window of this size, of which it is `scale` times."""
    down, across = scale * _margin(rows), scale * _margin(columns)
    return frame[..., down : frame.shape[-2] - down, across : frame.shape[-1] - across]


def _margin(side_px: int) -> int:
    return side_px // _MARGIN_PART


def _likeness(frame: Tensor, hr_frame: Tensor) -> str:
    return f"{float(psnr(frame, hr_frame)):.2f} dB here"


def _codes(frame: Tensor) -> npt.NDArray[np.uint8]:
    """(height, width, 3)."""
    codes: npt.NDArray[np.uint8] = (
        (frame[0] * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
    )
    return codes
