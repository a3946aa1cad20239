"""A job: what is asked for, and the command line that does it, in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.places import Place
from tests.chaos.processes import Process, below

# Says when it is Framelift's own turn: before that, Python answers Ctrl-C in its own way.
_MAIN = "from jobs.cli import main; print('begun', flush=True); main()"
_SPEC = """
input: {input}
output: {output}
model: bilinear
scale: 2
video: {{preset: ultrafast}}
segments: {{seconds: 0.5}}
workers: {{count: {num_workers}, silence_seconds: 20}}
"""


@dataclass(frozen=True)
class Job:
    """One job, to be run as often as it takes.

    Attributes:
        folder: Of this job's own: spec, logs.
        environment: What is set beside this process's own environment.
    """

    place: Place
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    num_workers: int = 2

    def start(self, name: str, *flags: str) -> Run:
        """Runs it; what it prints goes into the file `name`.log."""
        spec, log = self.folder / "job.yaml", self.folder / f"{name}.log"
        spec.write_text(
            _SPEC.format(input=self.place.source, output=self.place.output, num_workers=self.num_workers)
        )
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, "upscale", str(spec), *flags],
                cwd=self.folder,
                env=os.environ | self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Run(process, log, time.monotonic())


@dataclass
class Run:
    """One run of a job.

    Attributes:
        seen: Processes that it started, as far as anybody looked.
        is_struck: Whether something was done to it.
        is_interrupted: Whether that was Ctrl-C.
    """

    process: subprocess.Popen[bytes]
    log: Path
    started_s: float
    seen: set[Process] = field(default_factory=set)
    is_struck: bool = False
    is_interrupted: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def has_begun(self) -> bool:
        """Whether Python has loaded the command."""
        return self.log.stat().st_size > 0

    @property
    def exit_code(self) -> int:
        """As a shell has it: of one that was killed, the signal's number with a minus."""
        return self.process.wait()

    def look(self) -> None:
        """Takes note of its processes, which cannot be found any more by way of it once it is gone."""
        self.seen.update(below(self.process.pid))

    def kill(self) -> None:
        """Ends the driver alone."""
        self.look()
        self.process.kill()
        self.process.wait()

    def kill_all(self) -> None:
        """Ends the driver and all that it started at one moment, as when the machine's power fails."""
        self.process.send_signal(signal.SIGSTOP)
        self.look()
        for process in self.seen:
            process.signal(signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.look()
        self.is_interrupted = True
        self.process.send_signal(signal.SIGINT)
