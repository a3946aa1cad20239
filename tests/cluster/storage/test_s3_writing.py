"""How objects of an S3 store are written, and what is on its way there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cluster.storage import Storage, open_storage, patience
from sr_core.errors import StorageError
from tests.stores.fault_proxy import Fault, FaultProxy, every_third
from tests.stores.s3_server import client

MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.mark.parametrize("fault", Fault)
def test_what_is_written_is_right_whatever_the_store_does(
    impatient: Storage, proxy: FaultProxy, tmp_path: Path, fault: Fault
) -> None:
    content, path = os.urandom(17 * MIB), tmp_path / "film"
    path.write_bytes(content)
    proxy.choose = every_third(fault)
    version = impatient.put_file("film", path).version
    impatient.put("receipt", b"done")
    proxy.choose = lambda request: None
    assert impatient.get("film") == content
    assert impatient.head("film").version == version  # type: ignore[union-attr]
    assert impatient.get("receipt") == b"done"
    impatient.delete("receipt")
    assert impatient.get("receipt") is None


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


def test_uploads_that_never_ended_are_ended(storage: Storage, bucket: str, s3_endpoint: str) -> None:
    plain = client(s3_endpoint)
    plain.create_multipart_upload(Bucket=bucket, Key="some/prefix/film.mp4")
    plain.create_multipart_upload(Bucket=bucket, Key="elsewhere/film.mp4")
    plain.create_multipart_upload(Bucket=bucket, Key="some/prefix/camera.mxf")
    assert storage.sweep_uploads(1e9, bool) == 0  # this server says of all uploads that they began in 2010
    assert storage.sweep_uploads(3600, lambda key: key == "film.mp4") == 1
    left = plain.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert sorted(upload["Key"] for upload in left) == ["elsewhere/film.mp4", "some/prefix/camera.mxf"]


def test_another_process_opens_the_same_store_by_its_url(storage: Storage) -> None:
    storage.put("key", b"content")
    assert open_storage(storage.url).get("key") == b"content"


def test_scratch_is_this_users_alone(storage: Storage) -> None:
    assert stat.S_IMODE(storage.scratch_dir().stat().st_mode) == 0o700
