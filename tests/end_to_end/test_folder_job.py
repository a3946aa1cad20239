"""A folder of real videos and images, from the command line, judged by FFmpeg and Pillow alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.sample import SAMPLE
from tests.end_to_end import independent
from tests.end_to_end.conftest import SHARED, Framelift
from tests.end_to_end.independent import check_output

FOLDERS = (SHARED / "data" / "video", SHARED / "data" / "images_misc")
NOT_DONE = {
    "corrupted_h264.mp4": "damaged",
    "not_an_image.png": "failed",
    "truncated.jpg": "damaged",
    "truncated_at_55pct.mp4": "damaged",
}

pytestmark = [
    pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs ffmpeg and ffprobe"),
    pytest.mark.slow,
]


def test_the_first_command_of_the_readme_makes_a_good_file(framelift: Framelift) -> None:
    out = framelift.folder / "sample_x2.mp4"
    framelift("upscale", SAMPLE, out)
    assert check_output(SAMPLE, out, 2) == []


@pytest.mark.skipif(not all(folder.exists() for folder in FOLDERS), reason="needs the shared data")
@pytest.mark.timeout(1800)
def test_a_folder_of_real_videos_and_images_comes_out_whole(
    framelift: Framelift, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = framelift.folder / "in", framelift.folder / "out"
    folder.mkdir()
    sources = [path for shared in FOLDERS for path in shared.iterdir()]
    for path in sources:
        (folder / path.name).symlink_to(path)
    settings = ("--model", "lanczos", "--preset", "ultrafast")
    framelift("upscale", folder, out, *settings, exit_code=3, timeout_s=1200)

    assert states(out) == {path.name: NOT_DONE.get(path.name, "done") for path in sources}
    judged = independent.main([str(folder), str(out), "--scale", "2", "--exit-code", "3"])
    assert judged == 0, capsys.readouterr().out

    framelift("upscale", folder, out, *settings, exit_code=3, timeout_s=300)
    again = states(out)
    assert {name for name, state in again.items() if state != "skipped"} == {"not_an_image.png"}


def states(out: Path) -> dict[str, str]:
    report = json.loads((out / "report.json").read_text())
    return {outcome["source"]: outcome["state"] for outcome in report["outcomes"]}
