"""A job brought to its end, as a person would, whatever happens to it."""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.checks import Finding, Ledger, Truth, changed, said_in_log
from tests.chaos.faults import Planned
from tests.chaos.jobs import Run
from tests.chaos.processes import Process, wait_until_gone, workers
from tests.chaos.scene import Scene

_RUN_S = 240.0
_IDLE_RUN_S = 60.0
_GONE_S = 30.0
_MAX_RUNS = 20
_FAILED = 3
_NO_HARM = {0, _FAILED}
_STOPPED, _INTERRUPTED = 4, 130
_IN_ORDER = {0, _FAILED, _STOPPED, _INTERRUPTED, -signal.SIGKILL}


@dataclass
class Account:
    """How an episode went.

    Attributes:
        struck: Faults by the name of their kind.
        seconds: From the first start of the job to its end with exit code 0.
        num_reruns: Starts beyond the first.
        exit_codes: Of all runs, in their order.
        num_lost: Attempts whose failure is on record.
        num_computed_twice: Segments that were stored again, though nobody had spoiled them.
        num_unproven: Outputs whose receipt was prevented, as power was lost right before it.
        num_broken_requests: By what happened to them.
    """

    name: str
    job: str
    struck: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    num_reruns: int = 0
    exit_codes: list[int] = field(default_factory=list)
    num_lost: int = 0
    num_computed_twice: int = 0
    num_unproven: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    num_broken_requests: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


class Episode:
    """One job, its faults and its checks."""

    def __init__(self, scene: Scene, planned: list[Planned], truth: Truth, account: Account) -> None:
        self._scene = scene
        self._planned = planned
        self._truth = truth
        self._account = account
        self._ledger = Ledger()
        self._departing: set[Process] = set()

    @property
    def departing(self) -> set[Process]:
        """Whatever the runs started."""
        return self._departing

    def live(self) -> None:
        """Runs the job until it is done, and notes in the account how that went."""
        started_s = time.monotonic()
        flags: tuple[str, ...] = ()
        for _ in range(_MAX_RUNS):
            codes = self._run(flags)
            if set(codes) == {0}:
                break
            flags = ("--retry-failed",) if _FAILED in codes else ()
        else:
            self._find("the job does not come to its end", f"exit codes {self._account.exit_codes}")
        self._account.seconds = time.monotonic() - started_s
        self._scene.heal()
        self._take_stock(is_done=set(codes) == {0})

    def _run(self, flags: tuple[str, ...]) -> list[int]:
        """Runs the job once, or twice at a time where that is the fault, and returns how it ended."""
        scene, first = self._scene, len(self._scene.runs)
        self._ledger.begin_run()
        scene.start_run(*flags).is_struck = scene.is_unwell
        had_failures = bool(scene.seen.num_failures)
        deadline_s = time.monotonic() + _RUN_S
        while scene.living_runs:
            self._step()
            if time.monotonic() > deadline_s:
                self._end_hung()
        scene.look()
        self._ledger.note(scene)
        runs = scene.runs[first:]
        for run in runs:
            self._departing.update(run.seen)
            self._judge(run, may_fail=had_failures and not flags)
        self._departing.update(workers())
        self._account.findings += self._truth.compare(scene.job.place, is_done=False)
        return [run.exit_code for run in runs]

    def _step(self) -> None:
        scene = self._scene
        scene.look()
        self._ledger.note(scene)
        for fault in list(self._planned):
            if scene.living_runs and fault.strikes(scene):
                self._planned.remove(fault)
                self._account.struck[fault.kind.name] += 1
                for run in scene.living_runs or scene.runs[-1:]:
                    run.is_struck = True
        time.sleep(self._scene.job.place.look_every_s)

    def _end_hung(self) -> None:
        for run in self._scene.living_runs:
            self._find("a run hangs", f"{run.log}, after {_RUN_S:g} s")
            run.kill_all()

    def _judge(self, run: Run, *, may_fail: bool) -> None:
        self._account.exit_codes.append(run.exit_code)
        self._account.findings += said_in_log(run)
        is_well = run.exit_code in _NO_HARM if may_fail else run.exit_code == 0
        if not run.is_struck and not is_well:
            self._find("a run to which nothing happened did not end well", f"{run.log}: {run.exit_code}")
        elif run.exit_code not in _IN_ORDER:
            self._find("a run did not end in order", f"{run.log}: {run.exit_code}")

    def _take_stock(self, *, is_done: bool) -> None:
        scene, account = self._scene, self._account
        account.num_reruns = len(scene.runs) - 1
        account.num_lost = scene.seen.num_failures
        account.num_computed_twice = self._ledger.num_computed_twice
        account.num_unproven = scene.num_unproven
        account.recoveries_s = scene.recoveries_s
        account.findings += self._ledger.findings
        if scene.weather is not None:
            for spell in scene.weather.spells:
                account.num_broken_requests += spell.hit
        if is_done:
            account.findings += self._truth.compare(scene.job.place, is_done=True)
            account.findings += self._truth.count_frames(scene.job.place)
            self._run_idle()
        self._see_off()

    def _run_idle(self) -> None:
        """Runs the job once more, which must find nothing to do."""
        scene = self._scene
        before = scene.seen
        run = scene.start_run()
        deadline_s = time.monotonic() + _IDLE_RUN_S
        while run.is_alive and time.monotonic() < deadline_s:
            scene.look()
            time.sleep(self._scene.job.place.look_every_s)
        if run.is_alive:
            self._find("a run hangs that has nothing to do", str(run.log))
            run.kill_all()
        elif run.exit_code:
            self._find("a run that has nothing to do did not end well", f"{run.log}: {run.exit_code}")
        scene.look()
        self._account.findings += changed(before, scene.seen)
        self._departing.update(run.seen)

    def _see_off(self) -> None:
        """No worker may be left of any run."""
        working = [process for process in self._departing if process.is_worker]
        for process in wait_until_gone(working, _GONE_S):
            self._find("a worker is left", f"{process.pid} {process.title}")
            process.signal(signal.SIGKILL)

    def _find(self, what: str, detail: str) -> None:
        self._account.findings.append(Finding(what, detail))
