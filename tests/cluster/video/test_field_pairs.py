from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from cluster.video.decode import VideoReader
from cluster.video.field_pairs import whole_frames
from cluster.video.probe import probe
from tests.cluster.video.clips import B_FRAMES, X264_B, Clip, write_clip

NUM = 12
WIDTH_MBS, HEIGHT_MBS = 2, 2  # of a field


class Bits:
    """Syntax elements of ITU-T H.264, 7.2."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, num: int, *values: int) -> Bits:
        self.text += "".join(f"{value:0{num}b}" for value in values)
        return self

    def ue(self, *values: int) -> Bits:
        for value in values:
            digits = f"{value + 1:b}"
            self.text += "0" * (len(digits) - 1) + digits
        return self

    def aligned(self) -> Bits:
        self.text += "0" * (-len(self.text) % 8)
        return self

    def unit(self, header: int) -> bytes:
        content = self.u(1, 1).aligned().text
        raw = int(content, 2).to_bytes(len(content) // 8)
        for last in range(4):
            raw = raw.replace(bytes([0, 0, last]), bytes([0, 0, 3, last]))
        return bytes([0, 0, 0, 1, header]) + raw


def parameter_sets(profile: int) -> bytes:
    sequence = Bits().u(8, profile, 0, 30).ue(0)
    if profile == 100:
        sequence.ue(1, 0, 0).u(1, 0, 0)  # 4:2:0 of 8 bits
    sequence.ue(0, 2, 1).u(1, 0).ue(WIDTH_MBS - 1, HEIGHT_MBS - 1).u(1, 0, 0, 1, 0, 0)
    picture = Bits().ue(0, 0).u(1, 0, 0).ue(0, 0, 0).u(1, 0).u(2, 0).ue(0, 0, 0).u(1, 0, 0, 0)
    return sequence.unit(0x67) + picture.unit(0x68)


def field(is_bottom: bool, luma: int, idr_id: int) -> bytes:
    """A field of uncompressed macroblocks, the top one an IDR picture."""
    bits = Bits().ue(0, 7, 0).u(4, 0).u(1, 1, is_bottom)
    bits = bits.u(1, 0) if is_bottom else bits.ue(idr_id).u(1, 0, 0)
    bits.ue(0)
    for _ in range(WIDTH_MBS * HEIGHT_MBS):
        bits.ue(25).aligned().u(8, *[luma] * 256, *[128] * 128)
    return Bits().u(3, 7).unit(9) + bits.unit(0x61 if is_bottom else 0x65)


def lumas(number: int) -> tuple[int, int]:
    return 50 + 5 * number, 150 + 3 * number


def write_fields(muxer: str, profile: int, has_own_times: bool) -> io.BytesIO:
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16 * WIDTH_MBS, 32 * HEIGHT_MBS, "yuv420p"
        for number in range(NUM):
            top, bottom = lumas(number)
            first = parameter_sets(profile) + field(False, top, number % 2)
            second = field(True, bottom, 0)
            contents = [first, second] if has_own_times else [first + second]
            for index, content in enumerate(contents):
                packet = av.Packet(content)
                packet.pts = packet.dts = 2 * number + index
                packet.time_base, packet.stream = Fraction(1, 50), stream
                packet.is_keyframe = index == 0
                output.mux(packet)
    file.seek(0)
    return file


@pytest.mark.parametrize("profile", [77, 100])
@pytest.mark.parametrize("has_own_times", [False, True])
def test_two_coded_fields_are_one_frame(profile: int, has_own_times: bool) -> None:
    file = write_fields("mpegts", profile, has_own_times)
    with av.open(file) as container:
        assert (
            sum(bool(packet.size) for packet in container.demux(video=0)) == 2 * NUM
        )  # or this shows nothing

    info, timeline = probe(file, "fields.ts")

    assert (info.video.num_frames, timeline.problem) == (NUM, "")
    assert info.video.frame_rate == 25
    assert info.video.is_interlaced
    assert np.all(np.diff(timeline.pts) == 3600)
    assert info.video.end_pts == timeline.pts[-1] + 3600
    pts = timeline.pts.tolist()
    with VideoReader(file, info.video, 1) as reader:
        for first in (0, 5):
            frames = list(reader.frames(pts[first], None))
            assert [frame.pts for frame in frames] == pts[first:]
            assert [tuple(frame.planes[0][:2, 0]) for frame in frames] == [
                lumas(number) for number in range(first, NUM)
            ]
            assert sorted(reader.packet_pts) == pts[first:]
            assert reader.missing_pts == []


def test_frames_of_both_fields_and_progressive_ones_stay_as_they_are(tmp_path) -> None:
    progressive = Clip("plain.ts", options=X264_B, time_base=Fraction(1, 90_000), pts=range(0, 36_000, 3600))
    mbaff = Clip(
        "mbaff.ts", options={**X264_B, "flags": "+ildct"}, pts=range(0, 5120, 512), field_order="tff"
    )
    for clip in (progressive, mbaff, B_FRAMES):
        with av.open(str(write_clip(tmp_path, clip))) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            assert list(whole_frames(packets, container.streams.video[0])) == packets
