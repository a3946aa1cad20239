from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av

from cluster.video.spool import read_packets, write_packet
from tests.cluster.video.clips import MANY_STREAMS, Clip


def told(packet: av.Packet) -> tuple[object, ...]:
    sides = [(side.data_type, bytes(side)) for side in packet.iter_sidedata()]
    return packet.pts, packet.dts, packet.duration, packet.is_keyframe, sides, bytes(packet)


def test_packets_come_back_as_they_were_with_their_side_data(clip_path: Callable[[Clip], Path]) -> None:
    file = io.BytesIO()
    written = []
    with av.open(str(clip_path(MANY_STREAMS))) as source:
        for packet in source.demux():
            if packet.size:
                write_packet(file, packet)
                written.append((packet.stream.index, told(packet)))
    file.seek(0)

    assert [(index, told(packet)) for index, packet in read_packets(file)] == written
    assert any(sides for _, (*_, sides, _) in written)
    assert any(pts is None for _, (pts, *_) in written)
