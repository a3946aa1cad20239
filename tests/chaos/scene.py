"""One job while things happen to it: what faults act on and what checks look at."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.disk import Disk
from tests.chaos.jobs import Job, Run
from tests.chaos.machines import Machines
from tests.chaos.places import Glance, glance, output_key
from tests.chaos.processes import Process, at_work, workers
from tests.chaos.weather import Weather


@dataclass
class Scene:
    """A job under faults.

    Attributes:
        segments_of: How many segments each video has, by output key.
        outputs: Names of all outputs, as they are below the job's place.
        weather: That of the store, where it has any.
        disk: The small one that the job works on, where it has one.
        machines: The nodes of its cluster, where it has one.
        runs: All runs so far, oldest first.
        seen: What the place held at the last look.
        destroyed: Keys of segments whose parts were spoiled on purpose.
        may_write_twice: Whether two may be at one segment at a time, so that both commit it: harmless.
        num_unproven: Outputs whose receipt was prevented, as power was lost right before it.
        recoveries_s: From each worker's end until there was a new one at work.
    """

    rng: random.Random
    job: Job
    segments_of: dict[str, int]
    outputs: tuple[str, ...]
    weather: Weather | None = None
    disk: Disk | None = None
    machines: Machines | None = None
    runs: list[Run] = field(default_factory=list)
    seen: Glance = field(default_factory=Glance)
    destroyed: set[str] = field(default_factory=set)
    may_write_twice: bool = False
    num_unproven: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    _frozen: list[Process] = field(default_factory=list)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _lost: list[tuple[float, set[Process]]] = field(default_factory=list)

    @property
    def living_runs(self) -> list[Run]:
        """Runs that have not ended."""
        return [run for run in self.runs if run.is_alive]

    @property
    def num_segments(self) -> int:
        """Of all videos together."""
        return sum(self.segments_of.values())

    @property
    def is_unwell(self) -> bool:
        """Whether something that was done to the job goes on."""
        is_stormy = self.weather is not None and not all(spell.is_over for spell in self.weather.spells)
        return bool(self._later or self._frozen or is_stormy)

    @property
    def joining(self) -> list[str]:
        """Output keys of videos that have all their segments and are not published yet."""
        committed = [output_key(segment_key) for segment_key in self.seen.receipts]
        return [
            key
            for key, num_segments in self.segments_of.items()
            if key not in self.seen.finished and committed.count(key) == num_segments
        ]

    def start_run(self, *flags: str) -> Run:
        """Starts the job's command, as the last of `runs`."""
        self.runs.append(self.job.start(f"run-{len(self.runs)}", *flags))
        return self.runs[-1]

    def look(self) -> None:
        """Sees how far the job is, and does what was put off until now."""
        self.seen = glance(self.job.place)
        for run in self.living_runs:
            run.look()
        due = [action for when_s, action in self._later if when_s <= time.monotonic()]
        self._later = [(when_s, action) for when_s, action in self._later if when_s > time.monotonic()]
        for action in due:
            action()
        self._time_recoveries()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Puts `action` off."""
        self._later.append((time.monotonic() + seconds, action))

    def heal(self) -> None:
        """Ends all that goes on."""
        for _, action in self._later:
            action()
        self._later.clear()
        for process in self._frozen:
            process.signal(signal.SIGCONT)
        self._frozen.clear()
        if self.weather is not None:
            self.weather.clear_up()

    def freeze(self, process: Process) -> None:
        """Stops a process, until `heal`."""
        process.signal(signal.SIGSTOP)
        self._frozen.append(process)
        self.may_write_twice = True

    def thaw(self, process: Process) -> None:
        """Lets a stopped process go on."""
        process.signal(signal.SIGCONT)
        if process in self._frozen:
            self._frozen.remove(process)

    def end_worker(self, process: Process) -> None:
        """Kills a worker, and times how long it takes until another one is at work in its place."""
        self._lost.append((time.monotonic(), set(workers())))
        process.signal(signal.SIGKILL)

    def lose_power(self) -> None:
        """Kills every driver and every worker at once."""
        for process in workers():
            process.signal(signal.SIGKILL)
        for run in self.living_runs:
            run.is_struck = True
            run.kill_all()
        seen = glance(self.job.place)
        self.num_unproven += max(0, len(seen.outputs) - len(seen.finished))

    def _time_recoveries(self) -> None:
        if not self.living_runs:
            self._lost.clear()
        now = set(at_work()) if self._lost else set()
        for lost in list(self._lost):
            if now - lost[1]:
                self.recoveries_s.append(time.monotonic() - lost[0])
                self._lost.remove(lost)
