"""What an S3 store refuses, and what is said then: by whom, why and what to do."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pytest

from cluster.storage import Storage, open_storage
from cluster.storage import bucket as buckets
from sr_core.errors import MediaError, StorageError
from tests.stores.fault_proxy import FaultProxy
from tests.stores.s3_server import client
from tests.stores.stub import Stub, refusing, stub_server

pytestmark = pytest.mark.usefixtures("short_pauses")


CALLS: tuple[Callable[[Storage], object], ...] = (
    lambda storage: storage.head("film"),
    lambda storage: storage.get("film"),
    lambda storage: storage.put("film", b"content"),
    lambda storage: storage.delete("film"),
    lambda storage: list(storage.list()),
    lambda storage: storage.find(["film"]),
    lambda storage: storage.sweep_uploads(0.0, bool),
)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        (403, "SignatureDoesNotMatch"),
        (403, "InvalidAccessKeyId"),
        (400, "ExpiredToken"),
        (404, "NoSuchBucket"),
    ],
)
def test_what_the_store_refuses_is_not_tried_again_and_says_what_to_do(
    s3_endpoint: str, stub: Stub, status: int, code: str
) -> None:
    stub.answer = refusing(status, code)
    for call in CALLS[1:5]:
        stub.methods.clear()
        with pytest.raises(StorageError, match=code) as caught:
            call(open_storage(stub.store_url))
        assert not caught.value.unavailable
        assert caught.value.next_step
        assert len(stub.methods) == 1


def test_a_refused_head_tells_the_stores_own_reason(s3_endpoint: str, stub: Stub) -> None:
    stub.answer = refusing(403, "InvalidAccessKeyId")
    stub.methods.clear()
    with pytest.raises(StorageError, match="InvalidAccessKeyId") as caught:
        open_storage(stub.store_url).head("film")
    assert not caught.value.unavailable
    assert stub.methods == ["HEAD", "GET"]


def test_a_source_that_may_not_be_read_fails_alone(s3_endpoint: str, stub: Stub) -> None:
    stub.answer = refusing(403, "AccessDenied")
    stub.methods.clear()
    with pytest.raises(MediaError, match=r"^film: .*AccessDenied.*right to get"):
        open_storage(stub.store_url).open("film", "etag")


def test_wrong_credentials_are_no_fault_of_a_source(s3_endpoint: str, stub: Stub) -> None:
    stub.answer = refusing(403, "InvalidAccessKeyId")
    stub.methods.clear()
    with pytest.raises(StorageError, match="check the credentials"):
        open_storage(stub.store_url).open("film", "etag")


def test_neither_errors_nor_logs_tell_credentials(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    key_id, secret = "AKIDEXAMPLE", "wJalrXUtnFEMIexample"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with stub_server(refusing(403, "SignatureDoesNotMatch", f"{key_id} signed with {secret}")) as stub:
        for call in CALLS:
            storage = open_storage(stub.store_url)
            with pytest.raises(StorageError) as caught:
                call(storage)
            said = f"{caught.value!s} {caught.value!r} {caught.value.fields()} {storage.url} {caplog.text}"
            assert key_id not in said
            assert secret not in said


def test_missing_credentials_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with stub_server(refusing(500, "InternalError")) as stub:
        for call in CALLS:
            with pytest.raises(StorageError, match=r"no credentials.*in the environment") as caught:
                call(open_storage(f"s3://bucket/p?endpoint_url={stub.url}&region=eu-west-1"))
            assert not caught.value.unavailable
        assert stub.methods == []


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_source_in_an_archive_tier_asks_to_be_restored(
    storage: Storage, bucket: str, s3_endpoint: str, storage_class: str
) -> None:
    client(s3_endpoint).put_object(
        Bucket=bucket, Key="some/prefix/film", Body=b"content", StorageClass=storage_class
    )
    info = storage.head("film")
    assert info is not None
    with pytest.raises(MediaError, match=rf"film: .*archive tier; got {storage_class}; restore it first"):
        storage.open("film", info.version)
    with pytest.raises(StorageError, match=r"archive tier.*restore it first") as caught:
        storage.get("film")
    assert not caught.value.unavailable


def test_an_endpoint_that_never_answered_is_given_up_soon(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_FIRST_PATIENCE_S", 0.5)
    with pytest.raises(StorageError, match="check the endpoint") as caught:
        open_storage("s3://bucket?endpoint_url=http://127.0.0.1:9").get("key")
    assert caught.value.unavailable


@pytest.mark.parametrize("key", ["", "/absolute", "../outside", "a/../../b", "a/", "\udcff", "k" * 1100])
def test_what_is_no_key_is_refused_before_the_store_is_asked(
    proxy: FaultProxy, storage: Storage, key: str
) -> None:
    for call in (storage.get, storage.head, storage.delete, lambda key: storage.put(key, b"")):
        with pytest.raises(StorageError, match="key"):
            call(key)
    assert proxy.traffic.requests == []
