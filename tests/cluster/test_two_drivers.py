"""Two drivers on one job at the same time: real plans and state, in any order of their steps."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from cluster.report import JobReport
from cluster.storage import ObjectInfo
from cluster.tasks import SegmentTask, Task
from tests.cluster.simulation import Clock, FragileStorage, Killed, World, world

__all__ = ["world"]

_TOO_LONG_S = 60.0


class Turns:
    """Lets one of several threads run at a time; who is next is left to chance, by a seed.

    Args:
        head_start: How many turns the first of them has before that.
    """

    def __init__(self, seed: int, names: Sequence[str], head_start: int) -> None:
        self._random = random.Random(seed)
        self._head_start = head_start
        self._changed = threading.Condition()
        self._names = list(names)
        self._next = names[0]

    def pass_on(self) -> None:
        """Lets any thread go on, perhaps the one that calls. Threads without a turn go on as they are."""
        me = threading.current_thread().name
        if me not in self._names:
            return
        with self._changed:
            self._choose()
            assert self._changed.wait_for(lambda: self._next == me, _TOO_LONG_S), "nobody passes the turn on"

    def run(self, name: str, function: Callable[[], None]) -> None:
        """Runs `function` with turns."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._next == name, _TOO_LONG_S), (
                "nobody passes the turn on"
            )
        try:
            function()
        finally:
            with self._changed:
                self._names.remove(name)
                if self._names:
                    self._choose()

    def _choose(self) -> None:
        self._head_start -= 1
        self._next = self._names[0] if self._head_start > 0 else self._random.choice(self._names)
        self._changed.notify_all()


def run_together(
    worlds: dict[str, World], seed: int, *, dies: str = "", head_start: int = 5
) -> dict[str, JobReport]:
    """The reports of runs at the same time, by name; the run `dies` is killed in its midst."""
    turns, reports, errors = (
        Turns(seed, tuple(worlds), head_start),
        dict[str, JobReport](),
        list[BaseException](),
    )
    steps = dict.fromkeys(worlds, 0)

    def step() -> None:
        turns.pass_on()
        name = threading.current_thread().name
        steps[name] = steps.get(name, 0) + 1
        if name == dies and steps[name] == 25:
            raise Killed

    def run(name: str) -> None:
        try:
            reports[name] = worlds[name].run(before_wait=step)
        except Killed:
            pass
        except BaseException as error:
            errors.append(error)
            raise

    for each in worlds.values():
        each.output.before_put = turns.pass_on
    threads = [threading.Thread(target=turns.run, args=(n, lambda n=n: run(n)), name=n) for n in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_TOO_LONG_S)
        assert not thread.is_alive(), f"it hangs with seed {seed}"
    assert not errors
    return reports


def twins(world: World, names: tuple[str, ...]) -> dict[str, World]:
    """Two worlds with one store of outputs, and a count of what both compute together."""
    output, computed = FragileStorage(), world.computed
    computed.clear()
    return {driver: World(names, output, computed=computed, clock=Clock()) for driver in ("first", "second")}


FILMS = ("a.mp4",)
MANY = (*(f"{number:02}.mp4" for number in range(9)), *(f"{number:02}.png" for number in range(12)))


@pytest.mark.parametrize("names", [FILMS, MANY], ids=["one film", "many files"])
@pytest.mark.parametrize("seed", range(6))
def test_two_drivers_share_a_job_and_do_no_harm(world: World, names: tuple[str, ...], seed: int) -> None:
    alone = World(names)
    alone.run()
    both = twins(world, names)
    reports = run_together(both, seed)
    assert [report.exit_code for report in reports.values()] == [0, 0]
    assert both["first"].outputs() == alone.outputs()
    num_again = sum(world.computed.values()) - len(alone.computed)
    assert num_again <= 8, "only where they meet: at one file, and at what each worker is at then"
    later = World(names, both["first"].output, fail=lambda task: pytest.fail("all is done"))
    assert {outcome.state for outcome in later.run().outcomes} == {"skipped"}
    state = [info.key for info in later.output.list(".framelift/")]
    assert not [key for key in state if "/segments/" in key or "/videos/" in key or "/stills/" in key]


def test_the_second_driver_begins_at_the_end(world: World) -> None:
    both = twins(world, FILMS)
    order: dict[str, list[int]] = {}
    for name, each in both.items():
        order[name] = []

        def note(task: Task, name: str = name) -> None:
            if isinstance(task, SegmentTask):
                order[name].append(int(task.segment.key.rpartition("-")[2]))

        each.fail = note
    run_together(both, 1)
    assert {each.snapshots[-1].from_the_end for each in both.values()} == {True, False}
    firsts = {each.snapshots[-1].from_the_end: order[name][0] for name, each in both.items()}
    assert firsts == {False: 0, True: 3}


@pytest.mark.parametrize("seed", range(6))
def test_two_drivers_that_start_at_once_do_no_harm_either(world: World, seed: int) -> None:
    """Neither may know of the other in time, so that both take the same."""
    alone = World(MANY)
    alone.run()
    both = twins(world, MANY)
    reports = run_together(both, seed, head_start=0)
    assert [report.exit_code for report in reports.values()] == [0, 0]
    assert both["first"].outputs() == alone.outputs()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dies", ["first", "second"])
def test_where_one_of_two_drivers_dies_the_other_ends_the_job(world: World, dies: str, seed: int) -> None:
    alone = World(MANY)
    alone.run()
    both = twins(world, MANY)
    [report] = run_together(both, seed, dies=dies).values()
    assert report.exit_code == 0
    assert both["first"].outputs() == alone.outputs()


def test_a_film_that_is_published_while_another_driver_looks_around_is_no_strangers(world: World) -> None:
    store = world.output
    other = World(names=world.names, output=store, clock=Clock())
    is_publishing, may_publish = threading.Event(), threading.Event()
    put, list_ = store.put, store.list
    finished = threading.Thread(target=lambda: other.run(num_workers=1))

    def put_when_told(key: str, content: bytes) -> ObjectInfo:
        if key.startswith(".framelift/outputs/") and not is_publishing.is_set():
            is_publishing.set()
            assert may_publish.wait(_TOO_LONG_S)
        return put(key, content)

    def list_after_the_other(prefix: str = "") -> Iterator[ObjectInfo]:
        """Lets the other driver end between the first listing and the next."""
        found = list(list_(prefix))
        if is_publishing.is_set() and threading.current_thread() is not finished and not may_publish.is_set():
            may_publish.set()
            finished.join(_TOO_LONG_S)
        return iter(found)

    store.put, store.list = put_when_told, list_after_the_other  # type: ignore[method-assign]
    finished.start()
    assert is_publishing.wait(_TOO_LONG_S)
    assert world.run(num_workers=1).exit_code == 0
    assert all(world.outputs().values())
