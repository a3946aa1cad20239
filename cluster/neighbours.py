"""Other drivers that are at the same job at the same time, as far as their heartbeats tell.

Nothing goes wrong where one is overlooked: the same bytes are made twice. Those that know of each other take
the work from both ends and meet in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from cluster.manifest import Manifest, is_alive

_SILENCE_S = 30.0  # some heartbeats
_LOOK_AGAIN_S = 15.0


class Neighbours:
    """The other drivers of one job.

    Args:
        run_id: Of the driver that asks.
        clock: Seconds since any moment, to look again after some time.
    """

    def __init__(self, manifest: Manifest, job_id: str, run_id: str, clock: Callable[[], float]) -> None:
        self._manifest = manifest
        self._job_id = job_id
        self._run_id = run_id
        self._are_there = False
        self._clock = clock
        self._look_again_s = 0.0

    def are_there(self) -> bool:
        """Whether another driver is, or was, at the job during this run; looks from time to time."""
        if not self._are_there and self._clock() >= self._look_again_s:
            self._look_again_s = self._clock() + _LOOK_AGAIN_S
            self._are_there = bool(self._live())
        return self._are_there

    def want_the_end(self) -> bool:
        """Whether this driver best begins at the end, as more of the others began at the beginning.

        Where several start at once, none of which has decided yet, the one that began first goes first.
        """
        snapshots = [self._manifest.snapshot(run_id) for run_id in self._live()]
        others = [
            each for each in snapshots if each and (each.state == "running" or each.run_id < self._run_id)
        ]
        return 2 * sum(each.from_the_end for each in others) < len(others)

    def without_theirs(self, keys: Iterable[str]) -> list[str]:
        """Those of some objects, each named by an attempt, that no other living driver of any job made."""
        now_s = time.time()
        others = [s for s in self._manifest.snapshots() if s.run_id != self._run_id]
        living = tuple(s.run_id for s in others if is_alive(s, now_s, _SILENCE_S))
        return [key for key in keys if not PurePosixPath(key).name.startswith(living)]

    def _live(self) -> list[str]:
        found = self._manifest.live_runs(self._job_id, time.time(), _SILENCE_S)
        return [run_id for run_id in found if run_id != self._run_id]
