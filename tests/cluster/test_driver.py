"""The driver on workers without pixels: real plans, real state, simulated faults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.job import VideoSettings
from cluster.manifest import Manifest
from cluster.plan import SourceRef
from cluster.status import read_status
from cluster.tasks import AssembleTask, ProbeTask, SegmentTask, Still, StillsTask, Task
from sr_core.errors import (
    FrameliftError,
    MediaError,
    ModelError,
    OutputError,
    SourceChanged,
    SpecError,
    StorageError,
    WorkerError,
)
from tests.cluster.simulation import JOB, FragileStorage, Killed, World, world

__all__ = ["world"]


def states(world: World, **options: bool) -> list[str]:
    return [outcome.state for outcome in world.run(**options).outcomes]


def fails(world: World, error: FrameliftError, *, times: int, kind: type[Task] = SegmentTask) -> None:
    """The first `times` tasks of a kind fail; for segments, those of the first segment."""
    left = [times]

    def fail(task: Task) -> None:
        first = not isinstance(task, SegmentTask) or task.segment.key.endswith("-000000")
        if isinstance(task, kind) and first and left[0]:
            left[0] -= 1
            raise error

    world.fail = fail


def test_every_input_is_done_and_its_parts_are_gone(world: World) -> None:
    report = world.run()
    assert [outcome.state for outcome in report.outcomes] == ["done", "done"]
    assert report.exit_code == 0
    assert all(world.outputs().values())
    assert list(world.output.list(".framelift/segments/")) == []
    assert world.output.get("report.json") is not None


def test_every_segment_is_computed_once(world: World) -> None:
    world.run()
    assert len(world.computed) == 8
    assert set(world.computed.values()) == {1}


def test_a_second_run_does_nothing_and_starts_no_worker(world: World) -> None:
    world.run()
    world.fail = lambda task: pytest.fail("no task is to be done")
    changes = world.output.num_changes
    assert states(world) == ["skipped", "skipped"]
    assert world.output.num_changes == changes + 2  # the report and the last heartbeat


def test_a_new_file_in_the_folder_is_all_that_a_second_run_works_on(world: World) -> None:
    world.run()
    world.names = (*world.names, "new.mp4")
    world.computed.clear()
    assert states(world) == ["skipped", "skipped", "done"]
    assert len(world.computed) == 4


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_outputs_do_not_depend_on_the_number_of_workers(world: World, num_workers: int) -> None:
    world.run(num_workers=1)
    alone = world.outputs()
    world.output = FragileStorage()
    world.run(num_workers=num_workers)
    assert world.outputs() == alone


@pytest.mark.parametrize(
    ("error", "times", "state"),
    [
        (WorkerError("died"), 2, "done"),
        (WorkerError("died"), 3, "failed"),
        (OutputError("wrong"), 1, "done"),
        (OutputError("wrong"), 2, "failed"),
        (StorageError("slow down", unavailable=True), 2, "done"),
        (MediaError("broken"), 1, "failed"),
    ],
)
def test_a_failing_segment_is_tried_as_the_policy_says_and_never_stops_the_other_file(
    world: World, error: FrameliftError, times: int, state: str
) -> None:
    world.names = ("a.mp4",)
    fails(world, error, times=times)
    first = world.run(num_workers=1).outcomes
    assert [outcome.state for outcome in first] == [state]
    world.names = ("a.mp4", "b.mp4")
    world.fail = lambda task: None
    expected = "skipped" if state == "done" else "failed"
    assert states(world) == [expected, "done"]


def test_a_segment_that_was_set_aside_stays_so_until_it_is_asked_for_again(world: World) -> None:
    world.names = ("a.mp4",)
    fails(world, WorkerError("died"), times=3)
    assert states(world) == ["failed"]
    computed = dict(world.computed)
    assert len(computed) == 3, "the good segments are kept"
    world.fail = lambda task: None
    report = world.run()
    assert report.outcomes[0].state == "failed"
    assert "died" in report.outcomes[0].reason
    assert dict(world.computed) == computed
    assert states(world, again=True) == ["done"]
    assert len(world.computed) == 4
    assert set(world.computed.values()) == {1}


def test_a_source_that_changes_fails_its_file_alone(world: World) -> None:
    def fail(task: Task) -> None:
        if isinstance(task, SegmentTask) and task.treatment.input.source.key == "a.mp4":
            raise SourceChanged("the file changed", where="a.mp4")

    world.fail = fail
    report = world.run()
    assert [outcome.state for outcome in report.outcomes] == ["failed", "done"]
    assert report.exit_code == 3


@pytest.mark.parametrize("error", [ModelError("weights are gone"), StorageError("disk full")])
def test_what_no_retry_can_mend_stops_the_job(world: World, error: FrameliftError) -> None:
    fails(world, error, times=1)
    report = world.run()
    assert report.exit_code == 4
    assert error.what in report.stopped
    assert all(outcome.state == "failed" for outcome in report.outcomes)


def test_a_source_that_cannot_be_probed_is_probed_again_by_the_next_run(world: World) -> None:
    fails(world, MediaError("may not be read"), times=1, kind=ProbeTask)
    assert states(world) == ["failed", "done"]
    assert states(world) == ["done", "skipped"]


def test_joining_that_fails_is_tried_again(world: World) -> None:
    fails(world, OutputError("wrong"), times=1, kind=AssembleTask)
    assert states(world) == ["done", "done"]


def test_a_part_that_is_lost_before_joining_is_computed_again(world: World) -> None:
    lost: list[str] = []

    def fail(task: Task) -> None:
        if isinstance(task, AssembleTask) and not lost:
            lost.append(task.video.segments[1].key)
            Manifest(world.output).delete_parts(lost[0])

    world.fail = fail
    assert states(world) == ["done", "done"]
    assert world.computed[lost[0]] == 2
    assert sum(world.computed.values()) == 9


def test_a_part_that_rots_before_joining_is_computed_again(world: World) -> None:
    world.names = ("a.mp4",)
    rotten: list[str] = []

    def fail(task: Task) -> None:
        if isinstance(task, AssembleTask) and not rotten:
            key = next(iter(world.output.list(".framelift/segments/"))).key
            content = world.output.get(key)
            assert content is not None
            rotten.append(key)
            world.output.put(key, b"?" * len(content))

    world.fail = fail
    assert states(world) == ["done"]
    assert sum(world.computed.values()) == 5
    assert b"?" not in (world.output.get("a.mp4") or b"?")


def test_an_output_of_another_spec_is_refused_before_any_work(world: World) -> None:
    world.run()
    world.job = replace(JOB, video=VideoSettings(codec="hevc"))
    before = world.outputs()
    with pytest.raises(SpecError, match="--overwrite"):
        world.run()
    assert world.outputs() == before
    assert states(world, overwrite=True) == ["done", "done"]
    assert world.outputs() != before


def test_after_overwriting_the_first_spec_does_not_count_as_done(world: World) -> None:
    world.run()
    first = world.outputs()
    world.job = replace(JOB, video=VideoSettings(codec="hevc"))
    world.run(overwrite=True)
    world.job = JOB
    with pytest.raises(SpecError):
        world.run()
    assert states(world, overwrite=True) == ["done", "done"]
    assert world.outputs() == first


def test_a_file_of_somebody_else_is_never_replaced(world: World) -> None:
    def fail(task: Task) -> None:
        if isinstance(task, AssembleTask):
            world.output.put("a.mp4", b"mine")

    world.names = ("a.mp4",)
    world.fail = fail
    assert states(world) == ["failed"]
    assert world.output.get("a.mp4") == b"mine"
    world.fail = lambda task: None
    assert states(world, overwrite=True) == ["done"]
    assert world.output.get("a.mp4") != b"mine"


def test_a_source_that_was_replaced_since_is_made_anew_on_request(world: World) -> None:
    world.run()

    class Changed(World):
        @property
        def inputs(self):  # type: ignore[no-untyped-def]
            inputs = super().inputs
            changed = [replace(i, source=SourceRef("memory:in", i.source.key, 5, "2")) for i in inputs.inputs]
            return replace(inputs, inputs=tuple(changed))

    changed = Changed(output=world.output)
    with pytest.raises(SpecError):
        changed.run()
    assert states(changed, overwrite=True) == ["done", "done"]


def test_killed_at_any_change_of_the_store_the_next_run_ends_with_equal_bytes(world: World) -> None:
    """Every window between two changes, with the change done or not: receipts stay and nothing is redone."""
    world.run()
    expected, num_changes = world.outputs(), world.output.num_changes
    for deadly in range(num_changes):
        for when in ("dies_before", "dies_after"):
            world.output, world.fail = FragileStorage(), lambda task: None
            world.computed.clear()
            setattr(world.output, when, deadly + (when == "dies_after"))
            with pytest.raises(Killed):
                world.run()
            world.output.dies_before = world.output.dies_after = None
            receipts = world.receipts()
            report = world.run()
            assert report.exit_code == 0, (deadly, when)
            assert world.outputs() == expected, (deadly, when)
            assert receipts.items() <= world.receipts().items(), (deadly, when)
            committed = {key.rpartition("/")[2].removesuffix(".json") for key in receipts}
            assert all(world.computed[key] == 1 for key in committed), (deadly, when)
            assert list(world.output.list(".framelift/segments/")) == [], (deadly, when)


def test_killed_again_and_again_the_job_comes_forward_and_ends(world: World) -> None:
    num_killed = 0
    while True:
        world.output.dies_after = world.output.num_changes + 7
        try:
            report = world.run()
        except Killed:
            num_killed += 1
            assert num_killed < 30, "no run comes forward"
        else:
            break
    assert num_killed > 3
    assert report.exit_code == 0
    assert all(world.outputs().values())


PICTURES = tuple(f"pictures/{number:03}.png" for number in range(40))


def test_images_are_done_beside_videos_with_a_receipt_each(world: World) -> None:
    world.names = ("a.mp4", *PICTURES)
    assert set(states(world)) == {"done"}
    assert all(world.outputs().values())
    assert len(list(world.output.list(".framelift/outputs/"))) == 41
    world.computed.clear()
    assert set(states(world)) == {"skipped"}
    assert not world.computed


def test_several_images_share_a_task_and_no_worker_is_left_without_one(world: World) -> None:
    world.names, sizes = PICTURES, []

    def note(task: Task) -> None:
        assert isinstance(task, StillsTask)
        sizes.append(len(task.stills))

    world.fail = note
    world.run(num_workers=2)
    assert sum(sizes) == len(PICTURES)
    assert max(sizes) > 1
    assert len(sizes) >= 4


def test_a_broken_image_fails_alone_and_is_not_tried_again(world: World) -> None:
    world.names, tries = PICTURES[:8], []

    def break_third(still: Still) -> None:
        if still.input.source.key == PICTURES[2]:
            tries.append(still)
            raise MediaError("it is no image", where=still.input.source.key)

    world.fail_image = break_third
    report = world.run(num_workers=1)
    assert [outcome.state for outcome in report.outcomes] == ["done"] * 2 + ["failed"] + ["done"] * 5
    assert "no image" in report.outcomes[2].reason
    assert len(tries) == 1


def test_an_image_that_kills_its_worker_takes_no_other_with_it(world: World) -> None:
    world.names = PICTURES

    def die(task: Task) -> None:
        assert isinstance(task, StillsTask)
        if any(still.input.source.key == PICTURES[17] for still in task.stills):
            raise WorkerError("gone")

    world.fail = die
    report = world.run(num_workers=2)
    assert [outcome.source for outcome in report.outcomes if outcome.state == "failed"] == [PICTURES[17]]
    assert set(world.computed.values()) == {1}


def test_an_image_whose_output_is_gone_is_made_again(world: World) -> None:
    world.names = PICTURES[:3]
    world.run()
    world.output.delete(PICTURES[1])
    assert states(world) == ["skipped", "done", "skipped"]


@pytest.mark.parametrize("moment", range(16))
def test_images_survive_a_death_at_any_change_of_the_store(world: World, moment: int) -> None:
    world.names = PICTURES[:2]
    world.run(num_workers=1)
    undisturbed, num_changes = world.outputs(), world.output.num_changes
    assert num_changes <= 16
    world.output = FragileStorage()
    world.output.dies_after = moment
    try:
        world.run(num_workers=1)
    except Killed:
        world.output.dies_after = None
        assert "failed" not in states(world)
    assert world.outputs() == undisturbed
    assert [info.key for info in world.output.list(".framelift/plans/") if "/stills/" in info.key] == []


def test_a_file_that_somebody_puts_under_an_images_name_is_left_alone(world: World) -> None:
    """Also where an earlier run was lost while it was at that image."""
    world.names = PICTURES[:1]

    def die(still: Still) -> None:
        raise Killed

    world.fail_image = die
    with pytest.raises(Killed):
        world.run()
    world.output.put(PICTURES[0], b"mine")
    world.fail_image = lambda still: None
    assert states(world) == ["failed"]
    assert world.output.get(PICTURES[0]) == b"mine"
    assert states(world, overwrite=True) == ["done"]


def test_nothing_is_left_written_down_of_images_that_are_through(world: World) -> None:
    world.names = PICTURES
    fails(world, WorkerError("gone"), times=2, kind=StillsTask)
    assert set(states(world)) == {"done"}
    assert [info.key for info in world.output.list(".framelift/plans/") if "/stills/" in info.key] == []


def test_status_tells_of_images_and_videos_that_failed_before_they_were_begun(world: World) -> None:
    world.names = ("a.mp4", *PICTURES[:2])

    def fail(task: Task) -> None:
        if isinstance(task, ProbeTask):
            raise MediaError("it is a text")

    def fail_image(still: Still) -> None:
        if still.input.source.key == PICTURES[1]:
            raise MediaError("it is no image")

    world.fail, world.fail_image = fail, fail_image
    world.run()
    files = {file.name: (file.state, file.reason) for file in read_status(world.output).files}
    assert files == {
        "a.mp4": ("failed", "it is a text"),
        PICTURES[0]: ("done", ""),
        PICTURES[1]: ("failed", "it is no image"),
    }


def test_status_tells_of_a_video_that_could_not_be_joined(world: World) -> None:
    world.names = ("a.mp4",)

    def fail(task: Task) -> None:
        if isinstance(task, AssembleTask):
            raise MediaError("its sound is gone")

    world.fail = fail
    assert states(world) == ["failed"]
    [file] = read_status(world.output).files
    assert (file.state, file.reason) == ("failed", "its sound is gone")
