"""Frames and their times, where those of the packets had to be repaired."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from cluster.video.frame_times import MAX_REORDERING, FrameTimes

_NUM_FRAMES_TO_LEARN = 64
_LEAST_GAP = 2  # ticks, between which there is another


class Placement:
    """Gives the frames that a decoder makes of the packets behind `times` their times.

    Every packet has a place in the display order, which its frame takes; a packet that gives no frame leaves
    its place empty. A frame that comes later than its place says, because its packet's time was wrong or not
    known, is put in the middle between the frame before and the next place. Where times say nothing of the
    display order, frames take the places as they come, and a packet is known to give no frame as soon as
    frames come of packets farther behind it than this video was seen to reorder.
    """

    def __init__(self, times: FrameTimes) -> None:
        self._times = times
        num_places = len(times.pts)
        self._is_filled = np.zeros(num_places, np.bool_)
        self._came = np.zeros(num_places, np.bool_)  # by packet
        self._next = 0  # the first place behind those that were taken in turn
        self._last_pts: int | None = None
        self._first_free = 0  # place
        self._reach = 0  # how far behind a frame one of an earlier packet came
        self._first_open = 0  # packet: all before it gave a frame or never will
        self._newest = -1  # packet
        self._num_came = 0
        self._num_lost = 0

    @property
    def missing_pts(self) -> list[int]:
        """The times that no frame has got so far."""
        missing: list[int] = self._times.pts[~self._is_filled].tolist()
        return missing

    def numbered(self, packets: Iterable[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        """The video's packets with their numbers in place of their times, which decoders hand on."""
        number = 0
        for packet in packets:
            packet.dts = None
            packet.pts = -1 if packet.is_discard else number
            number += not packet.is_discard
            yield packet

    def placed(self, frames: Iterable[VideoFrame]) -> list[VideoFrame]:
        """The frames, which came of `numbered` packets, with their times, less those that are too many."""
        placed = []
        for frame in frames:
            pts = self._take(frame.pts)
            if pts is not None:
                frame.pts = self._last_pts = pts
                placed.append(frame)
        return placed

    def _take(self, number: int | None) -> int | None:
        num_places = len(self._is_filled)
        if number is None or not 0 <= number < num_places or self._came[number]:
            return self._late_pts(num_places)
        self._note(number)
        if self._times.is_in_display_order:
            is_untimed = number in self._times.untimed
            own = self._next if is_untimed else int(self._times.place_of[number])
        else:
            own = max(self._next, self._num_came - 1 + self._num_lost)
        return self._pts_in_turn(own) if self._next <= own < num_places else self._late_pts(own)

    def _pts_in_turn(self, place: int) -> int:
        self._is_filled[place] = True
        self._next = place + 1
        return int(self._times.pts[place])

    def _late_pts(self, own: int) -> int | None:
        """The time of a frame that comes after its place, or has none; None if there are frames enough."""
        num_places = len(self._is_filled)
        while self._first_free < num_places and self._is_filled[self._first_free]:
            self._first_free += 1
        free = own if own < num_places and not self._is_filled[own] else self._first_free
        if free >= self._next or self._last_pts is None:
            return None
        is_at_end = self._next == num_places
        next_pts = self._times.end_pts if is_at_end else int(self._times.pts[self._next])
        if next_pts - self._last_pts < _LEAST_GAP and not is_at_end:
            return self._pts_in_turn(self._next)  # whose frame finds the free place
        self._is_filled[free] = True
        return max(self._last_pts + 1, (self._last_pts + next_pts) // 2)

    def _note(self, number: int) -> None:
        """Learns from a frame which packets will give none any more."""
        self._came[number] = True
        self._num_came += 1
        self._reach = max(self._reach, self._newest - number)
        self._newest = max(self._newest, number)
        reach = self._reach if self._newest >= _NUM_FRAMES_TO_LEARN else MAX_REORDERING
        while self._first_open < self._newest - reach or (
            self._first_open <= self._newest and self._came[self._first_open]
        ):
            self._num_lost += not self._came[self._first_open]
            self._first_open += 1
