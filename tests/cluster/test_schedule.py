from __future__ import annotations

from cluster.plan import FixedSettings, Input, JobPlan, Segment, SourceRef
from cluster.plan_video import plan_video
from cluster.schedule import Schedule
from cluster.tasks import AssembleTask, ProbeTask, SegmentTask
from tests.cluster.simulation import DEVICE, JOB, source_info, timeline

PLAN = JobPlan(JOB, FixedSettings(DEVICE, "fp32", 256, 1, 1, 1))


def input_(name: str) -> Input:
    return Input(SourceRef("memory:", name, 1, "1"), name)


def segments(name: str, number: int) -> list[SegmentTask]:
    treatment = plan_video(PLAN, input_(name), source_info(), timeline(), None).treatment
    return [
        SegmentTask(
            PLAN,
            treatment,
            Segment(f"{treatment.output_key}-{i:06d}", None, None, 1, (None, None)),
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
    schedule.ended(first)
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
    schedule.ended(lost)
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
    schedule.ended(task)
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
