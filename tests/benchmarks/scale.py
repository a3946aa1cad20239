"""What the driver itself costs on a very large job, and whether all comes out right.

    python -m tests.benchmarks.scale [--segments N] [--workers N] [--seed N] [--profile]

The real planner, retry policy, schedule, pool and manifest on a store in memory, with workers in simulated
time that need no pixels: some die, some lose their machine, some stand still, and the store is busy at times.
One film has a fifth of all segments, the others are in files of 1 to 20. The driver's time is the CPU time of
the process less that of the simulated workers, which commit and join in it; its memory is what is resident
less what the store holds.

What limits next. The driver is one thread, and begins to matter where workers end more tasks a second than
it handles: at 0.2 ms each 5,000 a second, 50,000 workers at segments of 10 s. Two things come before that:

- A distant store. The driver itself stores the plan of each new video, in that one thread: at 30 ms a round
  trip it begins 30 files a second. A film of a hundred segments is one such call, so that only jobs of very
  many very short files meet this, from some 300 workers on where a file is 10 s of work. (With a second
  driver at work it also looks for each file whether that one has finished it: a third as many.)
- Ray. A call that waits for n workers looks at all n of them (see `tests.benchmarks.wait`).

Both are relieved by a second driver on the same job, as drivers share what there is to do.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import cProfile
import gc
import os
import pstats
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.manifest import Manifest
from cluster.plan import output_key
from cluster.storage import MissingObjectError, ObjectInfo
from cluster.tasks import SegmentTask, Task
from sr_core.errors import OutputError, StorageError
from tests.cluster.simulation import FragileStorage, Lost, World, simulate_media

_FRAMES_PER_SEGMENT = 25


class OrderedStorage(FragileStorage):
    """A store in memory that lists by prefix without a look at all that it holds.

    Attributes:
        size_bytes: What its objects and their keys take of this process's memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ordered: list[str] = []
        self.size_bytes = 0

    def put(self, key: str, content: bytes) -> ObjectInfo:
        if super().head(key) is None:
            bisect.insort(self._ordered, key)
        else:
            self.size_bytes -= self._size_of(key)
        info = super().put(key, content)
        self.size_bytes += self._size_of(key)
        return info

    def delete(self, key: str) -> None:
        if super().head(key) is not None:
            del self._ordered[bisect.bisect_left(self._ordered, key)]
            self.size_bytes -= self._size_of(key)
        super().delete(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for index in range(bisect.bisect_left(self._ordered, prefix), len(self._ordered)):
            info = self.head(self._ordered[index])
            if info is None or not info.key.startswith(prefix):
                return
            yield info

    @contextlib.contextmanager
    def as_file(self, key: str) -> Iterator[Path]:
        content = self.get(key)
        if content is None:
            raise MissingObjectError("there is no such object", where=key)
        path = self.scratch_dir() / f"part-{os.getpid()}-{key.replace('/', '-')}"
        path.write_bytes(content)
        try:
            yield path
        finally:
            path.unlink()

    def _size_of(self, key: str) -> int:
        return sum(map(sys.getsizeof, (key, self.get(key), self._objects[key], self._objects[key][1])))


@dataclass
class Chance:
    """What happens to workers, by a seed. One task in 250 fails, and one in 1,000 stands still."""

    seed: int
    met: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def seconds_of(self, worker: str, task: Task) -> float:
        slow = 40.0 if isinstance(task, SegmentTask) and self._random.random() < 1e-3 else 1.0
        self.met["attempts"] += isinstance(task, SegmentTask)
        self.met["stand still"] += slow > 1
        return self._random.uniform(8.0, 12.0) * slow

    def fail(self, task: Task) -> None:
        drawn = self._random.random()
        if drawn < 1e-3:
            self.met["worker died"] += 1
            raise Lost
        if drawn < 2e-3:
            self.met["machine taken away"] += 1
            raise Lost(preempted=True)
        if drawn < 3e-3:
            self.met["store busy"] += 1
            raise StorageError("slow down", unavailable=True)
        if drawn < 4e-3:
            self.met["output wrong"] += 1
            raise OutputError("wrong")


@dataclass
class Memory:
    """Resident megabytes at four points of a run, beside those of the store."""

    world: World
    num_segments: int
    points: list[tuple[int, float, float]] = field(default_factory=list)

    def watch(self) -> None:
        percent = 100 * len(self.world.computed) // self.num_segments
        if percent >= 25 * (len(self.points) + 1):
            gc.collect()
            assert isinstance(self.world.output, OrderedStorage)
            self.points.append((percent, resident_mb(), self.world.output.size_bytes / 1e6))


def resident_mb() -> float:
    """What this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def sizes_of_files(num_segments: int, seed: int) -> dict[str, int]:
    """Segments by name of file: one long film, and short ones."""
    sizes, chance = {"film.mkv": max(1, num_segments // 5)}, random.Random(seed)
    left = num_segments - sizes["film.mkv"]
    while left:
        size = min(left, chance.randint(1, 20))
        sizes[f"{len(sizes) % 100:02}/{len(sizes):06}.mp4"] = size
        left -= size
    return sizes


def check(world: World, sizes: dict[str, int]) -> None:
    """That each output is there, published, and holds the bytes of its own segments in their order."""
    manifest = Manifest(world.output)
    plan = manifest.plan(world.job)
    assert plan is not None
    for input_ in world.inputs.inputs:
        key = output_key(plan, input_)
        expected = b"".join(
            f"pixels of {key}-{index:06d}\n".encode() for index in range(sizes[input_.output_name])
        )
        assert world.output.get(input_.output_name) == expected, input_.output_name
        assert manifest.output(key) is not None, input_.output_name
    left = [info.key for info in world.output.list(".framelift/segments/")]
    assert not left, left[:5]


@dataclass(frozen=True)
class Result:
    """How a run went.

    Attributes:
        driver_s: CPU time of the driver.
        workers_s: CPU time of the simulated workers.
        simulated_s: How long the job would have taken.
        met: What happened, and how often.
        memory: Percent of the segments, megabytes resident, megabytes of the store.
    """

    num_files: int
    num_segments: int
    driver_s: float
    workers_s: float
    simulated_s: float
    met: Counter[str]
    memory: list[tuple[int, float, float]]


def run(num_segments: int, num_workers: int, seed: int) -> Result:
    """Runs a job of so many segments and checks what came out."""
    sizes, chance = sizes_of_files(num_segments, seed), Chance(seed)
    world = World(
        names=tuple(sizes),
        output=OrderedStorage(),
        fail=chance.fail,
        seconds_of=chance.seconds_of,
        num_frames_of=lambda name: _FRAMES_PER_SEGMENT * sizes[name],
    )
    memory = Memory(world, num_segments)
    with pytest.MonkeyPatch.context() as patch:
        simulate_media(patch)
        start_s = time.process_time()
        report = world.run(num_workers=num_workers, before_wait=memory.watch)
        seconds = time.process_time() - start_s
    assert report.exit_code == 0, report.stopped or [o for o in report.outcomes if o.state != "done"][:3]
    check(world, sizes)
    workers_s, met = world.executors[0].busy_s, chance.met
    met["computed twice"] = sum(world.computed.values()) - num_segments
    return Result(len(sizes), num_segments, seconds - workers_s, workers_s, world.clock(), met, memory.points)


def show(result: Result) -> None:
    """Prints a result."""
    print(f"{result.num_segments} segments in {result.num_files} files, all outputs right")
    print(
        f"driver: {result.driver_s:.1f} s, {1e3 * result.driver_s / result.num_segments:.3f} ms a segment; "
        f"simulated workers: {result.workers_s:.1f} s; the job: {result.simulated_s:.0f} simulated s"
    )
    print(", ".join(f"{what}: {number}" for what, number in sorted(result.met.items())))
    for percent, resident, store in result.memory:
        print(
            f"at {percent} %: {resident:.0f} MB, less the store's {store:.0f} MB: {resident - store:.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    profile = cProfile.Profile()
    if arguments.profile:
        profile.enable()
    show(run(arguments.segments, arguments.workers, arguments.seed))
    if arguments.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
