"""A Ray head with its dashboard, in processes of its own, as the one of a cluster."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")
_START_TIMEOUT_S = 120
_STEP_S = 0.1


@dataclass(frozen=True)
class RayHead:
    """A head that runs.

    Attributes:
        address: Of its dashboard.
        folder: What it writes, below `ray`, and its `python`, in `bin`.
    """

    address: str
    folder: Path

    @contextlib.contextmanager
    def without_framelift(self) -> Iterator[None]:
        """While the block lasts, the head's `python` finds no installed packages."""
        self._write_python("-S")
        try:
            yield
        finally:
            self._write_python()

    def _write_python(self, *options: str) -> None:
        script = self.folder / "bin" / "python"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *options])} "$@"\n')
        script.chmod(0o755)


@contextlib.contextmanager
def ray_head(token: str | None = None) -> Iterator[RayHead]:
    """A head with two CPU cores that runs while the block lasts; asks for `token`, if there is one."""
    # Sockets of Ray lie below, and their paths can have no more than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        gcs_port, dashboard_port, agent_port, client_port = _free_ports(4)
        head = RayHead(f"http://127.0.0.1:{dashboard_port}", Path(folder))
        head._write_python()
        options = {
            "--port": gcs_port,
            "--dashboard-host": "127.0.0.1",
            "--dashboard-port": dashboard_port,
            "--dashboard-agent-listen-port": agent_port,
            "--ray-client-server-port": client_port,
            "--num-cpus": 2,
            "--object-store-memory": 128 * 2**20,
        }
        command = [RAY, "start", "--head", *(part for option in options.items() for part in option)]
        try:
            started = subprocess.run(
                list(map(str, command)),
                env=_environment(head.folder, token),
                capture_output=True,
                text=True,
                timeout=_START_TIMEOUT_S,
                check=False,
            )
            assert started.returncode == 0, started.stdout + started.stderr
            yield head
        finally:
            _end_all(folder)


def _environment(folder: Path, token: str | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join([str(folder / "bin"), str(RAY.parent), inherited.get("PATH", "")])
    auth = (
        {"RAY_AUTH_MODE": "disabled"}
        if token is None
        else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    )
    own = {
        "PATH": path,
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",  # so that a busy machine does not decide how a stopped job ends
    }
    return {**inherited, **auth, **own}


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _end_all(folder: str) -> None:
    """Ends the processes whose environment names `folder`: the head's, and all that those have started."""
    while pids := _processes_of(folder):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_STEP_S)


def _processes_of(folder: str) -> list[int]:
    mark = f"RAY_TMPDIR={folder}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to somebody else
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found
