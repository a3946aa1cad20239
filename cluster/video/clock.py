"""The clock of one stream: where its times stand, and whether a packet goes on there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition

from cluster.video.source import ErrorNotes

GAP_S = 10  # FFmpeg's dts_delta_threshold: a stream that is further ahead has met a jump or a gap
BACK_S = Fraction(1, 10)  # so much FFmpeg, too, lets decoding times go back before it is a jump
_BACK_PTS_S = 1  # of streams without decoding times, whose pts go back as deep as frames are reordered
_MAX_STEP_S = 1  # what is longer is a gap
_USUAL_RATE = Fraction(25)
_FLV_SIGN = 1 << 31
_BROADCAST_FORMATS = ("mpegts", "mpeg")


@dataclass
class Clock:
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
        """`seconds` in ticks."""
        return round(seconds / self.time_base)

    def set_offset(self, offset: Fraction) -> None:
        """Puts the next packets on the clock that `offset`, in seconds, is of."""
        if offset is not self.offset:
            self.offset, self.offset_ticks = offset, self.ticks(offset)

    def distance(self, packet: av.Packet[Any], offset_ticks: int) -> int:
        """How far `packet` is ahead of the one before."""
        raw = raw_time(packet)
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
        now = raw_time(packet)
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


def with_signs(
    packets: Iterable[av.Packet[Any]], container: InputContainer, notes: ErrorNotes
) -> Iterator[av.Packet[Any]]:
    """The same packets; those of Flash Video before zero are there, also where FFmpeg sees them 50 days on.

    Its times are in ms and have 32 bits, one of which is the sign (Video File Format Specification 10.1,
    E.4.1). What was changed is told in `notes`.
    """
    if container.format.name != "flv":
        yield from packets
        return
    for packet in packets:
        if packet.pts is not None and packet.pts >= _FLV_SIGN:
            packet.pts -= 2 * _FLV_SIGN
            notes.add(f"stream {packet.stream.index}: times whose sign was lost are before zero again")
        if packet.dts is not None and packet.dts >= _FLV_SIGN:
            packet.dts -= 2 * _FLV_SIGN
        yield packet


def has_broadcast_clock(container: InputContainer) -> bool:
    """Whether the format's times are those of a sender's clock, so that a film may start at any of them."""
    return container.format.name in _BROADCAST_FORMATS


def clock_of(stream: Any) -> Clock:
    """A clock for `stream`, which has seen no packet."""
    is_still = bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))
    step = 0
    if stream.type == "video" and stream.time_base:
        step = round(1 / (nominal_rate(stream) * stream.time_base))
    return Clock(stream.time_base or Fraction(1), stream.type in ("audio", "video") and not is_still, step)


def nominal_rate(stream: Any) -> Fraction:
    """Frames a second, as far as the container says."""
    return Fraction(stream.guessed_rate or stream.average_rate or _USUAL_RATE)


def raw_time(packet: av.Packet[Any]) -> int | None:
    """The decoding time; the pts where there is none; None without either."""
    return packet.pts if packet.dts is None else packet.dts


def start_s(packet: av.Packet[Any]) -> Fraction:
    """When a packet that has a time is shown, or decoded where it does not say, on its stream's own clock."""
    time = packet.dts if packet.pts is None else packet.pts
    assert time is not None
    return time * packet.time_base


def set_time(packet: av.Packet[Any], time: int) -> None:
    """Gives `packet` the decoding time `time`; its pts stays as far behind it as it was, if that is near."""
    if packet.pts is not None and packet.dts is not None:
        delay = packet.pts - packet.dts
        packet.pts = time + delay if abs(delay * packet.time_base) < GAP_S else None
    elif packet.pts is not None:
        packet.pts = time
    if packet.dts is not None:
        packet.dts = time
