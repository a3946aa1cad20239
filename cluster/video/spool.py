"""Packets on disk, between the demuxer that read them and the muxer that will write them.

MP4's demuxer and muxer each keep a table of all packets: a film of ten hours has no memory for both at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import av
from av.packet import PacketSideData, packet_sidedata_type_from_literal

# Stream, pts, dts, duration, whether it is a keyframe, number of side data, size
_HEAD = struct.Struct("=HqqqBBI")
_SIDE_HEAD = struct.Struct("=HI")  # kind, size
_NONE = -(1 << 63)


def write_packet(file: BinaryIO, packet: av.Packet[Any]) -> None:
    """Appends `packet` to `file`."""
    sides = list(packet.iter_sidedata())
    pts, dts = (_NONE if time is None else time for time in (packet.pts, packet.dts))
    head = (packet.stream.index, pts, dts, packet.duration or 0, packet.is_keyframe, len(sides), packet.size)
    file.write(_HEAD.pack(*head))
    for side in sides:
        kind: Any = packet_sidedata_type_from_literal(side.data_type)  # type: ignore[arg-type]
        file.write(_SIDE_HEAD.pack(kind, side.data_size))
        file.write(memoryview(side))
    file.write(memoryview(packet))


def read_packets(file: BinaryIO) -> Iterator[tuple[int, av.Packet[Any]]]:
    """(index of its stream, packet) of all that `write_packet` wrote, from `file`'s position on.

    The packets belong to no stream yet, and their times have no time base.
    """
    while head := file.read(_HEAD.size):
        index, pts, dts, duration, is_keyframe, num_sides, size = _HEAD.unpack(head)
        sides = [_read_side(file) for _ in range(num_sides)]
        packet: av.Packet[Any] = av.Packet(file.read(size))
        for side in sides:
            packet.set_sidedata(side)
        packet.pts = None if pts == _NONE else pts
        packet.dts = None if dts == _NONE else dts
        packet.duration, packet.is_keyframe = duration, bool(is_keyframe)
        yield index, packet


def _read_side(file: BinaryIO) -> Any:
    kind, size = _SIDE_HEAD.unpack(file.read(_SIDE_HEAD.size))
    side: Any = PacketSideData(kind, size)  # type: ignore[call-arg]
    memoryview(side)[:] = file.read(size)
    return side
