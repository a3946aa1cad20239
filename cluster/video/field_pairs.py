"""H.264 whose fields are packets of their own, as in broadcasts, with one packet for each frame.

Syntax is that of ITU-T H.264, 7.3: a coded field is a picture of its own there, and demuxers that cut streams
into pictures, as that of MPEG-TS, give one packet for each. A decoder makes one frame of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av

_SLICES = (1, 5)
_SPS = 7
_HEADER_BYTES = 64
_MAX_SPS_BYTES = 1024
_PROFILES_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


@dataclass(frozen=True)
class _Sequence:
    """What of a sequence parameter set is needed to read slice headers."""

    frame_num_bits: int
    has_fields: bool
    has_color_planes: bool


@dataclass(frozen=True)
class _Field:
    frame_num: int
    is_bottom: bool


def whole_frames(packets: Iterable[av.Packet[Any]], stream: Any) -> Iterator[av.Packet[Any]]:
    """`packets` of `stream`, where two that hold the fields of one frame are one, with the first's time."""
    sequence = _sequence_of(stream)
    if sequence is None or not sequence.has_fields:
        yield from packets
        return
    held: av.Packet[Any] | None = None
    held_field: _Field | None = None
    for packet in packets:
        field = _lone_field(bytes(packet), sequence)
        if held is not None and held_field is not None:
            if field == _Field(held_field.frame_num, not held_field.is_bottom):
                yield _joined(held, packet)
                held = held_field = None
                continue
            yield held
        held, held_field = (packet, field) if field is not None else (None, None)
        if field is None:
            yield packet
    if held is not None:
        yield held


def _joined(first: av.Packet[Any], second: av.Packet[Any]) -> av.Packet[Any]:
    packet: av.Packet[Any] = av.Packet(bytes(first) + bytes(second))
    packet.pts, packet.dts, packet.time_base = first.pts, first.dts, first.time_base
    # A demuxer that has no time for the second says the frame's duration with the first already.
    has_own_time = second.pts is not None
    packet.duration = (first.duration or 0) + ((second.duration or 0) if has_own_time else 0)
    packet.is_keyframe = first.is_keyframe
    packet.stream = first.stream
    return packet


def _sequence_of(stream: Any) -> _Sequence | None:
    """None where `stream` is not H.264 as a sequence of start codes, which alone is cut into fields."""
    context = stream.codec_context
    extradata = bytes(context.extradata or b"")
    if context.codec.canonical_name != "h264" or extradata[:1] != b"\0":
        return None
    sets = (nal for nal in _nals(extradata, _MAX_SPS_BYTES) if nal[0] & 31 == _SPS)
    try:
        return next((_sequence(nal) for nal in sets), None)
    except IndexError:
        return None


def _lone_field(content: bytes, sequence: _Sequence) -> _Field | None:
    """The one field of which the slices in `content` are; None if they are of a frame or of two fields."""
    found = {_field(nal, sequence) for nal in _nals(content, _HEADER_BYTES) if nal[0] & 31 in _SLICES}
    return found.pop() if len(found) == 1 else None


def _nals(content: bytes, num_bytes: int) -> Iterator[bytes]:
    """The start of each unit behind a start code, without its emulation prevention."""
    at = content.find(b"\0\0\1")
    while 0 <= at < len(content) - 3:
        yield content[at + 3 : at + 3 + num_bytes].replace(b"\0\0\3", b"\0\0")
        at = content.find(b"\0\0\1", at + 3)


class _Bits:
    def __init__(self, content: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in content)
        self._at = 0

    def u(self, num: int) -> int:
        """Raises an IndexError behind the end."""
        if self._at + num > len(self._bits):
            raise IndexError
        self._at += num
        return int(self._bits[self._at - num : self._at] or "0", 2)

    def ue(self) -> int:
        num_zeros = 0
        while not self.u(1):
            num_zeros += 1
        return (1 << num_zeros) - 1 + self.u(num_zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _field(nal: bytes, sequence: _Sequence) -> _Field | None:
    bits = _Bits(nal[1:])
    try:
        bits.ue(), bits.ue(), bits.ue()  # first macroblock, type, picture parameter set
        bits.u(2 * sequence.has_color_planes)
        frame_num = bits.u(sequence.frame_num_bits)
        return _Field(frame_num, bool(bits.u(1))) if bits.u(1) else None
    except IndexError:
        return None


def _sequence(nal: bytes) -> _Sequence:
    bits = _Bits(nal[1:])
    profile = bits.u(8)
    bits.u(16), bits.ue()  # constraints and level, its number
    has_color_planes = _skip_chroma(bits) if profile in _PROFILES_WITH_CHROMA else False
    frame_num_bits = bits.ue() + 4
    _skip_order(bits)
    bits.ue(), bits.u(1), bits.ue(), bits.ue()  # reference frames, gaps, width, height
    return _Sequence(frame_num_bits, has_fields=not bits.u(1), has_color_planes=has_color_planes)


def _skip_chroma(bits: _Bits) -> bool:
    chroma = bits.ue()
    has_color_planes = bool(bits.u(1)) if chroma == 3 else False
    bits.ue(), bits.ue(), bits.u(1)  # depths, lossless transform
    if bits.u(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.u(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return has_color_planes


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _skip_order(bits: _Bits) -> None:
    kind = bits.ue()
    if kind == 0:
        bits.ue()
    elif kind == 1:
        bits.u(1), bits.se(), bits.se()
        for _ in range(bits.ue()):
            bits.se()
