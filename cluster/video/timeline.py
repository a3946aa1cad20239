"""Frame times as numbers: the displayed frames of a source, and the decoding times of a new stream.

Everything here is pure and in pts ticks. A film of ten hours has about a million frames, so times are held
in int64 arrays, eight bytes a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

PtsArray = npt.NDArray[np.int64]

_INT64_BITS = 63
_PIECE = 1 << 16


@dataclass(frozen=True)
class Timeline:
    """When the frames of one stream are displayed.

    Attributes:
        pts: Of every displayed frame, ascending, int64.
        keyframe_pts: Of those frames at which decoding can start, ascending, int64.
        end_pts: Where the last frame ends.
        problem: Why the source's own times cannot be cut into segments, so that these are repaired; empty if
            they can.
    """

    pts: PtsArray
    keyframe_pts: PtsArray
    end_pts: int
    problem: str = ""


def ascending(ordered_pts: PtsArray) -> PtsArray:
    """`ordered_pts`, in which no time is below the one before, with repeated ones moved up, by ticks."""
    steps = np.arange(len(ordered_pts), dtype=np.int64)
    moved: PtsArray = np.maximum.accumulate(ordered_pts - steps) + steps
    return moved


def global_dts(packet_pts: PtsArray) -> PtsArray:
    """Decoding times for packets with the times `packet_pts` in decoding order.

    They ascend strictly, none lies after its packet's pts, and they start as early as the deepest reordering
    needs: players take the film's start from the pts then, and none cuts its end.

    Args:
        packet_pts: Distinct, in decoding order.
    """
    ordered = np.sort(packet_pts)
    num = len(packet_pts)
    decode_index = np.arange(num, dtype=np.int64)
    rank = np.searchsorted(ordered, packet_pts)
    depth = int(np.max(decode_index - rank, initial=0))
    if depth == 0:
        return ordered
    span = int(ordered[-1] - ordered[-1 - depth])
    before = ordered[0] - span + span * decode_index[:depth] // depth
    return np.concatenate([before, ordered[: num - depth]])


def packet_durations(packet_pts: PtsArray, end_pts: int) -> PtsArray:
    """How long the frame of every packet is shown: until the next one's pts, the last one until `end_pts`."""
    ordered = np.append(np.sort(packet_pts), end_pts)
    rank = np.searchsorted(ordered[:-1], packet_pts)
    return np.diff(ordered)[rank]


def rescale(pts: PtsArray, from_time_base: Fraction, to_time_base: Fraction) -> PtsArray:
    """`pts` in another clock: rounded to its nearest tick, halves away from zero, exactly as FFmpeg does."""
    ratio = from_time_base / to_time_base
    num, den = ratio.numerator, ratio.denominator
    largest = int(np.max(np.abs(pts), initial=0))
    if (2 * (largest * num + den)).bit_length() < _INT64_BITS:
        rounded: PtsArray = (2 * np.abs(pts) * num + den) // (2 * den) * np.sign(pts)
        return rounded
    out = np.empty_like(pts)
    for start in range(0, len(pts), _PIECE):  # Python's integers are large, so only a piece at a time
        piece = pts[start : start + _PIECE].tolist()
        out[start : start + _PIECE] = [_rescale_one(value, num, den) for value in piece]
    return out


def _rescale_one(pts: int, num: int, den: int) -> int:
    magnitude = (2 * abs(pts) * num + den) // (2 * den)
    return magnitude if pts >= 0 else -magnitude
