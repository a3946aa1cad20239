"""The state of jobs: what a survey sees, and what two drivers may do to it at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.manifest import Manifest, Survey
from cluster.plan import Input, SourceRef, name_key
from cluster.publish import publish
from cluster.report import Snapshot, SnapshotState
from cluster.status import read_status
from cluster.storage import LocalStorage, Storage, open_storage
from cluster.storage.memory import MemoryStorage
from cluster.tasks import OutputReceipt
from sr_core.errors import SpecError
from tests.stores.fault_proxy import FaultProxy, fault_proxy
from tests.stores.s3_server import credentials, new_bucket, s3_server

RECEIPT = OutputReceipt(
    key="",
    job_id="job",
    source="a.mp4",
    output="a.mp4",
    size_bytes=4,
    sha256=hashlib.sha256(b"film").hexdigest(),
    num_segments=1,
    num_frames=25,
    damage="",
    missing=(),
    corrupt=(),
    errors=(),
    told=(),
    psnr_db=None,
    seconds=1.0,
)


def receipt_of(name: str, decides: str = "x") -> OutputReceipt:
    return replace(RECEIPT, key=f"{name_key(name)}-{decides}", source=name, output=name)


def heartbeat(run_id: str, state: SnapshotState, updated_s: float, job_id: str = "job") -> Snapshot:
    numbers = dict.fromkeys(
        ("files", "files_done", "files_skipped", "files_damaged", "files_failed", "files_probed"), 0
    )
    return Snapshot(
        run_id,
        job_id,
        state,
        updated_s,
        elapsed_s=1.0,
        **{f"num_{name}": number for name, number in numbers.items()},
        num_segments=0,
        num_segments_done=0,
        num_frames=0,
        num_frames_done=0,
        frames_per_second=0.0,
        eta_s=None,
        slowest_stage="",
        num_workers=0,
        current=(),
    )


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with credentials(), s3_server() as endpoint_url, fault_proxy(endpoint_url) as found:
        yield found


@pytest.fixture
def bucket(proxy: FaultProxy) -> Storage:
    return open_storage(f"s3://{new_bucket(proxy.url)}/out?endpoint_url={proxy.url}")


def test_runs_of_a_job_are_alive_as_long_as_they_say_so() -> None:
    manifest = Manifest(MemoryStorage())
    for snapshot in (
        heartbeat("20260101T000001-a", "running", 1000.0),
        heartbeat("20260101T000002-b", "running", 900.0),
        heartbeat("20260101T000003-c", "starting", 995.0),
        heartbeat("20260101T000004-d", "finished", 999.0),
        heartbeat("20260101T000005-e", "stopped", 999.0),
        heartbeat("20260101T000006-f", "running", 999.0, job_id="another"),
    ):
        manifest.put_snapshot(snapshot)
    assert manifest.live_runs("job", 1010.0, 60.0) == ["20260101T000003-c", "20260101T000001-a"]
    assert manifest.live_runs("job", 1061.0, 60.0) == []


def test_a_survey_of_shards_sees_what_one_of_a_folder_does(tmp_path: Path) -> None:
    def fill(storage: Storage) -> Survey:
        manifest = Manifest(storage)
        for number in range(60):
            receipt = receipt_of(f"{number}.mp4")
            manifest.put_output(receipt)
            storage.put(receipt.output, b"film")
            storage.put(manifest.part_key(f"{receipt.key}-000000", "run-1.mp4"), b"part")
            storage.put(f".framelift/receipts/{receipt.key}-000000.json", b"{}")
            storage.put(f".framelift/failures/{receipt.key}-probe/run-2.json", b"{}")
        storage.put(".framelift/plans/job/videos/begun-1.json", b"{}")
        storage.put(".framelift/plans/job/stills/run-3.json", b'["still-1"]')
        return manifest.survey([f"{number}.mp4" for number in range(0, 120, 2)])

    of_shards, of_folder = fill(MemoryStorage()), fill(LocalStorage(tmp_path))
    for what in ("finished", "planned", "stills", "receipts", "parts", "failures"):
        assert getattr(of_shards, what) == getattr(of_folder, what) != type(getattr(of_folder, what))(), what
    assert of_shards.outputs.keys() == of_folder.outputs.keys() == {f"{n}.mp4" for n in range(0, 60, 2)}
    assert (len(of_shards.finished), of_shards.planned) == (60, {"begun-1", "still-1"})


def test_a_survey_of_a_bucket_asks_a_number_of_times_that_does_not_grow_with_it(
    bucket: Storage, proxy: FaultProxy
) -> None:
    names = [f"{number:03}.png" for number in range(300)]
    for name in names:
        Manifest(bucket).put_output(receipt_of(name))
        bucket.put(name, b"film")
    before = len(proxy.traffic.requests)
    survey = Manifest(bucket).survey(names)
    assert (len(survey.outputs), len(survey.finished)) == (300, 300)
    assert len(proxy.traffic.requests) - before <= 40
    Manifest(bucket).put_snapshot(heartbeat("20260101T000001-a", "finished", 1.0))
    assert {file.state for file in read_status(bucket).files} == {"done"}


def published(storage: Storage, content: bytes, receipt: OutputReceipt, scratch: Path) -> None:
    source = LocalStorage(scratch / "in")
    info = source.put("a.mp4", b"source")
    path = scratch / "made.mp4"
    path.write_bytes(content)
    input_ = Input(SourceRef(source.url, "a.mp4", info.size_bytes, info.version), receipt.output)
    publish(path, receipt, input_, None, storage)


def test_publishing_what_another_driver_has_published_changes_nothing(tmp_path: Path) -> None:
    storage, receipt = MemoryStorage(), receipt_of("a.mp4")
    published(storage, b"film", receipt, tmp_path)
    before = list(storage.list())
    published(storage, b"film", receipt, tmp_path)
    assert list(storage.list()) == before


def test_publishing_at_the_same_time_as_another_driver_never_takes_its_receipt_away(tmp_path: Path) -> None:
    receipt = receipt_of("a.mp4")
    deleted = []

    class Watched(MemoryStorage):
        def head(self, key: str):  # type: ignore[no-untyped-def]
            if key == "a.mp4" and not deleted:  # the other one publishes right after the look for its receipt
                deleted.append("")
                self.put("a.mp4", b"film")
                Manifest(self).put_output(receipt)
            return super().head(key)

        def delete(self, key: str) -> None:
            deleted.append(key)
            super().delete(key)

    storage = Watched()
    Manifest(storage).put_output(receipt_of("a.mp4", "older"))
    published(storage, b"film", receipt, tmp_path)
    assert deleted == ["", f".framelift/outputs/{name_key('a.mp4')}-older.json"]
    assert Manifest(storage).output(receipt.key) == receipt


def test_what_somebody_else_put_there_is_refused(tmp_path: Path) -> None:
    storage = MemoryStorage()
    storage.put("a.mp4", b"mine")
    with pytest.raises(SpecError, match="something else was put"):
        published(storage, b"film", receipt_of("a.mp4"), tmp_path)
    assert storage.get("a.mp4") == b"mine"
