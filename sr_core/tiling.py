"""Where a frame is cut into windows, and which part of each window's result is kept: pure integers.

Every window of a grid has the same shape. Windows at the frame's edges are moved inwards rather than filled
up, so that a network pads with its own zeros at true edges only: stitching the kept parts then equals running
the network on the whole frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from sr_core.errors import SpecError


@dataclass(frozen=True)
class Span:
    """One window on one axis, half-open, in pixels of the padded lr_frame.

    Attributes:
        start: First pixel of the window.
        stop: One after its last.
        core_start: First pixel whose result is kept.
        core_stop: One after the last such pixel.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int


@dataclass(frozen=True)
class Tile:
    """A window and its core."""

    rows: Span
    columns: Span


@dataclass(frozen=True)
class TileGrid:
    """All tiles of frames of one size.

    Attributes:
        height: Height of the padded frame.
        width: Width of the padded frame.
        tiles: Row by row; their cores cover the padded frame exactly once.
    """

    height: int
    width: int
    tiles: tuple[Tile, ...]

    @classmethod
    def plan(cls, height: int, width: int, tile_px: int, halo_px: int, multiple: int = 1) -> TileGrid:
        """The grid of a frame, which is padded below and on the right to `multiple` first.

        Args:
            height: Height of the frame, in pixels of the network's input.
            width: Its width.
            tile_px: Side of a core; cores come out up to a halo larger at the frame's edges, and smaller
                where an even split allows it.
            halo_px: Pixels of context that each core has on each side that is no frame edge, at least.
            multiple: Starts and sizes of windows are multiples of this.

        Raises:
            SpecError: A size is not positive, or the halo is negative.
        """
        if min(height, width, tile_px, multiple) < 1 or halo_px < 0:
            got = f"{width}x{height}, tile {tile_px}, halo {halo_px}, multiple {multiple}"
            raise SpecError("No tiles of such a size", got=got, expected="positive sizes")
        padded_height, padded_width = _round_up(height, multiple), _round_up(width, multiple)
        rows = _spans(padded_height, tile_px, halo_px, multiple)
        columns = _spans(padded_width, tile_px, halo_px, multiple)
        return cls(
            padded_height, padded_width, tuple(Tile(row, column) for row in rows for column in columns)
        )


def _spans(length: int, tile_px: int, halo_px: int, multiple: int) -> list[Span]:
    core, halo = _round_up(tile_px, multiple), _round_up(halo_px, multiple)
    if length <= core + 2 * halo:
        return [Span(0, length, 0, length)]
    num_windows = -(-(length - 2 * halo) // core)
    window = _round_up(-(-(length - 2 * halo) // num_windows), multiple) + 2 * halo
    starts = _even_starts(length - window, num_windows, multiple)
    # Neighbours overlap by two halos or more, so the middle leaves each of them a halo at least.
    middles = [(left + window + right) // 2 for left, right in pairwise(starts)]
    edges = [0, *middles, length]
    return [
        Span(start, start + window, core_start, core_stop)
        for start, (core_start, core_stop) in zip(starts, pairwise(edges), strict=True)
    ]


def _even_starts(last: int, count: int, multiple: int) -> list[int]:
    """`count` multiples from 0 to `last`, as evenly spaced as multiples can be."""
    return [index * (last // multiple) // (count - 1) * multiple for index in range(count)]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
