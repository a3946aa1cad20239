from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cluster.video import carry, decode
from cluster.video import probe as probing
from cluster.video.decode import VideoReader
from cluster.video.frame_times import MOSTLY_MISSING, NOT_IN_DISPLAY_ORDER
from cluster.video.info import VideoInfo
from cluster.video.probe import probe
from cluster.video.repair import Repair
from cluster.video.source import ErrorNotes, open_source, read_packets
from cluster.video.timeline import Timeline
from cluster.video.verify import verify
from tests.cluster.video.clips import B_FRAMES, CLIPS, MANY_STREAMS, X264_B, Clip, number_of, write_clip
from tests.cluster.video.joining import Joined, split_and_join
from tests.cluster.video.test_join import decoded, payloads

PathOf = Callable[[Clip], Path]
Edit = Callable[[av.Packet], None]

NUM = 30
FRAME_S = Fraction(1, 25)
TS = Clip(
    "even.ts", options=X264_B, time_base=Fraction(1, 90_000), pts=range(0, NUM * 3600, 3600), num_audio=1
)
SILENT_TS = replace(TS, name="silent.ts", num_audio=0)
AVI = Clip("b_frames.avi", options=X264_B, time_base=FRAME_S, pts=range(NUM))
AVI_AUDIO = replace(AVI, name="sound.avi", num_audio=1, audio_codec="mp2")
MKV = Clip(
    "plain.mkv",
    options={"preset": "ultrafast", "crf": "10", "bf": "0", "g": "10"},
    time_base=Fraction(1, 1000),
    pts=range(0, NUM * 40, 40),
    num_audio=1,
)
MKV_B = replace(MKV, name="reordered.mkv", options=X264_B)
MP4 = Clip("sound.mp4", options=X264_B, num_audio=1)


def rewritten(source: Path, target: Path, edit: Edit = lambda packet: None) -> Path:
    """Copies the packets of `source` to `target`, each as `edit` leaves it."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        copies = {
            stream.index: writer.add_stream_from_template(stream, opaque=True) for stream in reader.streams
        }
        for stream in reader.streams:
            copies[stream.index].time_base = stream.time_base
        for packet in reader.demux():
            if packet.size:
                edit(packet)
                packet.stream = copies[packet.stream.index]
                writer.mux(packet)
    return target


def moved(seconds: float, kind: str = "", from_s: float = -1e9) -> Edit:
    """Moves packets by `seconds`: those of one kind of stream, and those from some time on."""

    def edit(packet: av.Packet) -> None:
        ticks = round(seconds / packet.time_base)
        if kind in ("", packet.stream.type) and packet.dts * packet.time_base >= from_s:
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks

    return edit


def end_to_end(target: Path, *sources: Path) -> Path:
    target.write_bytes(b"".join(source.read_bytes() for source in sources))
    return target


def restamped(source: Path, target: Path, times: dict[tuple[str, int], int]) -> Path:
    """A copy of a Matroska file with other times: by kind of stream and number of its packet, in ms."""
    content = bytearray(source.read_bytes())
    numbers = {"video": 0, "audio": 0}
    with av.open(str(source)) as reader:
        for packet in reader.demux():
            key = (packet.stream.type, numbers[packet.stream.type])
            numbers[packet.stream.type] += 1
            if packet.size and key in times:
                start = content.index(bytes(packet)) - 3  # the time in its cluster, then flags
                in_cluster = int.from_bytes(content[start : start + 2], "big", signed=True)
                in_cluster += times[key] - packet.pts
                content[start : start + 2] = in_cluster.to_bytes(2, "big", signed=True)
    target.write_bytes(content)
    return target


def probed(path: Path) -> tuple[VideoInfo, Timeline]:
    with path.open("rb") as file:
        info, timeline = probe(file, path.name)
    return info.video, timeline


def read(path: Path, threads: int = 2) -> tuple[list[int], list[int], list[int]]:
    """Times and numbers of the frames, and the times that got none."""
    video, _ = probed(path)
    with path.open("rb") as file, VideoReader(file, video, threads) as reader:
        frames = list(reader.frames(None, None))
        numbers = [number_of(frame.planes[0]) for frame in frames]
        return [frame.pts for frame in frames], numbers, reader.missing_pts


def joined_whole(path: Path, folder: Path, container: str = "auto") -> Joined:
    joined = split_and_join(path, folder, container, num_parts=1)
    verify(joined.path, joined.encode, joined.pts, joined.result)
    return joined


def sound_beside_video(path: Path, num_video: int) -> list[Fraction]:
    """By how much the first sound comes after the first frame in each of two pieces of equal content."""
    times, numbers = decoded(path)
    assert len(numbers) == 2 * num_video
    sound = [time for time, _ in payloads(path)[1]]
    half = len(sound) // 2
    return [sound[0] - times[0], sound[half] - times[num_video]]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("shift_s", [0, 0.4, 1000, 80_000], ids=["again", "overlap", "ahead", "far"])
def test_files_set_end_to_end_become_one_film(
    shift_s: float, container: str, clip_path: PathOf, tmp_path: Path
) -> None:
    second = rewritten(clip_path(TS), tmp_path / "second.ts", moved(shift_s))
    both = end_to_end(tmp_path / "both.ts", clip_path(TS), second)

    joined = joined_whole(both, tmp_path, container)

    times, numbers = decoded(joined.path)
    assert numbers == [*range(NUM), *range(NUM)]
    gaps = np.diff([float(time) for time in times])
    assert gaps.min() > 0.03
    assert gaps.max() < 0.2
    before, behind = sound_beside_video(joined.path, NUM)
    assert abs(before - behind) < FRAME_S
    assert "1 jump of the clock closed" in joined.result.told[0]


def test_files_set_end_to_end_thrice_with_the_times_of_the_first_in_the_middle(
    clip_path: PathOf, tmp_path: Path
) -> None:
    ahead = rewritten(clip_path(TS), tmp_path / "ahead.ts", moved(5000))
    three = end_to_end(tmp_path / "three.ts", clip_path(TS), ahead, clip_path(TS))

    times, numbers, missing = read(three)

    assert numbers == [*range(NUM)] * 3
    assert np.all(np.diff(times) > 0)
    assert times[-1] - times[0] < 90_000 * 5
    assert missing == []


def test_a_jump_ahead_without_other_streams_is_closed_in_transport_streams(
    clip_path: PathOf, tmp_path: Path
) -> None:
    second = rewritten(clip_path(SILENT_TS), tmp_path / "second.ts", moved(500))
    both = end_to_end(tmp_path / "both.ts", clip_path(SILENT_TS), second)

    times, numbers, _ = read(both)

    assert numbers == [*range(NUM), *range(NUM)]
    assert set(np.diff(times)) == {3600}


@pytest.mark.parametrize("clip", [replace(TS, name="long.ts"), MP4], ids=lambda clip: clip.name)
def test_a_still_picture_while_the_sound_goes_on_stays(clip: Clip, tmp_path: Path) -> None:
    ticks = [pts + (pts > clip.pts[14]) * int(30 / clip.time_base) for pts in clip.pts]
    path = write_clip(tmp_path, replace(clip, pts=ticks))

    video, timeline = probed(path)

    assert video.timestamp_problem == ""
    assert np.diff(timeline.pts).max() == 30 / video.time_base + int(FRAME_S / video.time_base)


def test_a_still_picture_in_a_silent_film_stays(tmp_path: Path) -> None:
    ticks = [pts + (pts > B_FRAMES.pts[14]) * 30 * 12800 for pts in B_FRAMES.pts]
    path = write_clip(tmp_path, replace(B_FRAMES, pts=ticks))

    joined = joined_whole(path, tmp_path)

    assert joined.video.timestamp_problem == ""
    assert [time / B_FRAMES.time_base for time in decoded(joined.path)[0]] == ticks


def test_a_clock_that_runs_over_goes_on(clip_path: PathOf, tmp_path: Path) -> None:
    start_s = (1 << 33) / 90_000 - 2.1  # 0.6 s before, as the muxer adds 1.5
    path = rewritten(clip_path(TS), tmp_path / "wrap.ts", moved(start_s))

    times, numbers, missing = read(path)
    joined = joined_whole(path, tmp_path)

    assert numbers == list(range(NUM))
    assert set(np.diff(times)) == {3600}
    assert missing == []
    assert decoded(joined.path)[1] == numbers
    assert times[0] >= 0


@pytest.mark.parametrize("clip", [AVI, AVI_AUDIO], ids=lambda clip: clip.name)
def test_frames_of_avi_get_their_decoding_times_in_display_order(
    clip: Clip, clip_path: PathOf, tmp_path: Path
) -> None:
    video, timeline = probed(clip_path(clip))
    times, numbers, missing = read(clip_path(clip))
    joined = joined_whole(clip_path(clip), tmp_path)

    assert video.timestamp_problem == NOT_IN_DISPLAY_ORDER
    assert times == timeline.pts.tolist() == list(range(NUM))
    assert numbers == list(range(NUM))
    assert missing == []
    assert decoded(joined.path)[1] == numbers
    assert joined.result.told == (f"{NUM} frames got times by their decoding order",)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_packet_that_gives_no_frame_leaves_a_hole(threads: int, tmp_path: Path) -> None:
    path = write_clip(tmp_path, replace(AVI, pts=range(120)))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        hurt = [packet for packet in container.demux(video=0) if packet.size][81]
    at = content.index(bytes(hurt))
    content[at : at + hurt.size] = bytes(hurt.size)
    path.write_bytes(content)

    times, numbers, missing = read(path, threads)

    assert len(missing) + len(times) == 120
    assert len(missing) == 1
    behind = [(time, number) for time, number in zip(times, numbers, strict=True) if number >= 100]
    assert behind
    assert all(time == number for time, number in behind)


def test_repeated_times_are_moved_up(clip_path: PathOf, tmp_path: Path) -> None:
    path = restamped(
        clip_path(MKV), tmp_path / "twice.mkv", {("video", 5): 160, ("video", 6): 160, ("video", 20): 840}
    )

    video, timeline = probed(path)
    times, numbers, missing = read(path)
    joined = joined_whole(path, tmp_path)

    assert "timestamp of another" in video.timestamp_problem
    assert timeline.pts[3:8].tolist() == [120, 160, 161, 162, 280]
    assert times == timeline.pts.tolist()
    assert (numbers, missing) == (list(range(NUM)), [])
    assert "3 frames had the timestamp of another" in joined.result.told


def test_repeated_times_of_reordered_frames_do_not_reorder_them(clip_path: PathOf, tmp_path: Path) -> None:
    path = restamped(clip_path(MKV_B), tmp_path / "twice.mkv", {("video", 21): 760, ("video", 22): 760})

    times, numbers, missing = read(path)

    assert numbers == list(range(NUM))
    assert np.all(np.diff(times) > 0)
    assert missing == []
    assert sum(time == 40 * number for time, number in zip(times, numbers, strict=True)) >= NUM - 6


def test_one_wrong_time_is_no_jump(clip_path: PathOf, tmp_path: Path) -> None:
    path = restamped(clip_path(MKV), tmp_path / "wrong.mkv", {("video", 12): 30, ("video", 13): 31_000})

    times, numbers, missing = read(path)

    assert numbers == list(range(NUM))
    assert times == [40 * number for number in numbers]
    assert missing == []


def test_one_wrong_time_of_the_sound_does_not_stop_a_film(clip_path: PathOf, tmp_path: Path) -> None:
    path = restamped(clip_path(MKV), tmp_path / "wrong.mkv", {("audio", 20): 30, ("audio", 30): 20})

    joined = joined_whole(path, tmp_path, "mp4")

    assert joined.video.timestamp_problem == ""
    assert decoded(joined.path)[1] == list(range(NUM))
    assert any("were not behind" in told for told in joined.result.told)
    before, after = payloads(path)[1], payloads(joined.path)[1]
    assert [digest for _, digest in after] == [digest for _, digest in before]


def test_every_reading_finds_the_same_times(clip_path: PathOf, tmp_path: Path) -> None:
    second = rewritten(clip_path(TS), tmp_path / "second.ts", moved(300))
    both = end_to_end(tmp_path / "both.ts", clip_path(TS), second, clip_path(TS))

    video, timeline = probed(both)
    first, second_time = read(both, 1), read(both, 3)

    assert first == second_time
    assert first[0] == timeline.pts.tolist()
    assert (video.start_pts, video.end_pts) == (timeline.pts[0], timeline.end_pts)
    assert video.num_frames == len(timeline.pts)
    one = joined_whole(both, tmp_path).path.read_bytes()
    assert joined_whole(both, tmp_path).path.read_bytes() == one


@pytest.mark.parametrize("clip", [*CLIPS, TS, MP4, MKV_B], ids=lambda clip: clip.name)
def test_sound_files_are_not_repaired(
    clip: Clip, clip_path: PathOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a sound file is repaired")

    for module, name in ((probing, "repaired_times"), (decode, "repaired_times"), (carry, "Repair")):
        monkeypatch.setattr(module, name, refuse)

    joined = joined_whole(clip_path(clip), tmp_path)

    assert joined.video.timestamp_problem == ""
    assert not [text for text in joined.result.told if "broadcast clock" not in text]


@pytest.mark.parametrize("clip", [TS, MP4, MKV_B, AVI_AUDIO], ids=lambda clip: clip.name)
def test_repairing_a_sound_clock_changes_nothing(clip: Clip, clip_path: PathOf) -> None:
    def times(repairs: bool) -> list[tuple[int | None, int | None, int]]:
        with clip_path(clip).open("rb") as file, open_source(file, clip.name) as container:
            packets = read_packets(container, tuple(container.streams), ErrorNotes())
            found = Repair(container).repaired(packets) if repairs else packets
            return [(packet.pts, packet.dts, packet.stream.index) for packet in found]

    assert times(repairs=True) == times(repairs=False)


def flash_with_sound_before_zero(source: Path, target: Path, shift_ms: int, is_repaired: bool) -> Path:
    """A copy of a Flash file whose sound is earlier by `shift_ms`, behind a frame of the picture."""
    content = source.read_bytes()
    tags, start = [], 13
    while start < len(content):
        end = start + 15 + int.from_bytes(content[start + 1 : start + 4], "big")
        tags.append(bytearray(content[start:end]))
        start = end
    for tag in tags:
        if tag[0] == 8:  # sound
            time = int.from_bytes(bytes([tag[7], *tag[4:7]]), "big") - shift_ms
            high, *low = (time % (1 << 32)).to_bytes(4, "big")
            tag[4:8] = bytes([*low, high])
    pictures = [tag for tag in tags if tag[0] == 9 and tag[12] == 1]
    if is_repaired:
        pictures[-1][4:8] = pictures[-2][4:8]
    heads = [tag for tag in tags if tag[0] == 18 or not tag[12]]  # metadata, decoders' configurations
    rest = [tag for tag in tags if not any(tag is one for one in (*heads, pictures[0]))]
    target.write_bytes(content[:13] + b"".join([*heads, pictures[0], *rest]))
    return target


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("is_repaired", [False, True])
def test_sound_of_flash_video_before_zero_stays_just_before_the_picture(
    is_repaired: bool, container: str, tmp_path: Path
) -> None:
    clip = replace(MKV, name="plain.flv", audio_codec="aac")
    path = flash_with_sound_before_zero(write_clip(tmp_path, clip), tmp_path / "early.flv", 60, is_repaired)
    with av.open(str(path)) as source:
        read_as = [packet.pts for packet in source.demux(audio=0) if packet.size]
    assert read_as[0] > 1 << 31

    joined = joined_whole(path, tmp_path, container)

    pictures, sound = decoded(joined.path)[0], [time for time, _ in payloads(joined.path)[1]]
    wanted = [Fraction(time - (time > 1 << 31) * (1 << 32), 1000) for time in read_as]
    start = pictures[0] - Fraction(21, 1000)
    assert max(abs(got - start - time) for got, time in zip(sound, wanted, strict=True)) <= Fraction(2, 1000)
    assert bool(joined.video.timestamp_problem) == is_repaired
    assert (
        "of the other streams: stream 1: times whose sign was lost are before zero again"
        in joined.result.told
    )


class Ahead:
    """How many bytes of packets are read and not given back yet, at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def read(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        for packet in packets:
            self.now += packet.size
            self.most = max(self.most, self.now)
            yield packet


@pytest.mark.parametrize("max_held_bytes", [20_000, 60_000, 10**9])
def test_no_more_is_held_than_may_be(max_held_bytes: int, clip_path: PathOf, tmp_path: Path) -> None:
    """A jump of the picture, which the sound would have to confirm, as long as it goes on as before."""
    jumping = Clip("many.ts", options=X264_B, time_base=TS.time_base, num_audio=1)
    ticks = [number * 3600 + (number >= 30) * 60 * 90_000 for number in range(250)]
    path = write_clip(tmp_path, replace(jumping, pts=ticks))
    ahead, times = Ahead(), []

    with path.open("rb") as file, open_source(file, path.name) as container:
        repair = Repair(container, max_held_bytes)
        packets = ahead.read(read_packets(container, tuple(container.streams), ErrorNotes()))
        for packet in repair.repaired(packets):
            ahead.now -= packet.size
            times.append((packet.stream.index, packet.dts))
    largest = 15_000

    assert ahead.most < max_held_bytes + largest
    assert ahead.most > 20_000
    assert len(times) > 250
    assert all(np.all(np.diff([time for at, time in times if at == index]) > 0) for index in (0, 1))


def test_a_start_that_is_not_found_is_not_held_without_end(tmp_path: Path) -> None:
    """Sound alone, ahead of a picture that comes late."""
    path = write_clip(tmp_path, replace(MKV, name="late.mkv", pts=range(20_000, 20_000 + 400, 40)))
    ahead = Ahead()

    with path.open("rb") as file, open_source(file, path.name) as container:
        packets = ahead.read(read_packets(container, tuple(container.streams), ErrorNotes()))
        for packet in Repair(container, 20_000).repaired(packets):
            ahead.now -= packet.size

    assert ahead.now == 0
    assert 20_000 <= ahead.most < 35_000


def test_a_recording_with_lost_packets_is_joined(tmp_path: Path) -> None:
    """Sound that is cut into pieces by them gets times that are next to each other."""
    path = write_clip(tmp_path, replace(TS, pts=range(0, 100 * 3600, 3600), num_audio=2))
    content = path.read_bytes()
    packets = [content[start : start + 188] for start in range(0, len(content), 188)]
    path.write_bytes(b"".join(packet for number, packet in enumerate(packets) if number % 97 != 60))

    joined = joined_whole(path, tmp_path)

    assert joined.video.timestamp_problem == ""
    assert any("were not behind" in told for told in joined.result.told)


def test_frames_that_overlap_are_all_kept_in_the_decoders_order(clip_path: PathOf, tmp_path: Path) -> None:
    """Where a file goes back by less than a jump, as one that was cut and set before another."""
    content = clip_path(SILENT_TS).read_bytes()
    with av.open(str(clip_path(SILENT_TS))) as container:
        third = [packet.pos for packet in container.demux(video=0) if packet.size][3]
    both = tmp_path / "both.ts"
    both.write_bytes(content[: third // 188 * 188] + content)

    times, numbers, missing = read(both)

    assert numbers[-NUM:] == list(range(NUM))
    assert np.all(np.diff(times) > 0)
    assert len(times) + len(missing) == probed(both)[0].num_frames


def test_subtitles_go_with_the_clock_of_the_film(clip_path: PathOf, tmp_path: Path) -> None:
    with_text = clip_path(MANY_STREAMS)
    both = end_to_end(tmp_path / "both.mkv", with_text, with_text)

    joined = joined_whole(both, tmp_path)

    times, numbers = decoded(joined.path)
    assert numbers == [*range(NUM), *range(NUM)]
    texts = [time for time, _ in payloads(joined.path)[3]]
    assert len(texts) == 4
    assert [text - times[0] for text in texts[:2]] == [Fraction(1, 10), Fraction(6, 10)]
    assert [text - times[NUM] for text in texts[2:]] == [Fraction(1, 10), Fraction(6, 10)]


def test_a_clock_that_runs_over_behind_a_jump_goes_on_exactly(clip_path: PathOf, tmp_path: Path) -> None:
    """FFmpeg undoes this by a reference from the file's start, which is wrong behind the jump."""
    first = rewritten(clip_path(SILENT_TS), tmp_path / "first.ts", moved(100))
    slow = write_clip(tmp_path, replace(SILENT_TS, name="slow.ts", pts=range(0, 300 * 18_000, 18_000)))
    second = rewritten(slow, tmp_path / "second.ts", moved((1 << 33) / 90_000 - 4))
    both = end_to_end(tmp_path / "both.ts", first, second)

    times, numbers, missing = read(both)

    assert numbers == [*range(NUM), *(number % 256 for number in range(300))]
    assert set(np.diff(times[NUM:])) == {18_000}
    assert missing == []
    with both.open("rb") as file, open_source(file, "both") as container:
        repair = Repair(container)
        list(repair.repaired(read_packets(container, tuple(container.streams), ErrorNotes())))
    assert repair.num_jumps == 2


def test_frames_without_any_time_get_the_nominal_rate_in_display_order(tmp_path: Path) -> None:
    path = write_clip(tmp_path, replace(AVI, name="bare.h264"))

    video, timeline = probed(path)
    times, numbers, missing = read(path)

    assert video.timestamp_problem == MOSTLY_MISSING
    assert numbers == list(range(NUM))
    assert [time * video.time_base for time in times] == [number * FRAME_S for number in range(NUM)]
    assert times == timeline.pts.tolist()
    assert missing == []


@pytest.mark.parametrize("clip", [MKV, MKV_B], ids=lambda clip: clip.name)
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_frames_before_the_first_with_a_time_are_one_frame_apart(
    container: str, clip: Clip, clip_path: PathOf, tmp_path: Path
) -> None:
    early = tmp_path / "early.mkv"
    source = clip_path(clip)
    options = {"avoid_negative_ts": "disabled", "output_ts_offset": "-0.5"}
    with av.open(str(source)) as reader, av.open(str(early), "w", container_options=options) as writer:
        copies = {s.index: writer.add_stream_from_template(s, opaque=True) for s in reader.streams}
        for packet in reader.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                writer.mux(packet)
    with av.open(str(early)) as reader:
        first = [packet.pts for packet in reader.demux(video=0)][:10]
    assert None in first

    joined = joined_whole(early, tmp_path, container)

    times, numbers = decoded(joined.path)
    assert numbers == list(range(NUM))
    assert {b - a for a, b in pairwise(times)} == {FRAME_S}
    was = payloads(source)[1][0][0] - decoded(source)[0][0]
    assert abs(payloads(joined.path)[1][0][0] - times[0] - was) < Fraction(1, 500)
    assert any("moved" in text for text in joined.result.told)
    assert any("had no timestamp" in text for text in joined.result.told)
