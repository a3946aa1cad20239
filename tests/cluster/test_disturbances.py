"""Disturbed jobs on workers without pixels: machines that go, stores that are away, deadly files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from cluster.manifest import Manifest
from cluster.storage import ObjectInfo
from cluster.tasks import AssembleTask, SegmentTask, Still, Task
from sr_core.errors import DiskError, FrameliftError, MediaError, OutputError, StorageError, WorkerError
from tests.cluster import simulation
from tests.cluster.simulation import DEVICE, Lost, SimulatedWorker, World, world

__all__ = ["world"]

BUSY = StorageError("slow down", unavailable=True)


def is_segment(task: Task, index: int, name: str = "a.mp4") -> bool:
    return (
        isinstance(task, SegmentTask)
        and task.treatment.input.source.key == name
        and task.segment.key.endswith(f"-{index:06d}")
    )


def failures(world: World) -> list[str]:
    return [info.key for info in world.output.list(".framelift/failures/")]


def loses(world: World, index: int, *, times: int, preempted: bool = False) -> None:
    """The workers at one segment of `a.mp4` are lost, so many of them."""
    left = [times]

    def fail(task: Task) -> None:
        if is_segment(task, index) and left[0]:
            left[0] -= 1
            raise Lost(preempted=preempted)

    world.fail = fail


def test_machines_that_are_taken_away_are_not_held_against_a_segment(world: World) -> None:
    loses(world, 1, times=7, preempted=True)
    assert world.run().exit_code == 0
    assert set(world.computed.values()) == {1}
    assert failures(world) == []


def test_a_segment_that_kills_every_worker_is_set_aside_and_all_else_is_done(world: World) -> None:
    loses(world, 1, times=1000)
    report = world.run()
    assert [outcome.state for outcome in report.outcomes] == ["failed", "done"]
    assert report.exit_code == 3
    assert len(failures(world)) == 3
    assert len(world.receipts()) == 7, "the good segments are kept"


def test_only_what_failed_is_done_again_on_request(world: World) -> None:
    world.names = ("a.mp4", "b.mp4", "c.mp4")
    loses(world, 1, times=3)
    world.run()
    outputs = {name: world.output.head(name) for name in world.names}
    world.computed.clear()
    assert [outcome.state for outcome in world.run().outcomes] == ["failed", "skipped", "skipped"]
    assert not world.computed
    report = world.run(again=True)
    assert [outcome.state for outcome in report.outcomes] == ["done", "skipped", "skipped"]
    assert sum(world.computed.values()) == 1
    assert all(world.output.head(name) == outputs[name] for name in ("b.mp4", "c.mp4"))


@pytest.mark.parametrize("num_workers", [1, 4])
def test_a_file_whose_every_segment_kills_workers_does_not_stop_the_others(
    world: World, num_workers: int
) -> None:
    def fail(task: Task) -> None:
        if isinstance(task, SegmentTask) and task.treatment.input.source.key == "a.mp4":
            raise Lost

    world.names = ("a.mp4", "b.mp4")
    world.fail = fail
    report = world.run(num_workers=num_workers)
    assert [outcome.state for outcome in report.outcomes] == ["failed", "done"]


def test_a_store_that_is_away_for_a_while_stops_no_job(world: World) -> None:
    """It hits every task, and each is left alone for ever longer."""

    def fail(task: Task) -> None:
        if isinstance(task, SegmentTask) and world.clock() < 20:
            raise BUSY

    world.names = tuple(f"{number}.mp4" for number in range(12))
    world.fail = fail
    assert world.run(num_workers=3).exit_code == 0
    assert world.clock() > 20
    assert set(world.computed.values()) == {1}
    assert failures(world) == []


def test_a_store_that_stays_away_stops_the_job_no_sooner_than_the_tries_of_one_task(world: World) -> None:
    def fail(task: Task) -> None:
        if isinstance(task, SegmentTask):
            raise BUSY

    world.names = tuple(f"{number}.mp4" for number in range(12))
    world.fail = fail
    report = world.run(num_workers=3)
    assert report.exit_code == 4
    assert world.clock() > 25


def test_other_work_goes_on_while_a_task_waits_for_the_store(world: World) -> None:
    done, left = [], [1]

    def fail(task: Task) -> None:
        if is_segment(task, 0) and left[0]:
            left[0] -= 1
            raise BUSY
        done.append(task)

    world.names = ("a.mp4", "b.mp4")
    world.fail = fail
    assert world.run(num_workers=1).exit_code == 0
    first = next(index for index, task in enumerate(done) if is_segment(task, 0))
    assert sum(isinstance(task, SegmentTask) for task in done[:first]) > 3


def slow_at(index: int, seconds: float) -> Callable[[str, Task], float]:
    """The first worker that gets one segment of `a.mp4` is at it for so long, and joining takes a minute."""
    slow: list[Task] = []

    def seconds_of(worker: str, task: Task) -> float:
        if is_segment(task, index) and not slow:
            slow.append(task)
            return seconds
        return 60.0 if isinstance(task, AssembleTask) else 1.0

    return seconds_of


def test_a_segment_whose_worker_stands_still_is_made_by_another(world: World) -> None:
    world.seconds_of = slow_at(2, 1e9)
    report = world.run()
    assert report.exit_code == 0
    assert world.clock() < 200, "nobody waits for the first"
    assert set(world.computed.values()) == {1}
    assert failures(world) == []


@pytest.mark.parametrize("error", [None, MediaError("broken"), Lost()])
def test_the_slower_of_two_attempts_does_not_count_however_it_ends(
    world: World, error: FrameliftError | None
) -> None:
    world.names = ("a.mp4",)
    world.seconds_of = slow_at(2, 40.0)

    def fail(task: Task) -> None:
        if error is not None and is_segment(task, 2) and world.computed[task.id]:
            raise error

    world.fail = fail
    report = world.run()
    assert report.exit_code == 0
    assert failures(world) == []
    assert world.clock() > 60, "the slower one ended while the file was joined"
    assert world.snapshots[-1].num_segments_done == 4
    assert world.snapshots[-1].num_frames_done == 100


def test_a_slow_attempt_that_fails_leaves_the_segment_to_the_other(world: World) -> None:
    world.names, tries = ("a.mp4",), []
    world.seconds_of = slow_at(2, 15.5)

    def seconds_of(worker: str, task: Task) -> float:
        seconds = slow(worker, task)
        return 10.0 if is_segment(task, 2) and seconds == 1.0 else seconds

    def fail(task: Task) -> None:
        if is_segment(task, 2):
            tries.append(task)
            if len(tries) == 1:
                raise MediaError("only this worker finds it broken")

    slow, world.seconds_of, world.fail = world.seconds_of, seconds_of, fail
    assert world.run().exit_code == 0
    assert len(tries) == 2


def test_no_segment_is_made_twice_where_all_are_as_slow(world: World) -> None:
    tried: list[str] = []
    world.seconds_of = lambda worker, task: 500.0
    world.fail = lambda task: tried.append(task.id) if isinstance(task, SegmentTask) else None
    world.run(num_workers=5)
    assert len(tried) == len(set(tried)) == 8


def test_an_attempt_that_ends_after_its_output_was_published_leaves_nothing_behind(world: World) -> None:
    slow = slow_at(2, 300.0)

    def seconds_of(worker: str, task: Task) -> float:
        is_other = isinstance(task, AssembleTask) and task.video.treatment.input.source.key != "a.mp4"
        return 500.0 if is_other else slow(worker, task)

    world.names, world.seconds_of = ("a.mp4", "b.mp4"), seconds_of
    assert world.run(num_workers=3).exit_code == 0
    assert set(world.computed.values()) == {1, 2}, "the slower one stored its part all the same"
    assert list(world.output.list(".framelift/segments/")) == []


def test_a_store_that_goes_away_for_good_ends_the_run_with_all_kept_that_was_done(world: World) -> None:
    world.output.is_away = lambda key: world.clock() > 3
    report = world.run()
    assert report.exit_code == 4
    assert world.executors[-1].is_closed
    world.output.is_away = lambda key: False
    assert world.run().exit_code == 0
    assert set(world.computed.values()) == {1}


@pytest.mark.parametrize("what", ["/videos/", "/failures/"])
def test_a_store_that_is_away_for_the_driver_ends_the_run_in_order(world: World, what: str) -> None:
    world.names = ("a.mp4", "b.mp4")
    world.fail = lambda task: loses_first(task)
    puts: list[str] = []

    def loses_first(task: Task) -> None:
        if is_segment(task, 0, "b.mp4"):
            raise WorkerError("died")

    def is_away(key: str) -> bool:
        puts.extend([key] if what in key else [])
        return len(puts) > 1 or (what == "/failures/" and bool(puts))

    world.output.is_away = is_away
    report = world.run()
    assert report.exit_code == 4
    assert "does not answer" in report.stopped
    assert world.executors[-1].is_closed
    assert world.snapshots[-1].state == "stopped"
    world.output.is_away = lambda key: False
    receipts = world.receipts()
    world.fail = lambda task: None
    assert world.run().exit_code == 0
    assert receipts.items() <= world.receipts().items()
    assert set(world.computed.values()) == {1}


def test_parts_that_are_lost_again_and_again_fail_their_file_alone(world: World) -> None:
    def fail(task: Task) -> None:
        if isinstance(task, AssembleTask) and task.video.treatment.input.source.key == "a.mp4":
            Manifest(world.output).delete_parts(task.video.segments[0].key)

    world.names = ("a.mp4", "b.mp4")
    world.fail = fail
    report = world.run()
    assert [outcome.state for outcome in report.outcomes] == ["failed", "done"]
    assert "again and again" in report.outcomes[0].reason


def test_a_folder_that_moved_is_read_where_it_is_now(world: World) -> None:
    """The plan of a video that was begun says where it was then."""
    stores: set[str] = set()
    fails = [True]

    def fail(task: Task) -> None:
        if isinstance(task, SegmentTask):
            stores.add(task.treatment.input.source.store_url)
            if fails[0] and is_segment(task, 3):
                raise WorkerError("died")
        if isinstance(task, AssembleTask):
            stores.add(task.video.treatment.input.source.store_url)

    world.names, world.fail = ("a.mp4",), fail
    assert world.run().exit_code == 3
    stores.clear()
    fails[0] = False
    world.source_url = "memory:elsewhere"
    assert world.run(again=True).exit_code == 0
    assert stores == {"memory:elsewhere"}
    assert sum(world.computed.values()) == 4


def test_an_image_that_shows_a_defect_of_ours_is_given_up_after_two_tries(world: World) -> None:
    world.names = ("a.mp4", "b.png", "c.png")
    tries: list[str] = []

    def fail_image(still: Still) -> None:
        if still.input.source.key == "c.png":
            tries.append("c.png")
            assert len(tries) < 10, "it is tried for ever"
            raise OutputError("Framelift failed")

    world.fail_image = fail_image
    assert [outcome.state for outcome in world.run().outcomes] == ["done", "done", "failed"]
    assert len(tries) == 2


@pytest.mark.parametrize("num_workers", [8, 12])
def test_workers_that_are_all_lost_at_once_cost_no_file(world: World, num_workers: int) -> None:
    world.names, world.num_frames_of = ("a.mp4",), lambda name: 25 * 100
    world.seconds_of = lambda worker, task: 10.0
    lost: list[str] = []

    def fail(task: Task) -> None:
        if isinstance(task, SegmentTask) and len(lost) < num_workers:
            lost.append(task.id)
            raise Lost

    world.fail = fail
    assert world.run(num_workers=num_workers).exit_code == 0
    assert len(set(lost)) == num_workers


def test_a_rerun_waits_for_workers_of_the_class_that_was_planned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = itertools.count(1)

    def fail(task: Task) -> None:
        if isinstance(task, SegmentTask) and next(tries) == 3:
            raise StorageError("denied")

    world.fail = fail
    assert world.run().exit_code == 4
    world.fail = lambda task: None
    classes = itertools.chain([replace(DEVICE, name="another")], itertools.repeat(DEVICE))
    monkeypatch.setattr(
        simulation, "SimulatedWorker", lambda of: SimulatedWorker(of, device_class=next(classes))
    )
    assert world.run(num_workers=4).exit_code == 0


def test_an_image_without_a_receipt_is_known_as_ours_by_the_next_run(world: World) -> None:
    world.names, put, is_full = ("a.png", "b.png"), world.output.put, [True]

    def put_if_there_is_room(key: str, content: bytes) -> ObjectInfo:
        if is_full[0] and key.startswith(".framelift/outputs/"):
            raise DiskError("no space left on device", where=key)
        return put(key, content)

    world.output.put = put_if_there_is_room  # type: ignore[method-assign]
    assert world.run().exit_code == 4
    is_full[0] = False
    assert world.run().exit_code == 0
    assert [info.key for info in world.output.list(".framelift/plans/") if "/stills/" in info.key] == []
