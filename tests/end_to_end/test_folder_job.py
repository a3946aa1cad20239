"""A folder of real videos, from the command line, judged by FFmpeg alone."""

from __future__ import annotations

import json
import shutil

import pytest

from jobs.sample import SAMPLE
from tests.end_to_end.conftest import SHARED, Framelift
from tests.end_to_end.independent import check_output

VIDEO = SHARED / "data" / "video"
CLIPS = (
    "bbb_1080p60_h264_aac51.mp4",
    "bbb_480x360_24fps_h264_aac.mp4",
    "cars_12.5fps_h264_aac.mp4",
    "dog_640x360_h264.mp4",
    "elf_h264_aac.mp4",
    "full_range_bt709_720p.mp4",
    "h264_10bit_200x200.mp4",
    "hevc_main10_720x480_aac.mp4",
    "multi_audio_subs_chapters_cover.mkv",
    "vfr_irregular_640x360_h264_aac.mp4",
    "vp9_opus_540x360.webm",
)
# What is written where a source does not say.
SD = {"range": "tv", "matrix": "smpte170m", "primaries": "smpte170m", "transfer": "smpte170m"}
HD = {"range": "tv", "matrix": "bt709", "primaries": "bt709", "transfer": "bt709"}

pytestmark = [
    pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs ffmpeg and ffprobe"),
    pytest.mark.slow,
]


def test_the_first_command_of_the_readme_makes_a_good_file(framelift: Framelift) -> None:
    out = framelift.folder / "sample_x2.mp4"
    framelift("upscale", SAMPLE, out)
    assert check_output(SAMPLE, out, 2) == []


@pytest.mark.skipif(not VIDEO.exists(), reason="needs the shared data")
@pytest.mark.timeout(600)
def test_a_folder_of_real_videos_comes_out_whole(framelift: Framelift) -> None:
    folder, out = framelift.folder / "in", framelift.folder / "out"
    folder.mkdir()
    for name in CLIPS:
        (folder / name).symlink_to(VIDEO / name)
    framelift("upscale", folder, out, "--model", "lanczos", "--preset", "ultrafast", timeout_s=550)
    faults = {
        name: check_output(folder / name, out / name, 2, expected_color=HD if "1080p" in name else SD)
        for name in CLIPS
    }
    assert {name: found for name, found in faults.items() if found} == {}
    report = json.loads((out / "report.json").read_text())
    assert [outcome["state"] for outcome in report["outcomes"]] == ["done"] * len(CLIPS)
    assert "11 done before" in framelift("upscale", folder, out, "--preset", "ultrafast")
