from __future__ import annotations

from itertools import pairwise

import pytest

from cluster.tasks import Progress, StillsDone, StillsTask, Task
from tests.cluster.simulation import SimulatedWorker, World


@pytest.fixture
def task() -> StillsTask:
    """Several images, as a driver hands them out."""
    seen: list[StillsTask] = []

    def note(task: Task) -> None:
        assert isinstance(task, StillsTask)
        seen.append(task)

    world = World(names=tuple(f"{number}.png" for number in range(40)), fail=note)
    world.run(num_workers=1)
    return max(seen, key=lambda task: len(task.stills))


def test_signs_of_life_are_told_and_only_finished_images_counted(task: StillsTask) -> None:
    *told, done = SimulatedWorker(World()).run(task)
    assert isinstance(done, StillsDone)
    counts = [each.num_frames for each in told if isinstance(each, Progress)]
    assert len(counts) == len(told) == 2 * len(task.stills)
    assert (counts[0], counts[-1]) == (0, len(task.stills))
    assert all(after - before in (0, 1) for before, after in pairwise(counts))
