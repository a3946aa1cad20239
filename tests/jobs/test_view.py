from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from cluster.report import FileOutcome, FrameRange, JobReport, Snapshot, SnapshotState
from jobs.view import (
    LiveView,
    LogView,
    duration_text,
    files_text,
    frames_text,
    printable,
    progress_view,
    show_summary,
    told_lines,
    totals_text,
)

SNAPSHOT = Snapshot(
    run_id="r",
    job_id="j",
    state="running",
    updated_s=1000.0,
    elapsed_s=65.0,
    num_files=10,
    num_files_done=3,
    num_files_skipped=1,
    num_files_damaged=1,
    num_files_failed=2,
    num_files_probed=9,
    num_segments=40,
    num_segments_done=20,
    num_frames=4000,
    num_frames_done=1000,
    frames_per_second=12.5,
    eta_s=240.0,
    slowest_stage="network",
    num_workers=2,
    current=("a.mp4", "b[bold].mkv", "c.mp4", "d.mp4", "e.mp4", "f.mp4"),
)
REPORT = JobReport(
    job_id="j",
    run_id="r",
    started_s=0.0,
    seconds=10.0,
    outcomes=(
        FileOutcome("a.mp4", "a.mp4", "done", told=("colour assumed", "cover dropped"), num_frames=100),
        FileOutcome("b.mp4", "b.mp4", "done", told=("colour assumed",), num_frames=100),
        FileOutcome("c.mp4", "c.mp4", "skipped", num_frames=999),
        FileOutcome(
            "d.mp4",
            "d.mp4",
            "damaged",
            reason="bits flipped",
            missing=(FrameRange(1.0, 2.0, 24), FrameRange(3.0, 3.5, 12)),
            num_frames=50,
        ),
        FileOutcome("e\x1b[31m.mp4", "e.mp4", "failed", reason="there is no video in it"),
    ),
)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def summary(report: JobReport) -> str:
    stream = io.StringIO()
    show_summary(
        report,
        "model: fast-x2 (none is named)",
        "out/.framelift/report.json",
        Console(file=stream, width=120),
    )
    return stream.getvalue()


def test_log_shows_first_then_every_ten_seconds_then_last() -> None:
    stream, clock = io.StringIO(), Clock()
    with LogView(stream, clock) as view:
        for second in range(26):
            clock.now_s = 100.0 + second
            view.update(replace(SNAPSHOT, num_frames_done=second))
    frames = [line.split("files (")[1].split(", ")[3] for line in stream.getvalue().splitlines()]
    assert frames == ["0/4000 frames", "10/4000 frames", "20/4000 frames", "25/4000 frames"]


def test_log_does_not_repeat_its_last_line() -> None:
    stream = io.StringIO()
    with LogView(stream, Clock()) as view:
        view.update(SNAPSHOT)
    assert stream.getvalue().count("\n") == 1


def test_log_line_says_files_frames_speed_time_left_and_slowest_stage() -> None:
    stream = io.StringIO()
    with LogView(stream, Clock()) as view:
        view.update(SNAPSHOT)
    assert stream.getvalue().split(" ", 2)[2] == (
        "running: 7/10 files (1 done before, 1 damaged, 2 failed), 1000/4000 frames, 12.5 fps, "
        "ETA 0:04:00, slowest stage network, 2 workers\n"
    )


def test_live_view_shows_one_picture_with_plain_file_names() -> None:
    stream = io.StringIO()
    with LiveView(Console(file=stream, force_terminal=True, width=120)) as view:
        view.update(SNAPSHOT)
    text = stream.getvalue()
    for shown in ("7/10 files", "1000/4000 frames", " 25%", "12.5 fps", "0:04:00", "slowest stage network"):
        assert shown in text
    assert "a.mp4, b[bold].mkv, c.mp4, d.mp4 and 2 more" in text


def test_view_of_a_job_without_frames_yet_does_not_divide_by_zero() -> None:
    empty = replace(SNAPSHOT, num_frames=0, num_frames_done=0, frames_per_second=0.0, eta_s=None, current=())
    with LiveView(Console(file=io.StringIO(), force_terminal=True)) as view:
        view.update(empty)


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_log_line_of_a_job_that_has_ended_promises_nothing(state: SnapshotState) -> None:
    stream = io.StringIO()
    with LogView(stream, Clock()) as view:
        view.update(replace(SNAPSHOT, state=state))
    assert f" {state}: " in stream.getvalue()
    assert "ETA" not in stream.getvalue()
    assert "workers" not in stream.getvalue()


def test_output_that_is_no_terminal_gets_log_lines() -> None:
    assert isinstance(progress_view(io.StringIO()), LogView)


def test_frames_of_files_not_probed_yet_are_marked_as_open() -> None:
    assert frames_text(replace(SNAPSHOT, num_files_probed=4)) == "1000/4000+ frames"
    assert frames_text(replace(SNAPSHOT, num_files_probed=4, state="finished")) == "1000/4000 frames"
    assert files_text(replace(SNAPSHOT, num_files_skipped=0, num_files_damaged=0, num_files_failed=0)) == (
        "3/10 files"
    )


def test_durations_read_as_hours_minutes_seconds() -> None:
    assert [duration_text(seconds) for seconds in (0.4, 59.6, 3725)] == ["0:00:00", "0:01:00", "1:02:05"]


def test_summary_lists_what_is_not_well_with_its_reason_and_nothing_else() -> None:
    text = summary(REPORT)
    assert "36 frames missing at 1.000-2.000 s, 3.000-3.500 s" in text
    assert "there is no video in it" in text
    assert "b.mp4" not in text
    assert "\nmodel: fast-x2 (none is named)\n" in text
    assert text.rstrip().endswith("report: out/.framelift/report.json")


def test_summary_counts_only_frames_of_this_run() -> None:
    assert totals_text(REPORT) == (
        "2 done, 1 done before, 1 damaged, 1 failed; 250 frames in 0:00:10 (25.0 fps)"
    )


def test_equal_notes_are_told_once_with_their_number() -> None:
    assert told_lines(REPORT.outcomes) == ["colour assumed (2 files)", "cover dropped (a.mp4)"]


def test_summary_says_why_a_job_stopped() -> None:
    assert "stopped: the disk is full" in summary(replace(REPORT, stopped="the disk is full"))


def test_names_cannot_steer_the_terminal() -> None:
    assert "\x1b[31m" not in summary(REPORT)
    assert printable("a\x1b[31m\udcff\n") == "a�[31m��"
