"""Each frame with those around it that a network sees at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.video.decode import DecodedFrame

# Pictures whose thumbnails differ by more than this on average, of the range of codes, are of two scenes.
# Real cuts were seen from 0.23 on. One too many costs but the neighbours' help, one too few mixes two scenes.
_CUT = 0.1
_THUMBNAIL_PX = 32


@dataclass(frozen=True)
class Window:
    """A frame and its neighbours of the same scene, in the order of their times.

    Attributes:
        before: At most so many as the network sees; fewer at the start of a video or scene, and where frames
            change their size or format.
        after: The same behind it.
    """

    frame: DecodedFrame
    before: tuple[DecodedFrame, ...] = ()
    after: tuple[DecodedFrame, ...] = ()


@dataclass(frozen=True)
class _Seen:
    frame: DecodedFrame
    thumbnail: npt.NDArray[Any]


def windows(decoded: Iterable[DecodedFrame], num_before: int, num_after: int) -> Iterator[Window]:
    """The window of every frame that is no context.

    Where scenes are cut depends on two frames each, so that it is the same whatever the segments are.
    """
    if not num_before and not num_after:
        yield from (Window(frame) for frame in decoded)
        return
    # The frame whose turn it is, behind those before it and before those after it.
    ahead: deque[_Seen] = deque()
    num_passed = 0
    for frame in decoded:
        ahead.append(_Seen(frame, _thumbnail(frame)))
        if len(ahead) > num_passed + num_after:
            yield from _window(ahead, num_passed, num_after)
            num_passed = _pass(ahead, num_passed, num_before)
    while num_passed < len(ahead):
        yield from _window(ahead, num_passed, num_after)
        num_passed = _pass(ahead, num_passed, num_before)


def _pass(ahead: deque[_Seen], num_passed: int, num_before: int) -> int:
    """Makes it the next frame's turn, and returns how many before it are kept."""
    if num_passed < num_before:
        return num_passed + 1
    ahead.popleft()
    return num_passed


def _window(ahead: deque[_Seen], place: int, num_after: int) -> Iterator[Window]:
    """Of the frame at `place`, if it is no context."""
    if ahead[place].frame.is_context:
        return
    seen = list(ahead)[: place + num_after + 1]
    cuts = [index + 1 for index, (left, right) in enumerate(pairwise(seen)) if _is_cut(left, right)]
    first = max((cut for cut in cuts if cut <= place), default=0)
    last = min((cut for cut in cuts if cut > place), default=len(seen))
    frames = [each.frame for each in seen]
    yield Window(frames[place], tuple(frames[first:place]), tuple(frames[place + 1 : last]))


def _is_cut(left: _Seen, right: _Seen) -> bool:
    """Whether two frames in a row are of different scenes, or not of one size and format."""
    shapes = [[plane.shape for plane in each.frame.planes] for each in (left, right)]
    if left.frame.pixels != right.frame.pixels or shapes[0] != shapes[1]:
        return True
    return float(np.abs(left.thumbnail - right.thumbnail).mean()) > _CUT


def _thumbnail(frame: DecodedFrame) -> npt.NDArray[Any]:
    """The first plane in about 32 x 32 areas' means, 0..1."""
    plane = frame.planes[0]
    down, across = (max(1, side // _THUMBNAIL_PX) for side in plane.shape)
    height, width = plane.shape[0] // down, plane.shape[1] // across
    areas = plane[: height * down, : width * across].reshape(height, down, width, across)
    means: npt.NDArray[Any] = areas.mean(axis=(1, 3), dtype=np.float32)
    return means / np.float32(2**frame.pixels.bit_depth - 1)
