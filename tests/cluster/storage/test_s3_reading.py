"""How objects of an S3 store are read, what that costs, and what comes of a store that fails or is odd."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cluster.storage import Storage, open_storage, patience, ranged, s3
from cluster.storage.ranged import BLOCK_BYTES
from sr_core.errors import DiskError, SourceChanged, StorageError
from tests.stores.fault_proxy import Fault, FaultProxy, Request, Traffic, every_third
from tests.stores.s3_server import client
from tests.stores.stub import Answer, Stub, refusing, stub_server

MIB = 1 << 20
SMALL_BLOCK = 64 << 10

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged, "BLOCK_BYTES", SMALL_BLOCK)


def stored(storage: Storage, num_bytes: int) -> tuple[str, bytes]:
    """An object `film` of random bytes: its version and its content."""
    content = os.urandom(num_bytes)
    return storage.put("film", content).version, content


def test_reading_from_end_to_end_asks_for_every_byte_once(storage: Storage, proxy: FaultProxy) -> None:
    version, content = stored(storage, 20 * MIB + 1)
    proxy.traffic = Traffic()
    with storage.open("film", version) as file:
        found = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
    assert found == hashlib.sha256(content).digest()
    assert proxy.traffic.bytes_down == len(content)
    assert len(proxy.traffic.requests) == 1 + 6


def test_a_header_is_fetched_once_by_a_process(storage: Storage, proxy: FaultProxy) -> None:
    version, content = stored(storage, 20 * MIB)
    for _ in range(2):
        proxy.traffic = Traffic()
        with storage.open("film", version) as file:
            assert file.read(1000) == content[:1000]
            file.seek(-1000, os.SEEK_END)
            assert file.read() == content[-1000:]
    assert proxy.traffic.bytes_down == 0


def test_seeking_reads_what_lies_there(storage: Storage, small_blocks: None) -> None:
    version, content = stored(storage, MIB)
    with storage.open("film", version) as file:
        for start in (900_000, 5, SMALL_BLOCK - 1, MIB - 3, 400_000):
            assert file.seek(start) == start
            assert file.read(70_000) == content[start : start + 70_000]
        assert file.read() == content[470_000:]
        assert file.seek(MIB + 10) == MIB + 10
        assert file.read(1) == b""


@pytest.mark.parametrize("fault", Fault)
def test_what_is_read_is_right_whatever_the_store_does(
    impatient: Storage, proxy: FaultProxy, small_blocks: None, fault: Fault
) -> None:
    version, content = stored(impatient, 5 * SMALL_BLOCK)
    proxy.choose = every_third(fault)
    with impatient.open("film", version) as file:
        assert file.read() == content
    assert impatient.get("film") == content
    with impatient.as_file("film") as path:
        assert path.read_bytes() == content
    assert [info.key for info in impatient.list()] == ["film"]
    assert proxy.traffic.faults


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.RESET, Fault.CUT])
def test_a_store_that_stays_away_is_unavailable(
    storage: Storage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    version, _ = stored(storage, MIB)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.3)
    proxy.choose = lambda request: fault if request.method == "GET" else None
    with storage.open("film", version) as file, pytest.raises(StorageError) as caught:
        file.read()
    assert caught.value.unavailable


def serving(content: bytes, etag: str, condition: Callable[[str], bool]) -> Callable[..., Answer]:
    """An object at an ETag, with what the store thinks of an If-Match."""

    def answer(headers: Mapping[str, str]) -> Answer:
        shown = {"ETag": f'"{etag}"'}
        if "If-Match" in headers and not condition(headers["If-Match"]):
            return refusing(412, "PreconditionFailed")(headers)
        if "Range" not in headers:
            return Answer(200, content, shown)
        first, last = headers["Range"].removeprefix("bytes=").split("-")
        start, stop = int(first), min(int(last or len(content)) + 1, len(content))
        total = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        return Answer(206, content[start:stop], {**shown, **total})

    return answer


def test_a_store_that_wants_bare_etags_is_understood_once_for_all(s3_endpoint: str) -> None:
    content = os.urandom(5 * BLOCK_BYTES)
    with stub_server(serving(content, "etag", lambda condition: condition == "etag")) as stub:
        with open_storage(stub.store_url).open("film", "etag") as file:
            assert file.read() == content
        assert stub.methods == ["HEAD", "GET", "HEAD", *["GET"] * 5]


def test_a_store_that_ignores_conditions_does_not_hide_a_change(s3_endpoint: str) -> None:
    etag = "first"

    def answer(headers: Mapping[str, str]) -> Answer:
        return serving(b"content", etag, lambda condition: True)(headers)

    with stub_server(answer) as stub:
        file = open_storage(stub.store_url).open("film", "first")
        etag = "second"
        with pytest.raises(SourceChanged, match="film"):
            file.read()


def test_a_store_that_ignores_ranges_is_refused(s3_endpoint: str, stub: Stub) -> None:
    stub.answer = lambda headers: Answer(200, b"content", {"ETag": '"etag"'})
    with pytest.raises(StorageError, match="no notice of which range"):
        open_storage(stub.store_url).get("film")


def test_an_object_that_is_replaced_between_two_parts_is_never_mixed(
    proxy: FaultProxy, storage: Storage, bucket: str, s3_endpoint: str
) -> None:
    storage.put("status", b"a" * MIB)

    def choose(request: Request) -> Fault | None:
        num_gets = [met.method for met in proxy.traffic.requests].count("GET")
        if num_gets == 2:
            client(s3_endpoint).put_object(Bucket=bucket, Key="some/prefix/status", Body=b"b" * MIB)
        return Fault.CUT if num_gets == 1 else None

    proxy.choose = choose
    assert storage.get("status") == b"b" * MIB
    assert [met.range for met in proxy.traffic.requests if met.method == "GET"][::2] == ["bytes=0-"] * 2


def test_a_source_that_is_replaced_or_deleted_while_it_is_read_says_so(storage: Storage) -> None:
    content = os.urandom(5 * BLOCK_BYTES)
    for change in (lambda: storage.put("film", content[::-1]), lambda: storage.delete("film")):
        with storage.open("film", storage.put("film", content).version) as file:
            assert file.read(BLOCK_BYTES) == content[:BLOCK_BYTES]
            change()
            with pytest.raises(SourceChanged, match="film"):
                file.read(BLOCK_BYTES)


def test_a_full_disk_under_a_download_is_the_disks_fault(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put("weights", os.urandom(MIB))
    monkeypatch.setattr(s3, "_temporary_file", lambda folder: contextlib.nullcontext(Path("/dev/full")))
    with pytest.raises(DiskError, match="No space"), storage.as_file("weights"):
        pass
