"""What an S3 store refuses, where it is odd, and what is made of it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from cluster.storage import Storage, open_storage, patience, s3
from cluster.storage.ranged import BLOCK_BYTES
from sr_core.errors import DiskError, MediaError, SourceChanged, StorageError
from tests.stores.fault_proxy import Fault, FaultProxy, Request, Traffic, fault_proxy
from tests.stores.s3_server import client, new_bucket
from tests.stores.stub import Answer, Stub, stub_server

MIB = 1 << 20


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ours, and of boto3's."""
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


@pytest.fixture(scope="module")
def endpoint_proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(endpoint_proxy: FaultProxy) -> FaultProxy:
    endpoint_proxy.choose = lambda request: None
    endpoint_proxy.traffic = Traffic()
    return endpoint_proxy


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    return new_bucket(s3_endpoint)


@pytest.fixture
def storage(proxy: FaultProxy, bucket: str) -> Storage:
    return open_storage(f"s3://{bucket}/some/prefix?endpoint_url={proxy.url}")


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with stub_server() as stub:
        yield stub


def refusing(status: int, code: str, message: str = "told by the store") -> Callable[..., Answer]:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return lambda headers: Answer(status, body, {"Content-Type": "application/xml"})


def at(stub: Stub) -> Storage:
    return open_storage(f"s3://some-bucket/prefix?endpoint_url={stub.url}")


CALLS: tuple[Callable[[Storage], object], ...] = (
    lambda storage: storage.head("film"),
    lambda storage: storage.get("film"),
    lambda storage: storage.put("film", b"content"),
    lambda storage: storage.delete("film"),
    lambda storage: list(storage.list()),
    lambda storage: storage.find(["film"]),
    lambda storage: storage.sweep_uploads(0.0),
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
            call(at(stub))
        assert not caught.value.unavailable
        assert caught.value.next_step
        assert len(stub.methods) == 1


def test_a_refused_head_tells_the_stores_own_reason(s3_endpoint: str, stub: Stub) -> None:
    stub.answer = refusing(403, "InvalidAccessKeyId")
    stub.methods.clear()
    with pytest.raises(StorageError, match="InvalidAccessKeyId") as caught:
        at(stub).head("film")
    assert not caught.value.unavailable
    assert stub.methods == ["HEAD", "GET"]


def test_a_source_that_may_not_be_read_fails_alone(s3_endpoint: str, stub: Stub) -> None:
    stub.answer = refusing(403, "AccessDenied")
    stub.methods.clear()
    with pytest.raises(MediaError, match=r"^film: .*AccessDenied.*right to get"):
        at(stub).open("film", "etag")


def test_wrong_credentials_are_no_fault_of_a_source(s3_endpoint: str, stub: Stub) -> None:
    stub.answer = refusing(403, "InvalidAccessKeyId")
    stub.methods.clear()
    with pytest.raises(StorageError, match="check the credentials"):
        at(stub).open("film", "etag")


def test_no_error_tells_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key_id, secret = "AKIDEXAMPLE", "wJalrXUtnFEMIexample"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    with stub_server(refusing(403, "SignatureDoesNotMatch", f"{key_id} signed with {secret}")) as stub:
        for call in CALLS:
            with pytest.raises(StorageError) as caught:
                call(at(stub))
            said = f"{caught.value!s} {caught.value!r} {caught.value.fields()} {at(stub).url}"
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
        with at(stub).open("film", "etag") as file:
            assert file.read() == content
        assert stub.methods == ["HEAD", "GET", "HEAD", *["GET"] * 5]


def test_a_store_that_ignores_conditions_does_not_hide_a_change(s3_endpoint: str) -> None:
    etag = "first"

    def answer(headers: Mapping[str, str]) -> Answer:
        return serving(b"content", etag, lambda condition: True)(headers)

    with stub_server(answer) as stub:
        file = at(stub).open("film", "first")
        etag = "second"
        with pytest.raises(SourceChanged, match="film"):
            file.read()


def test_a_store_that_ignores_ranges_is_refused(s3_endpoint: str, stub: Stub) -> None:
    stub.answer = lambda headers: Answer(200, b"content", {"ETag": '"etag"'})
    with pytest.raises(StorageError, match="no notice of which range"):
        at(stub).get("film")


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


def test_an_upload_that_fails_leaves_the_file_and_nothing_in_the_store(
    proxy: FaultProxy,
    storage: Storage,
    bucket: str,
    s3_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "part"
    path.write_bytes(os.urandom(17 * MIB))
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    proxy.choose = lambda request: Fault.UNAVAILABLE if "partNumber=2" in request.path else None
    with pytest.raises(StorageError) as caught:
        storage.put_file("part", path)
    assert caught.value.unavailable
    assert path.exists()
    assert storage.head("part") is None
    assert "Uploads" not in client(s3_endpoint).list_multipart_uploads(Bucket=bucket)


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


def test_scratch_is_this_users_alone(storage: Storage) -> None:
    assert stat.S_IMODE(storage.scratch_dir().stat().st_mode) == 0o700


def test_keys_far_apart_are_found_without_listing_what_lies_between(
    proxy: FaultProxy, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = [storage.put(f"{letter}/{i}", b"") for letter in "am" for i in range(30)]
    wanted = [f"{letter}/{i}" for letter in "amz" for i in range(10)]
    assert set(storage.find(wanted)) == {info.key for info in infos if info.key in wanted}


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


@pytest.mark.parametrize("key", ["", "/absolute", "../outside", "a/../../b", "a/", "\udcff", "k" * 1100])
def test_what_is_no_key_is_refused_before_the_store_is_asked(
    proxy: FaultProxy, storage: Storage, key: str
) -> None:
    proxy.traffic = Traffic()
    for call in (storage.get, storage.head, storage.delete, lambda key: storage.put(key, b"")):
        with pytest.raises(StorageError, match="key"):
            call(key)
    assert proxy.traffic.requests == []
