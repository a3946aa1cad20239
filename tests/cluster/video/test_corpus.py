from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from cluster.images import corpus as images
from cluster.report import FileOutcome, FrameRange
from cluster.video.corpus.case import Case, Expected
from cluster.video.corpus.cases import CASES
from cluster.video.corpus.clip_case import expected_of
from cluster.video.corpus.clips import Clip, Text, Ticks, Tone
from cluster.video.corpus.judging import video_faults
from cluster.video.corpus.pictures import number_in
from cluster.video.corpus.writing import write_clip
from cluster.video.info import ColorTags

MAX_BYTES = {"codec_dv.avi": 400_000, "size_8k.mp4": 200_000}  # DV has 120 kB a frame, whatever it shows
BY_NAME = {case.name: case for case in CASES}
LOWER_FIRST = ("interlaced_mpeg2_bff.mpg", "interlaced_h264_bff.mp4", "codec_dv.avi")
needs_ffprobe = pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs ffprobe")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for case in (*CASES, *images.CASES):
        case.make(folder / case.name)
    return folder


def is_intact(case: Case) -> bool:
    return case.expected.state == "done" and case.expected.numbers is not None


@pytest.mark.parametrize("case", [case for case in CASES if is_intact(case)], ids=lambda case: case.name)
def test_a_clip_holds_the_frames_that_its_case_says(case: Case, corpus: Path) -> None:
    numbers, sizes, times_s = [], [], []
    with av.open(str(corpus / case.name)) as source:
        stream = source.streams.video[0]
        for frame in source.decode(stream):
            rows = slice(case.name in LOWER_FIRST, None, 2)
            numbers.append(number_in(frame.to_rgb().to_ndarray()[rows, :, 1]))
            sizes.append((frame.width, frame.height))
            times_s.append(None if frame.pts is None else frame.pts * stream.time_base)
    assert tuple(numbers) == case.expected.numbers
    assert sizes[0] == case.expected.size
    has_good_times = case.expected.times_s is not None and "timestamp" not in case.expected.told
    if has_good_times:
        assert [float(time - times_s[0]) for time in times_s] == pytest.approx(
            [float(time) for time in case.expected.times_s], abs=0.0011
        )


@pytest.mark.parametrize("case", [*CASES, *images.CASES], ids=lambda case: case.name)
def test_a_file_is_small_and_the_same_every_time(case, corpus: Path, tmp_path: Path) -> None:
    case.make(tmp_path / case.name)
    content = (corpus / case.name).read_bytes()
    assert (tmp_path / case.name).read_bytes() == content
    assert len(content) <= MAX_BYTES.get(case.name, 100_000)


def test_no_two_files_would_get_outputs_of_the_same_name() -> None:
    stems = [Path(case.name).stem for case in (*CASES, *images.CASES)]
    assert len(set(stems)) == len(stems)


def frames(path: Path) -> list[dict]:
    return probed(path, "-show_frames", "-select_streams", "v:0")["frames"]


def probed(path: Path, *arguments: str) -> dict:
    command = ["ffprobe", "-v", "quiet", "-of", "json", *arguments, str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def stream_of(path: Path, index: int = 0) -> dict:
    return probed(path, "-show_streams")["streams"][index]


@needs_ffprobe
@pytest.mark.parametrize(
    ("name", "top_first"),
    [
        ("interlaced_mpeg2_tff.mpg", 1),
        ("interlaced_mpeg2_bff.mpg", 0),
        ("interlaced_h264_tff.mp4", 1),
        ("interlaced_h264_bff.mp4", 0),
        ("interlaced_prores.mov", 1),
        ("codec_dv.avi", 0),
    ],
)
def test_interlaced_frames_say_which_field_is_first(name: str, top_first: int, corpus: Path) -> None:
    flags = [(frame["interlaced_frame"], frame["top_field_first"]) for frame in frames(corpus / name)]
    assert set(flags) == {(1, top_first)}


@needs_ffprobe
def test_interlacing_begins_late_where_the_case_says_so(corpus: Path) -> None:
    flags = [frame["interlaced_frame"] for frame in frames(corpus / "interlaced_late.ts")]
    assert flags == [0] * 30 + [1] * 10


@needs_ffprobe
def test_soft_telecine_repeats_every_other_frames_first_field(corpus: Path) -> None:
    found = frames(corpus / "interlaced_soft_telecine.ts")
    assert [frame["repeat_pict"] for frame in found] == [1, 0] * 6
    assert not any(frame["interlaced_frame"] for frame in found)


@needs_ffprobe
@pytest.mark.parametrize(
    ("name", "side_data"),
    [
        ("tracks_captions.ts", "ATSC A53 Part 4 Closed Captions"),
        ("color_hdr10.mp4", "Mastering display metadata"),
        ("color_hdr10.mp4", "Content light level metadata"),
        ("color_hdr10_plus.mkv", "HDR Dynamic Metadata SMPTE2094-40 (HDR10+)"),
        ("tracks_gop_timecode.mpg", "GOP timecode"),
    ],
)
def test_frames_carry_what_the_case_says(name: str, side_data: str, corpus: Path) -> None:
    kinds = {data["side_data_type"] for frame in frames(corpus / name) for data in frame["side_data_list"]}
    assert side_data in kinds


@needs_ffprobe
@pytest.mark.parametrize(
    ("name", "index", "key", "value"),
    [
        ("tracks_timecode.mov", 1, "codec_tag_string", "tmcd"),
        ("tracks_data.ts", 1, "codec_name", "klv"),
        ("codec_qtrle.mov", 0, "codec_name", "qtrle"),
        ("codec_dnxhr.mov", 0, "profile", "DNXHR HQX"),
        ("codec_prores_422_hq.mov", 0, "profile", "HQ"),
        ("samples_prores_alpha.mov", 0, "pix_fmt", "yuva444p12le"),
        ("samples_palette.avi", 0, "pix_fmt", "pal8"),
        ("color_hlg.mp4", 0, "color_transfer", "arib-std-b67"),
        ("color_full_range.mp4", 0, "color_range", "pc"),
        ("size_anamorphic.mp4", 0, "sample_aspect_ratio", "64:45"),
        ("size_8k.mp4", 0, "width", 7680),
    ],
)
def test_streams_are_what_the_case_says(name: str, index: int, key: str, value: object, corpus: Path) -> None:
    assert stream_of(corpus / name, index)[key] == value


@needs_ffprobe
@pytest.mark.parametrize(("name", "degrees"), [("rotated_90.mp4", -90), ("rotated_270.mp4", 90)])
def test_turned_pictures_say_by_how_much(name: str, degrees: int, corpus: Path) -> None:
    assert stream_of(corpus / name)["side_data_list"][0]["rotation"] == degrees


def test_the_encrypted_film_is_one_by_common_encryption(corpus: Path) -> None:
    content = (corpus / "damage_encrypted.mp4").read_bytes()
    assert b"encv" in content
    assert b"schm" + bytes(4) + b"cenc" in content


@needs_ffprobe
def test_webm_says_that_it_has_alpha(corpus: Path) -> None:
    tags = stream_of(corpus / "samples_vp9_alpha.webm")["tags"]
    assert {key.lower(): value for key, value in tags.items()}["alpha_mode"] == "1"


def test_timestamps_are_missing_repeated_or_jump_where_the_case_says_so(corpus: Path) -> None:
    def pts_of(name: str) -> list[int | None]:
        with av.open(str(corpus / name)) as source:
            return [packet.pts for packet in source.demux(video=0) if packet.size]

    assert pts_of("timing_missing.ts")[1:] == [None] * 9
    assert pts_of("timing_decoding_order.avi") == sorted(pts_of("timing_decoding_order.avi"))
    repeated = pts_of("timing_repeated.mkv")
    assert len(set(repeated)) == len(repeated) - 1
    back, ahead = sorted(pts_of("timing_jump_back.ts")), sorted(pts_of("timing_jump_ahead.ts"))
    assert len(set(back)) == len(back) // 2
    assert ahead[-1] - ahead[0] > 36_000 * 90_000


def outcome(expected: Expected) -> FileOutcome:
    corrupt = (FrameRange(0, 1, 1),) if expected.state == "damaged" else ()
    return FileOutcome(
        "in.mkv", "out.mkv", expected.state, corrupt=corrupt, num_frames=expected.num_frames or 0
    )


JUDGED = Clip(
    ticks=Ticks.every(40, 1000),
    color=ColorTags(1, 1, 1, False),
    sample_aspect_ratio=Fraction(8, 9),
    audio=(Tone("pcm_s16le", rate=8000),),
    texts=(Text("subrip"),),
    chapters=("one",),
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judged") / "out.mkv"
    write_clip(path, JUDGED)
    return path


def test_an_output_that_is_as_expected_has_no_fault(judged: Path) -> None:
    expected = replace(expected_of(JUDGED), color=JUDGED.color, starts_s=(Fraction(0),), suffixes=(".mkv",))
    assert video_faults(expected, outcome(expected), judged, 1) == []


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("num_frames", 9, "10 frames, not 9"),
        ("numbers", tuple(range(2, 12)), "frames show 1 2"),
        ("times_s", tuple(Fraction(index, 24) for index in range(10)), "frames are shown at"),
        ("hues", (140, 110), "hues are 110.0, 140.0"),
        ("alpha", True, "alpha shows"),
        ("size", (48, 32), "96x64 is not 1 times 48x32"),
        ("pixel_formats", ("yuv420p10le",), "pixels are yuv420p, not yuv420p10le"),
        ("sample_aspect_ratio", Fraction(1), "shape is 8/9"),
        ("rotation_deg", 90, "rotation_deg is 0"),
        ("color", ColorTags(9, 1, 1, False), "primaries is 1, not 9"),
        ("color", ColorTags(1, 1, 1, True), "full_range is False"),
        ("suffixes", (".mp4",), "it is a .mkv"),
        ("streams", ("audio pcm_s16le eng",), "a stream is subtitle subrip eng"),
        ("streams", ("audio aac eng", "subtitle subrip eng"), "no stream is audio aac eng"),
        ("starts_s", (Fraction(1, 5),), "sounds start at 0 s"),
        ("num_chapters", 2, "1 chapters"),
        ("told", ("interlaced",), "nobody is told"),
        ("side_data", ("A53_CC",), "do not carry A53_CC"),
    ],
)
def test_every_difference_is_a_fault(field: str, value: object, fault: str, judged: Path) -> None:
    expected = replace(expected_of(JUDGED), **{field: value})
    faults = video_faults(expected, outcome(expected_of(JUDGED)), judged, 1)
    assert any(fault in text for text in faults), faults


def test_a_state_or_a_reason_that_differs_is_a_fault(judged: Path) -> None:
    failed = FileOutcome("in.mkv", "out.mkv", "failed", reason="the disk is full")
    assert "it is failed, not done: the disk is full" in video_faults(expected_of(JUDGED), failed, judged, 1)
    wanted = Expected(state="failed", reason="encrypt")
    assert video_faults(wanted, failed, judged, 1) == ["its reason does not say 'encrypt': the disk is full"]


def test_frames_of_a_damaged_source_count_only_at_their_own_time(judged: Path) -> None:
    damaged = replace(expected_of(JUDGED), state="damaged", num_frames=None, least_frames=8)
    assert video_faults(damaged, replace(outcome(damaged), num_frames=10), judged, 1) == []
    late = replace(damaged, times_s=tuple(time + Fraction(1, 25) for time in JUDGED.times_s))
    faults = video_faults(late, replace(outcome(late), num_frames=10), judged, 1)
    assert faults == ["0 frames show their own number at their own time, not 8 at least"]
