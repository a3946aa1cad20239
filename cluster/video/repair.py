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
2. `frame_times` gives every displayed packet of the video its own place in the display order. Packets without
   pts are placed by their decoding times, and where those are missing too, one frame after the last, or at
   the start one frame before the first that has a time. Times that do not ascend are moved up to one tick
   after the frame before.
3. `placement` gives these times to the decoder's frames, each that of the packet that it came from.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.format import Flags

from cluster.video.clock import GAP_S, Clock, clock_of, raw_time, set_time, start_s, with_signs
from cluster.video.field_pairs import whole_frames
from cluster.video.frame_times import MAX_REORDERING, FrameTimes, counted
from cluster.video.source import ErrorNotes, open_source, read_packets

_GO_ON_S = 5  # a stream that goes on for so long makes no jump
_MAX_WRONG = 3
_MAX_HELD = 1000
_MAX_HELD_BYTES = 256 << 20  # of raw 4K, which has 25 MB a frame, some frames
_MAX_EPOCHS = 8
_WRAP_S = Fraction(1 << 33, 90_000)  # ISO 13818-1, 2.4.3.7
_MAX_JUMPS_TOLD = 5


def may_jump(container: InputContainer) -> bool:
    """Whether the format's clock may be set anew within a file."""
    flag: Any = Flags.ts_discont.value
    return bool(container.format.flags & flag)


@dataclass
class _Suspicion:
    """A packet that does not go on where its stream stopped, and what came behind it.

    Attributes:
        index: Of its stream.
        packets: It and all that came since.
        num_bytes: Of these packets.
        following: Its stream's next packets.
        jumped: The first packet of every stream that has met a jump since, itself among them.
        last: The newest packet of every stream that goes on as before.
    """

    index: int
    packets: list[av.Packet[Any]]
    num_bytes: int
    following: list[av.Packet[Any]] = field(default_factory=list)
    jumped: dict[int, av.Packet[Any]] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)


@dataclass
class _Start:
    """The first packets of a video.

    Attributes:
        num_untimed: How many have no time.
        times_s: Of the others, as far as they are needed to know which is shown first.
    """

    num_untimed: int = 0
    times_s: list[Fraction] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Whether no later packet says more."""
        return len(self.times_s) >= (MAX_REORDERING if self.num_untimed else 1)

    def add(self, packet: av.Packet[Any]) -> None:
        """Takes the next packet."""
        if raw_time(packet) is not None:
            self.times_s.append(start_s(packet))
        else:
            self.num_untimed += 1

    def first_s(self, clock: Clock) -> Fraction:
        """When the first frame is shown, which may be one without a time; see `FrameTimes`."""
        return min(self.times_s) - self.num_untimed * clock.step * clock.time_base


class Repair:
    """Puts the packets of one file on one clock; see the module. It holds some seconds of packets at most."""

    def __init__(self, container: InputContainer, max_held_bytes: int = _MAX_HELD_BYTES) -> None:
        """Starts at the beginning of `container`.

        Args:
            max_held_bytes: When so much is held, what is there decides. All readings of a file have to be
                given the same, so as to agree.
        """
        self._max_held_bytes = max_held_bytes
        self._may_jump = may_jump(container)
        self._clocks = {stream.index: clock_of(stream) for stream in container.streams}
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
            notes.append(f"{counted(len(self._jumps_s), 'jump')} of the clock closed (at {places}{more})")
        if self._num_wrong:
            notes.append(f"{counted(self._num_wrong, 'packet')} far from their neighbours moved there")
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
        num_bytes = 0
        starts = {index: _Start() for index, clock in self._clocks.items() if clock.is_steady}
        for packet in islice(packets, _MAX_HELD):
            head.append(packet)
            num_bytes += packet.size
            if packet.stream.type == "video" and packet.stream.index in starts and not packet.is_discard:
                start = starts[packet.stream.index]
                start.add(packet)
                if start.is_known:
                    break
            if num_bytes >= self._max_held_bytes:
                break
        first_s = min(
            (start.first_s(self._clocks[index]) for index, start in starts.items() if start.times_s),
            default=Fraction(0),
        )
        if first_s < 0:
            self._start_offset_s = math.ceil(-first_s) + 1
            self._epochs[0] += self._start_offset_s
            for clock in self._clocks.values():
                clock.set_offset(self._epochs[0])
        yield from head
        yield from packets

    def _pass(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        """Gives `packet`, or starts to hold."""
        if raw_time(packet) is None:
            yield packet
            return
        offset = self._offset_of(packet)
        if offset is None:
            index = packet.stream.index
            self._suspicion = _Suspicion(index, [packet], packet.size, jumped={index: packet})
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
        raw = raw_time(packet)
        assert raw is not None
        return abs(float(raw * packet.time_base + offset) - self._now_s)

    def _hold(self, packet: av.Packet[Any]) -> None:
        suspicion, index = self._suspicion, packet.stream.index
        assert suspicion is not None
        suspicion.packets.append(packet)
        suspicion.num_bytes += packet.size
        clock, raw = self._clocks[index], raw_time(packet)
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
        is_full = len(suspicion.packets) >= _MAX_HELD or suspicion.num_bytes >= self._max_held_bytes
        if is_full or self._came_back(suspicion) is not None:
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
            set_time(first, came_back - clock.offset_ticks)
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
        start = start_s(suspicion.packets[0])
        return {
            index: packet
            for index, packet in suspicion.jumped.items()
            if abs(start_s(packet) - start) < GAP_S
        }

    def _offset_behind(self, suspicion: _Suspicion) -> Fraction:
        """The offset of the new clock: the least with which no stream starts before its end.

        A clock that ran over goes on as it was.
        """
        offset = max(
            self._clocks[index].end * self._clocks[index].time_base - start_s(packet)
            for index, packet in self._same_clock(suspicion).items()
        )
        change = offset - self._clocks[suspicion.index].offset
        is_wrap = self._may_jump and abs(abs(change) - _WRAP_S) < 1
        if not is_wrap:
            return offset
        return self._clocks[suspicion.index].offset + (_WRAP_S if change > 0 else -_WRAP_S)


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
        notes = ErrorNotes()
        packets = with_signs(read_packets(container, tuple(container.streams), notes), container, notes)
        times = FrameTimes(stream, problem)
        every = repair.repaired(packets)
        for packet in whole_frames((one for one in every if one.stream.index == stream_index), stream):
            times.add(packet)
    times.finish()
    return times, repair
