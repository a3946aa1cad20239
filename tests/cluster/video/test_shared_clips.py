"""The same claims over real files, where the shared clips are present."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cluster.video.verify import verify
from tests.cluster.video.clips import SHARED
from tests.cluster.video.joining import split_and_join

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="needs the shared clips")

NAMES = (
    "bbb_480x360_24fps_h264_aac.mp4",
    "vfr_irregular_640x360_h264_aac.mp4",
    "hevc_main10_720x480_aac.mp4",
    "multi_audio_subs_chapters_cover.mkv",
    "vp9_opus_540x360.webm",
    "full_range_bt709_720p.mp4",
    "odd_size_161x121_vp9.webm",
    "nasa_2video_2audio_2subs.mp4",
    "phone_rotated90_h264_aac.mp4",
    "anamorphic_sar27x64_h264_aac12k.mp4",
    "prores422_10bit_pcm24.mov",
    "h264_aac.flv",
    "fragmented_h264_aac.mp4",
)


def probed(path: Path) -> dict[str, Any]:
    """What ffprobe says, which shares no code with the project."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_packets", str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def times_of(found: dict[str, Any], index: int) -> list[Fraction]:
    clock = Fraction(next(s["time_base"] for s in found["streams"] if s["index"] == index))
    packets = [p for p in found["packets"] if p["stream_index"] == index and "D" not in p["flags"]]
    return sorted(int(packet["pts"]) * clock for packet in packets if "pts" in packet)


def sizes_of(found: dict[str, Any], index: int) -> list[str]:
    return [p["size"] for p in found["packets"] if p["stream_index"] == index]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")
@pytest.mark.parametrize("name", NAMES)
def test_real_files_keep_frames_times_and_sound(name: str, tmp_path: Path) -> None:
    joined = split_and_join(SHARED / name, tmp_path)
    verify(joined.path, joined.encode, joined.pts, joined.result)

    before, after = probed(SHARED / name), probed(joined.path)
    video = joined.video.stream_index
    clock = Fraction(next(s["time_base"] for s in after["streams"] if s["index"] == video))
    times = list(zip(times_of(before, video), times_of(after, video), strict=True))
    assert max(abs(a - b) for a, b in times) <= (clock / 2 if joined.path.suffix in (".mkv", ".webm") else 0)
    for stream in before["streams"]:
        if stream["codec_type"] == "audio" and not stream["codec_name"].startswith("pcm"):
            index = stream["index"]
            assert sizes_of(after, index) == sizes_of(before, index)
            pairs = list(zip(times_of(before, index), times_of(after, index), strict=True))
            assert max(abs(a - b) for a, b in pairs) < Fraction(1, 1000)
