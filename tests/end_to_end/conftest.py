"""The command line as a person runs it, in processes of its own, on a real local Ray."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared"
_MAIN = "from jobs.cli import main; main()"
_STEP_S = 0.05


@dataclass
class Framelift:
    """Runs `framelift` in a folder of its own."""

    folder: Path

    def __call__(self, *arguments: object, exit_code: int = 0, timeout_s: float = 280) -> str:
        """Runs it to its end, which must be `exit_code`; returns what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == exit_code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def kill_when(self, is_time: Callable[[], bool], *arguments: object, timeout_s: float = 200) -> None:
        """Starts it, and ends it with SIGKILL as soon as `is_time`."""
        process = self.start(*arguments)
        deadline_s = time.monotonic() + timeout_s
        while not is_time():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline_s, "the time to kill it never came"
            time.sleep(_STEP_S)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Starts it in the background."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def command(self, *arguments: object) -> list[str]:
        """What starts it."""
        return [sys.executable, "-c", _MAIN, *map(str, arguments)]


@pytest.fixture
def framelift(tmp_path: Path) -> Framelift:
    return Framelift(tmp_path)


def worker_pids(driver_pid: int) -> list[int]:
    """The processes of a driver's workers. Ray names an actor's process after its class."""
    return [pid for pid in _descendants(driver_pid) if "WorkerActor" in _command_line(pid)]


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    direct = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [*direct, *(below for child in direct for below in _descendants(child))]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def sha256s(folder: Path) -> dict[str, str]:
    """Of every output below `folder`, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".framelift" not in path.parts and path.name != "report.json"
    }


def receipts(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of every receipt of a segment, by name."""
    found = {}
    for path in (folder / ".framelift" / "receipts").glob("*.json"):
        found[path.name] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
