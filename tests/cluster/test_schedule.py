from __future__ import annotations

from dataclasses import replace

from cluster.plan import FixedSettings, Input, JobPlan, Segment, SourceRef
from cluster.plan_video import plan_video
from cluster.schedule import Schedule
from cluster.tasks import AssembleTask, ProbeTask, SegmentTask
from tests.cluster.simulation import DEVICE, JOB, Clock, source_info, timeline

PLAN = JobPlan(JOB, FixedSettings(DEVICE, "fp32", 256, 1, 1, 1))


def input_(name: str) -> Input:
    return Input(SourceRef("memory:", name, 1, "1"), name)


def segments(name: str, number: int) -> list[SegmentTask]:
    treatment = plan_video(PLAN, input_(name), source_info(), timeline(), None).treatment
    return [
        SegmentTask(
            PLAN,
            treatment,
            Segment(f"{treatment.output_key}-{i:06d}", None, None, 1, (None, None), (None, None)),
            "1",
            "memory:",
        )
        for i in range(number)
    ]


def assembly(name: str) -> AssembleTask:
    return AssembleTask(PLAN, plan_video(PLAN, input_(name), source_info(), timeline(), None), "1", "memory:")


def test_no_more_files_are_begun_than_may_be_ahead() -> None:
    schedule = Schedule([ProbeTask(PLAN, input_(f"{i}.mp4")) for i in range(5)], num_files_ahead=2)
    first, second = schedule.take("w", 1), schedule.take("w", 1)
    assert isinstance(first, ProbeTask)
    assert isinstance(second, ProbeTask)
    assert schedule.take("w", 1) is None
    schedule.ended("w", first)
    assert schedule.take("w", 1) is None, "a file that was begun counts until it ended"
    schedule.file_ended(first.output_key)
    assert isinstance(schedule.take("w", 1), ProbeTask)


def test_joining_comes_before_segments_and_segments_before_new_files() -> None:
    schedule = Schedule([ProbeTask(PLAN, input_("new.mp4"))], num_files_ahead=9)
    schedule.add_segments(segments("a.mp4", 1))
    schedule.add(assembly("b.mp4"))
    kinds = [type(schedule.take("w", 1)) for _ in range(3)]
    assert kinds == [AssembleTask, SegmentTask, ProbeTask]


def test_each_worker_gets_neighbouring_segments() -> None:
    schedule = Schedule([], num_files_ahead=9)
    tasks = segments("a.mp4", 16)
    schedule.add_segments(tasks)
    taken: dict[str, list[int]] = {"v": [], "w": []}
    for worker in "vw" * 8:
        task = schedule.take(worker, 2)
        assert isinstance(task, SegmentTask)
        taken[worker].append(tasks.index(task))
    assert taken == {"v": list(range(8)), "w": list(range(8, 16))}


def test_a_worker_with_nothing_left_takes_half_of_the_longest_run() -> None:
    schedule = Schedule([], num_files_ahead=9)
    tasks = segments("a.mp4", 8)
    schedule.add_segments(tasks)
    assert schedule.take("v", 2) is tasks[0]
    assert schedule.take("w", 2) is tasks[4], "the far half, so that both go on with neighbours"
    assert schedule.take("v", 2) is tasks[1]
    assert schedule.take("w", 2) is tasks[5]


def test_what_a_lost_worker_had_before_it_goes_to_the_others_in_order() -> None:
    schedule = Schedule([], num_files_ahead=9)
    tasks = segments("a.mp4", 4)
    schedule.add_segments(tasks)
    lost = schedule.take("v", 2)
    assert lost is tasks[0]
    schedule.worker_ended("v")
    schedule.ended("v", lost)
    schedule.again(lost, not_by="v")
    assert [schedule.take("w", 1) for _ in range(4)] == tasks


def test_a_task_goes_elsewhere_where_there_is_an_elsewhere() -> None:
    schedule = Schedule([], num_files_ahead=9)
    [task] = segments("a.mp4", 1)
    schedule.again(task, not_by="v")
    assert schedule.take("v", 2) is None
    assert schedule.take("w", 2) is task
    schedule.again(task, not_by="w")
    assert schedule.take("v", 2) is task, "all have failed: any may try"


def test_it_is_finished_only_when_nothing_waits_and_nothing_runs() -> None:
    schedule = Schedule([], num_files_ahead=9)
    assert schedule.is_finished
    [task] = segments("a.mp4", 1)
    schedule.add_segments([task])
    assert not schedule.is_finished
    taken = schedule.take("v", 1)
    assert taken is task
    assert not schedule.is_finished
    schedule.ended("v", task)
    assert schedule.is_finished


def test_a_file_that_ended_leaves_nothing_behind() -> None:
    schedule = Schedule([], num_files_ahead=9)
    tasks, others = segments("a.mp4", 12), segments("b.mp4", 1)
    schedule.add_segments([*tasks, *others])
    taken = schedule.take("v", 1)
    assert taken is tasks[0]
    schedule.add(assembly("a.mp4"))
    schedule.file_ended(tasks[0].output_key)
    assert schedule.take("v", 1) is others[0]
    assert schedule.take("v", 1) is None


def test_a_task_that_pauses_waits_and_lets_others_go_first() -> None:
    clock = Clock()
    schedule = Schedule([], num_files_ahead=9, clock=clock)
    first, second = segments("a.mp4", 2)
    schedule.add_segments([second])
    schedule.again(first, pause_s=5)
    assert schedule.take("w", 1) is second
    schedule.ended("w", second)
    clock.now_s = 4.9
    assert schedule.take("w", 1) is None
    assert not schedule.is_finished
    clock.now_s = 5
    assert schedule.take("w", 1) is first


def test_what_is_wanted_are_workers_for_all_that_runs_or_could_run() -> None:
    clock = Clock()
    schedule = Schedule([ProbeTask(PLAN, input_("new.mp4"))], num_files_ahead=9, clock=clock)
    schedule.add_segments(segments("a.mp4", 4))
    assert schedule.num_wanted == 5
    task = schedule.take("w", 9)
    assert schedule.num_wanted == 5
    assert task is not None
    schedule.ended("w", task)
    schedule.again(task, pause_s=9)
    assert schedule.num_wanted == 4


def overdue(clock: Clock) -> tuple[Schedule, SegmentTask]:
    """A schedule in which `v` is at a segment for a minute, where others took a second."""
    schedule = Schedule([], num_files_ahead=9, clock=clock)
    slow, *others = segments("a.mp4", 3)
    schedule.add_segments([slow])
    assert schedule.take("v", 2) is slow
    for other in others:
        schedule.made(other, 1.0)
    clock.now_s += 60
    return schedule, slow


def test_a_segment_that_takes_too_long_is_given_to_a_second_worker_and_to_no_third() -> None:
    schedule, slow = overdue(Clock())
    assert schedule.straggler_for("w") is slow
    schedule.started("w", replace(slow, attempt="2"))
    assert schedule.straggler_for("x") is None


def test_a_segment_is_not_tried_twice_within_what_is_usual_or_within_some_seconds() -> None:
    for seconds, waited_s, is_late in (
        (100.0, 299, False),
        (100.0, 301, True),
        (1.0, 9, False),
        (1.0, 11, True),
    ):
        clock = Clock()
        schedule = Schedule([], num_files_ahead=9, clock=clock)
        task, other = segments("a.mp4", 2)
        schedule.add_segments([task])
        schedule.take("v", 2)
        schedule.made(other, seconds)
        clock.now_s = waited_s
        assert (schedule.straggler_for("w") is task) is is_late, (seconds, waited_s)


def test_a_worker_that_failed_a_segment_gets_no_copy_of_it() -> None:
    clock = Clock()
    schedule, slow = overdue(clock)
    schedule.ended("v", slow)
    schedule.again(slow, not_by="v")
    assert schedule.take("w", 2) is slow
    clock.now_s += 60
    assert schedule.straggler_for("v") is None
    assert schedule.straggler_for("x") is slow


def test_once_a_segment_is_settled_its_other_attempt_does_not_count() -> None:
    schedule, slow = overdue(Clock())
    copy = replace(slow, attempt="2")
    schedule.started("w", copy)
    assert schedule.ended("w", copy) == 0
    assert schedule.is_running(slow)
    schedule.settled(copy)
    assert schedule.is_finished
    assert not schedule.is_of_use("v", slow)
    assert schedule.ended("v", slow) is None


def test_a_hundred_thousand_segments_are_handed_out_to_a_thousand_workers_in_runs() -> None:
    schedule = Schedule([], num_files_ahead=9)
    [task] = segments("a.mp4", 1)
    tasks = [replace(task, segment=replace(task.segment, key=f"{number}")) for number in range(100_000)]
    schedule.add_segments(tasks)
    taken: list[int] = []
    workers = [f"w{number}" for number in range(1000)]
    while schedule.has_waiting:
        for worker in workers:
            found = schedule.take(worker, 1000)
            if found is not None:
                taken.append(int(found.id))
                schedule.ended(worker, found)
    assert sorted(taken) == list(range(100_000))
    assert schedule.is_finished
