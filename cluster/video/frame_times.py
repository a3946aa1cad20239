"""When the frames of a video are shown, where its packets do not say it as they should."""

from __future__ import annotations

from array import array
from typing import Any

import av
import numpy as np

from cluster.video.clock import nominal_rate
from cluster.video.timeline import PtsArray, ascending

# What a container without display times shows: its pts are decoding times.
NOT_IN_DISPLAY_ORDER = "its frames are not displayed in the order of their timestamps"
MOSTLY_MISSING = "most frames have no timestamp"
MAX_REORDERING = 32  # frames: twice the deepest that H.264 and HEVC allow


class FrameTimes:
    """When each displayed packet of the video is shown.

    Attributes:
        pts: Strictly ascending, one for each displayed packet; complete after `finish`.
        keyframe_pts: Of those that are keyframes.
        place_of: By packet, its index in `pts`.
        is_in_display_order: Whether the packets' pts say in which order frames are displayed.
        untimed: The packets shown before the first that has a time: their places are theirs together, in the
            order in which the decoder gives their frames; complete after `finish`.
    """

    def __init__(self, stream: Any, problem: str) -> None:
        """Starts empty.

        Args:
            stream: The video.
            problem: What the first look found, as in `VideoInfo.timestamp_problem`.
        """
        self.pts: PtsArray = np.empty(0, np.int64)
        self.keyframe_pts: PtsArray = np.empty(0, np.int64)
        self.place_of: PtsArray = np.empty(0, np.int64)
        self.is_in_display_order = problem not in (NOT_IN_DISPLAY_ORDER, MOSTLY_MISSING)
        self._times = array("q")
        self._keyframes = array("q")
        self._nominal = max(1, round(1 / (nominal_rate(stream) * stream.time_base)))
        self._last_duration = 0
        self._without_time = array("q")  # packets
        self.untimed: frozenset[int] = frozenset()
        self._num_missing = 0
        self._num_moved = 0

    def add(self, packet: av.Packet[Any]) -> None:
        """Takes the video's next packet, on the repaired clock."""
        if packet.is_discard:
            return
        if packet.is_keyframe:
            self._keyframes.append(len(self._times))
        time = packet.pts if self.is_in_display_order else None
        if time is None:
            self._num_missing += 1
            time = packet.dts
        if time is None:
            self._without_time.append(len(self._times))
            time = self._times[-1] + self._nominal if self._times else 0
        self._last_duration = packet.duration or self._nominal
        self._times.append(time)

    def finish(self) -> None:
        """Finds the display order, after the last packet."""
        times = np.frombuffer(self._times, np.int64).copy()
        self._count_back(times)
        order = np.argsort(times, kind="stable")
        self.place_of = np.empty_like(order)
        self.place_of[order] = np.arange(len(order))
        self.pts = ascending(times[order])
        self._num_moved = int(np.count_nonzero(self.pts != times[order]))
        self.keyframe_pts = np.sort(self.pts[self.place_of[np.frombuffer(self._keyframes, np.int64)]])

    def _count_back(self, times: PtsArray) -> None:
        """Sets the times of the packets shown before the first that has one, by the nominal rate."""
        without = np.frombuffer(self._without_time, np.int64)
        known = np.setdiff1d(np.arange(len(without) + MAX_REORDERING), without, assume_unique=True)
        known = known[known < len(times)][:MAX_REORDERING]
        if not len(known):
            return
        before = np.searchsorted(known, without)  # how many with a time come before each
        highest = np.maximum.accumulate(times[known])
        near, before = without[before < len(known)], before[before < len(known)]
        # A frame shown before one that was decoded earlier ends a group of such; the others are shown first.
        is_earlier = times[known[before]] < highest[np.maximum(before - 1, 0)]
        leading = near[(before == 0) | (is_earlier & bool(known[0]))]
        self.untimed = frozenset(leading.tolist())
        times[leading] = times[known].min() - self._nominal * np.arange(len(leading), 0, -1)

    @property
    def end_pts(self) -> int:
        """Where the last frame ends."""
        return int(self.pts[-1]) + self._last_duration

    @property
    def notes(self) -> list[str]:
        """What was done, in words."""
        notes = []
        if not self.is_in_display_order:
            notes.append(f"{counted(self._num_missing, 'frame')} got times by their decoding order")
        elif self._num_missing:
            notes.append(f"{counted(self._num_missing, 'frame')} had no timestamp")
        if self._num_moved:
            notes.append(f"{counted(self._num_moved, 'frame')} had the timestamp of another")
        return notes


def counted(num: int, noun: str) -> str:
    """`num` and its noun, such as `2 frames`."""
    return f"{num} {noun}{'' if num == 1 else 's'}"
