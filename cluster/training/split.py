"""Which pictures are set aside for validation: by their content alone, near-duplicates together.

Pictures are near-duplicates where their difference hashes are close: 64 bits that say for 9x8 grey means
whether each is brighter than its left neighbour (N. Krawetz, "Kind of like that", 2013). These hardly change
with size, coding and brightness. Mirrored pictures are found too; turned ones and mere details are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.train.crops import Pictures

_ROWS, _COLUMNS = 8, 9
_LUMA = (0.299, 0.587, 0.114)
_LEAST_STEP, _LEAST_STEPS = 1.0, 32  # of 255, and of 64: steps below are made by coding as much as by content
_SHARE_UNIT = 1 << 32


@dataclass(frozen=True)
class SplitSettings:
    """How validation pictures are set aside.

    Attributes:
        validation_share: Of the groups of near-duplicates, about.
        most_different_bits: Up to so many of 64 bits, pictures are near-duplicates.
    """

    validation_share: float = 0.05
    most_different_bits: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1:
            raise SpecError(
                "some pictures must be for validation, and some for training",
                where="validation_share",
                got=f"{self.validation_share:g}",
                expected="above 0 and below 1",
            )
        if not 0 <= self.most_different_bits <= 20:
            raise SpecError(
                "this makes no sense as a distance of near-duplicates",
                where="most_different_bits",
                got=str(self.most_different_bits),
                expected="0 to 20",
            )


@dataclass(frozen=True)
class Split:
    """Indices of pictures, ascending; neither part is empty.

    Attributes:
        training: To be trained on.
        validation: Set aside.
    """

    training: tuple[int, ...]
    validation: tuple[int, ...]


def split(pictures: Pictures, settings: SplitSettings) -> Split:
    """Sets pictures aside for validation.

    A group's side follows from the smallest digest in it, not from names, order or the other groups: it stays
    where files are renamed, added or removed. Only a new near-duplicate can move its group, and then whole;
    and where no group's digest says validation, or all say it, the group with the least or largest moves.
    Pictures of one source, as the frames of a video, are one group.

    Raises:
        SpecError: All pictures are of one group, which has no two sides.
    """
    groups = list(_groups(pictures, settings.most_different_bits))
    if len(groups) < 2:
        raise SpecError(
            "nothing can be set aside for validation",
            got=f"{len(pictures)} pictures that are all near-duplicates, or of one source",
            expected="two different ones at least",
        )
    groups.sort(key=lambda group: min(pictures.digests[index] for index in group))
    numbers = [int(min(pictures.digests[index] for index in group)[:8], 16) for group in groups]
    num_validation = sum(number < settings.validation_share * _SHARE_UNIT for number in numbers)
    num_validation = min(max(num_validation, 1), len(groups) - 1)
    return Split(
        training=tuple(sorted(index for group in groups[num_validation:] for index in group)),
        validation=tuple(sorted(index for group in groups[:num_validation] for index in group)),
    )


def difference_hash(picture: Tensor) -> int | None:
    """64 bits of the colours of a (C, H, W) uint8 picture; None where they are too flat to mean anything."""
    steps = np.diff(_grey_means(picture[:3].numpy()), axis=1).ravel()
    if np.count_nonzero(np.abs(steps) >= _LEAST_STEP) < _LEAST_STEPS:
        return None
    return int(sum(1 << place for place in np.flatnonzero(steps > 0).tolist()))


def _grey_means(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """(rows, columns): luma of 255, of pieces that share the picture evenly."""
    height, width = codes.shape[1:]
    tops = np.arange(_ROWS) * height // _ROWS
    lefts = np.arange(_COLUMNS) * width // _COLUMNS
    sums = np.add.reduceat(np.add.reduceat(codes, tops, axis=1, dtype=np.uint64), lefts, axis=2)
    heights, widths = np.diff(tops, append=height), np.diff(lefts, append=width)
    pieces = np.maximum(np.outer(heights, widths), 1)
    means: npt.NDArray[np.float64] = np.tensordot(_LUMA, sums / pieces, 1)
    return means


def _groups(pictures: Pictures, most_bits: int) -> Iterator[list[int]]:
    """Indices of pictures that are near-duplicates of each other, directly or through others."""
    hashes = [(difference_hash(each), difference_hash(each.flip(2))) for each in pictures]
    leaders = list(range(len(pictures)))
    first_of: dict[int, int] = {}
    for index, source in enumerate(pictures.sources):
        _join(leaders, index, first_of.setdefault(source, index))
    for first, second in _near(hashes, most_bits):
        _join(leaders, first, second)
    groups: dict[int, list[int]] = {}
    for index in range(len(pictures)):
        groups.setdefault(_leader(leaders, index), []).append(index)
    yield from groups.values()


def _near(hashes: Sequence[tuple[int | None, int | None]], most_bits: int) -> Iterator[tuple[int, int]]:
    """Pairs of pictures whose hashes are near, one of them mirrored or not."""
    compared = [index for index, pair in enumerate(hashes) if None not in pair]
    pairs: npt.NDArray[np.uint64] = np.array([hashes[index] for index in compared], np.uint64).reshape(-1, 2)
    for place, index in enumerate(compared):
        distances = np.bitwise_count(pairs[place + 1 :, :1] ^ pairs[place]).min(axis=1)
        for other in np.flatnonzero(distances <= most_bits).tolist():
            yield index, compared[place + 1 + other]


def _leader(leaders: list[int], index: int) -> int:
    while leaders[index] != index:
        leaders[index] = leaders[leaders[index]]
        index = leaders[index]
    return index


def _join(leaders: list[int], first: int, second: int) -> None:
    leaders[_leader(leaders, first)] = _leader(leaders, second)
