"""What holds of S3 alone: what it costs, and how it bears a store that fails."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.storage import Storage, bucket, open_storage, patience, ranged, s3
from cluster.storage.s3 import S3Storage
from sr_core.errors import MediaError, SourceChanged, StorageError
from tests.stores.fault_proxy import Fault, FaultProxy, Request, Traffic, fault_proxy
from tests.stores.s3_server import client, new_bucket

MIB = 1 << 20
SMALL_BLOCK = 64 << 10


@pytest.fixture
def proxy(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(time, "sleep", _short(time.sleep))
    with fault_proxy(s3_endpoint) as found:
        found.silence_s = 1.5
        yield found


def _short(sleep):  # type: ignore[no-untyped-def]
    """Pauses between tries, of boto3 and ours, which would add up to minutes."""
    return lambda seconds: sleep(min(seconds, 0.02) if seconds != 1.5 else seconds)


@pytest.fixture
def store(proxy: FaultProxy) -> S3Storage:
    return S3Storage(f"s3://{new_bucket(proxy.url)}/prefix?endpoint_url={proxy.url}&timeout_seconds=0.5")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged, "BLOCK_BYTES", SMALL_BLOCK)


def stored(store: Storage, tmp_path: Path, num_bytes: int) -> tuple[str, bytes]:
    """An object `film` of random bytes: its version and its content."""
    content = os.urandom(num_bytes)
    path = tmp_path / "film"
    path.write_bytes(content)
    return store.put_file("film", path).version, content


def every_third(fault: Fault, method: str = ""):  # type: ignore[no-untyped-def]
    """Chooses the fault for the first of every three requests."""
    counted = [0]

    def choose(request: Request) -> Fault | None:
        if method and request.method != method:
            return None
        counted[0] += 1
        return fault if counted[0] % 3 == 1 else None

    return choose


def test_reading_from_end_to_end_asks_for_every_byte_once(
    store: S3Storage, proxy: FaultProxy, tmp_path: Path
) -> None:
    version, content = stored(store, tmp_path, 20 * MIB + 1)
    proxy.traffic = Traffic()
    with store.open("film", version) as file:
        found = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
    assert found == hashlib.sha256(content).digest()
    assert proxy.traffic.bytes_down == len(content)
    assert len(proxy.traffic.requests) == 1 + 6


def test_a_header_is_fetched_once_by_a_process(store: S3Storage, proxy: FaultProxy, tmp_path: Path) -> None:
    version, content = stored(store, tmp_path, 20 * MIB)
    for _ in range(2):
        proxy.traffic = Traffic()
        with store.open("film", version) as file:
            assert file.read(1000) == content[:1000]
            file.seek(-1000, os.SEEK_END)
            assert file.read() == content[-1000:]
    assert proxy.traffic.bytes_down == 0


def test_seeking_reads_what_lies_there(store: S3Storage, tmp_path: Path, small_blocks: None) -> None:
    version, content = stored(store, tmp_path, MIB)
    with store.open("film", version) as file:
        for start in (900_000, 5, SMALL_BLOCK - 1, MIB - 3, 400_000):
            assert file.seek(start) == start
            assert file.read(70_000) == content[start : start + 70_000]
        assert file.read() == content[470_000:]
        assert file.seek(MIB + 10) == MIB + 10
        assert file.read(1) == b""


@pytest.mark.parametrize("fault", Fault)
def test_what_is_read_is_right_whatever_the_store_does(
    store: S3Storage, proxy: FaultProxy, tmp_path: Path, small_blocks: None, fault: Fault
) -> None:
    version, content = stored(store, tmp_path, 5 * SMALL_BLOCK)
    proxy.choose = every_third(fault)
    with store.open("film", version) as file:
        assert file.read() == content
    assert store.get("film") == content
    with store.as_file("film") as path:
        assert path.read_bytes() == content
    assert [info.key for info in store.list()] == ["film"]
    assert proxy.traffic.faults


@pytest.mark.parametrize("fault", Fault)
def test_what_is_written_is_right_whatever_the_store_does(
    store: S3Storage, proxy: FaultProxy, tmp_path: Path, fault: Fault
) -> None:
    proxy.choose = every_third(fault)
    version, content = stored(store, tmp_path, 17 * MIB)
    store.put("receipt", b"done")
    proxy.choose = lambda request: None
    assert store.get("film") == content
    assert store.head("film").version == version  # type: ignore[union-attr]
    assert store.get("receipt") == b"done"
    store.delete("receipt")
    assert store.get("receipt") is None


def test_a_store_that_stays_away_is_unavailable(
    store: S3Storage, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, _ = stored(store, tmp_path, MIB)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.3)
    for fault in (Fault.UNAVAILABLE, Fault.RESET, Fault.CUT):
        proxy.choose = lambda request, fault=fault: fault if request.method == "GET" else None  # type: ignore[misc]
        ranged._EDGES.__init__(MIB)  # type: ignore[misc]
        with store.open("film", version) as file, pytest.raises(StorageError) as caught:
            file.read()
        assert caught.value.unavailable, fault


def test_a_source_that_is_replaced_while_it_is_read_has_changed(
    store: S3Storage, tmp_path: Path, small_blocks: None
) -> None:
    version, _ = stored(store, tmp_path, 10 * SMALL_BLOCK)
    with store.open("film", version) as file:
        file.read(10)
        stored(store, tmp_path, 10 * SMALL_BLOCK)
        with pytest.raises(SourceChanged, match="film"):
            file.read()


def test_an_object_in_an_archive_is_to_be_restored_first(store: S3Storage, proxy: FaultProxy) -> None:
    bucket = store.url.split("/")[2]
    client(proxy.url).put_object(Bucket=bucket, Key="prefix/old", Body=b"film", StorageClass="GLACIER")
    info = store.head("old")
    assert info is not None
    with pytest.raises(MediaError, match="restore it first"), store.open("old", info.version) as file:
        file.read()


def test_what_the_store_refuses_is_not_tried_again(store: S3Storage, proxy: FaultProxy) -> None:
    elsewhere = S3Storage(f"s3://no-such-bucket-at-all?endpoint_url={proxy.url}")
    proxy.traffic = Traffic()
    with pytest.raises(StorageError, match="make the bucket") as caught:
        elsewhere.put("key", b"")
    assert not caught.value.unavailable
    assert len(proxy.traffic.requests) == 1


def test_no_credential_is_ever_told(
    store: S3Storage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-mine")
    caplog.set_level(logging.INFO)
    fresh = S3Storage(f"s3://no-such-bucket-at-all?endpoint_url={proxy.url}&region=eu-west-1")
    with pytest.raises(StorageError) as caught:
        fresh.get("key")
    assert "a-secret-of-mine" not in f"{caught.value} {caught.value!r} {fresh.url} {caplog.text}"


def test_many_keys_are_found_by_a_few_listings(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3Storage(
        f"s3://{new_bucket(proxy.url)}/prefix?endpoint_url={proxy.url}"
    )  # which waits for answers
    monkeypatch.setattr(s3, "_KEYS_PER_LISTING", 40)
    there = [f"{folder}/{number:04d}.png" for folder in ("a", "b") for number in range(0, 100, 2)]
    for key in [*there, *(f"between/{number}" for number in range(20))]:
        store.put(key, b"")
    wanted = [f"{folder}/{number:04d}.png" for folder in ("a", "b") for number in range(100)]
    proxy.traffic = Traffic()
    found = store.find(wanted)
    assert sorted(found) == there
    assert len(proxy.traffic.requests) <= 5


def test_uploads_that_never_ended_are_ended(store: S3Storage, proxy: FaultProxy) -> None:
    bucket = store.url.split("/")[2]
    plain = client(proxy.url)
    plain.create_multipart_upload(Bucket=bucket, Key="prefix/film.mp4")
    plain.create_multipart_upload(Bucket=bucket, Key="elsewhere/film.mp4")
    assert store.sweep_uploads(1e9) == 0  # this server says of all uploads that they began in 2010
    assert store.sweep_uploads(3600) == 1
    left = plain.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["elsewhere/film.mp4"]


def test_folders_that_consoles_make_are_no_objects(store: S3Storage, proxy: FaultProxy) -> None:
    client(proxy.url).put_object(Bucket=store.url.split("/")[2], Key="prefix/below/", Body=b"")
    assert list(store.list()) == []


def test_another_process_opens_the_same_store_by_its_url(store: S3Storage) -> None:
    store.put("key", b"content")
    assert open_storage(store.url).get("key") == b"content"


def test_an_endpoint_that_never_answered_is_given_up_soon(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_FIRST_PATIENCE_S", 0.5)
    with pytest.raises(StorageError, match="check the endpoint") as caught:
        S3Storage("s3://bucket?endpoint_url=http://127.0.0.1:9").get("key")
    assert caught.value.unavailable
