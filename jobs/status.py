"""`framelift status`: how far a job is, from what lies in its output alone."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.inputs import state_folder
from cluster.places import place_of
from cluster.report import Snapshot
from cluster.status import FileStatus, JobStatus, read_status
from cluster.storage import open_storage
from jobs.view import console, duration_text, files_text, frames_text, printable
from sr_core.errors import SpecError

_DEAD_AFTER_S = 60.0


def status(output_url: str, *, as_json: bool = False) -> int:
    """Prints how far the job that writes to `output_url` is.

    Raises:
        SpecError: No job has written there.
    """
    found = _read(output_url)
    if found.snapshot is None and not found.files:
        raise SpecError(
            "no job has written here", where=output_url, next_step="give the OUT of a 'framelift upscale'"
        )
    if as_json:
        print(status_json(found, time.time()))
    else:
        show_status(found, time.time(), console())
    return 0


def is_dead(snapshot: Snapshot, now_s: float) -> bool:
    """Whether a run neither ended nor gave a sign of life for a minute."""
    return snapshot.state in ("starting", "running") and now_s - snapshot.updated_s > _DEAD_AFTER_S


def status_json(found: JobStatus, now_s: float) -> str:
    """The status as indented JSON, with `looks_dead` beside it."""
    looks_dead = found.snapshot is not None and is_dead(found.snapshot, now_s)
    return json.dumps({"looks_dead": looks_dead, **asdict(found)}, indent=2)


def show_status(found: JobStatus, now_s: float, to: Console) -> None:
    """Prints a table of the files and how the last run is."""
    to.print(_table(found.files))
    if found.snapshot is None:
        to.print(Text("no run has told how far it is"))
        return
    for line in _run_lines(found.snapshot, now_s):
        to.print(Text(line))


def _table(files: tuple[FileStatus, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("state")
    table.add_column("file", overflow="fold")
    for name in ("segments", "frames"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for file in files:
        segments = f"{file.num_segments_done}/{file.num_segments}" if file.num_segments else ""
        frames = f"{file.num_frames_done}/{file.num_frames}" if file.num_frames else ""
        table.add_row(file.state, Text(printable(file.name)), segments, frames, Text(printable(file.reason)))
    return table


def _run_lines(snapshot: Snapshot, now_s: float) -> list[str]:
    ago = duration_text(max(0.0, now_s - snapshot.updated_s))
    run = f"run {printable(snapshot.run_id)} of job {printable(snapshot.job_id)}"
    lines = [f"{run}: {files_text(snapshot)}, {frames_text(snapshot)}"]
    if is_dead(snapshot, now_s):
        return [
            *lines,
            f"it looks dead: its last sign of life was {ago} ago; the same command goes on from here",
        ]
    state = f"{snapshot.state}, {ago} ago after {duration_text(snapshot.elapsed_s)}"
    if snapshot.state == "running":
        speed = f"{snapshot.frames_per_second:.1f} fps with {snapshot.num_workers} workers"
        eta = "" if snapshot.eta_s is None else f", ETA {duration_text(snapshot.eta_s)}"
        state = f"running, heard of {ago} ago, {speed}{eta}"
    return [*lines, state]


def _read(output_url: str) -> JobStatus:
    """The one call into the cluster."""
    return read_status(open_storage(state_folder(place_of(output_url)).url))
