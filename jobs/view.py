"""What a person sees of a running job, and of how it went."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.report import FileOutcome, FrameRange, JobReport, Snapshot

_LOG_EVERY_S = 10.0
_NUM_CURRENT_SHOWN = 4
_NUM_RANGES_SHOWN = 3
_PLAIN_WIDTH = 200  # where lines go to a file, so that names and reasons stay on one line


class ProgressView(Protocol):
    """Shows a running job while its `with` block lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, snapshot: Snapshot) -> None:
        """Shows the job as it is now."""


def progress_view(stream: TextIO | None = None) -> ProgressView:
    """A live view where `stream` (by default stderr) is a terminal, else log lines."""
    stream = stream or sys.stderr
    console = Console(file=stream, highlight=False)
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else LogView(stream)


class _Warnings(logging.Handler):
    """Shows what goes wrong on the way, above the picture or between the lines."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def __enter__(self) -> None:
        logging.getLogger("cluster").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("cluster").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        self._show(f"{when} {record.levelname.lower()}: {printable(record.getMessage())}")


class LiveView:
    """One picture of the job that is drawn again and again in its place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._warnings = _Warnings(lambda line: console.print(Text(line)))

    def __enter__(self) -> Self:
        self._live.start()
        self._warnings.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._warnings.__exit__()
        self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """See `ProgressView.update`."""
        self._live.update(_picture(snapshot))


class LogView:
    """A line at the start, at the end, and now and then between."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._latest: Snapshot | None = None
        self._shown: Snapshot | None = None
        self._next_s = clock()
        self._warnings = _Warnings(lambda line: print(line, file=stream, flush=True))

    def __enter__(self) -> Self:
        self._warnings.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._warnings.__exit__()
        if self._latest is not None and self._latest is not self._shown:
            self._show(self._latest)

    def update(self, snapshot: Snapshot) -> None:
        """See `ProgressView.update`."""
        self._latest = snapshot
        if self._clock() >= self._next_s:
            self._next_s = self._clock() + _LOG_EVERY_S
            self._show(snapshot)

    def _show(self, snapshot: Snapshot) -> None:
        self._shown = snapshot
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.updated_s))
        line = f"{when} {snapshot.state}: {', '.join((files_text(snapshot), *_facts(snapshot)))}"
        print(line, file=self._stream, flush=True)


def files_text(snapshot: Snapshot) -> str:
    """How many files are through, and how many of them not well."""
    through = (
        snapshot.num_files_done
        + snapshot.num_files_skipped
        + snapshot.num_files_damaged
        + snapshot.num_files_failed
    )
    kinds = {
        "done before": snapshot.num_files_skipped,
        "damaged": snapshot.num_files_damaged,
        "failed": snapshot.num_files_failed,
    }
    notes = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if number)
    return f"{through}/{snapshot.num_files} files" + (f" ({notes})" if notes else "")


def frames_text(snapshot: Snapshot) -> str:
    """How many frames are made, of those that are known so far."""
    unknown = snapshot.num_files_probed + snapshot.num_files_skipped < snapshot.num_files
    more = "+" if unknown and snapshot.state in ("starting", "running") else ""
    return f"{snapshot.num_frames_done}/{snapshot.num_frames}{more} frames"


def duration_text(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    minutes, whole_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole_s:02}"


def printable(text: str) -> str:
    """Text of any origin without what could steer a terminal or cannot be written to it."""
    return "".join(char if char.isprintable() else "�" for char in text)


def console() -> Console:
    """Where tables go: stdout, as wide as the terminal, or wide enough for whole lines in a file."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def _facts(snapshot: Snapshot) -> Iterable[str]:
    goes_on = snapshot.state in ("starting", "running")
    yield frames_text(snapshot)
    if snapshot.frames_per_second:
        yield f"{snapshot.frames_per_second:.1f} fps"
    if goes_on and snapshot.eta_s is not None:
        yield f"ETA {duration_text(snapshot.eta_s)}"
    if snapshot.slowest_stage:
        yield f"slowest stage {snapshot.slowest_stage}"
    if goes_on:
        yield f"{snapshot.num_workers} workers" if snapshot.num_workers != 1 else "1 worker"


def _picture(snapshot: Snapshot) -> Group:
    head = Text(f"Framelift {snapshot.state}", style="bold")
    head.append(f"  {files_text(snapshot)}  {duration_text(snapshot.elapsed_s)}", style="not bold")
    total = max(1, snapshot.num_frames)
    bar = ProgressBar(total=total, completed=snapshot.num_frames_done)
    share = Text(f"{min(1.0, snapshot.num_frames_done / total):4.0%}")
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(ratio=1)
    line.add_row(bar, share)
    rows: list[Text | Table] = [head, line, Text(" · ".join(_facts(snapshot)))]
    if snapshot.current:
        rows.append(Text(_current_text(snapshot), style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*rows)


def _current_text(snapshot: Snapshot) -> str:
    names = [printable(name) for name in snapshot.current[:_NUM_CURRENT_SHOWN]]
    num_more = len(snapshot.current) - len(names)
    return "now: " + ", ".join(names) + (f" and {num_more} more" if num_more else "")


def show_summary(report: JobReport, model: str, report_place: str, to: Console) -> None:
    """Prints how a job went: what is not well, what was told, and the totals.

    Args:
        report: How it went.
        model: With what, as a line.
        report_place: Where report.json lies.
        to: Where to print.
    """
    bad = [outcome for outcome in report.outcomes if outcome.state in ("damaged", "failed")]
    if bad:
        to.print(_bad_table(bad))
    for line in told_lines(report.outcomes):
        to.print(Text(f"note: {line}"))
    if report.ignored:
        names = ", ".join(printable(name) for name in report.ignored[:5])
        more = ", ..." if len(report.ignored) > 5 else ""
        to.print(
            Text(f"note: not looked at, as they are neither videos nor images by their names: {names}{more}")
        )
    if report.stopped:
        to.print(Text(f"stopped: {printable(report.stopped)}", style="bold red"))
    to.print(Text(printable(model)), soft_wrap=True)
    to.print(Text(totals_text(report)))
    to.print(Text(f"report: {printable(report_place)}"), soft_wrap=True)


def totals_text(report: JobReport) -> str:
    """Counts of files by state, frames, time and average speed, on one line."""
    counts = Counter[str](outcome.state for outcome in report.outcomes)
    names = {"done": "done", "skipped": "done before", "damaged": "damaged", "failed": "failed"}
    files = ", ".join(f"{counts[state]} {name}" for state, name in names.items() if counts[state])
    made = sum(outcome.num_frames for outcome in report.outcomes if outcome.state != "skipped")
    speed = f" ({made / report.seconds:.1f} fps)" if made and report.seconds > 0 else ""
    return f"{files or 'no files'}; {made} frames in {duration_text(report.seconds)}{speed}"


def told_lines(outcomes: Iterable[FileOutcome]) -> list[str]:
    """What must be known, each once: with its file, or with the number of files that it holds for."""
    files: dict[str, list[str]] = {}
    for outcome in outcomes:
        for line in dict.fromkeys(outcome.told):
            files.setdefault(line, []).append(outcome.source)
    return [
        f"{printable(line)} ({printable(names[0]) if len(names) == 1 else f'{len(names)} files'})"
        for line, names in files.items()
    ]


def _bad_table(outcomes: Iterable[FileOutcome]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("state", "file", "reason"):
        table.add_column(name, overflow="fold")
    for outcome in outcomes:
        style = "red" if outcome.state == "failed" else "yellow"
        reasons = [
            outcome.reason,
            _frames_text("missing", outcome.missing),
            _frames_text("damaged", outcome.corrupt),
        ]
        reason = printable("; ".join(reason for reason in reasons if reason))
        table.add_row(Text(outcome.state, style=style), Text(printable(outcome.source)), Text(reason))
    return table


def _frames_text(what: str, ranges: tuple[FrameRange, ...]) -> str:
    if not ranges:
        return ""
    shown = ", ".join(f"{part.start_s:.3f}-{part.end_s:.3f} s" for part in ranges[:_NUM_RANGES_SHOWN])
    more = f" and {len(ranges) - _NUM_RANGES_SHOWN} more" if len(ranges) > _NUM_RANGES_SHOWN else ""
    return f"{sum(part.num_frames for part in ranges)} frames {what} at {shown}{more}"
