"""Squares of pictures, shrunk to one small size: what networks learn from that see a picture as a whole.

As `sr_core.train.crops`, a square of a run is the same whenever and wherever it is cut. It is most of its
picture, not a detail in it: from where photographers point their cameras, largest and in the middle, it only
moves a little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sr_core.errors import SpecError
from sr_core.train.crops import Pictures, item_generator

_NUM_DRAWS = 5  # of each square: picture, size, top, left, mirror

# A bicubic kernel over a square that was shrunk before sees at least so many pixels for one that it makes.
_LEAST_SHRINKING = 2


@dataclass(frozen=True)
class SquareSettings:
    """How squares of pictures are drawn. Every picture is drawn as often as any other.

    Attributes:
        least_share: Sides are drawn evenly from this share of a picture's shorter side to all of it; with 1,
            squares are always the largest, and move along the longer side alone.
        is_mirrored: Whether left and right change places in every other one. They are never turned: what
            they show has its up and down.
    """

    least_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    is_mirrored: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.least_share <= 1:
            raise SpecError(
                "this is no share of a picture's side",
                where="least_share",
                got=f"{self.least_share:g}",
                expected="above 0, and 1 at most",
            )


def shrunk(pictures: Pictures, side_px: int, settings: SquareSettings) -> Pictures:
    """The pictures with as many pixels as squares of `side_px` need, in a buffer of their own.

    Cutting a square out of a photograph of many megapixels for each batch would take longer than training on
    it. Smaller pictures stay as they are.
    """
    least_px = math.ceil(_LEAST_SHRINKING * side_px / settings.least_share)
    made = [_with_shorter_side(picture, least_px) for picture in pictures]
    return Pictures.packed(made, pictures.names, pictures.sources)


class Squares:
    """Draws and cuts squares; as in `sr_core.train.crops.Crops`, every item has its own random numbers."""

    def __init__(
        self, pictures: Pictures, side_px: int, settings: SquareSettings, seed: int, stage: int | str = 0
    ) -> None:
        """Takes `pictures`, each of which holds a square of `side_px`.

        Raises:
            SpecError: One does not, or there is none.
        """
        if not len(pictures):
            raise SpecError("there is no picture to cut squares from")
        for name, (height, width) in zip(pictures.names, pictures.sizes, strict=True):
            if min(height, width) < side_px:
                raise SpecError(
                    "the picture is smaller than what the network sees",
                    where=name,
                    got=f"{width}x{height}",
                    expected=f"{side_px}x{side_px} or more",
                    next_step="leave it out, or train on smaller squares",
                )
        self._pictures, self._side_px, self._settings = pictures, side_px, settings
        self._seed, self._stage = seed, stage

    def picture(self, number: int) -> int:
        """Index of the picture that item `number` comes from."""
        return int(self._draws(number)[0] * len(self._pictures))

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """(B, 3, side, side) uint8: the items of these numbers."""
        return torch.stack([self._square(number) for number in numbers])

    def _draws(self, number: int) -> list[float]:
        generator = item_generator(self._seed, self._stage, number, "square")
        draws: list[float] = torch.rand(_NUM_DRAWS, generator=generator, dtype=torch.float64).tolist()
        return draws

    def _square(self, number: int) -> Tensor:
        _, size, down, across, mirror = self._draws(number)
        picture, least = self._pictures[self.picture(number)], self._settings.least_share
        height, width = picture.shape[1:]
        side = max(self._side_px, round(min(height, width) * (least + (1 - least) * size)))
        top, left = int(down * (height - side + 1)), int(across * (width - side + 1))
        made = _resized(picture[:, top : top + side, left : left + side], self._side_px, self._side_px)
        return made.flip(2) if self._settings.is_mirrored and mirror < 0.5 else made


def middles(pictures: Pictures, side_px: int) -> Tensor:
    """(N, 3, side, side) uint8: of each picture the largest square in its middle, shrunk."""
    made = torch.empty(len(pictures), 3, side_px, side_px, dtype=torch.uint8)
    for square, picture in zip(made, pictures, strict=True):
        height, width = picture.shape[1:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square[:] = _resized(picture[:, top : top + side, left : left + side], side_px, side_px)
    return made


def _with_shorter_side(picture: Tensor, least_px: int) -> Tensor:
    height, width = picture.shape[1:]
    shorter = min(height, width)
    if shorter <= least_px:
        return picture
    return _resized(picture, round(height * least_px / shorter), round(width * least_px / shorter))


def _resized(codes: Tensor, height: int, width: int) -> Tensor:
    """(3, height, width) uint8, by a bicubic kernel that is widened against aliases."""
    if tuple(codes.shape[1:]) == (height, width):
        return codes
    made = F.interpolate(
        codes[None].contiguous(), (height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return made[0]
