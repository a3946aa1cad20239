"""Previews of real clips, seen again through FFmpeg."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from cluster.job import Job, ModelRef, VideoSettings
from jobs.cli import main
from jobs.sample import SAMPLE
from sr_core.archs.compact import Compact, CompactConfig
from tests.cluster.test_worker import run as run_job
from tests.cluster.video.clips import MIXED_FIELDS, MPEG2_FIELDS, flagged, write_clip

START_S, NUM_FRAMES = 1.0, 5  # of 24 a second
LABEL_PX = 36  # of pictures of 720 lines
PANEL = (720, 1280)

Luma = np.ndarray[Any, Any]


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(tuple(map(str, arguments)))
    return ended.value.code


def weights(folder: Path) -> Path:
    torch.manual_seed(3)
    path = folder / "tiny.pth"
    torch.save(Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict(), path)
    return path


def lumas(path: Path, start_s: float = 0.0) -> list[Luma]:
    with av.open(str(path)) as clip:
        frames = [frame for frame in clip.decode(video=0) if frame.time is not None and frame.time >= start_s]
        return [np.asarray(_luma(frame), np.float32) for frame in frames]


def _luma(frame: Any) -> Luma:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width]


def probed(path: Path) -> dict[str, Any]:
    if shutil.which("ffprobe") is None:
        pytest.skip("needs ffprobe")
    asked = ("-v", "error", "-count_frames", "-show_streams", "-of", "json", str(path))
    said = subprocess.run(["ffprobe", *asked], capture_output=True, check=True).stdout
    (stream,) = json.loads(said)["streams"]
    return dict(stream)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bicubic x4, nearest x4 and a network x2 side by side."""
    folder = tmp_path_factory.mktemp("preview")
    models = ("--model", "nearest", "--model", weights(folder), "--scale", 4)
    assert run("preview", SAMPLE, *models, "--out", folder / "refused.mp4") == 2  # the network's scale is 2
    out = folder / "preview.mp4"
    code = (
        "preview",
        SAMPLE,
        *("--model", "nearest"),
        *("--model", weights_x4(folder), "--model", weights(folder)),
        *("--start", START_S, "--seconds", NUM_FRAMES / 24, "--device", "cpu", "--out", out),
    )
    assert run(*code) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["preview.mp4", "tiny.pth", "x4.pth"]
    return out


def weights_x4(folder: Path) -> Path:
    torch.manual_seed(4)
    torch.save(Compact(CompactConfig(num_feat=4, num_conv=1, scale=4)).state_dict(), folder / "x4.pth")
    return folder / "x4.pth"


def test_it_has_the_frames_of_the_range_from_zero_on_and_a_picture_for_each_model(made: Path) -> None:
    stream = probed(made)
    assert stream["codec_type"] == "video"
    assert int(stream["nb_read_frames"]) == NUM_FRAMES
    assert (stream["width"], stream["height"]) == (4 * PANEL[1], LABEL_PX + PANEL[0])
    assert float(stream["start_time"]) == 0.0
    assert float(stream["duration"]) == pytest.approx(NUM_FRAMES / 24, abs=0.002)


def test_every_picture_is_the_clip_of_that_time_below_its_own_label(made: Path) -> None:
    shown, source = lumas(made), lumas(SAMPLE, START_S)[:NUM_FRAMES]
    assert len(shown) == NUM_FRAMES
    for frame, lr_frame in zip(shown, source, strict=True):
        panels = np.split(frame, 4, axis=1)
        labels = [panel[:LABEL_PX] for panel in panels]
        for label in labels:
            assert label.min() <= 20
            assert label.max() > 150
        assert not any(np.array_equal(labels[0], label) for label in labels[1:])
        bicubic, nearest, *networks = (panel[LABEL_PX:] for panel in panels)
        assert np.abs(nearest - lr_frame.repeat(4, axis=0).repeat(4, axis=1)).mean() < 1.0
        assert 0.5 < np.abs(bicubic - nearest).mean() < 10.0
        for picture in networks:  # that add small noise to what they were given
            assert 0.5 < np.abs(picture - nearest).mean() < 60.0


def test_it_tells_which_panel_is_which_and_how_fast_each_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    arguments = ("--model", weights(tmp_path), "--seconds", 0.1, "--device", "cpu", "--out", out)
    assert run("preview", SAMPLE, *arguments) == 0
    head, *rows, end = capsys.readouterr().out.splitlines()
    assert head.split() == ["panel", "model", "scale", "runs", "in", "frames/s", "ms/frame"]
    panels = [row.split() for row in rows]
    assert [panel[:3] for panel in panels] == [["1", "bicubic", "x2"], ["2", "tiny.pth", "x2"]]
    for *_, fps, milliseconds in panels:
        assert float(fps) == pytest.approx(1000 / float(milliseconds), rel=0.05)
    assert end.startswith(f"{out}: h264 1280x384, 3 frames, from 0.000 to 0.125 s")


def test_odd_frames_are_not_resized(tmp_path: Path) -> None:
    clip = Path(__file__).parents[2].parent / "shared/data/video/odd_size_161x121_vp9.webm"
    if not clip.exists():
        pytest.skip(f"needs {clip.name}")
    out = tmp_path / "out.mp4"
    options = ("--model", "nearest", "--scale", 1, "--start", 0.1, "--seconds", 0.05, "--out", out)
    assert run("preview", clip, *options) == 0
    frame, lr_frame = lumas(out)[0], lumas(clip, 0.1)[0]
    assert frame.shape == (24 + 122, 2 * 162)
    picture = frame[24:145, 162:323]
    moved = np.abs(picture[:, 1:] - lr_frame[:, :-1]).mean()
    assert np.abs(picture - lr_frame).mean() < moved / 3


def test_of_interlaced_clips_it_shows_the_frames_of_a_job(tmp_path: Path) -> None:
    clip = tmp_path / "still.mkv"
    write_still_fields(clip)
    of_job, shown = of_job_and_shown(clip, 10, tmp_path)
    assert np.ptp(of_job[0], axis=0).max() > 100  # rows that one field alone does not tell
    for frame, job_frame in zip(shown, of_job, strict=True):
        assert np.abs(frame - job_frame).max() < 40  # what the preview's codec loses


def test_it_deinterlaces_where_a_clip_is_interlaced_only_in_places(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, MIXED_FIELDS)
    of_job, shown = of_job_and_shown(clip, 12, tmp_path)
    woven = lumas(clip)[12 + NUM_FRAMES - 1].repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(woven - of_job[-1]).max() > 100
    for frame, job_frame in zip(shown, of_job, strict=True):
        assert np.abs(frame - job_frame).max() < 40


def of_job_and_shown(clip: Path, first: int, folder: Path) -> tuple[list[Luma], list[Luma]]:
    """Frames of `clip`, which has 25 a second, from number `first` on through nearest x2."""
    lossless = VideoSettings(preset="ultrafast", quality="lossless")
    (outcome,) = run_job(clip, folder / "job", Job(ModelRef("nearest"), scale=2, video=lossless)).outcomes
    assert outcome.state == "done"
    of_job, out = lumas(folder / "job" / clip.name)[first : first + NUM_FRAMES], folder / "out.mp4"
    times = ("--start", first / 25, "--seconds", NUM_FRAMES / 25)
    assert run("preview", clip, "--model", "nearest", "--scale", 2, *times, "--out", out) == 0
    height, width = of_job[0].shape
    return of_job, [frame[-height:, width:] for frame in lumas(out)]


def write_still_fields(path: Path) -> None:
    """Interlaced frames that are all alike, with rows of which each is dark or bright."""
    rows = np.random.default_rng(7).choice(np.array([60, 190], np.uint8), 64)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("mpeg2video", rate=25, options={**MPEG2_FIELDS, "b": "20000000"})
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((96, 160), 128, np.uint8), format="yuv420p")
            luma: Any = frame.planes[0]
            np.frombuffer(luma, np.uint8).reshape(64, -1)[:] = rows[:, None]
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(flagged(frame, "tff")))
        output.mux(stream.encode(None))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_preview_that_is_ended_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    out, temporary = tmp_path / "out" / "a.mp4", tmp_path / "tmp"
    temporary.mkdir()
    options = ("--model", "nearest", "--scale", "4", "--device", "cpu", "--out", str(out))
    code = "import sys; from jobs.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, "preview", str(SAMPLE), *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        while not list(temporary.glob("*/a.mp4")):  # it is at work
            assert process.poll() is None
            time.sleep(0.02)
        assert not list(out.parent.iterdir())  # so that nothing stays there even after SIGKILL
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 130
    assert not list(out.parent.iterdir())
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--start", "60"), "ends before the preview begins"),
        (("--out", "there.mp4"), "something stands there already"),
        (("--out", "out.webm"), "a preview is an mp4"),
        (("--out", "s3://bucket/out.mp4"), "lies on this machine"),
        (("--model", "bicubicle"), "did you mean 'bicubic'"),
    ],
)
def test_what_cannot_be_shown_is_told_and_nothing_is_left(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.mp4").write_bytes(b"mine")
    assert run("preview", SAMPLE, "--model", "nearest", "--seconds", "0.1", *arguments) == 2
    assert said in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"there.mp4": b"mine"}


def test_more_pictures_than_a_frame_can_hold_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with av.open(str(tmp_path / "wide.mp4"), "w") as clip:
        stream: Any = clip.add_stream("libx264", rate=24)
        stream.width, stream.height = 2048, 64
        clip.mux(stream.encode(av.VideoFrame(2048, 64, "yuv420p")))
        clip.mux(stream.encode(None))
    out = tmp_path / "out.mp4"
    assert run("preview", tmp_path / "wide.mp4", "--model", "nearest", "--scale", 16, "--out", out) == 2
    said = capsys.readouterr().err
    assert "holds so many pictures side by side" in said
    assert "65536x1076" in said
    assert not out.exists()


def test_a_folder_is_no_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("preview", tmp_path, "--model", "nearest", "--out", tmp_path / "out.mp4") == 2
    assert "a preview shows one video" in capsys.readouterr().err


def test_a_preview_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    options = ("--model", "nearest", "--seconds", 0.04, "--out", out)
    assert run("preview", SAMPLE, *options) == 2
    assert run("preview", SAMPLE, *options, "--overwrite") == 0
    assert len(lumas(out)) == 1
