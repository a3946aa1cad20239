"""What cleaning removes, and what it must leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from cluster.clean import Cleaned, clean
from cluster.manifest import Manifest
from cluster.report import Snapshot
from cluster.storage import ObjectInfo
from cluster.storage.memory import MemoryStorage
from sr_core.errors import MediaError
from tests.cluster.simulation import FragileStorage, Killed, World, world

__all__ = ["world"]

DAY_S = 86400.0
TASKS = ("a.mp4", "b/c.mkv", "1.png", "2.png")


def clean_all(storage: MemoryStorage, *, is_dry_run: bool = False) -> Cleaned:
    """Two days later, of all that was silent for a day."""
    cleaned = clean(storage, DAY_S, time.time() + 2 * DAY_S, is_dry_run=is_dry_run)
    assert cleaned is not None
    return cleaned


def keys(storage: MemoryStorage, prefix: str = "") -> list[str]:
    return [info.key for info in storage.list(prefix)]


def kill_at(world: World, num_changes: int) -> None:
    world.output.dies_before = world.output.num_changes + num_changes
    with pytest.raises(Killed):
        world.run()
    world.output.dies_before = None


class DiesBeforeReceipt(FragileStorage):
    """A store whose process dies before the n-th receipt of a segment."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.num_left = number

    def put(self, key: str, content: bytes) -> ObjectInfo:
        if "/receipts/" in key:
            self.num_left -= 1
            self.dies_before = self.num_changes if self.num_left == 0 else self.dies_before
        return super().put(key, content)


def kill_before_receipt(world: World, number: int) -> None:
    world.output = DiesBeforeReceipt(number)
    with pytest.raises(Killed):
        world.run()
    world.output.dies_before = None


def beat(storage: MemoryStorage, run_id: str, state: str, ago_s: float) -> None:
    """Leaves a heartbeat of a run."""
    last = Manifest(storage).snapshots()[-1]
    snapshot: Snapshot = replace(last, run_id=run_id, state=state, updated_s=time.time() - ago_s)  # type: ignore[arg-type]
    Manifest(storage).put_snapshot(snapshot)


def test_after_cleaning_a_job_goes_on_from_all_that_it_committed(world: World) -> None:
    world.names = TASKS
    world.run()
    expected, num_changes = world.outputs(), world.output.num_changes
    for deadly in range(1, num_changes):
        world.output = FragileStorage()
        world.computed.clear()
        kill_at(world, deadly)
        clean_all(world.output)
        committed = {key.rpartition("/")[2].removesuffix(".json") for key in world.receipts()}
        assert world.run().exit_code == 0, deadly
        assert world.outputs() == expected, deadly
        assert all(world.computed[key] == 1 for key in committed), deadly


def test_a_finished_job_keeps_its_outputs_with_their_receipts_and_stays_finished(world: World) -> None:
    world.names = TASKS
    world.run()
    outputs, receipts = world.outputs(), keys(world.output, ".framelift/outputs/")
    cleaned = clean_all(world.output)
    assert cleaned.num_receipts == 8
    assert keys(world.output, ".framelift/receipts/") == []
    assert keys(world.output, ".framelift/outputs/") == receipts
    world.computed.clear()
    assert {outcome.state for outcome in world.run().outcomes} == {"skipped"}
    assert (world.outputs(), +world.computed) == (outputs, {})


def test_what_is_left_of_a_finished_output_goes_with_its_failures(world: World) -> None:
    world.names = ("a.mp4",)
    fails = iter([MediaError("odd"), None, None, None])

    def fail_once(task: object) -> None:
        error = next(fails, None)
        if error is not None:
            raise error

    world.fail = fail_once
    world.run()
    world.run(again=True)
    assert all(world.outputs().values())
    assert keys(world.output, ".framelift/failures/") != []
    clean_all(world.output)
    left = [key for key in keys(world.output, ".framelift/") if "/runs/" not in key]
    assert [key.split("/")[1] for key in left] == ["outputs", "plans"]
    assert left[1].endswith("/plan.json")


def test_loose_parts_go_once_their_run_is_over_and_no_sooner(world: World) -> None:
    world.names = ("a.mp4",)
    kill_before_receipt(world, 3)
    committed = sorted(world.receipts())[0].rpartition("/")[2].removesuffix(".json")
    last_run = Manifest(world.output).run_ids()[-1]
    old, silent, alive = "20200101T000000-aaaaaa", "20200101T000000-bbbbbb", "20200101T000000-cccccc"
    beat(world.output, silent, "running", 2 * DAY_S)
    beat(world.output, alive, "running", 60.0)
    parts = {
        run_id: Manifest(world.output).part_key(committed, f"{run_id}-3.mp4")
        for run_id in (old, silent, alive)
    }
    for key in (*parts.values(), Manifest(world.output).part_key(committed, "somebody.else")):
        world.output.put(key, b"12345")
    cleaned = clean(world.output, DAY_S, time.time())
    assert cleaned is not None
    assert (cleaned.num_parts, cleaned.num_heartbeats) == (2, 1)
    left = keys(world.output, f".framelift/segments/{committed}/")
    assert [key.rpartition("/")[2] for key in left if last_run not in key] == [
        f"{alive}-3.mp4",
        "somebody.else",
    ]
    assert len(left) == 3  # the part that the receipt means, of a run that died just now


def test_even_at_once_a_run_that_may_be_at_work_keeps_its_parts(world: World) -> None:
    world.names = ("a.mp4",)
    kill_before_receipt(world, 1)
    loose = keys(world.output, ".framelift/segments/")
    assert len(loose) == 1
    assert not world.receipts()
    cleaned = clean(world.output, 0.0, time.time() + 60)
    assert cleaned is not None
    assert keys(world.output, ".framelift/segments/") == loose
    cleaned = clean(world.output, 0.0, time.time() + 3600)
    assert cleaned is not None
    assert (cleaned.num_parts, keys(world.output, ".framelift/segments/")) == (1, [])


def test_receipts_without_their_part_go(world: World) -> None:
    world.names = ("a.mp4",)
    kill_before_receipt(world, 3)
    lost = keys(world.output, ".framelift/segments/")[0]
    world.output.delete(lost)
    num_receipts = len(world.receipts())
    assert clean_all(world.output).num_receipts == 1
    assert len(world.receipts()) == num_receipts - 1
    assert world.run().exit_code == 0


def test_of_the_runs_that_are_over_the_last_heartbeat_stays(world: World) -> None:
    world.run()
    world.run()
    last = Manifest(world.output).snapshots()[-1].run_id
    assert clean_all(world.output).num_heartbeats == 1
    assert Manifest(world.output).run_ids() == [last]


def test_a_dry_run_says_the_same_and_removes_nothing(world: World) -> None:
    world.names = TASKS
    world.run()
    before = keys(world.output)
    said = clean_all(world.output, is_dry_run=True)
    assert keys(world.output) == before
    assert clean_all(world.output) == said
    assert len(keys(world.output)) == len(before) - 8
    again = clean_all(world.output)
    assert again == Cleaned(0, 0, 0, 0, 0, 0, 0, 0, 0)


def test_uploads_of_a_run_that_is_at_work_are_left_however_long_it_runs(world: World) -> None:
    ages_s = []

    class Uploads(FragileStorage):
        def sweep_uploads(self, age_s: float, is_own: Callable[[str], bool]) -> int:
            ages_s.append(age_s)
            return 0

    world.output = Uploads()
    world.run()
    clean(world.output, 3600.0, time.time())
    last = Manifest(world.output).snapshots()[-1]
    Manifest(world.output).put_snapshot(replace(last, state="running", elapsed_s=3 * DAY_S))
    clean(world.output, 3600.0, time.time())
    assert ages_s[0] == 3600.0
    assert ages_s[1] >= 3 * DAY_S


def test_where_no_job_has_written_there_is_nothing_to_clean() -> None:
    storage = MemoryStorage()
    storage.put("film.mp4", b"film")
    assert clean(storage, 0.0, time.time()) is None


def test_what_a_run_at_work_makes_of_a_finished_output_is_left_to_it(world: World) -> None:
    world.names = ("a.mp4",)
    world.run()
    segment_key = sorted(world.receipts())[0].rpartition("/")[2].removesuffix(".json")
    alive = "20200101T000000-cccccc"
    beat(world.output, alive, "running", 60.0)
    world.output.put(Manifest(world.output).part_key(segment_key, f"{alive}-3.mp4"), b"late")
    cleaned = clean(world.output, DAY_S, time.time())
    assert cleaned is not None
    assert (cleaned.num_parts, cleaned.num_receipts) == (0, 0)


def test_only_uploads_to_names_that_a_run_began_are_a_jobs_own(world: World) -> None:
    found: list[Callable[[str], bool]] = []

    class Uploads(FragileStorage):
        def sweep_uploads(self, age_s: float, is_own: Callable[[str], bool]) -> int:
            found.append(is_own)
            return 0

    world.output = Uploads()
    world.run()
    clean(world.output, 3600.0, time.time())
    [is_own] = found
    assert all(map(is_own, ("a.mp4", ".framelift/segments/x/y.mp4")))
    assert not any(map(is_own, ("ingest/reel.mxf", "deeper/.framelift/segments/x/y.mp4")))
