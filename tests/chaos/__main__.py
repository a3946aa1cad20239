"""Jobs under random faults: `python -m tests.chaos --faults 200 --seed 1`.

Each episode is one job through the real command line, to which a few random faults happen, of one kind or of
many; it is run again, as a person would, until it is done. Whatever happened, its outputs must have the bytes
of an undisturbed run, with every frame once and at its time; nothing that was committed may be computed
again; nothing may hang, and no process may be left. `--episode` repeats one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from tests.chaos.episode import Account
from tests.chaos.faults import Kind, plan_faults
from tests.chaos.figures import as_json, table
from tests.chaos.processes import below
from tests.chaos.stage import Stage, stage

JOBS = ("folder", "s3", "cluster")
_MIXED_EVERY = 3
_MOST_IDLE_EPISODES = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="faults in all, at least")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    parser.add_argument("--jobs", default=",".join(JOBS), help="sorts of jobs, with commas")
    parser.add_argument("--kinds", default="", help="only faults whose names begin so, with commas")
    parser.add_argument("--episode", type=int, help="only this one")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    jobs, beginnings = tuple(options.jobs.split(",")), tuple(options.kinds.split(","))
    if set(jobs) - set(JOBS):
        parser.error(f"--jobs takes {', '.join(JOBS)}")
    accounts = []
    folder = Path(tempfile.mkdtemp(prefix="fc-", dir="/tmp"))  # short, as Ray makes sockets below it
    with stage(folder, jobs) as made:
        kinds = {job: tuple(k for k in made.kinds(job) if k.name.startswith(beginnings)) for job in jobs}
        for account in _accounts(made, kinds, options.seed, options.faults, options.episode):
            _tell(account, options.seed)
            accounts.append(account)
        accounts.append(made.see_off())
        _tell(accounts[-1], options.seed)
    figures = as_json(accounts, made.usual_s, options.seed)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    print(table(accounts, made.usual_s))
    print(f"{figures['num_faults']} faults, {figures['num_findings']} findings")
    print(f"power was lost between an output and its receipt {figures['num_unproven']} times")
    print(f"seconds until work went on after a worker was killed: {figures['seconds_to_work_again']}")
    if figures["num_findings"]:
        print(f"what was found lies in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _accounts(
    made: Stage, kinds: dict[str, tuple[Kind, ...]], seed: int, num_faults: int, only: int | None
) -> Iterator[Account]:
    """Undisturbed jobs first, then episodes until there were so many faults."""
    for job in kinds:
        yield made.measure(job)
    num_struck = num_idle = 0
    for number in count() if only is None else [only]:
        account = _episode(made, kinds, seed, number)
        num_struck += account.struck.total()
        num_idle += not account.struck
        yield account
        if num_struck >= num_faults or num_idle >= _MOST_IDLE_EPISODES:
            return


def _episode(made: Stage, kinds: dict[str, tuple[Kind, ...]], seed: int, number: int) -> Account:
    """The one of that number, which depends on nothing but that and the seed."""
    rng = random.Random(f"{seed}-{number}")
    job = list(kinds)[number % len(kinds)]
    turn = number // len(kinds)
    is_mixed = turn % _MIXED_EVERY == _MIXED_EVERY - 1
    alone = kinds[job][(turn - turn // _MIXED_EVERY) % len(kinds[job])]
    planned = plan_faults(
        kinds[job] if is_mixed else (alone,), rng.randint(3, 5), made.num_segments(job), rng
    )
    return made.play(f"{number:03}", job, planned, rng)


def _tell(account: Account, seed: int) -> None:
    struck = ", ".join(f"{number} x {kind}" for kind, number in account.struck.items()) or "nothing"
    codes = " ".join(map(str, account.exit_codes))
    print(
        f"{account.name} {account.job:8} {account.seconds:6.1f} s, exit codes {codes}: {struck}", flush=True
    )
    for finding in account.findings:
        print(
            f"  FOUND {finding.what}: {finding.detail} (seed {seed}, episode {account.name})", file=sys.stderr
        )


def _leave_nothing_behind() -> None:
    """Ends whatever this process started, also where it is ended itself."""
    for process in below(os.getpid()):
        process.signal(signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    try:
        sys.exit(main())
    finally:
        _leave_nothing_behind()
