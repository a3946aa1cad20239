from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import jobs.plan
from cluster.inputs import find_inputs
from cluster.job import ImageSettings, Job, ModelRef, VideoSettings
from cluster.plan import DeviceClass, JobPlan, fix_settings
from cluster.plan_video import plan_video
from cluster.video.probe import probe
from jobs.models import Choice
from jobs.plan import Estimate, PlannedFile, PlannedJob, plan, show_plan
from jobs.sample import SAMPLE
from jobs.spec import UpscaleSpec

WAITING = PlannedFile(
    source="a.mp4",
    output="a.mp4",
    state="waiting",
    source_video="h264 320x180 yuv420p 24 fps",
    output_video="h264 640x360 yuv420p",
    num_frames=72,
    num_segments=1,
    duration_s=3.0,
    told=("colour assumed",),
)
FAILED = PlannedFile("b.mp4", "b.mp4", "failed", reason="there is no video in it")
DONE = PlannedFile("c.mp4", "c.mp4", "skipped")
MODEL = Choice("fast-x2", "none is named")
JOB = PlannedJob("j", MODEL, (WAITING, FAILED, DONE), ("notes.txt",), Estimate(2, 24.0, 3.0, "network"))


def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: PlannedJob, *, as_json: bool) -> int:
    (tmp_path / "a.mp4").write_bytes(SAMPLE.read_bytes())
    monkeypatch.setattr(jobs.plan, "_plan", lambda request, model, inputs, workers: job)
    spec = UpscaleSpec(input=str(tmp_path / "a.mp4"), output=str(tmp_path / "out"))
    return plan(spec, as_json=as_json)


def test_plan_shows_what_is_done_with_each_file_and_the_totals() -> None:
    stream = io.StringIO()
    show_plan(JOB, Console(file=stream, width=160))
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert lines == [
        "file is becomes frames length segments",
        "a.mp4 h264 320x180 yuv420p 24 fps h264 640x360 yuv420p 72 0:00:03 1",
        "b.mp4 cannot be done: there is no video in it",
        "c.mp4 done before",
        "note: a.mp4: colour assumed",
        "note: 1 files are neither videos nor images by their names: notes.txt",
        "model: fast-x2 (none is named)",
        "1 files to do with 72 frames in 1 segments; 1 done before, 1 cannot be done",
        "estimate: 0:00:03 at 24.0 fps with 2 workers; network is the bottleneck",
    ]


def test_plan_as_json_holds_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(monkeypatch, tmp_path, JOB, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [file["state"] for file in told["files"]] == ["waiting", "failed", "skipped"]
    assert told["estimate"]["slowest_stage"] == "network"
    assert told["model"] == {"name": "fast-x2", "why": "none is named"}


def test_plan_exits_with_3_where_an_input_cannot_be_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert planned(monkeypatch, tmp_path, JOB, as_json=False) == 3
    assert planned(monkeypatch, tmp_path, PlannedJob("j", MODEL, (WAITING,)), as_json=False) == 0


def test_planned_file_says_what_the_source_is_and_what_it_becomes(tmp_path: Path) -> None:
    inputs = find_inputs(str(SAMPLE), str(tmp_path), VideoSettings(), ImageSettings())
    job = Job(ModelRef("lanczos"), scale=3)
    job_plan = JobPlan(job, fix_settings(job, DeviceClass("cpu", "x", False, {})))
    with SAMPLE.open("rb") as file:
        info, timeline = probe(file, "sample.mp4")
    file_plan = PlannedFile.of(plan_video(job_plan, inputs.inputs[0], info, timeline, None))
    assert (file_plan.source, file_plan.output, file_plan.state) == ("sample.mp4", "sample.mp4", "waiting")
    assert file_plan.source_video == "h264 320x180 yuv420p 24 fps"
    assert file_plan.output_video == "h264 960x540 yuv420p"
    assert (file_plan.num_frames, file_plan.num_segments, file_plan.duration_s) == (72, 1, 3.0)
