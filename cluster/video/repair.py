"""Times of sources whose own are missing, repeated or jump: one rule for probing, decoding and carrying.

Three steps, each a function of the file's packets alone, so that all who take them agree:

1. `Repair` puts all streams on one clock. A stream whose decoding times go back, or ahead by more than 10 s,
   has met a jump: files were set end to end, a clock was set, or its 33 bits ran over. Then one offset is
   found for the new clock, and every stream takes it when it comes there itself, so that sound and picture
   keep their offset to each other on both sides of the jump, however the file interleaves them.
   - Back: always closed, for the streams that go back.
   - Ahead: closed only in formats whose clock may be set anew within a file (FFmpeg's AVFMT_TS_DISCONT, such
     as transport and program streams), and only where another audio or video stream makes the same jump, or
     there is no other. Everything else is a gap that somebody meant, as a still picture, and stays.
   - A stream that leaves for three packets at most, and comes back, had wrong times there, and made no jump.
   Where the new clock starts: as early as no stream overlaps what it had before. A clock that ran over goes
   on exactly. A film that starts before zero, which no container can hold, is moved behind it by whole
   seconds.
2. `FrameTimes` gives every displayed packet of the video its own place in the display order. Packets without
   pts are placed by their decoding times, and where those are missing too, one frame after the last. Times
   that do not ascend are moved up to one tick after the frame before.
3. `Placement` gives these times to the decoder's frames, each that of the packet that it came from.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.frame import VideoFrame

from cluster.video.field_pairs import whole_frames
from cluster.video.source import ErrorNotes, open_source, read_packets
from cluster.video.timeline import PtsArray, ascending

# What a container without display times shows: its pts are decoding times.
NOT_IN_DISPLAY_ORDER = "its frames are not displayed in the order of their timestamps"
MOSTLY_MISSING = "most frames have no timestamp"

GAP_S = 10  # FFmpeg's dts_delta_threshold: a stream that is further ahead has met a jump or a gap
BACK_S = Fraction(1, 10)  # so much FFmpeg, too, lets decoding times go back before it is a jump
_BACK_PTS_S = 1  # of streams without decoding times, whose pts go back as deep as frames are reordered
_MAX_STEP_S = 1  # what is longer is a gap
_GO_ON_S = 5  # a stream that goes on for so long makes no jump
_MAX_WRONG = 3
_MAX_HELD = 1000
_MAX_EPOCHS = 8
_WRAP_S = Fraction(1 << 33, 90_000)  # ISO 13818-1, 2.4.3.7
_MAX_JUMPS_TOLD = 5
_USUAL_RATE = Fraction(25)
_MAX_REORDERING = 32  # twice the deepest that H.264 and HEVC allow
_NUM_FRAMES_TO_LEARN = 64
_LEAST_GAP = 2  # ticks, between which there is another


def may_jump(container: InputContainer) -> bool:
    """Whether the format's clock may be set anew within a file."""
    flag: Any = Flags.ts_discont.value
    return bool(container.format.flags & flag)


@dataclass
class _Clock:
    """What is known of one stream's times; times are in its ticks, on the repaired clock, unless called raw.

    Attributes:
        is_steady: Whether its packets follow each other so closely that a jump can be told from a pause.
        offset: Of its raw times, in seconds.
        step: How far its next packet should be from its last.
        last: Decoding time of its last packet; its pts where that had none.
        has_dts: Whether `last` is a decoding time.
        end: Where what was seen of it ends.
    """

    time_base: Fraction
    is_steady: bool
    step: int
    offset: Fraction = Fraction(0)
    offset_ticks: int = 0
    last: int | None = None
    has_dts: bool = True
    end: int = 0

    def __post_init__(self) -> None:
        self.tick_s = float(self.time_base)
        self.gap = self.ticks(GAP_S)
        self._back, self._back_pts = self.ticks(BACK_S), self.ticks(_BACK_PTS_S)
        self._max_step = self.ticks(_MAX_STEP_S)

    def ticks(self, seconds: Fraction | int) -> int:
        return round(seconds / self.time_base)

    def set_offset(self, offset: Fraction) -> None:
        if offset is not self.offset:
            self.offset, self.offset_ticks = offset, self.ticks(offset)

    def distance(self, packet: av.Packet[Any], offset_ticks: int) -> int:
        """How far `packet` is ahead of the one before."""
        raw = _raw_time(packet)
        assert raw is not None
        assert self.last is not None
        return raw + offset_ticks - self.last

    def fits(self, packet: av.Packet[Any], offset_ticks: int) -> bool:
        """Whether `packet` goes on where the stream has stopped."""
        distance = self.distance(packet, offset_ticks)
        return -self.back(packet) <= distance <= self.step + self.gap

    def back(self, packet: av.Packet[Any]) -> int:
        """How far behind the last one `packet` may be without a jump."""
        return self._back_pts if packet.dts is None or not self.has_dts else self._back

    def move(self, packet: av.Packet[Any]) -> None:
        """Puts `packet` on the repaired clock, and learns from it."""
        if self.offset_ticks:
            packet.pts = None if packet.pts is None else packet.pts + self.offset_ticks
            packet.dts = None if packet.dts is None else packet.dts + self.offset_ticks
        now = _raw_time(packet)
        if now is None:
            return
        since = now - self.last if self.last is not None else 0
        if packet.duration:
            self.step = packet.duration
        elif 0 < since < self._max_step:
            self.step = since
        self.last, self.has_dts = now, packet.dts is not None
        if packet.pts is not None and abs(packet.pts - now) <= self.gap:  # else it is wrong
            now = packet.pts
        self.end = max(self.end, now + self.step)


@dataclass
class _Suspicion:
    """A packet that does not go on where its stream stopped, and what came behind it.

    Attributes:
        index: Of its stream.
        packets: It and all that came since.
        following: Its stream's next packets.
        jumped: The first packet of every stream that has met a jump since, itself among them.
        last: The newest packet of every stream that goes on as before.
    """

    index: int
    packets: list[av.Packet[Any]]
    following: list[av.Packet[Any]] = field(default_factory=list)
    jumped: dict[int, av.Packet[Any]] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)


class Repair:
    """Puts the packets of one file on one clock; see the module. It holds some seconds of packets at most."""

    def __init__(self, container: InputContainer) -> None:
        self._may_jump = may_jump(container)
        self._clocks = {stream.index: _clock_of(stream) for stream in container.streams}
        self._epochs: deque[Fraction] = deque([Fraction(0)], maxlen=_MAX_EPOCHS)
        self._now_s = 0.0
        self._suspicion: _Suspicion | None = None
        self._jumps_s: list[float] = []
        self._num_wrong = 0
        self._start_offset_s = 0

    @property
    def num_jumps(self) -> int:
        """How many were closed so far, and packets with wrong times put right."""
        return len(self._jumps_s) + self._num_wrong

    @property
    def notes(self) -> list[str]:
        """What was done so far, in words."""
        notes = []
        if self._start_offset_s:
            notes.append(f"all times moved by {self._start_offset_s} s, as they started before zero")
        if self._jumps_s:
            places = ", ".join(f"{seconds:.1f} s" for seconds in self._jumps_s[:_MAX_JUMPS_TOLD])
            more = ", ..." if len(self._jumps_s) > _MAX_JUMPS_TOLD else ""
            notes.append(f"{_counted(len(self._jumps_s), 'jump')} of the clock closed (at {places}{more})")
        if self._num_wrong:
            notes.append(f"{_counted(self._num_wrong, 'packet')} far from their neighbours moved there")
        return notes

    def repaired(self, packets: Iterable[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        """The same packets in the same order, with their times on the repaired clock.

        Args:
            packets: Of all streams of the file, from its start on.
        """
        for packet in self._from_zero(iter(packets)):
            if self._suspicion is not None:
                self._hold(packet)
            else:
                yield from self._pass(packet)
            while self._suspicion is not None and self._is_clear(self._suspicion):
                yield from self._resolve()
        while self._suspicion is not None:
            yield from self._resolve()

    def _from_zero(self, packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        """The same packets, after a look at where the video starts."""
        head: list[av.Packet[Any]] = []
        for packet in islice(packets, _MAX_HELD):
            head.append(packet)
            is_video = packet.stream.type == "video" and self._clocks[packet.stream.index].is_steady
            if is_video and _raw_time(packet) is not None and not packet.is_discard:
                start_s = _start_s(packet)
                self._start_offset_s = math.ceil(-start_s) + 1 if start_s < 0 else 0
                break
        if self._start_offset_s:
            self._epochs[0] += self._start_offset_s
            for clock in self._clocks.values():
                clock.set_offset(self._epochs[0])
        yield from head
        yield from packets

    def _pass(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        """Gives `packet`, or starts to hold."""
        if _raw_time(packet) is None:
            yield packet
            return
        offset = self._offset_of(packet)
        if offset is None:
            index = packet.stream.index
            self._suspicion = _Suspicion(index, [packet], jumped={index: packet})
            return
        self._clocks[packet.stream.index].set_offset(offset)
        yield self._moved(packet)

    def _moved(self, packet: av.Packet[Any]) -> av.Packet[Any]:
        clock = self._clocks[packet.stream.index]
        clock.move(packet)
        if clock.is_steady and clock.last is not None:
            self._now_s = clock.last * clock.tick_s
        return packet

    def _offset_of(self, packet: av.Packet[Any]) -> Fraction | None:
        """The offset of the clock that `packet` is on: its stream's, else the newest that fits, else None."""
        clock = self._clocks[packet.stream.index]
        if len(self._epochs) == 1 and (not clock.is_steady or clock.last is None):
            return clock.offset
        if not clock.is_steady or clock.last is None:
            return min(reversed(self._epochs), key=lambda offset: self._far_s(packet, offset))
        if clock.fits(packet, clock.offset_ticks):
            return clock.offset
        fitting = (offset for offset in reversed(self._epochs) if clock.fits(packet, clock.ticks(offset)))
        return next(fitting, None)

    def _far_s(self, packet: av.Packet[Any], offset: Fraction) -> float:
        """How far a packet of a stream that cannot be predicted would be from the others."""
        raw = _raw_time(packet)
        assert raw is not None
        return abs(float(raw * packet.time_base + offset) - self._now_s)

    def _hold(self, packet: av.Packet[Any]) -> None:
        suspicion, index = self._suspicion, packet.stream.index
        assert suspicion is not None
        suspicion.packets.append(packet)
        clock, raw = self._clocks[index], _raw_time(packet)
        if raw is None or not clock.is_steady or clock.last is None:
            return
        if index == suspicion.index:
            if len(suspicion.following) < _MAX_WRONG:
                suspicion.following.append(packet)
        elif index not in suspicion.jumped:
            distance = clock.distance(packet, clock.offset_ticks)
            seen = suspicion.last.get(index, clock.last)
            now = clock.last + distance
            if seen - clock.back(packet) <= now <= seen + clock.gap:
                suspicion.last[index] = max(seen, now)
            else:
                suspicion.jumped[index] = packet

    def _is_clear(self, suspicion: _Suspicion) -> bool:
        """Whether what is held says what has happened."""
        if self._came_back(suspicion) is not None or len(suspicion.packets) >= _MAX_HELD:
            return True
        if len(suspicion.following) < _MAX_WRONG:
            return False
        return all(
            index in suspicion.jumped or self._goes_on(suspicion, index)
            for index in self._others(suspicion.index)
        )

    def _others(self, index: int) -> list[int]:
        """The other streams that are running."""
        return [
            other
            for other, clock in self._clocks.items()
            if other != index
            and clock.is_steady
            and clock.last is not None
            and abs(clock.last * clock.tick_s - self._now_s) < GAP_S
        ]

    def _goes_on(self, suspicion: _Suspicion, index: int) -> bool:
        clock = self._clocks[index]
        assert clock.last is not None
        return suspicion.last.get(index, clock.last) - clock.last > clock.ticks(_GO_ON_S)

    def _came_back(self, suspicion: _Suspicion) -> int | None:
        """The time at which the stream goes on as before, by equal steps; None where it does not."""
        clock = self._clocks[suspicion.index]
        assert clock.last is not None
        for num_wrong, packet in enumerate(suspicion.following, start=1):
            if clock.fits(packet, clock.offset_ticks):
                return clock.last + clock.distance(packet, clock.offset_ticks) // (num_wrong + 1)
        return None

    def _resolve(self) -> Iterator[av.Packet[Any]]:
        """Decides on what is held, and gives it until the next suspicion."""
        suspicion = self._suspicion
        assert suspicion is not None
        first, *rest = suspicion.packets
        clock = self._clocks[suspicion.index]
        came_back = self._came_back(suspicion)
        if came_back is not None:
            self._num_wrong += 1
            _set_time(first, came_back - clock.offset_ticks)
        elif self._is_jump(suspicion):
            self._jumps_s.append(float(clock.end * clock.time_base))
            offset = self._offset_behind(suspicion)
            self._epochs.append(offset)
            clock.set_offset(offset)
        self._suspicion = None
        yield self._moved(first)
        for packet in rest:
            if self._suspicion is not None:
                self._hold(packet)
            else:
                yield from self._pass(packet)

    def _is_jump(self, suspicion: _Suspicion) -> bool:
        clock = self._clocks[suspicion.index]
        if clock.distance(suspicion.packets[0], clock.offset_ticks) < 0:
            return True
        is_confirmed = len(self._same_clock(suspicion)) > 1 or not self._others(suspicion.index)
        return self._may_jump and is_confirmed

    def _same_clock(self, suspicion: _Suspicion) -> dict[int, av.Packet[Any]]:
        """The packets of `suspicion.jumped` that are on the clock of its first."""
        start_s = _start_s(suspicion.packets[0])
        return {
            index: packet
            for index, packet in suspicion.jumped.items()
            if abs(_start_s(packet) - start_s) < GAP_S
        }

    def _offset_behind(self, suspicion: _Suspicion) -> Fraction:
        """The offset of the new clock: the least with which no stream starts before its end.

        A clock that ran over goes on as it was.
        """
        offset = max(
            self._clocks[index].end * self._clocks[index].time_base - _start_s(packet)
            for index, packet in self._same_clock(suspicion).items()
        )
        change = offset - self._clocks[suspicion.index].offset
        is_wrap = self._may_jump and abs(abs(change) - _WRAP_S) < 1
        if not is_wrap:
            return offset
        return self._clocks[suspicion.index].offset + (_WRAP_S if change > 0 else -_WRAP_S)


class FrameTimes:
    """When each displayed packet of the video is shown.

    Attributes:
        pts: Strictly ascending, one for each displayed packet; complete after `finish`.
        keyframe_pts: Of those that are keyframes.
        place_of: By packet, its index in `pts`.
        is_in_display_order: Whether the packets' pts say in which order frames are displayed.
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
        self._nominal = max(1, round(1 / (_rate_of(stream) * stream.time_base)))
        self._last_duration = 0
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
            time = self._times[-1] + self._nominal if self._times else 0
        self._last_duration = packet.duration or self._nominal
        self._times.append(time)

    def finish(self) -> None:
        """Finds the display order, after the last packet."""
        times = np.frombuffer(self._times, np.int64)
        order = np.argsort(times, kind="stable")
        self.place_of = np.empty_like(order)
        self.place_of[order] = np.arange(len(order))
        self.pts = ascending(times[order])
        self._num_moved = int(np.count_nonzero(self.pts != times[order]))
        self.keyframe_pts = np.sort(self.pts[self.place_of[np.frombuffer(self._keyframes, np.int64)]])

    @property
    def end_pts(self) -> int:
        """Where the last frame ends."""
        return int(self.pts[-1]) + self._last_duration

    @property
    def notes(self) -> list[str]:
        """What was done, in words."""
        notes = []
        if not self.is_in_display_order:
            notes.append(f"{_counted(self._num_missing, 'frame')} got times by their decoding order")
        elif self._num_missing:
            notes.append(f"{_counted(self._num_missing, 'frame')} had no timestamp")
        if self._num_moved:
            notes.append(f"{_counted(self._num_moved, 'frame')} had the timestamp of another")
        return notes


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
            own = int(self._times.place_of[number])
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
        reach = self._reach if self._newest >= _NUM_FRAMES_TO_LEARN else _MAX_REORDERING
        while self._first_open < self._newest - reach or (
            self._first_open <= self._newest and self._came[self._first_open]
        ):
            self._num_lost += not self._came[self._first_open]
            self._first_open += 1


def repaired_times(file: BinaryIO, name: str, stream_index: int, problem: str) -> tuple[FrameTimes, Repair]:
    """Reads all of the source in `file` for the times of its video, as every later reading will find them.

    Args:
        name: Names the source in errors.
        problem: What the first look found, as in `VideoInfo.timestamp_problem`.

    Raises:
        MediaError: It cannot be read.
    """
    with open_source(file, name) as container:
        stream = container.streams[stream_index]
        repair = Repair(container)
        times = FrameTimes(stream, problem)
        every = repair.repaired(read_packets(container, tuple(container.streams), ErrorNotes()))
        for packet in whole_frames((one for one in every if one.stream.index == stream_index), stream):
            times.add(packet)
    times.finish()
    return times, repair


def _clock_of(stream: Any) -> _Clock:
    is_still = bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))
    step = 0
    if stream.type == "video" and stream.time_base:
        step = round(1 / (_rate_of(stream) * stream.time_base))
    return _Clock(stream.time_base or Fraction(1), stream.type in ("audio", "video") and not is_still, step)


def _rate_of(stream: Any) -> Fraction:
    return Fraction(stream.guessed_rate or stream.average_rate or _USUAL_RATE)


def _raw_time(packet: av.Packet[Any]) -> int | None:
    return packet.pts if packet.dts is None else packet.dts


def _start_s(packet: av.Packet[Any]) -> Fraction:
    time = packet.dts if packet.pts is None else packet.pts
    assert time is not None
    return time * packet.time_base


def _set_time(packet: av.Packet[Any], time: int) -> None:
    """Gives `packet` the decoding time `time`; its pts stays as far behind it as it was, if that is near."""
    if packet.pts is not None and packet.dts is not None:
        delay = packet.pts - packet.dts
        packet.pts = time + delay if abs(delay * packet.time_base) < GAP_S else None
    elif packet.pts is not None:
        packet.pts = time
    if packet.dts is not None:
        packet.dts = time


def _counted(num: int, noun: str) -> str:
    return f"{num} {noun}{'' if num == 1 else 's'}"
