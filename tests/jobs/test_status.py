from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

import jobs.status
from cluster.report import SnapshotState
from jobs.status import FileStatus, JobStatus, is_dead, show_status, status, status_json
from sr_core.errors import SpecError
from tests.jobs.test_view import SNAPSHOT

FILES = (
    FileStatus("a.mp4", "done", num_segments=2, num_segments_done=2, num_frames=48, num_frames_done=48),
    FileStatus("b.mp4", "running", num_segments=4, num_segments_done=1, num_frames=96, num_frames_done=24),
    FileStatus("c.mp4", "failed", reason="there is no video in it"),
    FileStatus("d.mp4", "waiting"),
)


def shown(found: JobStatus, now_s: float) -> str:
    stream = io.StringIO()
    show_status(found, now_s, Console(file=stream, width=160))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("state", "silent_s", "dead"),
    [
        ("running", 59.0, False),
        ("running", 61.0, True),
        ("starting", 61.0, True),
        ("finished", 9999.0, False),
        ("stopped", 9999.0, False),
    ],
)
def test_run_is_dead_after_a_minute_of_silence_unless_it_ended(
    state: SnapshotState, silent_s: float, dead: bool
) -> None:
    snapshot = replace(SNAPSHOT, state=state)
    assert is_dead(snapshot, snapshot.updated_s + silent_s) is dead


def test_every_file_is_shown_with_its_state_and_progress() -> None:
    lines = shown(JobStatus(SNAPSHOT, FILES), SNAPSHOT.updated_s + 3).splitlines()
    assert [line.split() for line in lines[1:5]] == [
        ["done", "a.mp4", "2/2", "48/48"],
        ["running", "b.mp4", "1/4", "24/96"],
        ["failed", "c.mp4", "there", "is", "no", "video", "in", "it"],
        ["waiting", "d.mp4"],
    ]
    assert lines[-1].strip() == "running, heard of 0:00:03 ago, 12.5 fps with 2 workers, ETA 0:04:00"


def test_dead_run_is_called_dead_with_what_to_do() -> None:
    text = shown(JobStatus(SNAPSHOT, ()), SNAPSHOT.updated_s + 3600)
    assert "it looks dead: its last sign of life was 1:00:00 ago; the same command goes on" in text


def test_state_without_any_run_is_shown() -> None:
    assert "no run has told how far it is" in shown(JobStatus(None, FILES), 0.0)


def test_json_holds_all_and_whether_it_looks_dead() -> None:
    told = json.loads(status_json(JobStatus(SNAPSHOT, FILES), SNAPSHOT.updated_s + 61))
    assert told["looks_dead"] is True
    assert told["snapshot"]["num_frames_done"] == 1000
    assert [file["name"] for file in told["files"]] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]


def test_folder_that_no_job_wrote_to_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.status, "_read", lambda output: JobStatus(None, ()))
    with pytest.raises(SpecError, match="no job has written here"):
        status("somewhere")
