from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cluster.video.carry import carried_metadata
from cluster.video.concat import join
from cluster.video.timeline import rescale
from cluster.video.verify import verify
from sr_core.errors import MediaError, OutputError
from tests.cluster.video.clips import (
    B_FRAMES,
    CFR,
    CLIPS,
    FULL_RANGE,
    LATE_TS,
    MANY_STREAMS,
    MP4_EXTRAS,
    TEN_BIT,
    VFR,
    WEBM,
    Clip,
    number_of,
    numbered_planes,
    png_bytes,
)
from tests.cluster.video.joining import Joined, split_and_join, write_part
from tests.cluster.video.test_encode import frames_at

PathOf = Callable[[Clip], Path]


def decoded(path: Path) -> tuple[list[Fraction], list[int]]:
    """Times and numbers of the frames that PyAV's plain decoding gives."""
    times, numbers = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times.append(frame.pts * frame.time_base)
            numbers.append(number_of(luma_of(frame)))
    return times, numbers


def luma_of(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]
    dtype = np.dtype(np.uint16 if frame.format.components[0].bits > 8 else np.uint8)
    strides = (plane.line_size, dtype.itemsize)
    return np.ndarray((frame.height, frame.width), dtype, buffer=plane, strides=strides)


def payloads(path: Path) -> dict[int, list[tuple[Fraction, bytes]]]:
    """Time and hash of every packet, by stream, without covers."""
    found: dict[int, list[tuple[Fraction, bytes]]] = defaultdict(list)
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type in ("video", "audio", "subtitle")]
        for packet in container.demux(streams):
            if packet.size and packet.pts is not None:
                digest = hashlib.sha256(bytes(packet)).digest()
                found[packet.stream.index].append((packet.pts * packet.time_base, digest))
    return found


def verified(joined: Joined) -> tuple[str, ...]:
    return verify(joined.path, joined.encode, joined.pts, joined.result)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_the_same_frames_come_out_at_their_times(clip: Clip, clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(clip), tmp_path)

    times, numbers = decoded(joined.path)
    with av.open(str(joined.path)) as output:
        clock = output.streams.video[0].time_base
    expected = rescale(np.sort(joined.pts), joined.video.time_base, clock)
    assert numbers == list(range(len(clip.pts)))
    assert [time / clock for time in times] == expected.tolist()
    assert verified(joined) == ()


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("clip", [VFR, LATE_TS], ids=lambda clip: clip.name)
def test_times_survive_any_codec_and_container(
    clip: Clip, codec: str, container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    joined = split_and_join(clip_path(clip), tmp_path, container, codec, num_parts=4)

    times, numbers = decoded(joined.path)
    source_times = [int(pts) * joined.video.time_base for pts in np.sort(joined.pts)]
    tolerance = Fraction(1, 2000) if container == "mkv" else 0
    assert numbers == list(range(len(clip.pts)))
    assert max(abs(a - b) for a, b in zip(times, source_times, strict=True)) <= tolerance
    verified(joined)


@pytest.mark.parametrize(
    ("codec", "container"), [("av1", "mp4"), ("av1", "webm"), ("vp9", "webm"), ("ffv1", "mkv")]
)
def test_other_codecs_join_as_well(codec: str, container: str, clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path, container, codec)

    assert decoded(joined.path)[1] == list(range(len(VFR.pts)))
    verified(joined)


def test_as_many_parts_as_frames_make_the_same_film(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(B_FRAMES), tmp_path, num_parts=len(B_FRAMES.pts))

    times, numbers = decoded(joined.path)
    assert numbers == list(range(len(B_FRAMES.pts)))
    assert times == [pts * B_FRAMES.time_base for pts in B_FRAMES.pts]


@pytest.mark.parametrize("clip", [MANY_STREAMS, MP4_EXTRAS, LATE_TS, WEBM], ids=lambda clip: clip.name)
def test_sound_and_subtitles_are_identical_and_in_time(clip: Clip, clip_path: PathOf, tmp_path: Path) -> None:
    source = clip_path(clip)
    joined = split_and_join(source, tmp_path)

    before, after = payloads(source), payloads(joined.path)
    video = joined.video.stream_index
    assert before.keys() == after.keys()
    for index in before.keys() - {video}:
        assert [digest for _, digest in after[index]] == [digest for _, digest in before[index]]
        shifts = [abs(a[0] - b[0]) for a, b in zip(after[index], before[index], strict=True)]
        assert max(shifts) < Fraction(1, 1000)


@pytest.mark.parametrize("clip", [MANY_STREAMS, MP4_EXTRAS, WEBM, VFR], ids=lambda clip: clip.name)
def test_two_joins_give_the_same_bytes(clip: Clip, clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(clip), tmp_path)
    first = joined.path.read_bytes()

    with clip_path(clip).open("rb") as source:
        join(joined.parts, joined.packet_pts, joined.settings, source, "again", joined.path)

    assert joined.path.read_bytes() == first


def described(path: Path) -> dict[str, Any]:
    with av.open(str(path)) as container:
        return {
            "kinds": [stream.type for stream in container.streams if stream.type != "data"],
            "languages": [stream.metadata.get("language") for stream in container.streams.audio],
            "dispositions": [
                int(stream.disposition) for stream in container.streams if stream.type != "data"
            ],
            "title": {key.lower(): value for key, value in container.metadata.items()}.get("title"),
            "chapters": [
                (float(chapter["start"] * chapter["time_base"]), chapter["metadata"]["title"])
                for chapter in container.chapters()
            ],
            "attachments": [stream.data for stream in container.streams if stream.type == "attachment"],
        }


@pytest.mark.parametrize("clip", [MANY_STREAMS, MP4_EXTRAS], ids=lambda clip: clip.name)
def test_what_else_a_file_says_is_carried(clip: Clip, clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(clip), tmp_path)

    before, after = described(clip_path(clip)), described(joined.path)
    assert after == before
    assert before["chapters"] == [(0.0, "one"), (0.5, "two")]


def test_covers_go_from_matroska_to_mp4(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(MANY_STREAMS), tmp_path, "mp4")

    with av.open(str(joined.path)) as output:
        covers = [stream for stream in output.streams.video if int(stream.disposition) & 1024]
        packets = [bytes(packet) for packet in output.demux(covers) if packet.size]
    assert packets == [png_bytes()]
    verified(joined)


def test_covers_go_from_mp4_to_matroska(clip_path: PathOf, tmp_path: Path) -> None:
    there = split_and_join(clip_path(MANY_STREAMS), tmp_path, "mp4")
    back = split_and_join(there.path, tmp_path, "mkv")

    with av.open(str(back.path)) as output:
        cover = next(stream for stream in output.streams.video if int(stream.disposition) & 1024)
        assert cover.codec_context.name == "png"
        assert cover.metadata["MIMETYPE" if "MIMETYPE" in cover.metadata else "mimetype"] == "image/png"
    verified(back)


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov"])
def test_aac_from_transport_streams_loses_nothing_but_its_headers(
    container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    clip = replace(LATE_TS, name="adts.ts", audio_codec="aac")
    joined = split_and_join(clip_path(clip), tmp_path, container)

    assert joined.result.carried[0].num_packets
    verified(joined)
    with av.open(str(joined.path)) as output, av.open(str(clip_path(clip))) as source:
        decoded_sound = [
            b"".join(bytes(frame.planes[0]) for frame in file.decode(audio=0)) for file in (output, source)
        ]
    assert decoded_sound[0] == decoded_sound[1]


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_further_video_streams_are_copied(
    suffix: str, container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    double = tmp_path / f"double.{suffix}"
    with av.open(str(clip_path(B_FRAMES))) as source, av.open(str(double), "w") as output:
        streams = [output.add_stream_from_template(source.streams.video[0], opaque=True) for _ in range(2)]
        for packet in source.demux(video=0):
            for stream in streams if packet.size else ():
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.is_keyframe, copy.duration = packet.is_keyframe, packet.duration
                copy.stream = stream
                output.mux(copy)

    joined = split_and_join(double, tmp_path, container)

    verified(joined)
    with av.open(str(joined.path)) as output:
        numbers = [number_of(luma_of(frame)) for frame in output.decode(output.streams.video[1])]
    assert numbers == list(range(len(B_FRAMES.pts)))


def test_the_display_matrix_is_carried(clip_path: PathOf, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    with av.open(str(clip_path(CFR))) as source, av.open(str(turned), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.set_display_rotation(90, hflip=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)

    for container in ("mp4", "mkv"):
        joined = split_and_join(turned, tmp_path, container)
        assert joined.video.display_matrix is not None
        with av.open(str(joined.path)) as output:
            frame = next(output.decode(video=0))
        matrix = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)
        assert tuple(matrix.tolist()) == joined.video.display_matrix


@pytest.mark.parametrize(("clip", "codec"), [(FULL_RANGE, "h264"), (TEN_BIT, "hevc"), (FULL_RANGE, "av1")])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_tags_of_the_plan_stand_in_the_output(
    clip: Clip, codec: str, container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    joined = split_and_join(clip_path(clip), tmp_path, container, codec)

    with av.open(str(joined.path)) as output:
        context = output.streams.video[0].codec_context
        found = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert output.streams.video[0].average_rate == 25
        if codec == "hevc" and container == "mp4":
            assert context.codec_tag == "hvc1"
    color = joined.encode.color
    assert found == (color.primaries, color.transfer, color.matrix, 2 if color.full_range else 1)


def test_edit_lists_are_followed(clip_path: PathOf, tmp_path: Path) -> None:
    """A cut without encoding leaves packets in the file that are decoded but not displayed."""
    cut = tmp_path / "cut.mp4"
    with av.open(str(clip_path(B_FRAMES))) as source, av.open(str(cut), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - 4 * 512, packet.dts - 4 * 512
                packet.stream = stream
                output.mux(packet)
    numbers = decoded(cut)[1]

    joined = split_and_join(cut, tmp_path)

    assert joined.video.num_frames == len(numbers) < len(B_FRAMES.pts)
    assert joined.video.promised_num_frames is None
    assert decoded(joined.path)[1] == numbers
    verified(joined)


def test_a_source_of_another_clock_is_told_by_the_parts_alone(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path)
    moved = [pts + 90_000 for pts in joined.packet_pts]

    with clip_path(VFR).open("rb") as source:
        join(joined.parts, moved, joined.settings, source, "moved", joined.path)

    assert decoded(joined.path)[0] == [Fraction(pts + 90_000, 90_000) for pts in VFR.pts]


def rejoined(joined: Joined, source: Path) -> None:
    with source.open("rb") as file:
        join(joined.parts, joined.packet_pts, joined.settings, file, "again", joined.path)


def test_parts_that_were_encoded_in_another_way_are_refused(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path)
    other = replace(joined.encode, options=(("preset", "slow"), ("crf", "30")))
    times = sorted(joined.packet_pts[1].tolist())
    joined.packet_pts[1][:] = write_part(joined.parts[1], other, frames_at(times, 96, 64))

    with pytest.raises(OutputError, match="another way") as caught:
        rejoined(joined, clip_path(VFR))

    assert caught.value.where == str(joined.parts[1])
    assert not joined.path.exists()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_part_that_is_not_what_its_receipt_says_is_refused(
    change: int, clip_path: PathOf, tmp_path: Path
) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path)
    pts = joined.packet_pts[2]
    joined.packet_pts[2] = pts[:-1] if change < 0 else np.append(pts, pts.max() + 1)

    with pytest.raises(OutputError, match="receipt"):
        rejoined(joined, clip_path(VFR))

    assert not joined.path.exists()


def test_a_part_that_is_gone_is_an_output_error(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path)
    joined.parts[1].unlink()

    with pytest.raises(OutputError, match="cannot be read"):
        rejoined(joined, clip_path(VFR))


def test_verifying_finds_a_frame_at_another_time(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path)
    pts = joined.pts.copy()
    pts[7] += 1

    with pytest.raises(OutputError, match="time of frame"):
        verify(joined.path, joined.encode, pts, joined.result)


def test_verifying_finds_missing_frames_and_wrong_sizes(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path)

    with pytest.raises(OutputError, match="number of frames"):
        verify(joined.path, joined.encode, joined.pts[:-1], joined.result)
    with pytest.raises(OutputError, match="size"):
        verify(joined.path, replace(joined.encode, width=98), joined.pts, joined.result)


def test_verifying_finds_other_sound(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(MP4_EXTRAS), tmp_path)
    first, second = joined.result.carried
    swapped = (replace(first, sha256=second.sha256), second)

    with pytest.raises(OutputError, match="copy of stream"):
        verify(joined.path, joined.encode, joined.pts, replace(joined.result, carried=swapped))
    with pytest.raises(OutputError, match="streams"):
        verify(joined.path, joined.encode, joined.pts, replace(joined.result, carried=(first,)))


def test_verifying_finds_a_file_that_broke_off(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(MANY_STREAMS), tmp_path)
    content = joined.path.read_bytes()
    joined.path.write_bytes(content[: len(content) * 2 // 3])

    with pytest.raises(OutputError):
        verified(joined)


def test_a_clock_of_half_ticks_is_written_as_it_is(clip_path: PathOf, tmp_path: Path) -> None:
    """As when every field becomes a frame: twice the frames, on a clock of twice the ticks."""
    joined = split_and_join(clip_path(VFR), tmp_path, num_parts=1)
    video = joined.video
    encode = replace(joined.encode, time_base=video.time_base / 2, frame_rate=video.frame_rate * 2)
    ends = [*VFR.pts[1:], video.end_pts]
    half_ticks = [at for pts, end in zip(VFR.pts, ends, strict=True) for at in (2 * pts, pts + end)]
    parts = [tmp_path / f"half{number}.mp4" for number in range(2)]
    packet_pts = [
        write_part(part, encode, frames_at(times, 96, 64))
        for part, times in zip(parts, (half_ticks[:31], half_ticks[31:]), strict=True)
    ]

    with clip_path(VFR).open("rb") as source:
        result = join(parts, packet_pts, replace(joined.settings, encode=encode), source, "half", joined.path)

    verify(joined.path, encode, np.concatenate(packet_pts), result)
    assert [time / encode.time_base for time in decoded(joined.path)[0]] == half_ticks
    with av.open(str(joined.path)) as output:
        stream = output.streams.video[0]
        assert stream.duration * stream.time_base == (video.end_pts - video.start_pts) * video.time_base


def with_late_sound(path: Path, target: Path, late_s: float) -> Path:
    """The same film, with the sound later, so that it outlasts the picture."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        copies = {s.index: output.add_stream_from_template(s, opaque=True) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                late = round(late_s / packet.time_base) if packet.stream.type == "audio" else 0
                packet.pts += late
                packet.dts = None if packet.dts is None else packet.dts + late
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return target


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "webm"])
def test_sound_that_starts_late_and_outlasts_the_picture_keeps_its_times(
    container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    clip = WEBM if container == "webm" else replace(B_FRAMES, name=f"sound.{container}", num_audio=1)
    source = with_late_sound(clip_path(clip), tmp_path / f"late.{container}", 0.7)

    joined = split_and_join(source, tmp_path, container)

    verified(joined)
    before, after = payloads(source), payloads(joined.path)
    assert before[1][0][0] - before[0][0][0] > Fraction(6, 10)
    assert before[1][-1][0] > before[0][-1][0]
    assert [digest for _, digest in after[1]] == [digest for _, digest in before[1]]
    shifts = [got[0] - wanted[0] for got, wanted in zip(after[1], before[1], strict=True)]
    assert max(map(abs, shifts)) <= Fraction(1, 1000)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("num_packets", [0, 1])
def test_tracks_with_next_to_nothing_are_carried(
    num_packets: int, container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    clip = replace(B_FRAMES, name="aac.mkv", num_audio=1, audio_codec="aac")
    sparse = tmp_path / "sparse.mkv"
    with av.open(str(clip_path(clip))) as source, av.open(str(sparse), "w") as output:
        copies = {s.index: output.add_stream_from_template(s, opaque=True) for s in source.streams}
        num = 0
        for packet in source.demux():
            num += packet.stream.type == "audio"
            if packet.size and (packet.stream.type == "video" or num <= num_packets):
                packet.stream = copies[packet.stream.index]
                output.mux(packet)

    joined = split_and_join(sparse, tmp_path, container)

    verified(joined)
    assert joined.result.carried[0].is_empty == (num_packets == 0)
    assert len(payloads(joined.path)[1]) == num_packets


def test_verifying_finds_sound_at_another_time(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(MP4_EXTRAS), tmp_path)
    first, second = joined.result.carried
    assert first.start_s is not None
    late = (replace(first, start_s=first.start_s + 0.05), second)

    with pytest.raises(OutputError, match="beside the video"):
        verify(joined.path, joined.encode, joined.pts, replace(joined.result, carried=late))


@pytest.mark.parametrize("timecode", ["01:00:00;02", "10:59:58:23"])
@pytest.mark.parametrize(
    ("source", "container"), [("mov", "mov"), ("mov", "mp4"), ("mp4", "mkv"), ("mkv", "mov")]
)
def test_the_timecode_is_carried(
    timecode: str, source: str, container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    rate = Fraction(30_000, 1001) if ";" in timecode else Fraction(25)
    clip = replace(CFR, name=f"plain{rate.denominator}.mp4", time_base=1 / rate, pts=tuple(range(20)))
    said = tmp_path / f"said.{source}"
    with av.open(str(clip_path(clip))) as reader, av.open(str(said), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0], opaque=True)
        stream.codec_context.framerate = rate
        stream.metadata["timecode"] = timecode
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)

    joined = split_and_join(said, tmp_path, container)

    verified(joined)
    with av.open(str(joined.path)) as output:
        tags = {key.lower(): value for key, value in output.streams.video[0].metadata.items()}
        assert tags["timecode"] == timecode
        assert len([s for s in output.streams if s.type == "data"]) == (container != "mkv")


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_a_gap_that_the_container_cannot_say_is_the_sources_fault(
    container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path, container)
    joined.packet_pts[2][:] += 1 << 32

    with pytest.raises(MediaError, match="farther apart") as caught:
        rejoined(joined, clip_path(VFR))

    assert "mkv" in caught.value.next_step
    assert not joined.path.exists()


def test_frames_before_zero_are_refused(clip_path: PathOf, tmp_path: Path) -> None:
    joined = split_and_join(clip_path(VFR), tmp_path)
    joined.packet_pts[0][:] -= 1

    with pytest.raises(OutputError, match="before zero"):
        rejoined(joined, clip_path(VFR))


def with_pcm(path: Path, container: str, codec: str, num_frames: int = 50) -> Path:
    """A film with two channels of PCM."""
    with av.open(str(path), "w", format=container) as output:
        video = output.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = output.add_stream(codec, rate=48_000, layout="stereo")
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(
                np.concatenate([*map(np.ravel, numbered_planes(number, "yuv420p", 96, 64))]).reshape(96, 96),
                format="yuv420p",
            )
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
            samples = np.full((1, 2 * 1920), number + 1, np.int32 if "24" in codec else np.int16)
            heard = av.AudioFrame.from_ndarray(samples, format=sound.format.name, layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = 48_000, number * 1920, Fraction(1, 48_000)
            output.mux(sound.encode(heard))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec", "sample_bytes"), [("cut.mxf", "pcm_s16le", 4)])
@pytest.mark.parametrize("num_more_bytes", [1, 2, 3])
def test_pcm_that_breaks_off_within_a_sample_does_not_lose_the_film(
    name: str, codec: str, sample_bytes: int, num_more_bytes: int, tmp_path: Path
) -> None:
    whole = with_pcm(tmp_path / "whole.mxf", "mxf", codec)
    with av.open(str(whole)) as source:
        sound = [packet for packet in source.demux(audio=0) if packet.size]
    content = whole.read_bytes()
    start = content.index(bytes(sound[30]))
    cut = tmp_path / name
    cut.write_bytes(content[: start + 100 * sample_bytes + num_more_bytes])

    joined = split_and_join(cut, tmp_path)

    verified(joined)
    assert any("stream 1: a sample of sound that breaks off" in text for text in joined.result.told)
    with av.open(str(joined.path)) as output:
        copied = b"".join(bytes(packet) for packet in output.demux(audio=0))
    assert copied == b"".join(bytes(packet) for packet in sound)[: len(copied)]
    assert len(copied) == sum(packet.size for packet in sound[:30]) + 100 * sample_bytes


def on_a_broadcast_clock(source: Path, target: Path, start_s: int) -> Path:
    """A copy whose clock starts `start_s` later."""
    options = {"output_ts_offset": str(start_s)}
    with av.open(str(source)) as reader, av.open(str(target), "w", container_options=options) as writer:
        copies = {s.index: writer.add_stream_from_template(s, opaque=True) for s in reader.streams}
        for packet in reader.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                writer.mux(packet)
    return target


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_a_film_on_a_broadcast_clock_starts_at_zero(
    container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    source = on_a_broadcast_clock(clip_path(LATE_TS), tmp_path / "on_air.ts", 20_000)
    with av.open(str(source)) as reader:
        starts = [stream.start_time * stream.time_base for stream in reader.streams]
    assert min(starts) >= 20_000

    joined = split_and_join(source, tmp_path, container)

    verified(joined)
    before, after = payloads(source), payloads(joined.path)
    assert min(packets[0][0] for packets in after.values()) == 0
    for index, start_s in enumerate(starts):
        assert abs(after[index][0][0] - (start_s - min(starts))) <= Fraction(1, 1000)
        assert len(after[index]) == len(before[index])
    assert decoded(joined.path)[1] == list(range(len(LATE_TS.pts)))
    told = [text for text in joined.result.told if "broadcast clock started at 05:33:2" in text]
    assert told
    assert "all times are moved" in told[0]


def test_verifying_finds_a_film_that_was_not_moved(clip_path: PathOf, tmp_path: Path) -> None:
    source = on_a_broadcast_clock(clip_path(LATE_TS), tmp_path / "on_air.ts", 100)
    joined = split_and_join(source, tmp_path)
    assert joined.result.zero_pts

    with pytest.raises(OutputError, match="time of frame"):
        verify(joined.path, joined.encode, joined.pts, replace(joined.result, zero_pts=0))


def test_a_film_of_another_kind_that_starts_late_stays_there(clip_path: PathOf, tmp_path: Path) -> None:
    clip = replace(LATE_TS, name="late.mkv", num_audio=0)

    joined = split_and_join(clip_path(clip), tmp_path)

    assert joined.result.zero_pts == 0
    assert decoded(joined.path)[0][0] == Fraction(3, 2)


@pytest.mark.parametrize("container", ["mov", "mp4"])
def test_tags_of_phones_are_kept_with_all_others(container: str, clip_path: PathOf, tmp_path: Path) -> None:
    tags = {
        "com.apple.quicktime.model": "a phone",
        "com.apple.quicktime.location.ISO6709": "+47.0-008.0/",
        "title": "a title",
        "artist": "somebody",
        "comment": "a word",
        "creation_time": "2020-05-05T10:00:00.000000Z",
    }
    said = tmp_path / "said.mov"
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(clip_path(CFR))) as reader, av.open(str(said), "w", container_options=options) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0], opaque=True)
        stream.codec_context.framerate = Fraction(25)
        stream.metadata["timecode"] = "01:00:00:00"
        writer.metadata.update(tags)
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)
    with av.open(str(said)) as source:
        before = carried_metadata(source.metadata, "mov")
    assert before.keys() >= tags.keys()

    joined = split_and_join(said, tmp_path, container)

    assert verified(joined) == ()
    with av.open(str(joined.path)) as output:
        assert carried_metadata(output.metadata, "mov") == before
        assert output.streams.video[0].metadata["timecode"] == "01:00:00:00"


def test_a_timecode_that_came_to_a_stream_is_not_told_as_lost(clip_path: PathOf, tmp_path: Path) -> None:
    said = tmp_path / "said.mkv"
    with av.open(str(clip_path(CFR))) as reader, av.open(str(said), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0], opaque=True)
        stream.codec_context.framerate = Fraction(25)
        writer.metadata["timecode"] = "01:00:00:00"
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)

    joined = split_and_join(said, tmp_path, "mov")

    with av.open(str(joined.path)) as output:
        assert output.streams.video[0].metadata["timecode"] == "01:00:00:00"
    assert "timecode" in joined.result.metadata_keys
    assert verified(joined) == ()
