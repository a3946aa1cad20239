"""How an S3 store is listed, and how many keys are found in listings."""

from __future__ import annotations

import pytest

from cluster.storage import Storage, open_storage, s3
from cluster.storage.parallel import in_parallel
from tests.stores.fault_proxy import FaultProxy, Traffic
from tests.stores.s3_server import client

pytestmark = pytest.mark.usefixtures("short_pauses")

KEYS_OF_A_PAGE = 20


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the server, and what is looked for in each run of listings."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(KEYS_OF_A_PAGE))
    monkeypatch.setattr(s3, "_KEYS_PER_LISTING", 2 * KEYS_OF_A_PAGE)


def put_empty(storage: Storage, *keys: str) -> None:
    for _ in in_parallel(lambda key: storage.put(key, b""), keys):
        pass


def test_listings_jump_over_keys_that_nobody_asked_for(
    proxy: FaultProxy, storage: Storage, small_pages: None
) -> None:
    there = [f"{folder}/{number:02d}.png" for folder in "am" for number in range(10)]
    put_empty(storage, *there, *(f"between/{number:03d}.png" for number in range(15 * KEYS_OF_A_PAGE)))
    wanted = [*there, *(f"z/{number:02d}.png" for number in range(10))]
    proxy.traffic = Traffic()
    assert sorted(storage.find(wanted)) == there
    assert len(proxy.traffic.requests) <= 3


def test_many_keys_are_found_by_a_few_listings(
    proxy: FaultProxy, storage: Storage, small_pages: None
) -> None:
    wanted = [f"{number:03d}.png" for number in range(10 * KEYS_OF_A_PAGE)]
    put_empty(storage, *wanted[::2])
    proxy.traffic = Traffic()
    assert sorted(storage.find(wanted)) == wanted[::2]
    assert len(proxy.traffic.requests) <= 10


def test_a_listing_goes_over_its_pages_and_leaves_out_folder_markers(
    storage: Storage, bucket: str, s3_endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = client(s3_endpoint)
    for key in ["some/prefix/", "some/prefix/a/", "some/prefix/a/b", "some/prefix//c", "some/prefixed"]:
        plain.put_object(Bucket=bucket, Key=key, Body=b"")
    assert [info.key for info in storage.list()] == ["a/b"]
    assert "some/prefix//c" in caplog.text
    whole = open_storage(storage.url.replace("/some/prefix", ""))
    assert [info.key for info in whole.list()] == ["some/prefix//c", "some/prefix/a/b", "some/prefixed"]
