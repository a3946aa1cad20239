"""Jobs over folders of spoiled files, and what must hold of each."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutate import spoiled

_TIMEOUT_S = 3600.0
_SILENCE_S = 60
_MAX_WORKER_BYTES = 4 << 30
_MAX_DRIVER_BYTES = 1 << 30
_STATES = ("done", "damaged", "failed")
_LARGE = "8k"  # in the names of those seeds whose very encoder takes gigabytes


@dataclass(frozen=True)
class Finding:
    """Something that must not be."""

    what: str
    name: str = ""
    detail: str = ""


@dataclass
class Result:
    """How a hunt went.

    Attributes:
        states: Outcomes by state.
        losses: Log lines of workers that were lost over a file.
        peak_bytes: Largest resident set of the driver, and of any worker.
    """

    num_files: int = 0
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    peak_bytes: dict[str, int] = field(default_factory=lambda: {"driver": 0, "worker": 0})
    findings: list[Finding] = field(default_factory=list)

    def summary(self) -> str:
        """In a few lines."""
        states = ", ".join(f"{number} {state}" for state, number in sorted(self.states.items()))
        peaks = ", ".join(f"{name} {peak / 1e6:.0f} MB" for name, peak in self.peak_bytes.items())
        lines = [f"{self.num_files} files in {self.seconds:.0f} s: {states}", f"peak memory: {peaks}"]
        return "\n".join(
            [*lines, *(f"lost: {line}" for line in self.losses), f"{len(self.findings)} findings"]
        )


def seeds_in(folder: Path | None, corpus: Path) -> list[Path]:
    """The files of `folder`, or without one those of the conformance corpus, made in `corpus`."""
    if folder is None:
        from jobs.conformance import make_corpus

        make_corpus(corpus)
        folder = corpus
    files = (path for path in folder.rglob("*") if path.is_file() and _LARGE not in path.name.lower())
    return sorted(path for path in files if 0 < path.stat().st_size < 1 << 20)


def hunt(
    seeds: list[Path],
    count: int,
    batch: int,
    rng: random.Random,
    folder: Path,
    keep: Path | None,
) -> Result:
    """Spoils `count` files made from `seeds`, in jobs of `batch` files each."""
    result, start_s = Result(), time.monotonic()
    while result.num_files < count:
        source, output = folder / "in", folder / "out"
        for path in (source, output):
            shutil.rmtree(path, ignore_errors=True)
        source.mkdir(parents=True)
        size = min(batch, count - result.num_files)
        _spoil_into(source, seeds, size, rng, first=result.num_files)
        code, log, peaks = run_job(source, output)
        found = [*_check_job(code, log, peaks), *_check_outputs(source, output, result)]
        result.losses += [line for line in log.splitlines() if "is lost" in line]
        for name, peak in peaks.items():
            result.peak_bytes[name] = max(result.peak_bytes[name], peak)
        result.num_files += size
        result.findings += found
        if keep is not None and found:
            _keep(source, keep, found)
        print(
            f"{result.num_files}/{count}: {dict(result.states)}, {len(result.findings)} findings", flush=True
        )
    result.seconds = time.monotonic() - start_s
    return result


def _spoil_into(folder: Path, seeds: list[Path], size: int, rng: random.Random, first: int) -> None:
    for number in range(first, first + size):
        seed = rng.choice(seeds)
        (folder / f"{number:05d}_{seed.name}").write_bytes(spoiled(seed.read_bytes(), rng))


def run_job(source: Path, output: Path) -> tuple[int, str, dict[str, int]]:
    """(exit code, log, peak memory of driver and worker) of the real command over a folder."""
    spec = output.with_suffix(".yaml")
    spec.write_text(
        f"input: {source}\noutput: {output}\nmodel: lanczos\nscale: 2\nvideo: {{preset: ultrafast}}\n"
        f"workers: {{count: 1, silence_seconds: {_SILENCE_S}}}\n"
    )
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("framelift")), "upscale", str(spec)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    watch = _MemoryWatch(process.pid)
    try:
        log, _ = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        log, _ = process.communicate()
        log += "\nthe job did not end in time"
    return process.returncode, log, watch.stop()


class _MemoryWatch:
    """Notes the largest resident set of a driver, and of any process below it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks = {"driver": 0, "worker": 0}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """Ends watching; the peaks in bytes."""
        self._ended.set()
        self._thread.join()
        return self._peaks

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self._note("driver", self._pid)
            for pid in _below(self._pid):
                self._note("worker", pid)

    def _note(self, name: str, pid: int) -> None:
        try:
            statm = Path(f"/proc/{pid}/statm").read_text()
            resident = int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return
        self._peaks[name] = max(self._peaks[name], resident)


def _below(pid: int) -> list[int]:
    """The processes that `pid` started, and those that these did: Ray's own, and Framelift's workers."""
    try:
        direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*direct, *(below for child in direct for below in _below(child))]


def _check_job(code: int, log: str, peaks: dict[str, int]) -> list[Finding]:
    found = []
    if code not in (0, 3):
        found.append(Finding(f"the job ended with code {code}", detail=log[-2000:]))
    if "Traceback" in log or "This is a defect" in log:
        found.append(Finding("a traceback", detail=log[-2000:]))
    if peaks["worker"] > _MAX_WORKER_BYTES or peaks["driver"] > _MAX_DRIVER_BYTES:
        found.append(Finding("too much memory", detail=str(peaks)))
    return found


def _check_outputs(source: Path, output: Path, result: Result) -> list[Finding]:
    report_path = output / "report.json"
    if not report_path.exists():
        return [Finding("no report")]
    outcomes = {each["source"]: each for each in json.loads(report_path.read_text())["outcomes"]}
    result.states.update(each["state"] for each in outcomes.values())
    receipts = {
        json.loads(path.read_text())["output"] for path in (output / ".framelift" / "outputs").glob("*.json")
    }
    found = [
        Finding("an input without an outcome", path.name)
        for path in source.iterdir()
        if outcomes.get(path.name, {}).get("state") not in _STATES
    ]
    for path in output.iterdir():
        if path.is_file() and path != report_path and path.name not in receipts:
            found.append(Finding("an output without a receipt", path.name))
    for each in outcomes.values():
        is_there = (output / each["output"]).is_file()
        if is_there != (each["state"] != "failed"):
            found.append(Finding(f"state {each['state']}, output there: {is_there}", each["source"]))
        if each["state"] != "done" and not each["reason"]:
            found.append(Finding("no reason", each["source"]))
        if "this is a bug" in each["reason"] or "Framelift failed" in each["reason"]:
            found.append(Finding("a defect", each["source"], each["reason"]))
        if "silent for too long" in each["reason"]:
            found.append(Finding("a hang", each["source"], each["reason"]))
    return found


def _keep(source: Path, keep: Path, found: list[Finding]) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    for finding in found:
        path = source / finding.name
        if finding.name and path.is_file():
            shutil.copy(path, keep)
