"""HR crops of pictures that lie in memory: an item of a run is the same whenever and wherever it is cut.

Pictures are kept as 8-bit codes in one buffer: there is nothing to decode, nothing to open, and a worker
process gets all of them in one piece.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, count
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.errors import SpecError, TrainError

_DIGEST_BYTES = 16
_NUM_DIHEDRAL = 8
_NUM_DRAWS = 5  # of each crop: picture, rescale, top, left, turn
CodesU8 = npt.NDArray[np.uint8]
Made = TypeVar("Made")


class Weighting(StrEnum):
    """How often each picture is drawn.

    AREA: in proportion to its pixels, so that every part of the data is seen about as often as any other.
    UNIFORM: as often as any other picture, however small it is.
    """

    AREA = "area"
    UNIFORM = "uniform"


@dataclass(frozen=True)
class CropSettings:
    """How crops are drawn.

    Attributes:
        side_px: Of an HR crop.
        weighting: How often each picture is drawn.
        is_turned: Whether crops are mirrored and turned by quarters at random, all eight ways alike.
        least_rescale: Crops are those of pictures that were shrunk by a factor drawn evenly from here to 1,
            as far as the picture is large enough; 1 keeps every pixel as it is.
    """

    side_px: int
    weighting: Weighting = Weighting.AREA
    is_turned: bool = True
    least_rescale: float = 1.0

    def __post_init__(self) -> None:
        if self.side_px < 1:
            raise SpecError("crops must have pixels", where="side_px", got=str(self.side_px), expected=">= 1")
        if not 0 < self.least_rescale <= 1:
            raise SpecError(
                "pictures cannot be shrunk by this factor",
                where="least_rescale",
                got=f"{self.least_rescale:g}",
                expected="above 0, and 1 at most",
            )


def item_generator(seed: int, stage: int | str, number: int, purpose: str) -> torch.Generator:
    """The random numbers of one item of a run, which no other item, stage and purpose shares.

    Args:
        seed: Of the run.
        stage: Of the run.
        number: Of the item, counted through the whole stage.
        purpose: What is drawn, as `crop`; each has its own numbers, so that none changes with another.
    """
    name = f"{seed}/{stage}/{number}/{purpose}".encode()
    state = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
    return torch.Generator().manual_seed(state >> 1)


def batch_numbers(batch: int, batch_size: int, rank: int = 0, num_ranks: int = 1) -> range:
    """The numbers of the items that a rank has in a batch; those of all ranks and batches share none.

    Args:
        batch: Counted from 0, the same on all ranks.
        batch_size: Of one rank.
        rank: From 0 to `num_ranks` - 1.
        num_ranks: How many there are.
    """
    first = (batch * num_ranks + rank) * batch_size
    return range(first, first + batch_size)


def content_digest(picture: Tensor) -> str:
    """Names a (C, H, W) uint8 picture by its size and codes alone."""
    digest = hashlib.blake2b(f"{tuple(picture.shape)}".encode(), digest_size=_DIGEST_BYTES)
    digest.update(picture.contiguous().numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Pictures:
    """Pictures as 8-bit codes in one buffer.

    Some have more channels than R', G' and B': then the first three are these, and a task knows the others.

    Attributes:
        codes: (N,) uint8: (C, H, W) codes of each picture.
        starts: Where each begins there.
        num_channels: Of each.
        sizes: (height, width) of each.
        names: For people.
        digests: `content_digest` of each.
        sources: What each was taken from: pictures of one video have the same number.
    """

    codes: Tensor
    starts: tuple[int, ...]
    num_channels: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    sources: tuple[int, ...]

    @staticmethod
    def packed(pictures: list[Tensor], names: Sequence[str], sources: Sequence[int]) -> Pictures:
        """Packs (C, H, W) uint8 pictures, taking each out of `pictures` once it is copied."""
        num_channels = tuple(len(each) for each in pictures)
        sizes = tuple((int(each.shape[1]), int(each.shape[2])) for each in pictures)
        *starts, num_codes = accumulate((each.numel() for each in pictures), initial=0)
        codes = torch.empty(num_codes, dtype=torch.uint8)
        digests = []
        pictures.reverse()
        for start in starts:
            picture = pictures.pop()
            digests.append(content_digest(picture))
            codes[start : start + picture.numel()] = picture.flatten()
        names, sources = tuple(names), tuple(sources)
        return Pictures(codes, tuple(starts), num_channels, sizes, names, tuple(digests), sources)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Tensor:
        """One picture, (C, H, W) uint8, as a view."""
        start, shape = self.starts[index], (self.num_channels[index], *self.sizes[index])
        return self.codes[start : start + math.prod(shape)].view(shape)

    def only(self, indices: Sequence[int]) -> Pictures:
        """Some of them, in the same buffer."""
        return Pictures(
            self.codes,
            tuple(self.starts[index] for index in indices),
            tuple(self.num_channels[index] for index in indices),
            tuple(self.sizes[index] for index in indices),
            tuple(self.names[index] for index in indices),
            tuple(self.digests[index] for index in indices),
            tuple(self.sources[index] for index in indices),
        )


@dataclass(frozen=True)
class Crop:
    """Where a crop comes from.

    Attributes:
        picture: Index of the picture.
        top: Of the square, in px of the picture.
        left: The same.
        side_px: Of the square: that of the crop, or more where the picture is shrunk.
        turn: One of the eight ways to lay a square: bit 0 mirrors left and right, bit 1 top and bottom, bit 2
            swaps rows and columns before both.
    """

    picture: int
    top: int
    left: int
    side_px: int
    turn: int


class Crops:
    """Draws and cuts crops.

    Every item has its own random numbers: it is the same in whatever order, batch, thread or process it is
    made, and after any restart.
    """

    def __init__(self, pictures: Pictures, settings: CropSettings, seed: int, stage: int | str = 0) -> None:
        """Takes `pictures`, each of which holds a crop.

        Raises:
            SpecError: One does not, or there is none.
        """
        self.settings = settings
        self._seed, self._stage = seed, stage
        # Arrays are sliced in a fraction of the time that tensors take.
        self._pictures: list[CodesU8] = [picture.numpy() for picture in pictures]
        self._sizes = pictures.sizes
        self._refuse_small(pictures)
        by_area = settings.weighting is Weighting.AREA
        self._until = list(accumulate(h * w if by_area else 1 for h, w in pictures.sizes))

    def _refuse_small(self, pictures: Pictures) -> None:
        side = self.settings.side_px
        if not len(pictures):
            raise SpecError("there is no picture to cut crops from")
        for name, (height, width) in zip(pictures.names, pictures.sizes, strict=True):
            if min(height, width) < side:
                raise SpecError(
                    "the picture is smaller than a crop",
                    where=name,
                    got=f"{width}x{height}",
                    expected=f"{side}x{side} or more",
                    next_step="leave it out, or choose smaller crops",
                )

    def crop(self, number: int) -> Crop:
        """Where item `number` comes from."""
        generator = item_generator(self._seed, self._stage, number, "crop")
        shares = torch.rand(_NUM_DRAWS, generator=generator, dtype=torch.float64).tolist()
        picture = bisect_right(self._until, int(shares[0] * self._until[-1]))
        height, width = self._sizes[picture]
        least = self.settings.least_rescale
        side = min(round(self.settings.side_px / (least + (1 - least) * shares[1])), height, width)
        return Crop(
            picture=picture,
            top=int(shares[2] * (height - side + 1)),
            left=int(shares[3] * (width - side + 1)),
            side_px=side,
            turn=int(shares[4] * _NUM_DIHEDRAL) if self.settings.is_turned else 0,
        )

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """(B, C, side, side) uint8: the items of these numbers, of pictures that all have C channels."""
        side = self.settings.side_px
        batch: CodesU8 = np.empty((len(numbers), len(self._pictures[0]), side, side), np.uint8)
        for made, number in zip(batch, numbers, strict=True):
            made[:] = self.square(self.crop(number))
        return torch.from_numpy(batch)

    def square(self, crop: Crop, margin_px: int = 0) -> CodesU8:
        """The crop, (C, side, side), perhaps a view of the picture.

        Args:
            crop: Of these pictures and settings.
            margin_px: So many pixels more on each side; beyond its edges a picture goes on mirrored.
        """
        side_px = self.settings.side_px + 2 * margin_px
        more_px = round(margin_px * crop.side_px / self.settings.side_px)
        picture, whole_px = self._pictures[crop.picture], crop.side_px + 2 * more_px
        rows, columns = (
            _places(first - more_px, whole_px, size)
            for first, size in zip((crop.top, crop.left), picture.shape[1:], strict=True)
        )
        square = picture[:, rows][:, :, columns]
        return _turned(square if side_px == whole_px else _shrunk(square, side_px), crop.turn)


def _places(first: int, number: int, size: int) -> slice | npt.NDArray[np.int64]:
    """So many places of an axis from `first` on, where it goes on mirrored at both ends."""
    if first >= 0 and first + number <= size:
        return slice(first, first + number)
    places = np.arange(first, first + number) % (2 * size)
    return np.minimum(places, 2 * size - 1 - places)


def _shrunk(square: CodesU8, side: int) -> CodesU8:
    """The square with fewer pixels, by a bicubic kernel that is widened against aliases."""
    codes = torch.from_numpy(np.ascontiguousarray(square))[None]
    # In whole numbers, with codes between the axes, as Pillow does: a third of the time of floats.
    made = F.interpolate(codes, (side, side), mode="bicubic", antialias=True, align_corners=False)
    shrunk: CodesU8 = made[0].numpy()
    return shrunk


def _turned(square: CodesU8, turn: int) -> CodesU8:
    if turn & 4:
        square = square.swapaxes(1, 2)
    if turn & 2:
        square = square[:, ::-1]
    return square[:, :, ::-1] if turn & 1 else square


def middle_part(codes: Tensor, multiple: int, most_px: int) -> Tensor:
    """The middle of a picture, as a view.

    Args:
        codes: (C, H, W).
        multiple: That its sides are then multiples of.
        most_px: That none of them is longer than.
    """
    sides = [min(side, most_px) // multiple * multiple for side in codes.shape[1:]]
    top, left = (
        (whole // multiple * multiple - side) // 2 for whole, side in zip(codes.shape[1:], sides, strict=True)
    )
    return codes[:, top : top + sides[0], left : left + sides[1]]


def unit_frames(codes: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """(B, C, H, W) float32 of 0..1 on `device` from uint8 codes, which travel as such."""
    return codes.to(device, non_blocking=True).float().div_(255)


class Ahead(Iterator[Made]):
    """Gives `make(first)`, `make(first + 1)`, … in this order, made ahead of time by threads.

    Args:
        make: Makes one, from its number alone; called by several threads at once.
        first: Number of the first.
        num_threads: How many make.
        depth: How many, finished or not, are held ahead of the one that is asked for.
    """

    def __init__(
        self, make: Callable[[int], Made], first: int = 0, num_threads: int = 1, depth: int = 8
    ) -> None:
        if num_threads < 1 or depth < 1:
            raise SpecError(
                "nothing would be made ahead", got=f"{num_threads} threads, depth {depth}", expected=">= 1"
            )
        self._make, self._numbers, self._depth = make, count(first), depth
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="ahead")
        self._coming: deque[Future[Made]] = deque()
        self._is_closed = False

    def __enter__(self) -> Ahead[Made]:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __next__(self) -> Made:
        if self._is_closed:
            raise TrainError("batches are asked for after the end of their training")
        while len(self._coming) < self._depth:
            self._coming.append(self._threads.submit(self._make, next(self._numbers)))
        return self._coming.popleft().result()

    def close(self) -> None:
        """Ends the threads, after what each is at; nothing more can be asked for."""
        self._is_closed = True
        self._threads.shutdown(cancel_futures=True)
