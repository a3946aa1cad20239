"""The processes below this one."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process that cannot be taken for a later one of the same number."""

    pid: int
    start_ticks: int

    @property
    def title(self) -> str:
        """Its command line; Ray names an actor's process after its class and what it is at."""
        try:
            return (
                Path(f"/proc/{self.pid}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
                .strip()
            )
        except OSError:
            return ""

    @property
    def is_worker(self) -> bool:
        """Whether it is one of Framelift's workers."""
        return "_WorkerActor" in self.title

    @property
    def is_alive(self) -> bool:
        """Whether it still runs, or is stopped."""
        found = _stat(self.pid)
        return found is not None and found[0] == self and found[2] != "Z"

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; nothing happens where it is gone."""
        with contextlib.suppress(ProcessLookupError):
            if self.is_alive:
                os.kill(self.pid, number)

    def leave_memory(self, num_bytes: int) -> None:
        """Lets it have so much more memory than it has now; more is refused, as where a device is full."""
        with contextlib.suppress(OSError):
            in_use = int(Path(f"/proc/{self.pid}/statm").read_text().split()[0]) * resource.getpagesize()
            self._limit_memory(in_use + num_bytes)

    def give_memory(self) -> None:
        """Lets it have as much memory as there is."""
        self._limit_memory(resource.RLIM_INFINITY)

    def _limit_memory(self, num_bytes: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.is_alive:
                resource.prlimit(self.pid, resource.RLIMIT_AS, (num_bytes, resource.RLIM_INFINITY))


def below(pid: int) -> list[Process]:
    """Every living process below `pid`, parents before their children."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        found = _stat(int(entry.name)) if entry.name.isdigit() else None
        if found is not None and found[2] != "Z":
            children.setdefault(found[1], []).append(found[0])
    tree, ahead = [], [pid]
    while ahead:
        direct = children.get(ahead.pop(), [])
        tree += direct
        ahead += [process.pid for process in direct]
    return tree


def workers() -> list[Process]:
    """The workers of every run below this process."""
    return [process for process in below(os.getpid()) if process.is_worker]


def at_work() -> list[Process]:
    """Those workers that are at a task."""
    return [process for process in workers() if process.title.endswith("_WorkerActor.run")]


def wait_until_gone(processes: list[Process], seconds: float) -> list[Process]:
    """Those that are still there after so long."""
    deadline_s = time.monotonic() + seconds
    while (left := [process for process in processes if process.is_alive]) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return left


def _stat(pid: int) -> tuple[Process, int, str] | None:
    """A process, its parent and its state; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Process(pid, int(fields[19])), int(fields[1]), fields[0]
